"""What a kind of store has to know: how a writable tree is made from finished ones, kept and thrown away."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from obuild.disk import Size
else:
    Protocol = object

__all__ = ["Backend"]


class Backend(Protocol):
    """Works on directories that each have their files in `fs`; knows nothing of ids, locks or caches.

    Safe to use from several threads at once, on different directories. Errors are `OSError` or `StoreError`.
    """

    kind: str
    stacked: bool
    """Whether `fs` holds only what was added, and a whole tree is all of `lowers`; otherwise every `fs` is whole."""

    def check(self, store: str) -> None:
        """Raise `StoreError` when the file system that the empty store `store` is on can not be used."""

    def prepare(self, path: str, lowers: Sequence[str]) -> str:
        """Make `path`/fs from the `fs` directories `lowers`, the uppermost first; where the whole tree is writable."""

    def seal(self, path: str) -> Size:
        """End the writing: afterwards `path` may be renamed, and its `fs` be a lower of others; what it added."""

    def size(self, path: str, sealed: int) -> int:
        """The bytes on disk that the finished `path` added, of which `sealed` were known when it was sealed."""

    def drop(self, path: str) -> None:
        """Remove `path` with all in it, prepared, sealed or torn."""

    def view(self, path: str, lowers: Sequence[str]) -> str:
        """Where the whole tree of `lowers` can be read, with `path` to work in; ended by `drop`."""

    def finish(self) -> None:
        """Wait for what is done in the background."""
