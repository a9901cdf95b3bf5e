"""Unpacking a tar stream below a root, so that no entry is ever written outside of it.

An image is data from a stranger: `etc -> /etc` followed by `etc/passwd` must not reach the host's. The kernel resolves
every parent directory with the root as `/` (openat2, RESOLVE_IN_ROOT), and the last part of a name is only ever used
relative to that directory and never followed. What is in the way is replaced, as container engines do.

OCI layers are unpacked one above the other: `.wh.NAME` takes away what lower layers had, `.wh..wh..opq` everything they
had in its directory, and neither touches what its own layer brings.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import tarfile

from obuild import disk, kernel
from obuild.errors import FetchError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from obuild.archive import Stream

    T = TypeVar("T")

__all__ = ["unpack"]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
BOOKKEEPING = ".wh..wh."
"""What AUFS left in old layers for itself."""

XATTR = "SCHILY.xattr."
PRIVATE = ("trusted.overlay.", "user.overlay.")
"""Attributes that steer overlayfs: in a layer of a store they would redirect or hide its files."""

REFUSED = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)
NODES = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
SKIPPED = b"V"
"""The label of a volume (GNU tar -V)."""

MALFORMED = (tarfile.TarError, ValueError, IndexError, KeyError, OverflowError, AttributeError, RecursionError)
"""What `tarfile` raises for headers that make no sense, some only by accident."""


def unpack(
    stream: Stream,
    root: str,
    name: str,
    *,
    layer: bool = False,
    checked: bool = False,
    user: tuple[int, int] | None = None,
    note: Callable[[str], None] | None = None,
) -> None:
    """Unpack the tar in `stream` into the directory `root`, with owners, modes, times and attributes as they are.

    `layer` gives whiteouts their meaning. With `user` everything is as if that user had unpacked it with a umask of
    022: no owners, special bits, attributes or devices. `checked`: a digest covers the stream, so that an archive
    without an end mark is accepted. `name` is what errors call it; `note` hears once what the file system could not
    keep. Raises `FetchError` for a damaged archive, an entry that leads out of the root and a file system that refuses,
    `StoreError` for one that is full.
    """
    tree = _Tree(root)
    headers = _Headers(stream, name, checked)
    try:
        while (member := headers.next()) is not None:
            try:
                if user:
                    _make_plain(member, user)
                _add(tree, stream, member, layer)
            except OSError as error:
                message = f'can not unpack "{member.name}" of "{name}": {error.strerror}'
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise StoreError(message, hint="make room with `obuild prune`") from None
                raise FetchError(message) from None
            except (ValueError, OverflowError) as error:
                raise FetchError(f'can not unpack "{member.name}" of "{name}": {error}') from None
        tree.set_times()
    finally:
        tree.close()
    if tree.lost and note:
        note(f"the file system does not keep these extended attributes: {', '.join(sorted(tree.lost))}")


class _Headers:
    """The entries of a tar. It has what `TarInfo.fromtarfile` uses of a `TarFile`, because `TarFile.next` takes a
    damaged header for the end of the archive."""

    encoding, errors = "utf-8", "surrogateescape"

    def __init__(self, stream: Stream, name: str, checked: bool) -> None:
        self.fileobj, self.offset = stream, 0
        self.pax_headers: dict[str, str] = {}
        self._name, self._checked = name, checked

    def next(self) -> tarfile.TarInfo | None:
        """The next entry, or None at the end."""
        begin, self.pax_headers = self.offset, {**self.pax_headers}
        try:
            self.fileobj.seek(self.offset)
            member = tarfile.TarInfo.fromtarfile(self)  # type: ignore[arg-type]
            if member.size < 0 or self.offset < begin:
                raise ValueError("an entry of negative size")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            return None
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            if self._checked:
                return None
            wrong = "was cut off: it has no end mark" if begin else "is empty"
            raise FetchError(f'"{self._name}" {wrong}') from None
        except MALFORMED as error:
            if not begin:
                raise FetchError(f'"{self._name}" is not a tar archive') from None
            raise FetchError(f'"{self._name}" is damaged at byte {begin:,}: {error}') from None
        return member


def _add(tree: _Tree, stream: Stream, member: tarfile.TarInfo, layer: bool) -> None:
    """Make one entry."""
    path = _normal(member.name)
    folder, leaf = posixpath.split(path)
    if layer and leaf.startswith(WHITEOUT):
        tree.hide(folder, leaf)
    elif member.isdir():
        tree.add_folder(path, member)
    elif not path:
        raise ValueError("the root can only be a directory")
    elif member.isreg():
        stream.seek(member.offset_data)
        tree.add_file(path, member, stream)
    elif member.islnk():
        tree.add_link(path, _normal(member.linkname))
    elif member.issym() or member.type in NODES:
        tree.add_node(path, member)
    elif member.type != SKIPPED:
        raise ValueError(f"unknown type of entry {member.type!r}")


def _make_plain(member: tarfile.TarInfo, user: tuple[int, int]) -> None:
    """Take from an entry what a user can not give to a file."""
    if member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        raise ValueError("it is a device")
    member.uid, member.gid = user
    member.mode &= 0o755
    member.pax_headers = {key: text for key, text in member.pax_headers.items() if not key.startswith(XATTR)}


def _normal(name: str) -> str:
    """A name relative to the root: "usr/lib" for "./usr//lib/" and "/usr/lib", "" for the root."""
    path = posixpath.normpath(f"./{name}")
    if path == ".." or path.startswith("../"):
        raise ValueError("it leads out of the root")
    return "" if path == "." else path


def _fill(fd: int, stream: Stream, member: tarfile.TarInfo) -> None:
    """Write the content; holes stay holes."""
    extents = getattr(member, "sparse", None)
    for offset, size in extents or ((0, member.size),):
        if size < 0 or offset < 0:
            raise ValueError("a sparse file with a negative extent")
        if extents:
            os.lseek(fd, offset, os.SEEK_SET)
        for part in stream.pieces(size):
            size -= len(part)
            while part:
                part = part[os.write(fd, part) :]
        if size:
            raise ValueError(f"the archive was cut off, {size:,} bytes are missing")
    if extents:
        os.ftruncate(fd, member.size)


def _set_owner(target: int | str, member: tarfile.TarInfo, folder: int | None = None) -> None:
    """Set owner, then mode: changing the owner clears the setuid bit."""
    os.chown(target, member.uid, member.gid, dir_fd=folder, follow_symlinks=folder is None)
    if not member.issym():
        os.chmod(target, member.mode & 0o7777, dir_fd=folder)


def _mtime(member: tarfile.TarInfo) -> int:
    """Nanoseconds, exactly: the float that `tarfile` makes of a pax time is off by up to a few hundred."""
    text = member.pax_headers.get("mtime", "")
    if not text:
        return int(member.mtime * 1_000_000_000)
    seconds, _, fraction = text.partition(".")
    rest = int(fraction[:9].ljust(9, "0"))
    return int(seconds) * 1_000_000_000 + (-rest if seconds.startswith("-") else rest)


class _Tree:
    """A directory tree being filled. Paths are relative to the root and normal; symlinks in them stay inside."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY)
        self._last: tuple[str | None, int] = ("", os.dup(self._root))  # the parent used last: neighbours share it
        self._times: dict[str, int] = {}  # of directories, set at the end because filling one changes them
        self._made: set[str] = set()  # what this archive brings, and the directories above
        self.lost: set[str] = set()

    def close(self) -> None:
        """Let go of what is open."""
        os.close(self._last[1])
        os.close(self._root)

    def add_folder(self, path: str, member: tarfile.TarInfo) -> None:
        """Make a directory, or give one that is there its new owner, mode and attributes."""
        folder, leaf = self._open(path)
        if not _is_folder(leaf, folder):
            self._put(path, leaf, folder, lambda: os.mkdir(leaf, 0o700, dir_fd=folder))
        _set_owner(leaf, member, folder)
        self._set_xattrs(f"/proc/self/fd/{folder}/{leaf}", member)
        self._times[path] = _mtime(member)
        self._mark(path)

    def add_file(self, path: str, member: tarfile.TarInfo, stream: Stream) -> None:
        """Make a file of what comes next in `stream`."""
        folder, leaf = self._open(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = self._put(path, leaf, folder, lambda: os.open(leaf, flags, 0o600, dir_fd=folder))
        try:
            _fill(fd, stream, member)
            _set_owner(fd, member)
            self._set_xattrs(fd, member)
            os.utime(fd, ns=(_mtime(member),) * 2)
        finally:
            os.close(fd)

    def add_link(self, path: str, target: str) -> None:
        """Make a hard link to another path of the tree."""
        if path == target:
            return
        source = self._resolve(posixpath.dirname(target), make=False)
        try:
            folder, leaf = self._open(path)
            name = posixpath.basename(target) or "."
            pair = {"src_dir_fd": source, "dst_dir_fd": folder}
            self._put(path, leaf, folder, lambda: os.link(name, leaf, **pair, follow_symlinks=False))
        finally:
            os.close(source)

    def add_node(self, path: str, member: tarfile.TarInfo) -> None:
        """Make a symlink, a fifo or a device."""
        folder, leaf = self._open(path)
        if member.issym():
            self._put(path, leaf, folder, lambda: os.symlink(member.linkname, leaf, dir_fd=folder))
        else:
            mode, device = NODES[member.type] | 0o600, os.makedev(member.devmajor, member.devminor)
            self._put(path, leaf, folder, lambda: os.mknod(leaf, mode, device, dir_fd=folder))
        _set_owner(leaf, member, folder)
        self._set_xattrs(f"/proc/self/fd/{folder}/{leaf}", member)
        os.utime(leaf, ns=(_mtime(member),) * 2, dir_fd=folder, follow_symlinks=False)

    def hide(self, folder: str, leaf: str) -> None:
        """Do what a whiteout says."""
        name = leaf.removeprefix(WHITEOUT)
        if name in ("", ".", ".."):
            raise ValueError("it takes away no file")
        try:
            fd = self._resolve(folder, make=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if leaf == OPAQUE:
                for child in os.listdir(fd):
                    self._hide(posixpath.join(folder, child), child, fd)
            elif not leaf.startswith(BOOKKEEPING):
                self._hide(posixpath.join(folder, name), name, fd)
        finally:
            os.close(fd)

    def set_times(self) -> None:
        """Give the directories their times, once nothing more is put into them."""
        for path, time in self._times.items():
            folder, leaf = self._open(path)
            os.utime(leaf, ns=(time, time), dir_fd=folder, follow_symlinks=False)

    def _open(self, path: str) -> tuple[int, str]:
        """The open parent of a path, made if missing, and the name in it. Valid until the next call."""
        folder, leaf = posixpath.split(path)
        if folder != self._last[0]:
            fd = self._resolve(folder)
            os.close(self._last[1])
            self._last = (folder, fd)
        return self._last[1], leaf or "."

    def _resolve(self, path: str, *, make: bool = True) -> int:
        """Open a directory, with what is missing above and itself made."""
        try:
            return kernel.open_in_root(self._root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if not make or not path:
                raise
        above, leaf = posixpath.split(path)
        folder = self._resolve(above)
        try:
            os.mkdir(leaf, 0o755, dir_fd=folder)
            os.chmod(leaf, 0o755, dir_fd=folder)
        finally:
            os.close(folder)
        return self._resolve(path, make=False)

    def _put(self, path: str, leaf: str, folder: int, make: Callable[[], T]) -> T:
        """Make something new at a path, in place of what is there."""
        self._times.pop(path, None)
        try:
            made = make()
        except FileExistsError:
            self._remove(path, leaf, folder)
            made = make()
        self._mark(path)
        return made

    def _remove(self, path: str, leaf: str, folder: int) -> None:
        try:
            os.unlink(leaf, dir_fd=folder)
        except IsADirectoryError:
            disk.remove_tree(f"/proc/self/fd/{folder}/{leaf}")
            inside = f"{path}/"
            self._times = {name: time for name, time in self._times.items() if not f"{name}/".startswith(inside)}
        self._last = (None, self._last[1])  # it may have been, or led to, the parent used last

    def _mark(self, path: str) -> None:
        while path and path not in self._made:
            self._made.add(path)
            path = posixpath.dirname(path)

    def _hide(self, path: str, name: str, folder: int) -> None:
        """Remove what lower layers have at a path."""
        if path not in self._made:
            with contextlib.suppress(FileNotFoundError):
                self._remove(path, name, folder)
        elif _is_folder(name, folder):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                for child in os.listdir(inner):
                    self._hide(f"{path}/{child}", child, inner)
            finally:
                os.close(inner)

    def _set_xattrs(self, target: int | str, member: tarfile.TarInfo) -> None:
        for key, text in member.pax_headers.items():
            name = key.removeprefix(XATTR)
            if name == key or name.startswith(PRIVATE):
                continue
            content = text.encode("utf-8", "surrogateescape")
            try:
                os.setxattr(target, name, content, follow_symlinks=isinstance(target, int))
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                self.lost.add(name)


def _is_folder(leaf: str, folder: int) -> bool:
    """Whether there is a directory, not a symlink to one."""
    try:
        return stat.S_ISDIR(os.stat(leaf, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
