"""Which files of a prefix hold its name, and so stop working anywhere else.

Opam's own records below `.opam-switch` are left out: whoever makes a switch of a tree writes them anew. The names of
build directories and what is only for debuggers do not count either.
"""

from __future__ import annotations

import json
import mmap
import os

from obuild.switch.debug import debug_parts
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["RELOCATIONS", "Relocations", "find_relocations", "format_relocations", "parse_relocations"]

RELOCATIONS = "relocations.json"
"""The file beside a package's layer that says what was found in it."""

FORMAT = 1
"""Of the file; one more when other files are found than before."""

OWN = ".opam-switch"
BUILD = b"/.opam-switch/build/"
"""What comes after the prefix in the name of a build directory. Debug information is full of them, and nothing needs
a directory that is gone.
"""

PIECE = 1 << 18
"""Bytes that are read together: large files are never in memory as a whole."""

_NAMED = 5
"""Files in a summary."""


@value
class Relocations:
    """The files of a layer that hold its prefix, relative to it and sorted: texts and symlinks, and all others."""

    texts: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(sorted(self.texts + self.programs))

    @property
    def summary(self) -> dict[str, Any]:
        """What `layer.json` says: how many there are, and the first ones."""
        return {"texts": len(self.texts), "programs": len(self.programs), "first": list(self.files[:_NAMED])}


def find_relocations(top: str, prefix: str) -> Relocations:
    """The files below the host directory `top` that hold `prefix`, the name that it has in a container."""
    wanted = os.fsencode(prefix)
    holders = sorted([(os.path.relpath(path, top), _is_text(path)) for path in _files(top) if _holds(path, wanted)])
    texts, programs = (tuple([path for path, text in holders if text is kind]) for kind in (True, False))
    return Relocations(texts, programs)


def _files(top: str) -> Iterator[str]:
    """The files and symbolic links below a directory; what is neither holds no path."""
    agenda = [top] if os.path.isdir(top) else []
    while agenda:
        folder = agenda.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if folder != top or entry.name != OWN:
                        agenda.append(entry.path)
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield entry.path


def _holds(path: str, wanted: bytes) -> bool:
    if os.path.islink(path):
        return _is_in(os.fsencode(os.readlink(path)), wanted)
    if not _contains(path, wanted):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _is_in(data, wanted)


def _contains(path: str, wanted: bytes) -> bool:
    """Whether the bytes are in a file at all: of most files that is all that has to be known."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        end = b""
        while piece := os.read(fd, PIECE):
            data = end + piece
            if wanted in data:
                return True
            end = data[1 - len(wanted) :]
        return False
    finally:
        os.close(fd)


def _is_in(data: bytes | mmap.mmap, wanted: bytes) -> bool:
    """Whether the prefix is there, other than in the name of a build directory or in debug information."""
    place, parts = data.find(wanted), None
    while place >= 0:
        after = place + len(wanted)
        if data[after : after + len(BUILD)] != BUILD:
            parts = debug_parts(data) if parts is None else parts
            end = next((end for start, end in parts if start <= place < end), 0)
            if not end:
                return True
            after = end
        place = data.find(wanted, after)
    return False


def _is_text(path: str) -> bool:
    if os.path.islink(path):
        return True
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"\0") < 0


def format_relocations(found: Relocations, prefix: str) -> bytes:
    """The contents of the file."""
    facts = {"format": FORMAT, "prefix": prefix, "texts": found.texts, "programs": found.programs}
    return json.dumps(facts).encode() + b"\n"


def parse_relocations(data: bytes, prefix: str) -> Relocations | None:
    """What the file says; None when it is about another prefix, of another format or damaged."""
    try:
        known = json.loads(data)
        if (known["format"], known["prefix"]) == (FORMAT, prefix):
            return Relocations(tuple(map(str, known["texts"])), tuple(map(str, known["programs"])))
    except (ValueError, KeyError, TypeError):
        pass
    return None
