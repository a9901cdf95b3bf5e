"""Docker references: `debian`, `debian:13`, `ghcr.example/team/image:tag`, `debian@sha256:…`."""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.value import value

__all__ = ["Reference", "parse_digest", "parse_reference"]

DEFAULT = ("docker.io", "index.docker.io")
"""The registry that a reference without one means, under its two names."""

FORM = "a reference is written [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], in lower case but for the tag"
DIGITS = {"sha256": 64, "sha512": 128}
SEPARATORS = frozenset("._-")
WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


@value
class Reference:
    """An image's name in its shortest form: `debian` for `docker.io/library/debian`. One of tag and digest is set."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def insecure(self) -> bool:
        """Whether its registry may speak plain HTTP: one on this machine, as Docker's rule is."""
        host = self.name.partition("/")[0].rpartition(":")[0] or self.name.partition("/")[0]
        return "/" in self.name and (host in ("localhost", "[::1]") or host.startswith("127."))


def parse_reference(text: str) -> Reference:
    """Read a Docker reference by Docker's rules; the tag is `latest` unless given, and dropped beside a digest.

    Raises `UsageError` that says which part is wrong.
    """
    rest, at, digest = text.partition("@")
    if at:
        try:
            parse_digest(digest)
        except ValueError as error:
            raise _wrong(text, str(error)) from None
    name, tag = rest, "latest"
    if ":" in rest.rpartition("/")[2]:
        name, _, tag = rest.rpartition(":")
        if not 0 < len(tag) <= 128 or tag[0] in ".-" or not set(tag.lower()) <= WORD | {"_", ".", "-"}:
            raise _wrong(text, f'"{tag}" is no tag')
    host, slash, path = name.partition("/")
    if not slash or not (host == "localhost" or "." in host or ":" in host or host != host.lower()):
        host, path = "", name
    for part in path.split("/"):
        if not _is_component(part):
            raise _wrong(text, f'"{part}" is no part of a name')
    if host in DEFAULT:
        host = ""
    if not host:
        path = path.removeprefix("library/") if path.count("/") == 1 else path
    elif not _is_host(host):
        raise _wrong(text, f'"{host}" is no host')
    return Reference(f"{host}/{path}" if host else path, "" if digest else tag, digest)


def parse_digest(text: str) -> tuple[str, str]:
    """The algorithm and the hexadecimal digits of `sha256:…`. Raises `ValueError` for anything else.

    Only what this lets through is ever made part of a path.
    """
    algorithm, _, digits = text.partition(":")
    if DIGITS.get(algorithm) != len(digits) or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(f'"{text}" is no digest')
    return algorithm, digits


def _is_component(text: str) -> bool:
    """Letters and digits, between them one dot, one or two underlines, or any number of dashes."""
    if not text or not set(text) <= WORD | SEPARATORS or text[0] in SEPARATORS or text[-1] in SEPARATORS:
        return False
    marks = "".join(" " if char in WORD else char for char in text).split()
    return all(mark in (".", "_", "__") or not mark.strip("-") for mark in marks)


def _is_host(text: str) -> bool:
    name, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        name, port = text, "0"
    inner = name[1:-1].replace(":", "") if name.startswith("[") and name.endswith("]") else name
    labels = inner.lower().split(".")
    return port.isdigit() and all(set(label) <= WORD | {"-"} and label.strip("-") == label != "" for label in labels)


def _wrong(text: str, reason: str) -> UsageError:
    return UsageError(f'"{text}" is no Docker reference: {reason}', hint=FORM)
