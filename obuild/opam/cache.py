"""What was worked out from opam files, kept on disk under the git ids of what it was worked out from.

    FOLDER/1-cpython-311/            the format of this module and the Python whose `marshal` wrote it
      syntax/4f1c….pack              a table: values under keys, one pack for each time that something was added
      listing-9a3e….record           a single value

Any number of processes may read and write at once. A file appears by a rename, whole, and never changes; what a crash
cut short fails its checksum and counts as absent: `marshal` must only be given what it wrote. Nothing here is ever
needed: a cache that can not be written (`problem` says why) only costs time, and its folder may be removed at any time.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from typing import Any

__all__ = ["Cache", "Draft", "Table"]

FORMAT = 1
MAGIC = b"obuild\n\x01"
HEAD = len(MAGIC) + 12
MERGE = 8
"""With so many packs, the next `add` makes one of them all."""
LIMIT = 1 << 28
"""Unless they have more bytes than this together: then the past is forgotten."""
RETRIES = 100
"""How often the packs are looked for again that others merge meanwhile."""


class Cache:
    """The cache in a folder, or with "" one that keeps nothing."""

    def __init__(self, folder: str) -> None:
        self.folder = folder and os.path.join(folder, f"{FORMAT}-{sys.implementation.cache_tag}")
        self.problem = ""
        self._tables: dict[str, Table] = {}

    def table(self, kind: str) -> Table:
        """The table called `kind`, which names what its values are and the version of what makes them."""
        return self._tables.setdefault(kind, Table(self, kind))

    def load(self, name: str) -> Any:
        """The value last saved as `name`, None when there is none."""
        data = _read(os.path.join(self.folder, f"{name}.record")) if self.folder else b""
        body = data[HEAD:]
        return marshal.loads(body) if data[:HEAD] == _head(body, 0) else None

    def written(self, name: str) -> int:
        """When `name` was last saved, in the nanoseconds of the file system's own clock; 0 when never."""
        try:
            return os.stat(os.path.join(self.folder, f"{name}.record")).st_mtime_ns
        except OSError:
            return 0

    def save(self, name: str, value: Any, *, keep: int = 0) -> None:
        """Replace the value of `name`; with `keep`, only so many records that share its first word are left."""
        body = marshal.dumps(value)
        self.write(f"{name}.record", (_head(body, 0), body))
        if keep and self.folder:
            self._forget(name.partition("-")[0] + "-", keep)

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> bool:
        """Make a file of the pieces, which appears as a whole or, when the disk is full or read-only, not at all."""
        if not self.folder:
            return False
        path = os.path.join(self.folder, name)
        draft = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(draft, "wb") as file:
                file.writelines(pieces)
            os.replace(draft, path)
        except OSError as error:
            self.problem = f'can not write "{path}": {error.strerror}'
            _remove(draft)
            return False
        return True

    def _forget(self, prefix: str, keep: int) -> None:
        try:
            with os.scandir(self.folder) as entries:
                found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.name.startswith(prefix)]
        except OSError:
            return  # another process forgets at the same time
        for _, path in sorted(found, reverse=True)[keep:]:
            _remove(path)


class Table:
    """Values under keys of bytes; a value is what `marshal` can write, and the same for ever under its key."""

    def __init__(self, cache: Cache, kind: str) -> None:
        self.cache, self.kind = cache, kind
        self._folder = cache.folder and os.path.join(cache.folder, kind)
        self._packs: list[_Pack] | None = None

    def get(self, key: bytes) -> Any:
        """The value under `key`, None when there is none."""
        for pack in self._open():
            if key in pack.places:
                body = pack.body(key)
                if body is not None:
                    return marshal.loads(body)
        return None

    def items(self, wanted: Container[bytes] | None = None) -> Iterator[tuple[bytes, Any]]:
        """All values, or those under the keys `wanted`. Much faster than as many `get`s."""
        for pack in self._open():
            for key, body in pack.bodies(wanted):
                yield key, marshal.loads(body)

    def add(self, draft: Draft) -> None:
        """Keep these values as well."""
        if not draft.bodies or not self._folder:
            return
        bodies = draft.bodies
        packs = self._open()
        old = packs if len(packs) >= MERGE else []
        if sum(pack.size for pack in old) < LIMIT:
            for pack in old:
                bodies = {**dict(pack.bodies()), **bodies}
        if self.cache.write(os.path.join(self.kind, f"{os.urandom(16).hex()}.pack"), _pack(bodies)):
            for pack in old:
                _remove(pack.path)
        self._packs = None

    def _open(self) -> list[_Pack]:
        if self._packs is None:
            self._packs = _open_packs(self._folder) if self._folder else []
        return self._packs


class Draft:
    """Values on their way into a table. They are written down at once, so the caller may forget them."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes | memoryview] = {}

    def __setitem__(self, key: bytes, value: Any) -> None:
        self.bodies[key] = marshal.dumps(value)


class _Pack:
    """A file of bodies with an index at its end: key → (offset, size, checksum)."""

    def __init__(self, path: str) -> None:
        """Raises `OSError`, and `ValueError` for a file that is not whole."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size
        head = os.pread(self._fd, HEAD, 0)
        start = int.from_bytes(head[-8:], "little")
        index = os.pread(self._fd, self.size - start, start) if HEAD <= start < self.size else b""
        if head != _head(index, start):
            raise ValueError(path)
        self.places: dict[bytes, tuple[int, int, int]] = marshal.loads(index)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def body(self, key: bytes) -> bytes | None:
        """The body under `key`, None when the disk has lost it."""
        offset, size, checksum = self.places[key]
        body = os.pread(self._fd, size, offset)
        return body if zlib.crc32(body) == checksum else None

    def bodies(self, wanted: Container[bytes] | None = None) -> Iterator[tuple[bytes, memoryview]]:
        """Keys with their bodies: all, or the `wanted` ones."""
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            data = memoryview(file.read())
        for key, (offset, size, checksum) in self.places.items():
            if wanted is not None and key not in wanted:
                continue
            body = data[offset : offset + size]
            if zlib.crc32(body) == checksum:
                yield key, body


def _pack(bodies: Mapping[bytes, bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The pieces of a pack file."""
    places = {}
    offset = HEAD
    for key, body in bodies.items():
        places[key] = (offset, len(body), zlib.crc32(body))
        offset += len(body)
    index = marshal.dumps(places)
    yield _head(index, offset)
    yield from bodies.values()
    yield index


def _head(body: bytes, offset: int) -> bytes:
    """What a file begins with: the checksum of a part of it, and where that part is."""
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + offset.to_bytes(8, "little")


def _open_packs(folder: str) -> list[_Pack]:
    packs: dict[str, _Pack] = {}
    for _ in range(RETRIES):
        names = [name for name in _names(folder) if name not in packs]
        try:
            for name in names:
                pack = _open_pack(os.path.join(folder, name))
                if pack:
                    packs[name] = pack
            break
        except FileNotFoundError:
            pass  # merged by another process since the names were read: its values are in a new pack
    return list(packs.values())


def _open_pack(path: str) -> _Pack | None:
    """The pack at `path`, None for one that is not whole, which is removed, or that may not be read."""
    if not path.endswith(".pack"):
        _remove_old(path)
        return None
    try:
        return _Pack(path)
    except ValueError:
        _remove(path)
    except PermissionError:
        pass
    return None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _remove_old(path: str) -> None:
    """Remove a draft that no process can still be writing."""
    try:
        if os.stat(path).st_mtime < os.stat(os.path.dirname(path)).st_mtime - 3600:
            os.unlink(path)
    except OSError:
        pass


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
