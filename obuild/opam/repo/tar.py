"""A repository in a tar file, compressed or not, whatever directory in it has `packages/`: unpacked into memory."""

from __future__ import annotations

import os
import posixpath

from obuild.errors import OpamError, Problem
from obuild.opam.repo.folder import blob_id
from obuild.opam.repo.listing import DIRECTORY, FILE, LINK, find, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator
    from typing import TypeAlias

    from obuild.opam.repo.listing import Entry

    Tree: TypeAlias = dict[str, dict[str, Entry]]

__all__ = ["LARGEST", "TarSource"]

LARGEST = 1 << 30
"""Bytes that all files of a tar may have together."""


class TarSource:
    """The files of a tar, read when the first of them is needed."""

    root = b""

    def __init__(self, path: str) -> None:
        self.where = path
        self._contents: dict[str, bytes] = {}
        self._tree: Tree = {}

    def identity(self) -> str:
        """The file's path, size and times."""
        found = os.stat(self.where)
        times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
        return f"tar {os.path.realpath(self.where)} {found.st_size} {times} {found.st_ino}"

    def entries(self, path: str, id: bytes) -> list[Entry]:
        """What is in a directory; nothing in a tar has an id."""
        self._read()
        return list(self._tree.get(path, {}).values())

    def read(self, path: str, id: bytes) -> bytes:
        """The contents of a file."""
        found = find(self, path)
        if found is None or found[1] != FILE:
            raise OpamError([Problem("no such file in the tar", self.shown(path))])
        return self._contents[found[0]]

    def target(self, path: str, id: bytes) -> str:
        """What a link says."""
        return self._contents[path].decode("utf-8", "surrogateescape")

    def blob_id(self, path: str, id: bytes) -> bytes:
        """The id that git would give to the contents."""
        return blob_id(self._contents[path])

    def remember(self) -> str:
        """What a scan has seen is what the identity says."""
        return self.identity()

    def shown(self, path: str) -> str:
        """As in messages of git."""
        return printable(f"{self.where}:{path}")

    def _read(self) -> None:
        if self._tree:
            return
        members = _members(self.where)
        # The repository is where the highest "packages" is; what is outside that directory is not part of it.
        tops = [name for name in _directories(members) if posixpath.basename(name) == "packages"]
        top = posixpath.dirname(min(tops, key=lambda name: (name.count("/"), name), default=""))
        start = f"{top}/" if top else ""
        self._tree = {"": {}}
        for name, (kind, data) in members.items():
            if name.startswith(start):
                path = name[len(start) :]
                self._contents[path] = data
                self._add(path, kind)

    def _add(self, path: str, kind: str) -> None:
        parent, name = posixpath.split(path)
        if name not in self._tree.get(parent, {}):
            if parent and parent not in self._tree:
                self._add(parent, DIRECTORY)
            self._tree.setdefault(parent, {})[name] = (name, kind, b"")


def _directories(members: dict[str, tuple[str, bytes]]) -> set[str]:
    found: set[str] = set()
    for name in members:
        while (name := posixpath.dirname(name)) and name not in found:
            found.add(name)
    return found


def _members(path: str) -> dict[str, tuple[str, bytes]]:
    """Kind and contents of all files and links of a tar by their names. Raises `OpamError`."""
    import lzma
    import tarfile
    import zlib

    found: dict[str, tuple[str, bytes]] = {}
    total = 0
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                total += member.size
                if total > LARGEST:
                    raise OpamError([Problem(f"unpacks to more than {LARGEST} bytes", path)])
                for entry in _contents(tar, member, found):
                    found[posixpath.normpath(member.name)] = entry
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise OpamError([Problem(f"not a tar file that can be read: {error}", path)]) from None
    return found


def _contents(
    tar: tarfile.TarFile, member: tarfile.TarInfo, found: dict[str, tuple[str, bytes]]
) -> Iterator[tuple[str, bytes]]:
    """Kind and contents of a member, nothing for one that is neither file nor link or that lies outside the tar."""
    name = posixpath.normpath(member.name)
    if name.startswith(("/", "../")) or name in (".", ".."):
        return
    if member.issym():
        yield LINK, member.linkname.encode("utf-8", "surrogateescape")
    elif member.islnk():
        # A hard link is to a member before it.
        yield from filter(None, [found.get(posixpath.normpath(member.linkname))])
    elif member.isfile():
        file = tar.extractfile(member)
        yield FILE, file.read() if file else b""
