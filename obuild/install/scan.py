"""Which files of a package's layer hold the prefix that it was built at, and so stop working anywhere else.

What was found is kept beside the layer, as `relocations.json`: a layer never changes.
"""

from __future__ import annotations

import json
import mmap
import os
import stat

from obuild import disk
from obuild.install.debug import debug_parts
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from obuild.plan import PackageBuild
    from obuild.store import Layer

__all__ = ["Relocations", "obstacles", "relocations"]

FILE = "relocations.json"
FORMAT = 1
"""Of the record; one more when other files are found than before."""

OWN = ".opam-switch"
"""opam's own records in a switch: what they say of the prefix is written anew."""

BUILD = b"/.opam-switch/build/"
"""What comes after the prefix in the name of a build directory. Debug information is full of them, and nothing needs
a directory that is gone.
"""

_NAMED = 5
"""Files in a message."""


@value
class Relocations:
    """The files of a layer that hold its prefix, relative to it and sorted: texts and symlinks, and all others."""

    texts: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


def obstacles(
    builds: Iterable[PackageBuild], layers: Mapping[str, Layer], prefix: str, *, rewrite: bool = False
) -> list[str]:
    """Why packages can not be moved, a line for each reason: what their definitions say, and what is in `layers`.

    Those whose key `layers` does not have are not looked into. With `rewrite` texts are no reason.
    """
    causes: dict[str, list[str]] = {}
    found = []
    for build in builds:
        if not build.relocation.possible:
            causes.setdefault(build.relocation.why, []).append(str(build.package))
        elif build.key in layers:
            known = relocations(layers[build.key], prefix)
            files = known.programs if rewrite else tuple(sorted(known.texts + known.programs))
            if files:
                found.append(f'files of "{build.package}" hold the prefix that it was built at: {_few(files)}')
    for why, packages in causes.items():
        others = [package for package in packages if f'"{package}"' not in why]
        found.append(f"{why}, and so can not be moved: {_few(others)}" if others else why)
    return found


def _few(names: Sequence[str]) -> str:
    """The first of some names, and how many others there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def relocations(layer: Layer, prefix: str) -> Relocations:
    """The files of a package's layer that hold `prefix`."""
    path = f"{layer.path}/{FILE}"
    try:
        with open(path, "rb") as file:
            known = json.load(file)
        if (known["format"], known["prefix"]) == (FORMAT, prefix):
            return Relocations(tuple(map(str, known["texts"])), tuple(map(str, known["programs"])))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    holders = sorted(_holders(layer.fs + prefix, prefix.encode()))
    texts, programs = (tuple([path for path, text in holders if text is kind]) for kind in (True, False))
    try:
        facts = {"format": FORMAT, "prefix": prefix, "texts": texts, "programs": programs}
        disk.write_atomic(path, json.dumps(facts).encode() + b"\n")
    except OSError:
        pass  # a store that may only be read
    return Relocations(texts, programs)


def _holders(top: str, prefix: bytes) -> Iterator[tuple[str, bool]]:
    """The paths that hold the prefix, and whether each is a text."""
    for folder, folders, files in os.walk(top):
        if folder == top and OWN in folders:
            folders.remove(OWN)
        for name in (*files, *folders):
            path = f"{folder}/{name}"
            if _holds(path, prefix):
                yield os.path.relpath(path, top), _is_text(path)


def _is_text(path: str) -> bool:
    if os.path.islink(path):
        return True
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"\0") < 0


def _holds(path: str, prefix: bytes) -> bool:
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        return _is_in(os.fsencode(os.readlink(path)), prefix)
    if not stat.S_ISREG(info.st_mode) or info.st_size < len(prefix):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _is_in(data, prefix)


def _is_in(data: bytes | mmap.mmap, prefix: bytes) -> bool:
    """Whether the prefix is there, other than in the name of a build directory or in debug information."""
    place, parts = data.find(prefix), None
    while place >= 0:
        after = place + len(prefix)
        if data[after : after + len(BUILD)] != BUILD:
            parts = debug_parts(data) if parts is None else parts
            end = next((end for start, end in parts if start <= place < end), 0)
            if not end:
                return True
            after = end
        place = data.find(prefix, after)
    return False
