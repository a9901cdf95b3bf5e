"""Writing the files of a `copy` into a layer's root.

Every path is resolved by the kernel with the layer's root as `/` (openat2, RESOLVE_IN_ROOT): a symlink planted in the
image can lead to another place of the image, never to the host. No program of the image is needed.
"""

from __future__ import annotations

import errno
import os
import stat

from obuild import kernel
from obuild.errors import ObuildError
from obuild.manifest import check_unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from obuild.cancel import Cancel
    from obuild.manifest import Entry, Scan

    T = TypeVar("T")

__all__ = ["beside", "copy"]

SMALL = 128 << 10
"""Bytes up to which one read and one write are quicker than asking the kernel to copy."""

PIECE = 64 << 20
"""Bytes that the kernel copies at a time: between two a cancelled copy ends."""


def copy(
    found: Scan, root: str, target: str, *, into: bool, user: tuple[int, int], cancel: Cancel | None = None
) -> None:
    """Put the files of a scan at the absolute path `target` below the host directory `root`.

    `into`: the entries go into the directory `target`; otherwise the first one becomes `target`. What is copied
    belongs to `user`; a directory that was there keeps its owner, mode and time unless it is itself copied; missing
    parents are made as 0755, of the user for `into` and of root otherwise. A directory that the image has as a symlink
    to one is followed. Raises `ObuildError` when a directory would replace a file or a file a directory, and
    `Cancelled`.
    """
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Writer(root_fd, target, into, user, cancel).write(found)
    finally:
        os.close(root_fd)


def beside(read: Callable[[], T], write: Callable[[], None]) -> T:
    """Do both at once: `read` takes the digest of files in another thread while `write` copies them; what it returns.

    The kernel does most of the one and the digest all of the other, neither of which holds Python's lock.
    """
    import threading

    answer: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(read())
        except BaseException as error:  # noqa: BLE001 (raised below)
            errors.append(error)

    thread = threading.Thread(target=work, name="digest")
    thread.start()
    try:
        write()
    finally:
        thread.join()
    if errors:
        raise errors[0]
    return answer[0]


