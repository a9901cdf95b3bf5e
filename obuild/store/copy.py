"""Layers as plain copies of the one before: works on every file system, needs no mount and no right to.

Where the file system shares blocks (xfs, btrfs) a copy is cheap. Elsewhere the whole tree is copied when a step begins,
and when it ends each file that the step left alone is replaced by a hard link to the same file of the layer before. A
draft therefore never shares a file with a finished layer while anything can write to it: a step that writes in place
can not reach a layer that it was made from.
"""

from __future__ import annotations

import os
import stat
import time

from obuild.disk import Size, copy_tree, remove_tree, walk
from obuild.store.difference import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Seen = dict[int, tuple[int, int, int, str]]
    """Of each file that was copied, by its inode: size, mtime, ctime, and the path in the layer of what it was copied
    from, "" when it shares its blocks."""

__all__ = ["Copy"]


_MOST_NAMES = 30000
"""Hard links to one file; ext4 has room for 65000, others for fewer."""


class Copy:
    """The back-end of `copy:` stores."""

    kind = "copy"
    stacked = False

    def __init__(self) -> None:
        self._copied: dict[str, tuple[str, Seen]] = {}

    def check(self, store: str) -> None:
        """Every file system will do."""

    def prepare(self, path: str, lowers: Sequence[str]) -> str:
        """A copy of the lowest, on which the others are stacked; an empty directory without any."""
        root = f"{path}/fs"
        os.mkdir(root)
        os.chmod(root, 0o755)
        if not lowers:
            return root
        seen: Seen = {}

        def copied(folder: int, name: str, origin: str, shared: bool) -> None:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            seen[info.st_ino] = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, "" if shared else origin)

        copy_tree(lowers[-1], root, copied=copied)
        _wait_for_tick()
        self._copied[path] = lowers[-1], seen
        stack(lowers, root)
        return root

    def seal(self, path: str) -> Size:
        """Replace files that are as they were copied by hard links to what they were copied from."""
        origin, seen = self._copied.pop(path, ("", {}))
        base = os.open(origin, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if seen else -1
        try:
            return _Share(f"{path}/fs", base, seen).run()
        finally:
            if seen:
                os.close(base)

    def size(self, path: str, sealed: int) -> int:
        """Known since it was sealed."""
        return sealed

    def drop(self, path: str) -> None:
        """Remove `path`."""
        self._copied.pop(path, None)
        remove_tree(path)

    def finish(self) -> None:
        """Nothing is done in the background."""

    def view(self, path: str, lowers: Sequence[str]) -> str:
        """The finished tree itself."""
        return lowers[0]


def _wait_for_tick() -> None:
    """Let the clock of the file system move on, so that a write from now on leaves another ctime than the copy did.

    The kernel stamps files from a clock that moves every 1 to 10 ms.
    """
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    coarse = 5  # CLOCK_REALTIME_COARSE, which Python has no name for
    while time.clock_gettime_ns(coarse) <= now:
        time.sleep(0.001)


class _Share:
    """Replaces what is unchanged in `root` by hard links into `base`, the directory that it was copied from."""

    def __init__(self, root: str, base: int, seen: Seen) -> None:
        self._root, self._base, self._seen = root, base, seen
        self._origins: dict[int, str | None] = {}
        self.size = Size()
        """What is not shared."""

    def run(self) -> Size:
        for folder, entries in walk(self._root):
            before = os.fstat(folder)
            linked = [self._entry(folder, entry) for entry in entries]
            if any(linked):
                os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
        return self.size

    def _entry(self, folder: int, entry: os.DirEntry[str]) -> bool:
        info = entry.stat(follow_symlinks=False)
        self.size.entries += 1
        self.size.length += info.st_size if stat.S_ISREG(info.st_mode) else 0
        # Decided once for all names of a file: replacing the first changes the ctime that the others show.
        if info.st_ino not in self._origins:
            self._origins[info.st_ino] = self._origin(info)
            self.size.blocks += info.st_blocks * 512 if self._origins[info.st_ino] is None else 0
        origin = self._origins[info.st_ino]
        if origin:
            temporary = f".{os.urandom(8).hex()}"
            os.link(origin, temporary, src_dir_fd=self._base, dst_dir_fd=folder, follow_symlinks=False)
            os.rename(temporary, entry.name, src_dir_fd=folder, dst_dir_fd=folder)
        return bool(origin)

    def _origin(self, info: os.stat_result) -> str | None:
        """The path in the base of a file that is as it was copied, "" when it is shared already; else None."""
        size, mtime, ctime, path = self._seen.get(info.st_ino, (-1, 0, 0, ""))
        if (size, mtime, ctime) != (info.st_size, info.st_mtime_ns, info.st_ctime_ns):
            return None
        crowded = path and os.stat(path, dir_fd=self._base).st_nlink + info.st_nlink > _MOST_NAMES
        return None if crowded else path
