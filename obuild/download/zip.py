"""Zip archives as tar streams, so that one reader guards both."""

from __future__ import annotations

import calendar
import stat
import tarfile
import zipfile
import zlib

from obuild.errors import FetchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["tar_of_zip"]

CHUNK = 1 << 18
UNIX = 3
"""The number of the system whose modes are in the upper half of an entry's attributes."""

BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


def tar_of_zip(path: str, name: str) -> Iterator[bytes]:
    """What the zip at `path` holds, as a tar. Raises `FetchError` for a damaged or encrypted one, called `name`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                yield from _entry(archive, entry)
    except BROKEN as error:
        raise FetchError(f'"{name}" is damaged: {error}') from None
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    mode = entry.external_attr >> 16 if entry.create_system == UNIX else 0
    member = tarfile.TarInfo(entry.filename.rstrip("/"))
    member.mtime = calendar.timegm((*entry.date_time, 0, 0, 0))
    if entry.is_dir():
        member.type, member.mode = tarfile.DIRTYPE, stat.S_IMODE(mode) or 0o755
    elif stat.S_ISLNK(mode):
        member.type, member.linkname = tarfile.SYMTYPE, archive.read(entry).decode("utf-8", "surrogateescape")
    else:
        member.size, member.mode = entry.file_size, stat.S_IMODE(mode) or 0o644
    yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if not member.isreg():
        return
    with archive.open(entry) as file:
        while data := file.read(CHUNK):
            yield data
    yield bytes(-member.size % tarfile.BLOCKSIZE)
