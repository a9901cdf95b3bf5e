"""Files and trees on the host: written whole or not at all, removed safely, locked, copied with all they have.

Trees come from containers and are hostile: every step down goes through a directory descriptor and never follows a
symlink, depth is no limit, and nothing is opened but regular files and directories (`/dev/full` in an image is a
device, and reading it never ends).
"""

from __future__ import annotations

import errno
import os
import stat

from obuild import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Copier",
    "Lock",
    "Size",
    "copy_metadata",
    "copy_tree",
    "measure",
    "remove_tree",
    "same_file",
    "walk",
    "write_atomic",
]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomic(path: str, data: bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Write a file so that a reader sees the old or the new content, never part of one.

    With `durable` it also survives a power cut once this returns (one fsync).
    """
    temporary = f"{path}.{os.getpid():x}{os.urandom(4).hex()}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def same_file(fd: int, path: str) -> bool:
    """Whether `path` is still the file that `fd` was opened on, not removed or replaced since."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


class Lock:
    """A lock (flock) on a file or directory, shared with other processes; it ends with the process at the latest.

    Two locks exclude each other also within one process. A lock on something that was removed or replaced while
    waiting for it locks nothing that anybody else can see, so that case is noticed and counts as not found.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def take(cls, path: str, *, shared: bool = False) -> Lock:
        """Lock what is at `path`, waiting for it. Raises `FileNotFoundError` when it does not exist (any more)."""
        import fcntl

        return cls._take(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    @classmethod
    def attempt(cls, path: str, *, shared: bool = False) -> Lock | None:
        """The same without waiting: None when somebody else has it."""
        import fcntl

        try:
            return cls._take(path, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
        except BlockingIOError:
            return None

    @classmethod
    def make(cls, path: str) -> Lock:
        """Lock the file `path`, made when it is missing, waiting for it."""
        while True:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            try:
                return cls.take(path)
            except FileNotFoundError:
                continue  # removed between the two calls

    @classmethod
    def _take(cls, path: str, operation: int) -> Lock:
        import fcntl

        lock = cls(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        try:
            fcntl.flock(lock.fd, operation)
            if not same_file(lock.fd, path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        except BaseException:
            lock.release()
            raise
        return lock

    def release(self) -> None:
        """Let the next one have it; safe to call again."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


_DEEP = 64
"""Directories nested deeper than this are moved up before they are emptied: no recursion or descriptor limit is met."""

_SUBVOLUME = 256
"""The inode number of the top directory of every btrfs subvolume."""


def remove_tree(path: str) -> None:
    """Remove a file or a directory with everything in it; nothing happens when there is none.

    Symlinks are removed, not followed; read-only directories are no obstacle to their owner; btrfs subvolumes inside
    are deleted. Raises `OSError` (EBUSY) at a mount point instead of emptying what is mounted there.
    """
    folder, name = os.path.split(path)
    try:
        parent = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            _remove_directory(parent, name)
        else:
            os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    finally:
        os.close(parent)


def _remove_directory(parent: int, name: str) -> None:
    """Remove a directory that is the top of a file system's part: of a tree, or of a btrfs subvolume."""
    fd = _open_directory(parent, name)
    try:
        top = os.fstat(fd)
        inside = top.st_ino == _SUBVOLUME and os.fstat(parent).st_dev != top.st_dev
        if inside and _delete_subvolume(parent, name):
            return
        _empty(fd, fd, top.st_dev, 0)
        while os.listdir(fd):  # what was moved up from too far below
            _empty(fd, fd, top.st_dev, 0)
    finally:
        os.close(fd)
    if not (inside and _delete_subvolume(parent, name)):
        os.rmdir(name, dir_fd=parent)


def _empty(fd: int, top: int, device: int, depth: int) -> None:
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        try:
            _drop(fd, name, is_directory, top, device, depth)
        except FileNotFoundError:
            continue  # somebody else removes the same
        except PermissionError:
            os.fchmod(fd, 0o700)
            _drop(fd, name, is_directory, top, device, depth)


def _drop(parent: int, name: str, is_directory: bool, top: int, device: int, depth: int) -> None:
    if not is_directory:
        os.unlink(name, dir_fd=parent)
        return
    if depth >= _DEEP:
        os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=parent, dst_dir_fd=top)
        return
    fd = _open_directory(parent, name)
    try:
        foreign = os.fstat(fd).st_dev != device
        if not foreign:
            _empty(fd, top, device, depth + 1)
    finally:
        os.close(fd)
    if foreign:
        _remove_directory(parent, name)
    else:
        os.rmdir(name, dir_fd=parent)


