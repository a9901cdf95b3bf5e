"""A Docker engine: asking for images, pulling, reading their files, loading. The one home of the docker package.

Whether an engine answers is found out by connecting to its socket; the package (150 ms) is imported only when one does.
"""

from __future__ import annotations

import contextlib
import socket

from obuild.errors import FetchError, UsageError
from obuild.image import Image, parse_config
from obuild.retry import passes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any

__all__ = ["Engine", "open_engine"]

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")
PROBE = 2.0
"""Seconds within which an engine accepts a connection."""

TIMEOUT = 600
"""Seconds between two signs of life of an engine; creating a container on a busy disk has taken minutes."""

PORTS = {"tcp": 2375, "http": 2375, "https": 2376}


def open_engine(url: str = "") -> Engine | None:
    """The engine at `url` (`unix:///path`, `tcp://host:port`); "" is the usual socket, if one answers there.

    "none" is no engine. Raises `FetchError` when a given one does not answer and `UsageError` for another kind of URL.
    """
    if url == "none":
        return None
    if not url:
        path = next((path for path in SOCKETS if _answers(socket.AF_UNIX, path)), "")
        return Engine(f"unix://{path}") if path else None
    scheme, _, place = url.partition("://")
    if scheme == "unix":
        found = _answers(socket.AF_UNIX, place)
    elif scheme in PORTS:
        host, _, port = place.partition("/")[0].rpartition(":")
        host, port = (host, port) if host else (port, str(PORTS[scheme]))
        if not port.isdigit():
            raise UsageError(f'"{url}" is no address of a Docker engine: "{port}" is no port')
        found = _answers(socket.AF_INET, (host.strip("[]"), int(port)))
    else:
        raise UsageError(
            f'"{url}" is no address of a Docker engine', hint="set DOCKER_HOST to unix:///PATH, tcp://HOST:PORT or none"
        )
    if not found:
        raise FetchError(f'no Docker engine answers at "{url}"', hint="start it, or do without: DOCKER_HOST=none")
    return Engine(url)


def _answers(family: int, address: Any) -> bool:
    try:
        if family == socket.AF_INET:
            socket.create_connection(address, timeout=PROBE).close()
            return True
        with socket.socket(family) as probe:
            probe.settimeout(PROBE)
            probe.connect(address)
    except OSError:
        return False
    return True


class Engine:
    """A running engine. Every method raises `FetchError`, temporary when trying again may help."""

    def __init__(self, url: str) -> None:
        import docker

        self.url = url
        with self._errors():
            self._api = docker.APIClient(base_url=url, version="auto", timeout=TIMEOUT)
            self._missing = docker.errors.NotFound

    def image(self, name: str) -> Image | None:
        """The image that the engine has under a reference or an id, or None; its digest is the id."""
        found = self._inspect(name)
        if found is None:
            return None
        config = {"config": found.get("Config"), "os": found.get("Os"), "architecture": found.get("Architecture")}
        return parse_config({**config, "variant": found.get("Variant")}, found["Id"])

    def manifest(self, name: str, repository: str) -> str:
        """The digest under which a registry has the image, "" when it was never pulled from `repository`."""
        digests = (self._inspect(name) or {}).get("RepoDigests") or ()
        return next((item.rpartition("@")[2] for item in digests if item.rpartition("@")[0] == repository), "")

    def pull(self, reference: str, platform: str) -> Iterator[str]:
        """Pull an image from its registry, saying what is done, a line at a time."""
        said = set()
        with self._errors(f'can not pull "{reference}"'):
            for event in self._api.pull(*_split(reference), platform=platform, stream=True, decode=True):
                if "error" in event:
                    message = f'can not pull "{reference}": {event["error"]}'
                    raise FetchError(message, temporary=passes(event["error"]))
                line = f"{event['id']}: {event['status']}" if "id" in event else event.get("status", "")
                if not event.get("progressDetail") and line not in said:
                    said.add(line)
                    yield line

    def files(self, image: str) -> Generator[bytes, None, None]:
        """All files of an image as one tar.

        A container is created for it, never started; a command is given because an image may have none.
        """
        with self._errors(f'can not read image "{image}"'):
            container = self._api.create_container(image, command=["/never-started"], network_disabled=True)["Id"]
            try:
                yield from self._api.export(container)
            finally:
                with contextlib.suppress(self._missing):
                    self._api.remove_container(container, v=True, force=True)

    def load(self, archive: Iterable[bytes]) -> None:
        """Take in a Docker archive; the images get the tags that it names."""
        with self._errors("the engine does not take the image"):
            for event in self._api.load_image(iter(archive), quiet=True):
                if "error" in event:
                    raise FetchError(f"the engine does not take the image: {event['error']}")

    def _inspect(self, name: str) -> dict[str, Any] | None:
        with self._errors():
            try:
                found: dict[str, Any] = self._api.inspect_image(name)
            except self._missing:
                return None
            return found

    @contextlib.contextmanager
    def _errors(self, what: str = "") -> Iterator[None]:
        """Turn the package's errors into ours, and what it lets through of requests (OSErrors) and urllib3."""
        import docker
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (docker.errors.DockerException, HTTPError, OSError) as error:
            text = str(getattr(error, "explanation", None) or error)
            message = f"{what}: {text}" if what else f'the Docker engine at "{self.url}": {text}'
            raise FetchError(message, temporary=passes(text)) from None


def _split(reference: str) -> tuple[str, str]:
    """Name, and tag or digest, as the engine wants them."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    name, _, tag = reference.rpartition(":")
    return name, tag
