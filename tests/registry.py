"""A registry on 127.0.0.1 for tests: it serves one OCI layout by the distribution API, and misbehaves when told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Registry(ThreadingHTTPServer):
    """`fail` requests are answered with 503 before the first good one; `requests` are the paths asked for.

    Blobs wait for `gate`.
    """

    daemon_threads = True

    def __init__(self, layout: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.layout = layout
        self.fail = 0
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def find(self, path: str) -> tuple[str, bytes] | None:
        """Content type and content of a path."""
        parts = path.strip("/").split("/")
        if parts == ["v2"]:
            return "application/json", b"{}"
        kind, reference = parts[-2:]
        if kind == "manifests" and ":" not in reference:
            index = json.loads((self.layout / "index.json").read_bytes())
            entries = {item.get("annotations", {}).get(TAG): item["digest"] for item in index["manifests"]}
            if reference not in entries:
                return None
            reference = entries[reference]
        blob = self.layout / "blobs" / reference.replace(":", "/")
        if not blob.exists():
            return None
        data = blob.read_bytes()
        return json.loads(data)["mediaType"] if kind == "manifests" else "application/octet-stream", data


TAG = "org.opencontainers.image.ref.name"


class _Answer(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if "/blobs/" in self.path:
            self.server.gate.wait()
        found = self.server.find(self.path)
        status = 200 if found else 404
        if self.server.fail:
            self.server.fail -= 1
            status, found = 503, None
        errors = {"errors": [{"code": "MANIFEST_UNKNOWN" if status == 404 else "UNAVAILABLE", "message": "no"}]}
        kind, data = found or ("application/json", json.dumps(errors).encode())
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(layout: Path) -> Iterator[Registry]:
    """A running registry."""
    with Registry(layout) as registry:
        thread = threading.Thread(target=registry.serve_forever, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            registry.gate.set()
            registry.shutdown()
            thread.join()
