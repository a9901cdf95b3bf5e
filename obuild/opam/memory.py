"""A memory on disk of effective hashes, so that each definition is printed and hashed once.

One file of records of 64 bytes: a key (24 bytes of the SHA-256 of all that a hash depends on), the hash (32 bytes) and
a check of both (8 bytes). New records are appended by a single write, so several processes can add at once; a torn or
damaged record fails its check and is computed again, and a torn end is cut off by the next one who adds.
"""

from __future__ import annotations

import os
from hashlib import sha256

from obuild.opam.effective import effective_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.opamfile import OpamFile

__all__ = ["HashMemory"]

FORMAT = "1"
"""Changes with every change of what a file's effective text is."""

_KEY, _HASH, _RECORD = 24, 32, 64


class HashMemory:
    """Effective hashes at one level and width, remembered in the directory `folder`.

    Call it for the hash of a file; `save` writes what was new. A `folder` that can not be written is no error: then
    nothing is remembered.
    """

    def __init__(self, folder: str, *, level: str, width: str) -> None:
        self._path = os.path.join(folder, f"effective-{level}-{width}")
        self._level, self._width = level, width
        self._known = self._load()
        self._new: dict[bytes, bytes] = {}

    def __call__(self, file: OpamFile) -> str:
        """The effective hash of `file`, in hexadecimal. Raises `OpamError` for a file that opam refuses."""
        if not file.blob:
            return effective_hash(file, level=self._level, width=self._width)
        key = self._key(file)
        record = self._known.get(key)
        if record and record[_HASH:] == _check(key, record[:_HASH]):
            return record[:_HASH].hex()
        text = effective_hash(file, level=self._level, width=self._width)
        digest = bytes.fromhex(text)
        self._known[key] = self._new[key] = digest + _check(key, digest)
        return text

    def save(self) -> None:
        """Append what was new to the file."""
        records = b"".join([key + record for key, record in self._new.items()])
        self._new.clear()
        if not records:
            return
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                # Records after a torn one would not be found, as each is looked for at a multiple of its size.
                torn = -os.fstat(fd).st_size % _RECORD
                os.write(fd, bytes(torn) + records)
            finally:
                os.close(fd)
        except OSError:
            return

    def _load(self) -> dict[bytes, bytes]:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except OSError:
            return {}
        ends = range(_RECORD, len(data) + 1, _RECORD)
        return {data[end - _RECORD : end - _RECORD + _KEY]: data[end - _RECORD + _KEY : end] for end in ends}

    def _key(self, file: OpamFile) -> bytes:
        parts = [FORMAT, file.blob, str(file.package)]
        if self._level < "2.3":
            parts += [f"{path}={sha256(data).hexdigest()}" for path, data in sorted(file.files.items())]
        return sha256("\0".join(parts).encode()).digest()[:_KEY]


def _check(key: bytes, digest: bytes) -> bytes:
    return sha256(key + digest).digest()[: _RECORD - _KEY - _HASH]