class _Writer:
    """One copy in progress: the open directory that files go into, and the times to set at the end."""

    def __init__(self, root_fd: int, target: str, into: bool, user: tuple[int, int], cancel: Cancel | None) -> None:
        self._root_fd, self._into, self._user, self._cancel = root_fd, into, user, cancel
        self._target = "/" + "/".join(part for part in target.split("/") if part not in ("", "."))
        self._folder, self._fd = "", -1
        self._times: list[tuple[str, int]] = []
        self._masked = bool(_umask() & 0o755)
        self._contents: dict[str, bytes] = {}

    def write(self, found: Scan) -> None:
        """Write all entries, parents before children; directories get their times last."""
        self._contents = found.contents
        makers: dict[str, Callable[[Entry, str], None]] = {"f": self._file, "d": self._directory, "l": self._symlink}
        owner = self._user if self._into else (0, 0)
        self._make_parents(self._target if self._into else os.path.dirname(self._target), owner)
        try:
            for entry in found.entries:
                if self._cancel is not None:
                    self._cancel.check()
                path = f"{self._target.rstrip('/')}/{entry.path}".rstrip("/") or "/"
                if entry.path or not self._into:
                    self._enter(os.path.dirname(path))
                    makers[entry.kind](entry, path)
            for path, mtime in reversed(self._times):
                self._enter(path)
                os.utime(self._fd, ns=(mtime, mtime))
        finally:
            if self._fd >= 0:
                os.close(self._fd)

    def _enter(self, folder: str) -> None:
        if folder != self._folder:
            fd = self._open(folder)
            if self._fd >= 0:
                os.close(self._fd)
            self._folder, self._fd = folder, fd

    def _open(self, folder: str) -> int:
        try:
            return kernel.open_in_root(self._root_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            raise ObuildError(f'"{folder}" is not a directory in the image') from None
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            raise ObuildError(f'"{folder}" is a symlink that leads nowhere in the image') from None

    def _make_parents(self, folder: str, owner: tuple[int, int]) -> None:
        """Make the directory `folder` and what is missing above it."""
        parts, done = folder.split("/"), ""
        for part in parts[1:] if folder != "/" else ():
            self._enter(done or "/")
            done = f"{done}/{part}"
            try:
                os.mkdir(part, 0o755, dir_fd=self._fd)
            except FileExistsError:
                continue
            os.chown(part, *owner, dir_fd=self._fd, follow_symlinks=False)
            os.chmod(part, 0o755, dir_fd=self._fd)

    def _directory(self, entry: Entry, path: str) -> None:
        name = os.path.basename(path) or "."
        try:
            os.mkdir(name, entry.mode, dir_fd=self._fd)
        except FileExistsError:
            info = os.lstat(name, dir_fd=self._fd) if name != "." else os.fstat(self._fd)
            if stat.S_ISLNK(info.st_mode):
                os.close(self._open(path))  # follows it inside the image, or says that it is no directory
                return
            if not stat.S_ISDIR(info.st_mode):
                raise ObuildError(f'a directory can not replace the file "{path}" of the image') from None
        os.chown(name, *self._user, dir_fd=self._fd, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=self._fd)
        self._times.append((path, entry.mtime))

    def _symlink(self, entry: Entry, path: str) -> None:
        name = os.path.basename(path)
        link = os.readlink(entry.source)
        self._create(path, lambda: os.symlink(link, name, dir_fd=self._fd))
        os.chown(name, *self._user, dir_fd=self._fd, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=self._fd, follow_symlinks=False)

    def _file(self, entry: Entry, path: str) -> None:
        name = os.path.basename(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = self._create(path, lambda: os.open(name, flags, entry.mode, dir_fd=self._fd))
        try:
            self._fill(fd, entry)
            if self._user != (0, 0):
                os.fchown(fd, *self._user)
            if self._masked:
                os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _fill(self, fd: int, entry: Entry) -> None:
        data = self._contents.get(entry.source)
        if data is not None:
            _write(fd, data)
            return
        source = os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if entry.size <= SMALL:
                _write(fd, os.read(source, entry.size + 1))
            else:
                _fill(fd, source, entry.size, self._cancel)
            check_unchanged(source, entry)
        finally:
            os.close(source)

    def _create(self, path: str, make: Callable[[], int | None]) -> int:
        """Make a file or symlink, replacing a file or symlink of that name."""
        for _ in range(2):
            try:
                return make() or 0
            except FileExistsError:
                try:
                    os.unlink(os.path.basename(path), dir_fd=self._fd)
                except IsADirectoryError:
                    raise ObuildError(f'a file can not replace the directory "{path}" of the image') from None
        raise ObuildError(f'"{path}" keeps coming back while it is replaced')


def _fill(fd: int, source: int, size: int, cancel: Cancel | None) -> None:
    """Write the content of the file `source`; its holes stay holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end
        end = os.lseek(source, start, os.SEEK_HOLE)
        _fill_range(fd, source, start, end, cancel)
    os.ftruncate(fd, size)


def _fill_range(fd: int, source: int, start: int, end: int, cancel: Cancel | None) -> None:
    while start < end:
        if cancel is not None:
            cancel.check()
        count = min(end - start, PIECE)
        try:
            done = os.copy_file_range(source, fd, count, start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                raise
            os.lseek(fd, start, os.SEEK_SET)
            done = os.sendfile(fd, source, start, count)
        if not done:
            return  # shorter than it was: the check after the copy says so
        start += done


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _umask() -> int:
    """The process's umask: umask(2) can only be read by changing it, which another thread would notice."""
    with open("/proc/self/status", "rb") as file:
        return next((int(line.split()[1], 8) for line in file if line.startswith(b"Umask:")), 0o777)
