"""Where the files of a `copy` come from: the context directory of the host, or the result of a nested build."""

from __future__ import annotations

import os
from contextlib import contextmanager

from obuild import disk
from obuild.digest import sha256
from obuild.manifest import Index, Scan, fingerprint, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.cancel import Cancel
    from obuild.spec import Copy
    from obuild.store import Layer, Store

__all__ = ["Directory", "Result"]


class Directory:
    """A directory of the host, for one `copy`; digests of its files are remembered below the directory `index`."""

    def __init__(self, path: str, index: str) -> None:
        self._path, self._index = path, Index(index, path)
        self._found: Scan | None = None
        self._key = ""

    def unread(self, op: Copy, *, into: bool) -> tuple[int, str]:
        """Bytes that `digest` would have to read, and what stands for the files until it has."""
        found = self._scan(op, into=into)
        return 0 if self._index.known(self._key) else self._index.unread(found), self._key

    def digest(self, op: Copy, cancel: Cancel, *, into: bool) -> str:
        """What the files are that `op` names, as one digest."""
        found = self._scan(op, into=into)
        return self._index.known(self._key) or self._index.digest(found, self._key, cancel=cancel)

    @contextmanager
    def scan(self, op: Copy, *, into: bool) -> Iterator[Scan]:
        """The files that `op` names, as they were when they were first asked for: a later change of one is an error."""
        yield self._scan(op, into=into)

    def _scan(self, op: Copy, *, into: bool) -> Scan:
        if self._found is None:
            self._found = scan(self._path, op.src, into=into, exclude=op.exclude)
            self._key = fingerprint(self._found)
        return self._found


class Result:
    """A finished layer. It never changes, so a digest is taken once and the tree is opened only to copy from it."""

    def __init__(self, store: Store, layer: Layer, index: str) -> None:
        self._store, self._layer, self._index = store, layer, index

    def unread(self, op: Copy, *, into: bool) -> tuple[int, str]:
        """Nothing is ever copied before its digest is known: `digest` remembers it for good."""
        return 0, ""

    def digest(self, op: Copy, cancel: Cancel, *, into: bool) -> str:
        """What the files are that `op` names, as one digest."""
        key = sha256(repr((self._layer.id, op.src, op.exclude, into)).encode()).hexdigest()
        path = f"{self._index}/{key}"
        try:
            with open(path, encoding="ascii") as file:
                known = file.read()
        except OSError:
            known = ""
        if len(known) == 64:
            return known
        with self._store.view(self._layer) as tree:
            digest = Directory(tree, "").digest(op, cancel, into=into)
        try:
            os.makedirs(self._index, exist_ok=True)
            disk.write_atomic(path, digest.encode())
        except OSError:
            pass  # a full disk, or a store that may only be read: it is taken again next time
        return digest

    @contextmanager
    def scan(self, op: Copy, *, into: bool) -> Iterator[Scan]:
        """The files that `op` names, readable while the block lasts."""
        with self._store.view(self._layer) as tree:
            yield scan(os.path.realpath(tree), op.src, into=into, exclude=op.exclude)