def _open_directory(parent: int, name: str) -> int:
    try:
        return kernel.open_unmounted(parent, name, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        path = kernel.open_unmounted(parent, name, os.O_PATH | os.O_DIRECTORY)
        try:
            os.chmod(f"/proc/self/fd/{path}", 0o700)
            return os.open(f"/proc/self/fd/{path}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(path)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, "something is mounted there", name) from None
        raise


def _delete_subvolume(parent: int, name: str) -> bool:
    """Delete a subvolume with all it holds at once; False when others are nested in it or it is not ours to delete."""
    try:
        kernel.btrfs_delete(name, parent=parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EPERM, errno.EACCES):
            return False
        raise
    return True


class Size:
    """What a tree holds: `entries` in it, `length` of its files in bytes, `blocks` in bytes that it takes on disk.

    A file with several names in the tree is counted once.
    """

    __slots__ = ("blocks", "entries", "length")

    def __init__(self) -> None:
        self.entries = self.length = self.blocks = 0


def walk(path: str) -> Iterator[tuple[int, list[os.DirEntry[str]]]]:
    """Every directory of a tree, from the top down, as its descriptor and what is in it; no depth is too deep.

    The descriptor is good until the next one is asked for. Symlinks are not followed. What is removed meanwhile is not
    an error, but may end it early.
    """
    fd, waiting = os.open(path, _DIRECTORY), list[list[str]]()
    try:
        while True:
            with os.scandir(fd) as found:
                entries = list(found)
            yield fd, entries
            waiting.append([entry.name for entry in entries if entry.is_dir(follow_symlinks=False)])
            while (below := _enter(fd, waiting[-1])) is None:
                waiting.pop()
                if not waiting:
                    return
                fd = _step(fd, "..")
            fd = below
    except FileNotFoundError:
        return  # the directory it was in was removed meanwhile
    finally:
        os.close(fd)


def _enter(fd: int, names: list[str]) -> int | None:
    """Step into the first of the directories `names` that is still there."""
    while names:
        try:
            return _step(fd, names.pop())
        except FileNotFoundError:
            continue
    return None


def _step(fd: int, name: str) -> int:
    """Replace a directory's descriptor by that of one inside it, or of the one around it."""
    there = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return there


def measure(path: str) -> Size:
    """Count what is in a directory; a file with several names in it counts once."""
    size, seen = Size(), set[tuple[int, int]]()
    for _, entries in walk(path):
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            size.entries += 1
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            size.blocks += info.st_blocks * 512
            size.length += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return size


def copy_tree(source: str, target: str, *, copied: Callable[[int, str, str, bool], None] | None = None) -> None:
    """Copy what is in the directory `source` into the directory `target`, made when missing, with all it has.

    Kept are owners, modes, times in nanoseconds, extended attributes (also ACLs and capabilities), hard links among
    what is copied, holes, devices, pipes and sockets; blocks are shared where the file system can. What `target` has
    under the same names is replaced, but a directory over a directory is merged. `copied` hears of each regular file:
    the descriptor of its directory, its name, its path below both trees, and whether its blocks are shared.
    """
    _make_directory(target)
    here, there = os.open(source, _DIRECTORY), os.open(target, _DIRECTORY)
    copier, path, waiting = Copier(there, copied), list[str](), list[list[str]]()
    try:
        while True:
            waiting.append(_copy_entries(copier, here, there, "/".join([*path, ""])))
            while not waiting[-1]:
                waiting.pop()
                copy_metadata(here, there)  # last: filling a directory changes its times
                if not waiting:
                    return
                path.pop()
                here, there = _step(here, ".."), _step(there, "..")
            path.append(waiting[-1].pop())
            _make_directory(path[-1], there)
            here, there = _step(here, path[-1]), _step(there, path[-1])
    finally:
        os.close(here)
        os.close(there)


def _copy_entries(copier: Copier, here: int, there: int, prefix: str) -> list[str]:
    """Copy what is no directory; the names of the directories."""
    directories = []
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                copier.copy(here, there, entry.name, prefix + entry.name)
    return directories


def _make_directory(name: str, parent: int | None = None) -> None:
    """A directory of that name, in the place of whatever else has it."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)


class Copier:
    """Copies single entries that are no directories into one tree, and remembers files that have several names."""

    def __init__(
        self, root: int, copied: Callable[[int, str, str, bool], None] | None = None, keep: Callable[[str], bool] = bool
    ) -> None:
        self._root = os.dup(root)
        self._copied, self._keep = copied, keep
        self._links: dict[tuple[int, int], str] = {}
        self._share: bool | None = None

    def __del__(self) -> None:
        os.close(self._root)

    def copy(self, here: int, there: int, name: str, path: str) -> None:
        """Copy `name` in the directory `here` to `there`, which is called `path` seen from the root of the tree."""
        info = os.stat(name, dir_fd=here, follow_symlinks=False)
        try:
            self._make(here, there, name, path, info)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=there, follow_symlinks=False).st_mode):
                _remove_directory(there, name)
            else:
                os.unlink(name, dir_fd=there)
            self._make(here, there, name, path, info)

    def _make(self, here: int, there: int, name: str, path: str, info: os.stat_result) -> None:
        if info.st_nlink > 1:
            first = self._links.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                os.link(first, name, src_dir_fd=self._root, dst_dir_fd=there, follow_symlinks=False)
                return
        if stat.S_ISREG(info.st_mode):
            shared = self._copy_file(here, there, name)
            if self._copied:
                self._copied(there, name, path, shared)
            return
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        else:
            os.mknod(name, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev, dir_fd=there)
        _copy_metadata_of_special(here, there, name, info)

    def _copy_file(self, here: int, there: int, name: str) -> bool:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        try:
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=there)
            try:
                shared = self._copy_content(source, target)
                copy_metadata(source, target, keep=self._keep)
                return shared
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _copy_content(self, source: int, target: int) -> bool:
        """Copy what is in a file; whether it takes no room of its own."""
        info = os.fstat(source)
        if not info.st_size:
            return True
        if self._share is not False:
            shared = kernel.reflink(source, target)
            self._share = self._share or shared  # where the first can not be shared, none can
            if shared:
                return True
        if info.st_blocks * 512 >= info.st_size:
            _copy_range(source, target, 0, info.st_size)
            return False
        end = 0
        while (start := _seek(source, end, os.SEEK_DATA)) < info.st_size:
            end = _seek(source, start, os.SEEK_HOLE)
            _copy_range(source, target, start, end)
        os.ftruncate(target, info.st_size)
        return False


def _seek(fd: int, offset: int, whence: int) -> int:
    try:
        return os.lseek(fd, offset, whence)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data after `offset`
            raise
        return os.fstat(fd).st_size


_PIECE = 1 << 20


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    # The kernel copies without the data passing through here; below a page or so two calls more are not worth it.
    inside = end - start > 1 << 16
    while start < end:
        if inside:
            try:
                count = os.copy_file_range(source, target, end - start, start, start)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
                    raise
                inside = False
                continue
        else:
            count = os.pwrite(target, os.pread(source, min(end - start, _PIECE), start), start)
        if not count:
            return  # the source was cut short meanwhile
        start += count


def copy_metadata(source: int, target: int, *, keep: Callable[[str], bool] = bool) -> None:
    """Give the open file or directory `target` the owner, mode, times and the extended attributes that `source` has.

    `keep` says of an attribute's name whether it is copied.
    """
    info = os.fstat(source)
    os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode))  # after the owner, whose change takes setuid away
    names = [name for name in os.listxattr(source) if keep(name)]
    for name in os.listxattr(target):
        if name not in names and name != "security.selinux":
            os.removexattr(target, name)
    for name in names:
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def _copy_metadata_of_special(here: int, there: int, name: str, info: os.stat_result) -> None:
    # Symlinks, pipes, sockets and devices are never opened; their attributes are reached by path.
    os.chown(name, info.st_uid, info.st_gid, dir_fd=there, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=there)
    source, target = f"/proc/self/fd/{here}/{name}", f"/proc/self/fd/{there}/{name}"
    for attribute in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, attribute, os.getxattr(source, attribute, follow_symlinks=False), follow_symlinks=False)
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=there, follow_symlinks=False)
