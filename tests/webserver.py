"""A web server on 127.0.0.1 for tests that serves what it is told, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page:
    """One file: `cut` ends an answer after so many bytes, as often as `cuts` says; without `ranges` there are none.

    `fails` are statuses answered first; `gate` holds up the body after `held` bytes; `to` redirects; `chunked` sends no
    length.
    """

    def __init__(
        self,
        data: bytes = b"",
        *,
        ranges: bool = True,
        cut: int | None = None,
        cuts: int = 1,
        fails: tuple[int, ...] = (),
        to: str = "",
        chunked: bool = False,
        etag: str = "",
        held: int | None = None,
    ) -> None:
        self.data, self.ranges, self.cut, self.cuts = data, ranges, cut, cuts
        self.fails, self.to, self.chunked, self.etag = list(fails), to, chunked, etag
        self.held = held
        self.gate, self.reached = threading.Event(), threading.Event()


class Web(ThreadingHTTPServer):
    """`pages` by path; `requests` are the paths asked for, with the beginning of the range when there was one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.pages: dict[str, Page] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, path: str, page: Page | bytes) -> str:
        """Serve a page; its address."""
        self.pages[path] = page if isinstance(page, Page) else Page(page)
        return self.url + path

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some tests are about."""


class _Answer(BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        self.server.requests.append(self.path + (f" from {asked}" if asked else ""))
        page = self.server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        if page.fails:
            return self.send_error(page.fails.pop(0))
        if page.to:
            return self._redirect(page.to)
        if page.etag and self.headers.get("If-None-Match") == page.etag:
            return self._head(304, page, None)
        start = int(asked) if asked and page.ranges else 0
        if start and start >= len(page.data):
            return self.send_error(416)
        body = page.data[start:]
        self._head(206 if start else 200, page, None if page.chunked else len(body), start)
        if page.chunked:
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        elif page.cut is not None and page.cuts > 0:
            page.cuts -= 1
            self.wfile.write(body[: page.cut])
            self.close_connection = True
        else:
            self._body(page, body)
        return None

    def _head(self, status: int, page: Page, length: int | None, start: int = 0) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        elif status != 304:
            self.send_header("Transfer-Encoding", "chunked")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(page.data) - 1}/{len(page.data)}")
        if page.etag:
            self.send_header("ETag", page.etag)
        self.end_headers()

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self, page: Page, body: bytes) -> None:
        held = len(body) if page.held is None else page.held
        self.wfile.write(body[:held])
        if body[held:]:
            page.reached.set()
            page.gate.wait(60)
            self.wfile.write(body[held:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Web]:
    """A running server."""
    with Web() as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web
        finally:
            for page in web.pages.values():
                page.gate.set()
            web.shutdown()
            thread.join()


def sha256(data: bytes) -> str:
    """The checksum of data, as opam writes it."""
    return f"sha256={hashlib.sha256(data).hexdigest()}"
