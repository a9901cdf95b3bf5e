"""HTTP connections that stop waiting at once when nobody wants the answer any more.

Sockets do not block, and all waiting is one poll(2) on the socket and the token that cancels. A server that says
nothing for `PATIENCE` seconds has failed.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import select
import socket
import ssl
import urllib.request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from obuild.cancel import Cancel

__all__ = ["HttpHandler", "HttpsHandler"]

PATIENCE = 30.0
"""Seconds without a byte after which a connection counts as dead."""

CONNECTING = 15.0
"""Seconds that an address has to take a connection."""


def _wait(fd: int, event: int, seconds: float, cancel: Cancel | None) -> None:
    """Wait until a socket is ready. Raises `Cancelled`, and `TimeoutError` when it takes too long."""
    poll = select.poll()
    poll.register(fd, event)
    if cancel is not None:
        poll.register(cancel.fd, select.POLLIN)
    ready = poll.poll(seconds * 1000)
    if cancel is not None:
        cancel.check()
    if not ready:
        raise TimeoutError(f"no answer for {seconds:g} seconds")


def _connect(address: tuple[str, int], cancel: Cancel | None) -> socket.socket:
    """A connection to the first address of a host that takes one."""
    problem: OSError = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(place)
            if code == errno.EINPROGRESS:
                _wait(sock.fileno(), select.POLLOUT, CONNECTING, cancel)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise problem


class _Wire(io.RawIOBase):
    """What comes from a socket."""

    def __init__(self, raw: Any, sock: socket.socket, cancel: Cancel | None) -> None:
        super().__init__()
        self._raw, self._sock, self._cancel = raw, sock, cancel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                count: int | None = self._raw.readinto(buffer)
            except ssl.SSLWantReadError:
                count = None
            if count is not None:
                return count
            _wait(self._sock.fileno(), select.POLLIN, PATIENCE, self._cancel)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Socket:
    """The part of a socket's face that `http.client` uses."""

    def __init__(self, sock: socket.socket, cancel: Cancel | None) -> None:
        self._sock, self._cancel = sock, cancel
        self.close = sock.close

    def sendall(self, data: bytes) -> None:
        """Send a request: a few hundred bytes, which fit any buffer."""
        self._sock.settimeout(PATIENCE)
        self._sock.sendall(data)
        self._sock.setblocking(False)

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        """What is answered."""
        # `socket.SocketIO` keeps the socket open until it is closed itself, whatever happens to the connection.
        return io.BufferedReader(_Wire(self._sock.makefile(mode, buffering=0), self._sock, self._cancel))


class _Http(http.client.HTTPConnection):
    cancel: Cancel | None = None

    def connect(self) -> None:
        self.sock: Any = _Socket(_connect((self.host, self.port), self.cancel), self.cancel)
        if self._tunnel_host:  # type: ignore[attr-defined]
            self._tunnel()  # type: ignore[attr-defined]


class _Https(http.client.HTTPSConnection):
    cancel: Cancel | None = None

    def connect(self) -> None:
        bare = _connect((self.host, self.port), self.cancel)
        self.sock: Any = _Socket(bare, self.cancel)
        if self._tunnel_host:  # type: ignore[attr-defined]
            self._tunnel()  # type: ignore[attr-defined]
        name = self._tunnel_host or self.host  # type: ignore[attr-defined]
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        safe = context.wrap_socket(bare, server_hostname=name, do_handshake_on_connect=False)
        self.sock = _Socket(safe, self.cancel)
        while True:
            try:
                return safe.do_handshake()
            except ssl.SSLWantReadError:
                _wait(safe.fileno(), select.POLLIN, PATIENCE, self.cancel)
            except ssl.SSLWantWriteError:
                _wait(safe.fileno(), select.POLLOUT, PATIENCE, self.cancel)


class HttpHandler(urllib.request.HTTPHandler):
    """Opens `http:` for urllib, until `cancel` is set."""

    def __init__(self, cancel: Cancel | None) -> None:
        super().__init__()
        self._cancel = cancel

    def http_open(self, req: urllib.request.Request) -> Any:
        """Send a request and wait for the head of its answer."""
        return self.do_open(_with(_Http, self._cancel), req)


class HttpsHandler(urllib.request.HTTPSHandler):
    """Opens `https:` for urllib, until `cancel` is set."""

    def __init__(self, cancel: Cancel | None) -> None:
        super().__init__()
        self._cancel = cancel

    def https_open(self, req: urllib.request.Request) -> Any:
        """Send a request and wait for the head of its answer."""
        return self.do_open(_with(_Https, self._cancel), req)


def _with(connection: type[Any], cancel: Cancel | None) -> Any:
    def make(*args: Any, **given: Any) -> Any:
        made = connection(*args, **given)
        made.cancel = cancel
        return made

    return make
