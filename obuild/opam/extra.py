"""The files beside an opam file, and whether they are the ones that its field `extra-files` promises."""

from __future__ import annotations

import hashlib

from obuild.errors import OpamError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obuild.opam.opamfile import OpamFile

__all__ = ["extra_files", "mismatches"]


def extra_files(file: OpamFile, path: str) -> dict[str, bytes]:
    """The files that a package adds to its sources, by relative path; `path` is its opam file, for messages.

    They are those that the field names, or without that field all there are. Raises `OpamError` for every one that is
    missing or not what its checksum says: such a package must not be built, whatever its build-id.
    """
    if file.extra_files is None:
        return dict(file.files)
    wrong = mismatches(file.extra_files, file.files)
    if wrong:
        raise OpamError([Problem(f'"files/{name}" {message}', path) for name, message in wrong])
    return {name: file.files[name] for name, _ in file.extra_files}


def mismatches(promised: Iterable[tuple[str, str]], files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """The names of files that differ from what is promised (names and `kind=hex`), each with what is wrong with it."""
    wrong = []
    for name, checksum in promised:
        kind, _, digest = checksum.partition("=")
        if name not in files:
            wrong.append((name, "is missing"))
        elif hashlib.new(kind, files[name], usedforsecurity=False).hexdigest() != digest:
            wrong.append((name, f"does not have the checksum {checksum}"))
    return wrong
