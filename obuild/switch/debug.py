"""Where debug information is in object files: it names directories of the machine that they were compiled on.

Nothing but a debugger reads it, so a prefix in it stops nothing from working. An object file is ELF, alone or in an
archive as `ar` makes them; in other files nothing is debug information.
"""

from __future__ import annotations

import mmap
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Data: TypeAlias = bytes | mmap.mmap

__all__ = ["debug_parts"]

ELF, ARCHIVE = b"\x7fELF", b"!<arch>\n"
NAMES = (b".debug_", b".zdebug_", b".gnu.debuglto_")

_HEADER = 60
"""Bytes in front of each member of an archive; its size is written in ten of them."""


def debug_parts(data: Data) -> list[tuple[int, int]]:
    """The first byte of each part of a file that is debug information, and the one after its last.

    A file that is not what it begins like has no such parts.
    """
    try:
        return [part for start in _objects(data) for part in _sections(data, start)]
    except (struct.error, ValueError, IndexError):
        return []


def _objects(data: Data) -> Iterator[int]:
    """Where the object files in a file begin."""
    if data[:4] == ELF:
        yield 0
    if data[:8] != ARCHIVE:
        return
    place = len(ARCHIVE)
    while place + _HEADER <= len(data):
        size = int(data[place + 48 : place + 58])
        if data[place + _HEADER : place + _HEADER + 4] == ELF:
            yield place + _HEADER
        place += _HEADER + size + size % 2


def _sections(data: Data, start: int) -> Iterator[tuple[int, int]]:
    """The sections with debug information of the object file that begins at `start`; see elf(5)."""
    wide, order = data[start + 4] == 2, "<" if data[start + 5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, start + (40 if wide else 32))
    width, count, names = struct.unpack_from(f"{order}HHH", data, start + (58 if wide else 46))
    form = f"{order}II{'QQQQ' if wide else 'IIII'}"
    found = [struct.unpack_from(form, data, start + table + number * width) for number in range(count)]
    if not found:
        return
    texts = start + found[names][4]
    for name, _, _, _, offset, size in found:
        if data[texts + name : texts + name + 16].startswith(NAMES):
            yield start + offset, start + offset + size
