"""System calls without a name in Python: private mounts, overlays, paths resolved inside a root, reflinks, btrfs.

Everything raises `OSError` with the kernel's errno; who calls it knows what to say to a user. The numbers are the same
on every architecture (system calls above 424 share one table).
"""

from __future__ import annotations

import _thread
import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = [
    "adopt_orphans",
    "bind",
    "boot_id",
    "btrfs_added",
    "btrfs_create",
    "btrfs_delete",
    "btrfs_snapshot",
    "exchange",
    "is_btrfs",
    "mount_overlay",
    "mount_tmpfs",
    "new_network",
    "open_handle",
    "open_in_root",
    "open_unmounted",
    "private_mounts",
    "reflink",
    "sync",
    "unmount",
    "use_network",
]

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 437, 442
_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x200, 0x20000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 0x4000, 0x80000
_PR_SET_CHILD_SUBREAPER = 36
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOUNT_ATTR_RDONLY = 1
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x01, 0x02, 0x10
_RENAME_EXCHANGE = 2
_FICLONE = 0x40049409
_BTRFS_SUBVOL_CREATE, _BTRFS_SNAP_DESTROY, _BTRFS_SNAP_CREATE_V2 = 0x5000940E, 0x5000940F, 0x50009417
_BTRFS_TREE_SEARCH, _BTRFS_GET_SUBVOL_INFO, _BTRFS_EXTENT_DATA = 0xD0009411, 0x81F8943C, 108
_BTRFS_MAGIC = 0x9123683E
_NAME_LIMIT = 255
"""The longest string that fsconfig(2) takes as a value; a longer path goes in as /proc/self/fd/N."""

_known: dict[str, Any] = {}
"""What is found out once in a process: the C library, the mount namespace, whether the kernel has `lowerdir+`."""

_lock = _thread.allocate_lock()
_local = _thread._local()


def _libc() -> ctypes.CDLL:
    if "libc" not in _known:
        import ctypes  # a cached build does without

        _known["libc"] = ctypes.CDLL(None, use_errno=True)
        _known["libc"].syscall.restype = ctypes.c_long
    libc: ctypes.CDLL = _known["libc"]
    return libc


def _check(result: int, path: str | None = None) -> int:
    if result < 0:
        import ctypes

        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def private_mounts() -> None:
    """Put the calling thread into the process's own mount namespace, made on the first call.

    Mounts made there are seen by nobody else and are gone when the last process in it has ended, however it ended.
    Threads and processes started by this thread are in it too; another thread joins by calling this. What the host
    mounts or unmounts later still arrives (slave propagation), so that obuild keeps no disk of the host busy.
    """
    if getattr(_local, "private", False):
        return
    with _lock:
        if "namespace" in _known:
            _join(_known["namespace"])
        else:
            _check(_libc().unshare(_CLONE_NEWNS))
            _check(_libc().mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "/")
            if os.path.ismount("/sys/fs/cgroup/unified"):
                unmount("/sys/fs/cgroup/unified", detach=True)  # crun refuses hosts with both versions of cgroups
            _known["namespace"] = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _local.private = True


def _join(namespace: int) -> None:
    # setns(2) refuses a thread that shares its working directory with others, and then moves it to "/".
    _check(_libc().unshare(_CLONE_FS))
    here = os.getcwd()
    _check(_libc().setns(namespace, _CLONE_NEWNS))
    try:
        os.chdir(here)
    except OSError:
        pass  # a directory that no longer exists: "/" is as good


def mount_overlay(target: str, lowers: Sequence[str], upper: str = "", work: str = "") -> None:
    """Mount an overlay of `lowers` (the uppermost first) at `target`, writable when `upper` and `work` are given.

    `volatile`: nothing is synced when it is unmounted. `redirect_dir`: a directory of a lower layer can be renamed.
    `index`: names that are one file below stay one file. The kernel takes 500 lowers, two at least without an upper.
    Needs `private_mounts`; the message of the error is the kernel's own where it has one.
    """
    fds: list[int] = []
    try:
        if not _known.get("classic"):
            try:
                _mount_overlay(target, lowers, upper, work, fds)
            except _NoLowerdirPlus:
                _known["classic"] = True
        if _known.get("classic"):
            _mount_overlay_classic(target, lowers, upper, work, fds)
    finally:
        for fd in fds:
            os.close(fd)


class _NoLowerdirPlus(Exception):
    """A kernel before 6.8, whose overlay takes its layers only as one string."""


