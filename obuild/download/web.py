"""One transfer over http or https into a part, gone on with where an earlier one ended."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import urllib.error
import urllib.request

from obuild import __version__, system
from obuild.download.wire import HttpHandler, HttpsHandler
from obuild.errors import FetchError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.download.part import Part

__all__ = ["Answer", "transfer"]

CHUNK = 1 << 16
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of servers that may do better when asked again."""

PERMANENT = (errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT)
"""What a connection fails with for a reason that stays."""


@value
class Answer:
    """What a server says of a file beside its content: `status` 304 is that it has not changed."""

    status: int
    etag: str = ""
    modified: str = ""


def transfer(
    url: str,
    part: Part,
    *,
    cancel: Cancel | None = None,
    headers: Mapping[str, str] | None = None,
    begun: Callable[[int, int | None], None] | None = None,
) -> Answer:
    """Add to `part` what it has not yet of the file at `url`.

    `begun` hears where the transfer begins and how long the whole is, if that is known. Raises `FetchError`, temporary
    when asking again may help: what has arrived is then kept.
    """
    wanted = {"Accept-Encoding": "identity", "User-Agent": f"obuild/{__version__}", **(headers or {})}
    if part.size:
        wanted["Range"] = f"bytes={part.size}-"
    try:
        with _open(url, wanted, cancel) as response:
            if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
                part.restart()
                return transfer(url, part, cancel=cancel, headers=headers, begun=begun)
            return _receive(url, response, part, begun)
    except urllib.error.URLError as error:
        reason = error.reason
        raise _failed(url, reason if isinstance(reason, Exception) else error) from None
    except (OSError, http.client.HTTPException, EOFError) as error:
        raise _failed(url, error) from None
    except ValueError as error:
        raise FetchError(f'can not get "{url}": {error}') from None


def _receive(url: str, response: Any, part: Part, begun: Callable[[int, int | None], None] | None) -> Answer:
    """Take in the body of an answer."""
    answer = Answer(response.status, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
    if response.status == http.client.NOT_MODIFIED:
        return answer
    if response.status == http.client.PARTIAL_CONTENT:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-"):
            part.restart()
            raise FetchError(f'"{url}" answered with another part than was asked for', temporary=True)
    elif response.status == http.client.OK:
        part.restart()  # a server that knows no ranges begins at the beginning
    else:
        temporary = response.status in PASSING
        raise FetchError(f'can not get "{url}": {response.status} {response.reason}'.rstrip(), temporary=temporary)
    length = response.headers.get("Content-Length", "")
    total = part.size + int(length) if length.isdecimal() else None
    if begun:
        begun(part.size, total)
    while data := response.read1(CHUNK):
        part.write(data)
    if total is not None and part.size < total:
        raise FetchError(f'"{url}" ended after {part.size:,} of {total:,} bytes', temporary=True)
    return answer


def _open(url: str, headers: Mapping[str, str], cancel: Cancel | None) -> Any:
    """The answer to a request, behind all redirections, whatever its status."""
    opener = urllib.request.OpenerDirector()
    others = (urllib.request.UnknownHandler(), urllib.request.HTTPRedirectHandler(), _AnyStatus())
    for handler in (_Proxies(), HttpHandler(cancel), HttpsHandler(cancel), *others):
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(url, headers=dict(headers)))


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Follows redirections, and takes every other answer as it is."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        if response.status in (301, 302, 303, 307, 308):
            return super().http_response(request, response)
        return response

    https_response = http_response


class _Proxies(urllib.request.ProxyHandler):
    """The proxies of the caller's environment, but for hosts that are to be asked directly."""

    def __init__(self) -> None:
        # As everywhere: the lower-case name counts first.
        found = {name.lower(): text for name, text in sorted(system.ENVIRONMENT.items()) if text}
        proxies = {name.removesuffix("_proxy"): text for name, text in found.items() if name.endswith("_proxy")}
        self._direct = proxies
        super().__init__({scheme: text for scheme, text in proxies.items() if scheme != "no"})

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Any:
        if req.host and urllib.request.proxy_bypass_environment(req.host, self._direct):  # type: ignore[attr-defined]
            return None
        return super().proxy_open(req, proxy, type)


def _failed(url: str, error: Exception) -> FetchError:
    """The error for what Python's library raised."""
    hint = ""
    match error:
        case ssl.SSLCertVerificationError():
            temporary, text = False, f"its certificate is not trusted: {error.verify_message}"
            hint = "if a proxy or company certificate is needed, SSL_CERT_FILE names it"
        case socket.gaierror():
            temporary = error.errno == socket.EAI_AGAIN
            text = "names of hosts can not be looked up now" if temporary else "no such host"
        case urllib.error.HTTPError():
            temporary, text = False, str(error.reason).splitlines()[0]
        case urllib.error.URLError():
            temporary, text = False, str(error.reason)
        case http.client.IncompleteRead():
            temporary, text = True, "the connection was closed in the middle"
        case http.client.RemoteDisconnected():
            temporary, text = True, "the server closed the connection without an answer"
        case OSError():
            temporary, text = error.errno not in PERMANENT, (error.strerror or str(error)).lower()
        case http.client.InvalidURL():
            temporary, text = False, "it is no address"
        case http.client.HTTPException():
            temporary, text = True, f"the answer makes no sense ({type(error).__name__})"
        case _:
            temporary, text = False, str(error)
    return FetchError(f'can not get "{url}": {text}', hint=hint, temporary=temporary)
