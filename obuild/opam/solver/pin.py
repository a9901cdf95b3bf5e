"""Packages in directories of the user, which stand for all versions of their names."""

from __future__ import annotations

import os

from obuild.errors import UsageError
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package, valid_name
from obuild.opam.solver.universe import DEV
from obuild.opam.syntax import parse
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Pin", "load_pins"]

_SKIPPED = ("_build", "_opam")


@value
class Pin:
    """An opam file of the user, which stands for all versions of its package."""

    path: str
    file: OpamFile


def load_pins(directories: Iterable[str]) -> dict[str, Pin]:
    """The files `NAME.opam` in directories and below, each as the version `dev` of its package, by name.

    What begins with a dot, `_build` and `_opam` are passed over, as day10 does. Raises `UsageError` for a directory
    without any and for a name that is there twice, `OpamError` for a file that can not be read.
    """
    places: dict[str, str] = {}
    for directory in directories:
        found = list(_opam_files(directory))
        if not found:
            hint = "" if os.path.isdir(directory) else "there is no such directory"
            raise UsageError(f'no file "NAME.opam" in "{directory}"', hint=hint)
        for path in found:
            name = os.path.basename(path).removesuffix(".opam")
            other = places.setdefault(name, path)
            if not os.path.samefile(other, path):
                raise UsageError(f'"{name}" is pinned to both "{other}" and "{path}"', hint="leave one of them out")
    return {name: Pin(path, _load(Package(name, DEV), path)) for name, path in sorted(places.items())}


def _opam_files(directory: str) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        for file in sorted(files):
            if file.endswith(".opam") and valid_name(file.removesuffix(".opam")):
                yield os.path.join(folder, file)


def _load(package: Package, path: str) -> OpamFile:
    try:
        with open(path, "rb") as file:
            return OpamFile(package, parse(file.read(), path))
    except OSError as error:
        raise UsageError(f'can not read "{path}": {error.strerror}') from None
