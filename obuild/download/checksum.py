"""Checksums of sources as opam writes them (`sha256=01fc…`), and how opam's cache names files by them."""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Checksum", "Hasher", "parse_checksums"]

LENGTHS = {"sha512": 128, "sha256": 64, "md5": 32}
"""The kinds that opam knows, the strongest first, and how many hexadecimal digits each has."""


@value
class Checksum:
    """What the content of a file must hash to: a kind, and lower-case hexadecimal digits."""

    kind: str
    hex: str

    def __str__(self) -> str:
        return f"{self.kind}={self.hex}"

    @property
    def path(self) -> str:
        """Where opam's cache layout has the file: `sha256/01/01fc…`."""
        return f"{self.kind}/{self.hex[:2]}/{self.hex}"


def parse_checksums(texts: Iterable[str]) -> tuple[Checksum, ...]:
    """The checksums that the texts are (`KIND=HEX`, or the bare digits of an MD5), without repetition, strongest first.

    Raises `UsageError` for a text that is none, and for two different ones of one kind: no file has both.
    """
    found: dict[str, Checksum] = {}
    for text in texts:
        kind, equals, digits = text.partition("=")
        checksum = Checksum(kind.lower(), digits.lower()) if equals else Checksum("md5", text.lower())
        length = LENGTHS.get(checksum.kind)
        if length is None:
            raise UsageError(f'"{kind}" is no kind of checksum', hint=f"one of {', '.join(LENGTHS)}")
        if len(checksum.hex) != length or set(checksum.hex) - set("0123456789abcdef"):
            raise UsageError(f'"{text}" is not a checksum: {checksum.kind} has {length} hexadecimal digits')
        if found.setdefault(checksum.kind, checksum) != checksum:
            raise UsageError(f'no file has both checksums "{found[checksum.kind]}" and "{checksum}"')
    return tuple(found[kind] for kind in LENGTHS if kind in found)


class Hasher:
    """Takes all the wanted digests of a file while it passes."""

    def __init__(self, wanted: Sequence[Checksum]) -> None:
        import hashlib  # who only parses checksums does without

        self._wanted = wanted
        self._hashes = {
            kind: hashlib.new(kind, usedforsecurity=False) for kind in {c.kind for c in wanted} | {"sha256"}
        }

    def update(self, data: bytes | memoryview) -> None:
        """Go on with more of the file."""
        for digest in self._hashes.values():
            digest.update(data)

    @property
    def sha256(self) -> Checksum:
        """What names a file for which nothing was promised."""
        return Checksum("sha256", self._hashes["sha256"].hexdigest())

    def has(self, checksum: Checksum) -> bool:
        """Whether what has passed has one of the wanted checksums."""
        return self._hashes[checksum.kind].hexdigest() == checksum.hex

    @property
    def broken(self) -> str:
        """The promises that the file breaks, each with what it is instead; "" for a file that keeps all."""
        found = [(wanted, self._hashes[wanted.kind].hexdigest()) for wanted in self._wanted if not self.has(wanted)]
        return ", ".join(f"expected {wanted}, got {wanted.kind}={actual}" for wanted, actual in found)