def _mount_overlay(target: str, lowers: Sequence[str], upper: str, work: str, fds: list[int]) -> None:
    libc = _libc()
    context = _check(libc.syscall(_FSOPEN, b"overlay", 1))
    fds.append(context)
    try:
        for number, lower in enumerate(lowers):
            path = _short(lower, fds)
            if libc.syscall(_FSCONFIG, context, _FSCONFIG_SET_STRING, b"lowerdir+", path, 0) < 0:
                if number == 0 and not _said(context).startswith("e"):
                    raise _NoLowerdirPlus
                _check(-1, lower)
        options = {"redirect_dir": b"on", "metacopy": b"off"}
        if upper:
            options |= {"upperdir": _short(upper, fds), "workdir": _short(work, fds), "index": b"on"}
            _check(libc.syscall(_FSCONFIG, context, _FSCONFIG_SET_FLAG, b"volatile", None, 0))
        for name, text in options.items():
            _check(libc.syscall(_FSCONFIG, context, _FSCONFIG_SET_STRING, name.encode(), text, 0), name)
        _check(libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), target)
    except OSError as error:
        said = _said(context)
        raise OSError(error.errno, said.removeprefix("e ") or error.strerror, target) from None
    mount = _check(libc.syscall(_FSMOUNT, context, 1, 0), target)
    fds.append(mount)
    _move(mount, target)


def _mount_overlay_classic(target: str, lowers: Sequence[str], upper: str, work: str, fds: list[int]) -> None:
    # mount(2) keeps one page of options and takes ":" and "," apart: descriptors are short and have neither.
    below = b":".join([_descriptor(lower, fds) for lower in lowers])
    options = b"redirect_dir=on,metacopy=off,lowerdir=" + below
    if upper:
        above, beside = _descriptor(upper, fds), _descriptor(work, fds)
        options = b"volatile,index=on,upperdir=" + above + b",workdir=" + beside + b"," + options
    if len(options) >= os.sysconf("SC_PAGE_SIZE"):
        raise OSError(errno.E2BIG, f"this kernel takes no overlay of {len(lowers)} layers", target)
    _check(_libc().mount(b"overlay", os.fsencode(target), b"overlay", 0, options), target)


def _short(path: str, fds: list[int]) -> bytes:
    name = os.fsencode(path)
    return name if len(name) <= _NAME_LIMIT else _descriptor(path, fds)


def _descriptor(path: str, fds: list[int]) -> bytes:
    fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return b"/proc/self/fd/%d" % fds[-1]


def _said(context: int) -> str:
    """What the kernel says went wrong with a mount ("e overlay: …"), or "" when it says nothing."""
    try:
        return os.read(context, 4096).decode(errors="replace").strip()
    except OSError:
        return ""


def _move(mount: int, target: str) -> None:
    _check(_libc().syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH), target)


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Make the directory or file `source` also appear at `target`, without what is mounted below it."""
    import ctypes

    libc = _libc()
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    tree = _check(libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags), source)
    try:
        if read_only:
            attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
            size = ctypes.sizeof(attributes)
            _check(libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, size), source)
        _move(tree, target)
    finally:
        os.close(tree)


def mount_tmpfs(target: str, *, size: int) -> None:
    """Mount an empty file system of at most `size` bytes at `target`, in memory only: it is not swapped out either."""
    flags, options = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, b"mode=0700,size=%d" % size
    name = os.fsencode(target)
    if _libc().mount(b"tmpfs", name, b"tmpfs", flags, options + b",noswap") < 0:  # `noswap` is new in Linux 6.4
        _check(_libc().mount(b"tmpfs", name, b"tmpfs", flags, options), target)


def unmount(target: str, *, detach: bool = False) -> None:
    """Unmount what is mounted at `target`; with `detach` also when it is in use: its users keep it until they end."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if detach else 0)
    _check(_libc().umount2(os.fsencode(target), flags), target)


