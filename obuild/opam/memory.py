"""Effective hashes that are remembered: each definition is printed and hashed once, at each level and width."""

from __future__ import annotations

from hashlib import sha256

from obuild.opam.cache import Draft
from obuild.opam.effective import effective_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.cache import Cache
    from obuild.opam.opamfile import OpamFile

__all__ = ["HashMemory"]

FORMAT = 1
"""Changes with every change of what the effective text of a file is."""


class HashMemory:
    """The effective hashes at one level and width, kept in a cache. Call it for the hash of a file."""

    def __init__(self, cache: Cache, *, level: str, width: str) -> None:
        self._level, self._width = level, width
        self._table = cache.table(f"effective-{FORMAT}-{level}-{width}")
        self._known: dict[bytes, str] = {}
        self._fresh = Draft()

    def __call__(self, file: OpamFile) -> str:
        """The effective hash of `file`, in hexadecimal. Raises `OpamError` for a file that opam refuses."""
        if not file.blob:
            return effective_hash(file, level=self._level, width=self._width)
        key = self._key(file)
        found = self._known.get(key)
        if found is None:
            kept: bytes | None = self._table.get(key)
            if kept is None:
                found = effective_hash(file, level=self._level, width=self._width)
                self._fresh[key] = bytes.fromhex(found)
            else:
                found = kept.hex()
            self._known[key] = found
        return found

    def save(self) -> None:
        """Write what is new to the cache."""
        fresh, self._fresh = self._fresh, Draft()
        self._table.add(fresh)

    def _key(self, file: OpamFile) -> bytes:
        parts = [file.blob, str(file.package)]
        if self._level < "2.3":  # later levels never look at the files
            parts += [f"{path}={sha256(data).hexdigest()}" for path, data in sorted(file.files.items())]
        return sha256("\0".join(parts).encode()).digest()
