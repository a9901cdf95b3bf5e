"""Layers as btrfs subvolumes: each is a snapshot of the one before, a whole tree, made and deleted by ioctl.

A finished subvolume is not marked read-only: that costs a commit (5 ms) and protects from nothing, since a later step
only ever sees a snapshot of it.
"""

from __future__ import annotations

import os

from obuild import kernel
from obuild.disk import Size, remove_tree
from obuild.errors import StoreError
from obuild.store.difference import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Btrfs"]


class Btrfs:
    """The back-end of `btrfs:` stores."""

    kind = "btrfs"
    stacked = False

    def check(self, store: str) -> None:
        """Only that it is btrfs."""
        if not kernel.is_btrfs(store):
            raise StoreError(f'"{store}" is not on a btrfs file system', hint=f'use "overlay:{store}"')

    def prepare(self, path: str, lowers: Sequence[str]) -> str:
        """A snapshot of the lowest, on which the others are stacked; an empty subvolume without any."""
        root = f"{path}/fs"
        if not lowers:
            kernel.btrfs_create(root)
            os.chmod(root, 0o755)
            return root
        kernel.btrfs_snapshot(lowers[-1], root)
        stack(lowers, root)
        return root

    def seal(self, path: str) -> Size:
        """Nothing is left to do; what it takes is known to btrfs alone."""
        return Size()

    def size(self, path: str, sealed: int) -> int:
        """Asked of btrfs when it is wanted: right after a step its data are not on the disk yet."""
        return kernel.btrfs_added(f"{path}/fs")

    def drop(self, path: str) -> None:
        """Remove `path`; a subvolume in it is deleted at once, and its space freed by the kernel later."""
        try:
            kernel.btrfs_delete(f"{path}/fs")
        except OSError:
            pass  # none, or with others nested in it: found one by one
        remove_tree(path)

    def finish(self) -> None:
        """Nothing is done in the background."""

    def view(self, path: str, lowers: Sequence[str]) -> str:
        """The finished tree itself."""
        return lowers[0]