def exchange(one: str, other: str) -> None:
    """Let two names of one file system change places, at once."""
    two = os.fsencode(one), os.fsencode(other)
    _check(_libc().renameat2(_AT_FDCWD, two[0], _AT_FDCWD, two[1], _RENAME_EXCHANGE), one)


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` as a process would whose `/` is the directory `root`: no symlink and no `..` leads outside."""
    return _openat2(root, path, flags, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)


def open_unmounted(parent: int, name: str, flags: int) -> int:
    """Open what is called `name` in the directory `parent` unless something is mounted there (EXDEV)."""
    return _openat2(parent, name, flags | os.O_NOFOLLOW, 0, _RESOLVE_NO_XDEV)


def _openat2(parent: int, path: str | bytes, flags: int, mode: int, resolve: int) -> int:
    import ctypes

    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    while True:
        # EAGAIN: something was renamed or mounted meanwhile and the kernel could not prove that ".." stays inside.
        fd = int(_libc().syscall(_OPENAT2, parent, name, how, ctypes.sizeof(how)))
        if fd >= 0 or ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            return _check(fd, os.fsdecode(name))


def open_handle(mount: int, kind: int, handle: bytes) -> int:
    """Open, for looking only, the file that has a file handle on the file system that the descriptor `mount` is on."""
    import ctypes

    head = len(handle).to_bytes(4, sys.byteorder) + kind.to_bytes(4, sys.byteorder, signed=True)
    buffer = ctypes.create_string_buffer(head + handle)
    return _check(_libc().open_by_handle_at(mount, buffer, os.O_PATH | os.O_CLOEXEC))


def reflink(source: int, target: int) -> bool:
    """Let the file `target` share all blocks of `source` until one is written; False where they can not be shared."""
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.ETXTBSY):
            return False
        raise
    return True


def adopt_orphans() -> None:
    """Let processes whose parents have ended become children of this process, which can then wait for them."""
    _check(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def new_network() -> int:
    """A descriptor of a new network namespace; it exists as long as something has it open or runs in it."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc().unshare(_CLONE_NEWNET))
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            use_network(here)
    finally:
        os.close(here)


def use_network(namespace: int) -> None:
    """Move the calling thread into a network namespace: sockets that it opens from now on belong there."""
    _check(_libc().setns(namespace, _CLONE_NEWNET))


def sync(path: str) -> None:
    """Write all that the file system of `path` holds in memory to its disk, and wait for it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc().syncfs(fd), path)
    finally:
        os.close(fd)


def boot_id() -> str:
    """A name for the time since this machine was started."""
    fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)


def is_btrfs(file: str | int) -> bool:
    """Whether a path or a descriptor is on a btrfs file system."""
    import ctypes

    buffer = (ctypes.c_long * 32)()  # struct statfs begins with its type and has room to spare here
    path = f"/proc/self/fd/{file}" if isinstance(file, int) else file
    _check(_libc().statfs(os.fsencode(path), buffer), path)
    return bool(buffer[0] == _BTRFS_MAGIC)


def btrfs_added(path: str) -> int:
    """The bytes on disk of what was written to the subvolume `path` since it was made, when they have got there."""
    import fcntl

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        info = bytearray(504)
        fcntl.ioctl(fd, _BTRFS_GET_SUBVOL_INFO, info)
        # A snapshot's number is that of the transaction that made it, which had all it was made from.
        parent = any(info[312:328])
        made = int.from_bytes(info[352:360], sys.byteorder) + 1 if parent else 0
        return sum(_btrfs_extents(fd, made))
    finally:
        os.close(fd)


def _btrfs_extents(fd: int, first: int) -> Iterator[int]:
    """The sizes on disk of the extents of a subvolume's files that were made in transaction `first` or later."""
    import fcntl
    import struct

    last, inode, kind, offset = (1 << 64) - 1, 0, 0, 0
    while True:
        # Keys are in the order of inode, kind and offset; each search goes on behind the last key of the one before.
        key = struct.pack("=7Q4I4Q", 0, inode, last, offset, last, first, last, kind, 255, 64, 0, 0, 0, 0, 0)
        buffer = bytearray(key.ljust(4096, b"\0"))
        fcntl.ioctl(fd, _BTRFS_TREE_SEARCH, buffer)
        count, place = int.from_bytes(buffer[64:68], sys.byteorder), 104
        if not count:
            return
        for _ in range(count):
            _, inode, offset, kind, size = struct.unpack_from("=QQQII", buffer, place)
            item = place + 32
            if kind == _BTRFS_EXTENT_DATA:
                made, inline = int.from_bytes(buffer[item : item + 8], "little"), buffer[item + 20] == 0
                yield 0 if made < first else size if inline else int.from_bytes(buffer[item + 29 : item + 37], "little")
            place = item + size
        offset = min(offset + 1, last)


def btrfs_create(path: str) -> None:
    """Make an empty btrfs subvolume at `path`."""
    _in_parent(path, _BTRFS_SUBVOL_CREATE, 8)


def btrfs_snapshot(source: str, target: str) -> None:
    """Make a writable snapshot of the subvolume `source` at `target`."""
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _in_parent(target, _BTRFS_SNAP_CREATE_V2, 56, fd)
    finally:
        os.close(fd)


def btrfs_delete(path: str, *, parent: int | None = None) -> None:
    """Delete a subvolume (`path` is looked up in the directory `parent` when given); its space is freed later."""
    _in_parent(path, _BTRFS_SNAP_DESTROY, 8, parent=parent)


def _in_parent(path: str, request: int, offset: int, fd: int = 0, *, parent: int | None = None) -> None:
    """Call btrfs on the directory of `path`: a struct of 4096 bytes, a descriptor first, the name at `offset`."""
    import fcntl

    folder, name = os.path.split(path)
    buffer = bytearray(4096)
    buffer[:8] = fd.to_bytes(8, sys.byteorder)
    encoded = os.fsencode(name)
    buffer[offset : offset + len(encoded)] = encoded
    directory = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        fcntl.ioctl(directory, request, buffer)
    finally:
        os.close(directory)
