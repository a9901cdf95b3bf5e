"""Connections: TLS that is verified, proxies in between, giving up while a server is silent."""

from __future__ import annotations

import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import needs, soon
from webserver import Web, sha256

from obuild import retry, system
from obuild.cancel import Cancel
from obuild.download import Sources, wire
from obuild.errors import Cancelled, FetchError

DATA = b"data" * 50_000
SUM = sha256(DATA)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that it has signed itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    line += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*line, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Web]:
    """A web server behind TLS, as `https://localhost`."""
    with Web() as web:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=web.serve_forever, daemon=True, kwargs={"poll_interval": 0.05})
        thread.start()
        yield web
        web.shutdown()
        thread.join()


def address(web: Web) -> str:
    return f"https://localhost:{web.server_address[1]}/a.tgz"


@needs("openssl")
def test_tls(secure: Web, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secure.put("/a.tgz", DATA)
    with pytest.raises(FetchError) as error:
        Sources(str(tmp_path)).obtain(address(secure), (SUM,))
    assert "its certificate is not trusted" in str(error.value)
    assert not error.value.temporary
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Path(Sources(str(tmp_path)).obtain(address(secure), (SUM,))).read_bytes() == DATA
    other = address(secure).replace("localhost", "127.0.0.1")
    with pytest.raises(FetchError, match="its certificate is not trusted"):
        Sources(str(tmp_path)).obtain(other, (sha256(b""),))


class Tunnel(ThreadingHTTPServer):
    """A proxy that knows CONNECT alone; `asked` are the hosts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connect)
        self.asked: list[str] = []


class _Connect(BaseHTTPRequestHandler):
    server: Tunnel

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        host, _, port = self.path.partition(":")
        if host != "localhost":
            return self.send_error(403, "not there")
        with socket.create_connection(("127.0.0.1", int(port))) as far:
            self.send_response(200)
            self.end_headers()
            ends = {far: self.connection, self.connection: far}
            while True:
                for ready in select.select(list(ends), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return None
                    ends[ready].sendall(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def tunnel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tunnel]:
    with Tunnel() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setitem(system.ENVIRONMENT, "https_proxy", f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()
        thread.join()


@needs("openssl")
def test_tls_through_a_proxy(
    secure: Web, tunnel: Tunnel, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure.put("/a.tgz", DATA)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Path(Sources(str(tmp_path)).obtain(address(secure), (SUM,))).read_bytes() == DATA
    assert tunnel.asked == [f"localhost:{secure.server_address[1]}"]
    with pytest.raises(FetchError, match="tunnel connection failed: 403 not there"):
        Sources(str(tmp_path)).obtain("https://elsewhere.example/a.tgz", (sha256(b""),))


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_silent_server_is_left_at_some_time(silent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 0.05)
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tgz"
    with pytest.raises(FetchError, match=r"no answer for 0\.05 seconds") as error:
        Sources(str(tmp_path)).obtain(url, (SUM,))
    assert error.value.temporary


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_giving_up_on_a_silent_server(silent: socket.socket, scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/a.tgz"
    cancel, errors = Cancel(), list[BaseException]()

    def run() -> None:
        try:
            Sources(str(tmp_path)).obtain(url, (SUM,), cancel=cancel)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with silent.accept()[0] as connection:
        assert connection.recv(1), "the request or the beginning of a handshake has come"
        cancel.set()
        assert soon(lambda: not thread.is_alive())
    assert [type(error) for error in errors] == [Cancelled]


def test_giving_up_on_an_address_that_takes_no_connection(tmp_path: Path) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:  # the queue of a server that never accepts
            client.setblocking(False)
            client.connect_ex(place)
        cancel = Cancel()
        timer = threading.Timer(0.2, cancel.set)
        timer.start()
        with pytest.raises(Cancelled):
            Sources(str(tmp_path)).obtain(f"http://127.0.0.1:{place[1]}/a.tgz", (SUM,), cancel=cancel)
        for client in waiting:
            client.close()


def test_a_server_that_speaks_no_http(silent: socket.socket, tmp_path: Path) -> None:
    def answer() -> None:
        for _ in range(4):
            connection = silent.accept()[0]
            connection.recv(1 << 16)
            connection.sendall(b"220 mail ready\r\n")
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(FetchError, match=r"the answer makes no sense \(BadStatusLine\)"):
        Sources(str(tmp_path)).obtain(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tgz", (SUM,))
