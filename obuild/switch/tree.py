"""The tree of a container as opam in it would see it: every path is resolved with the tree's root as `/`.

A symlink planted in the image leads to another place of the image, never to the host, and nothing is opened but
directories and regular files. Paths are bytes, as opam's are.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from obuild import kernel
from obuild.errors import ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LIMIT", "Tree", "raw", "shown"]

LIMIT = 1 << 24
"""Bytes of the largest file that is read as a whole."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
"""How many symlinks of a path the kernel follows, too."""

_LONGEST, _LONGEST_PART = 4095, 255
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def shown(path: bytes) -> str:
    """A path as a person reads it."""
    return path.decode("utf-8", "replace")


def raw(text: str) -> str:
    """A text of a spec with one character per byte, as texts of opam are here."""
    return text if text.isascii() else os.fsencode(text).decode("latin-1")


def _check(path: bytes) -> None:
    """Raises `ObuildError` for what is no file name on Linux, before the kernel sees a part of it."""
    if b"\0" in path:
        raise ObuildError(f'"{shown(path)}" is not a file name: it has a zero byte')
    if len(path) > _LONGEST or max(map(len, path.split(b"/"))) > _LONGEST_PART:
        raise ObuildError(f'the file name "{shown(path[:80])}…" is too long')


class Tree:
    """The tree below the host directory `root`; what is made in it belongs to `user`. Close it with `with`."""

    def __init__(self, root: str, user: tuple[int, int]) -> None:
        self._root = os.open(root, _DIRECTORY | os.O_CLOEXEC)
        self._user = user

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def _at(self, path: bytes, flags: int) -> int | None:
        """A descriptor of what is at `path`, symlinks followed; None when there is nothing."""
        _check(path)
        try:
            return kernel.open_in_root(self._root, path, flags)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            return None

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory at `path`. Raises `ObuildError` when there is none."""
        fd = self._at(path, _DIRECTORY)
        if fd is None:
            raise ObuildError(f'"{shown(path)}" is not a directory in the image')
        return fd

    def state(self, path: bytes) -> os.stat_result | None:
        """What is at `path`, symlinks followed, or None when there is nothing."""
        fd = self._at(path, os.O_PATH)
        if fd is None:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def link_state(self, path: bytes) -> tuple[os.stat_result, bytes] | None:
        """What is at `path` itself and, when it is a symlink, where it leads; None when there is nothing."""
        _check(path)
        folder, name = posixpath.split(path)
        fd = self._at(folder, os.O_PATH | os.O_DIRECTORY)
        if fd is None:
            return None
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return info, os.readlink(name, dir_fd=fd) if stat.S_ISLNK(info.st_mode) else b""
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)

    def open(self, path: bytes) -> int | None:
        """A descriptor of the regular file at `path`, symlinks followed; None when there is nothing or something else.

        A pipe or a device is looked at and not opened: opening one can wait for ever, or do something.
        """
        there = self._at(path, os.O_PATH)
        if there is None:
            return None
        try:
            if not stat.S_ISREG(os.fstat(there).st_mode):
                return None
            return os.open(f"/proc/self/fd/{there}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(there)

    def read(self, path: bytes) -> bytes | None:
        """The content of the regular file at `path`, None when there is none. Raises `ObuildError` for a huge one."""
        fd = self.open(path)
        if fd is None:
            return None
        with os.fdopen(fd, "rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise ObuildError(f'"{shown(path)}" has more than {LIMIT >> 20} MB')
        return data

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory at `path`, sorted; none when there is no such directory."""
        try:
            fd = self.directory(path)
        except ObuildError:
            return []
        try:
            return sorted(map(os.fsencode, os.listdir(fd)))
        finally:
            os.close(fd)

    def make(self, path: bytes) -> None:
        """Make the directory at `path` and those missing above it, with mode 0755."""
        missing = []
        while (fd := self._at(path, _DIRECTORY)) is None:
            path, name = posixpath.split(path)
            missing.append(name)
        try:
            for name in reversed(missing):
                fd = self._make(fd, posixpath.join(path, name), name)
                path = posixpath.join(path, name)
        finally:
            os.close(fd)

    def _make(self, parent: int, path: bytes, name: bytes) -> int:
        """Make one directory, and open it in the place of its parent."""
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            raise ObuildError(f'"{shown(path)}" is not a directory in the image') from None
        os.chown(name, *self._user, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, 0o755, dir_fd=parent)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        os.close(parent)
        return fd

    def create(self, folder: int, name: bytes, mode: int) -> int:
        """A new file in the open directory `folder`, in the place of another file or symlink of that name."""
        for _ in range(2):
            try:
                fd = os.open(name, _NEW, mode, dir_fd=folder)
            except FileExistsError:
                os.unlink(name, dir_fd=folder)
                continue
            os.fchown(fd, *self._user)
            os.fchmod(fd, mode)
            return fd
        raise ObuildError(f'"{shown(name)}" keeps coming back while it is replaced')

    def overwrite(self, folder: int, name: bytes, mode: int) -> int:
        """An empty file in the open directory `folder` to write to: the one that is there, under all its names, or new.

        Raises `IsADirectoryError` when it is a directory.
        """
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return self.create(folder, name, mode)
        if not stat.S_ISREG(info.st_mode):
            return self.create(folder, name, mode)
        file = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        os.fchmod(file, mode)
        return file

    def write(self, path: bytes, data: bytes, *, mode: int = 0o644) -> None:
        """Write the file at `path`, in the place of another file or symlink. Raises `ObuildError` for a directory."""
        folder, name = posixpath.split(path)
        self.make(folder)
        fd = self.directory(folder)
        try:
            with os.fdopen(self.create(fd, name, mode), "wb") as file:
                file.write(data)
        except IsADirectoryError:
            raise ObuildError(f'"{shown(path)}" is a directory in the image') from None
        finally:
            os.close(fd)

    def link(self, path: bytes, target: bytes) -> None:
        """Make a symlink at `path`, in the place of another file or symlink."""
        folder, name = posixpath.split(path)
        self.make(folder)
        fd = self.directory(folder)
        try:
            if self.link_state(path):
                os.unlink(name, dir_fd=fd)
            os.symlink(target, name, dir_fd=fd)
            os.chown(name, *self._user, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def resolve(self, path: bytes) -> bytes:
        """Where `path` really is: without symlinks and `..`, but for one at the end that leads nowhere."""
        done, waiting, links = b"/", path.split(b"/")[::-1], 0
        while waiting:
            name = waiting.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                done = posixpath.dirname(done)
                continue
            here = posixpath.join(done, name)
            found = self.link_state(here)
            if found and stat.S_ISLNK(found[0].st_mode) and (waiting or self.state(here)) and links < _LINKS:
                links += 1
                done = b"/" if found[1].startswith(b"/") else done
                waiting += found[1].split(b"/")[::-1]
            else:
                done = here
        return done

    def walk(self, path: bytes, *, skip: str = "") -> Iterator[tuple[str, os.stat_result | None, str]]:
        """What is below the directory at `path`, in no order: path from there, state (None for a directory), link.

        Texts have one character per byte. `skip` is the name of one directory at the top that is left out.
        """
        waiting = [""]
        while waiting:
            here = waiting.pop()
            try:
                fd = self.directory(posixpath.join(path, here.encode("latin-1")))
            except ObuildError:
                continue  # what is no directory any more has nothing below it
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        name = raw(entry.name)
                        below = f"{here}/{name}" if here else name
                        if entry.is_dir(follow_symlinks=False):
                            if here or name != skip:
                                waiting.append(below)
                                yield below, None, ""
                        else:
                            link = raw(os.readlink(entry.name, dir_fd=fd)) if entry.is_symlink() else ""
                            yield below, entry.stat(follow_symlinks=False), link
            finally:
                os.close(fd)
