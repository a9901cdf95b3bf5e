"""What a whole tree has that another has not: how layers are stacked upon each other where a tree is always whole."""

from __future__ import annotations

import os
import stat

from obuild.disk import Copier, copy_metadata, copy_tree, remove_tree
from obuild.store.layer import is_partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["entries", "stack", "unchanged"]


def stack(trees: Sequence[str], root: str) -> None:
    """Make in `root`, a copy of the lowest tree, the changes by which each other, the lowest first, differs from it.

    All whole ones were made from the lowest. Unchanged files are known by their inode (copy) or inode and ctime
    (btrfs), else by what `ls -l` shows, in nanoseconds. A partial one is nothing but changes.
    """
    for tree in trees[-2::-1]:
        if is_partial(os.path.dirname(tree)):
            copy_tree(tree, root)
        else:
            _Difference(tree, trees[-1], root).run()


class _Difference:
    def __init__(self, tree: str, base: str, root: str) -> None:
        self._tree, self._base, self._root = tree, base, root

    def run(self) -> None:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._copier = Copier(root)
            self._directory("")
        finally:
            os.close(root)

    def _directory(self, path: str) -> None:
        tree, base, root = self._tree + path, self._base + path, self._root + path
        new, old = entries(tree), entries(base)
        for name in old.keys() - new.keys():
            remove_tree(f"{root}/{name}")
        with _Directory(tree) as here, _Directory(root) as there:
            for name, info in new.items():
                before = old.get(name)
                if stat.S_ISDIR(info.st_mode):
                    self._subdirectory(f"{path}/{name}", before)
                elif before is None or not unchanged(info, before):
                    self._copier.copy(here, there, name, f"{path}/{name}"[1:])
            if _shown(os.lstat(tree)) != _shown(os.lstat(base)):
                copy_metadata(here, there)

    def _subdirectory(self, path: str, before: os.stat_result | None) -> None:
        if before is not None and stat.S_ISDIR(before.st_mode) and os.path.isdir(self._root + path):
            self._directory(path)
        else:
            copy_tree(self._tree + path, self._root + path)


class _Directory:
    """An open directory, for a `with` block."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def entries(path: str) -> dict[str, os.stat_result]:
    """What is in a directory."""
    with os.scandir(path) as found:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in found}


def unchanged(new: os.stat_result, old: os.stat_result) -> bool:
    """Whether a file of a tree is still as it was in the tree that was made from."""
    same_inode = new.st_ino == old.st_ino and (new.st_dev == old.st_dev or new.st_ctime_ns == old.st_ctime_ns)
    return same_inode or _shown(new) == _shown(old)


def _shown(info: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
    return (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev, size)
