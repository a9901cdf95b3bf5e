"""Layers as overlayfs directories: a layer's `fs` is what its step added, and a tree is many of them mounted as one.

Mounts are made in a private namespace (nothing leaks, however the process ends) and `volatile` (nothing is synced when
they end: 0.2 ms instead of 1 to 30). While a layer is written the tree is mounted over its own `fs`, and beside that is
`work`, overlayfs's own.
"""

from __future__ import annotations

import errno
import os
import time

from obuild import kernel
from obuild.disk import Size, copy_metadata, measure, remove_tree, walk
from obuild.errors import StoreError
from obuild.store.scratch import Sweeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Overlay"]

_PATIENCE = 2.0
"""Seconds to wait for the kernel: a dead container's mounts are taken down a little after its last process."""


class Overlay:
    """The back-end of `overlay:` stores."""

    kind = "overlay"
    stacked = True

    def __init__(self, store: str) -> None:
        self._sweeper = Sweeper(store)

    def check(self, store: str) -> None:
        """Mount one: whether overlayfs takes a file system can only be seen by trying."""
        path = f"{store}/tmp/check"
        os.makedirs(f"{path}/lower")
        try:
            self.prepare(path, [f"{path}/lower"])
        finally:
            self.drop(path)

    def prepare(self, path: str, lowers: Sequence[str]) -> str:
        """Mount `lowers` with `path`/fs on top over `path`/fs itself; without any, the directory is the tree."""
        upper, work = f"{path}/fs", f"{path}/work"
        os.mkdir(upper)
        if not lowers:
            os.chmod(upper, 0o755)
            return upper
        _copy_root(lowers[0], upper)
        os.mkdir(work)
        self._mount(upper, lowers, upper, work)
        return upper

    def seal(self, path: str) -> Size:
        """Unmount, and leave only what was added."""
        upper, work = f"{path}/fs", f"{path}/work"
        if os.path.isdir(work):
            _link_names(upper, f"{work}/index")
            _retry(lambda: kernel.unmount(upper))
            self._sweeper.take(work)
        return measure(upper)

    def size(self, path: str, sealed: int) -> int:
        """Known since it was sealed."""
        return sealed

    def drop(self, path: str) -> None:
        """Remove `path`, unmounting what is mounted in it."""
        if os.path.isdir(f"{path}/work"):
            try:
                kernel.unmount(f"{path}/fs", detach=True)
            except OSError:
                pass  # not mounted, or by a process that is dead and its namespace with it
        remove_tree(path)

    def view(self, path: str, lowers: Sequence[str]) -> str:
        """Mount `lowers` at `path`/fs, read-only."""
        root = f"{path}/fs"
        os.mkdir(root)
        os.mkdir(f"{path}/work")
        if len(lowers) == 1:  # overlayfs wants two
            kernel.private_mounts()
            kernel.bind(lowers[0], root, read_only=True)
        else:
            self._mount(root, lowers)
        return root

    def finish(self) -> None:
        """The working directories of overlayfs are removed in the background."""
        self._sweeper.wait()

    def _mount(self, root: str, lowers: Sequence[str], upper: str = "", work: str = "") -> None:
        try:
            kernel.private_mounts()
            _retry(lambda: _mount_once(root, lowers, upper, work))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            hint = 'use a store on ext4, xfs, btrfs or tmpfs, or a "copy:" store'
            if error.errno in (errno.EPERM, errno.EACCES):
                hint = 'run it as root, or use a "copy:" store'
            raise StoreError(f'can not mount an overlay at "{root}": {error.strerror}', hint=hint) from error


def _mount_once(root: str, lowers: Sequence[str], upper: str, work: str) -> None:
    try:
        kernel.mount_overlay(root, lowers, upper, work)
    except OSError as error:
        if error.errno == errno.EBUSY and work:
            # The kernel has marked it as that of a volatile overlay before it gave up, and takes no such one again.
            remove_tree(work)
            os.mkdir(work)
        raise


def _retry(call: Callable[[], None]) -> None:
    """Call until nothing is busy any more, within reason."""
    end, pause = time.monotonic() + _PATIENCE, 0.0005
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _copy_root(lower: str, upper: str) -> None:
    # The merged root has the attributes of the upper directory: it begins with those of the layer below.
    source = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        target = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_metadata(source, target, keep=lambda name: not name.startswith("trusted.overlay."))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _link_names(root: str, index: str) -> None:
    """Bring all names of a file that was written through one of them into the layer.

    With `index=on` the kernel keeps a file that has several names below one file for as long as the overlay is
    mounted, by an entry in work/index. The next overlay has no such entry and would see the old content under the
    names that were not used. Opening one of those for writing makes the kernel link it to the others.
    """
    names_left = {}
    for name in os.listdir(index):
        inode, count = (0, 0) if name.startswith("#") else _indexed(index, name)  # "#…" is a temporary of the kernel
        if count:
            names_left[inode] = count
    if not names_left:
        return
    for folder, entries in walk(root):
        for entry in entries:
            if entry.inode() in names_left and not entry.is_dir(follow_symlinks=False):
                _copy_up(folder, entry)


def _indexed(index: str, name: str) -> tuple[int, int]:
    """The inode number that an entry of work/index has in the overlay, and how many of its names are not in the layer.

    The name of the entry is the file handle of the file below in hexadecimal, after 21 bytes of which the fifth is
    the handle's type (struct ovl_fb). Its attribute says how many names the file has, counted from what the file
    above ("U+1") or below ("L-1") has, one more above for the entry itself.
    """
    handle = bytes.fromhex(name)
    folder = os.open(index, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lower = kernel.open_handle(folder, handle[4], handle[21:])
        try:
            below = os.fstat(lower)
        finally:
            os.close(lower)
        above = os.stat(name, dir_fd=folder, follow_symlinks=False)
        text = os.getxattr(f"{index}/{name}", "trusted.overlay.nlink", follow_symlinks=False).decode()
    finally:
        os.close(folder)
    names = (above.st_nlink if text[0] == "U" else below.st_nlink) + int(text[1:])
    return below.st_ino, max(0, names - (above.st_nlink - 1))


def _copy_up(folder: int, entry: os.DirEntry[str]) -> None:
    if entry.is_file(follow_symlinks=False):
        os.close(os.open(entry.name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
    else:
        info = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        os.utime(entry.name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=folder, follow_symlinks=False)
