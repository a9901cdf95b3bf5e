"""The store itself: ids, locks, publishing and what is done with finished layers, the same for every kind."""

from __future__ import annotations

import errno
import os
import time

from obuild.errors import StoreError, nearest
from obuild.store.hold import Holds
from obuild.store.layer import Layer, escape, layer_path, list_layers
from obuild.store.scratch import Scratch, Sweeper, clean_up, clean_up_containers, drop_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.store.backend import Backend
    from obuild.store.chain import Chain
    from obuild.store.draft import Draft
    from obuild.store.fsck import Finding
    from obuild.store.hold import Hold
    from obuild.store.package import PackageDraft
    from obuild.store.prune import Pruned, Usage

__all__ = ["Store"]


class Store:
    """Finished layers in a directory; see the laws in the docstring of the package.

    Safe to use from several threads and processes at once. Made by `open_store`.
    """

    def __init__(self, path: str, kind: str) -> None:
        self.path, self.kind = path, kind
        self._backend: Backend | None = None
        self._chain: Chain | None = None
        self.distrusted: tuple[str, ...] = ()
        """Layers that were thrown away on opening: a power cut came before they were surely on the disk."""
        self._synced = 0.0
        self._sweeper: Sweeper | None = None
        self._holds = Holds()
        self.recorded: dict[str, tuple[tuple[int, int], str | None]] = {}
        """What `package.recorded_base` knows."""

    # What the interpreter needs.

    def get(self, id: str) -> Layer | None:
        """The finished layer called `id`, stamped as used now; None when there is none. One system call."""
        path = layer_path(self.path, id)
        now = time.time_ns()  # finer than the clock of the kernel, which would take what happens within 4 ms for one
        try:
            os.utime(f"{path}/layer.json", ns=(now, now))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a store that may only be read
            if not os.path.exists(f"{path}/layer.json"):
                return None
        return Layer(id, path)

    def layer(self, id: str) -> Layer:
        """The layer `id`, which somebody holds."""
        return Layer(id, layer_path(self.path, id))

    def exists(self, id: str) -> bool:
        """Whether there is a finished layer `id`; it does not count as used."""
        return os.path.exists(f"{layer_path(self.path, id)}/layer.json")

    def new(
        self,
        id: str,
        parents: tuple[str, ...] = (),
        *,
        keep_failed: bool = False,
        follow: Callable[[bytes], None] | None = None,
        cancel: Cancel | None = None,
        terms: str = "",
    ) -> Draft:
        """A layer to be written in a `with` block: published at its end, gone after an exception.

        When another thread or process makes the same one, entering waits for it and gives its log to `follow` as it
        comes. `Draft.layer` is then the finished layer and there is nothing to do. `keep_failed` keeps the tree of an
        exception other than `Cancelled` for `failed_layer`. Raises `Cancelled` when `cancel` is set while waiting, and
        `StoreError`, temporary, when a parent has been pruned meanwhile: building it again helps.

        `terms` says how it is made, of what counts for no id (limits): entering raises the `StepFailed` of the one
        waited for when that was on the same terms, which are not "".
        """
        from obuild.store.draft import Draft

        return Draft(self, id, parents, keep_failed=keep_failed, follow=follow, cancel=cancel, terms=terms)

    def cache(self, name: str, user: tuple[int, int] = (0, 0)) -> AbstractContextManager[str]:
        """A private writable copy of the cache directory `name`, its top owned by `user`, for the time of the block.

        Afterwards, also after an exception, it becomes what the next one gets, unless somebody who began with the
        same content came first.
        """
        from obuild.store.cache import use

        return use(self, name, user)

    def view(self, layer: Layer) -> AbstractContextManager[str]:
        """The whole tree of a layer, for reading, for the time of the block; the layer is in use meanwhile."""
        from obuild.store.view import view

        return view(self, layer)

    def writable(self, layer: Layer) -> AbstractContextManager[str]:
        """The whole tree of a layer for the time of the block; what is written to it is thrown away."""
        from obuild.store.view import writable

        return writable(self, layer)

    def package(self, id: str, facts: Mapping[str, Any]) -> Layer | None:
        """The package layer `id`, if its `layer.json` has all these `facts`; stamped as used now."""
        from obuild.store.package import find

        return find(self, id, facts)

    def new_package(
        self,
        id: str,
        facts: Mapping[str, Any],
        *,
        follow: Callable[[bytes], None] | None = None,
        cancel: Cancel | None = None,
    ) -> PackageDraft:
        """As `new`, for a package's layer, which is gathered from its steps; one made with other `facts` gives way."""
        from obuild.store.package import PackageDraft

        return PackageDraft(self, id, facts, follow=follow, cancel=cancel)

    def conflicts(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """The paths ("usr/bin/x") that more than one of these package layers has, each with their ids."""
        from obuild.store.package import conflicts

        return conflicts(self, ids)

    def base(self, platform: str) -> Layer | None:
        """What packages are built on for a platform: the layer that its `base` links to."""
        from obuild.store.package import base_link

        name = base_link(self.path, platform)
        return self.get(name) if name else None

    def failed_layer(self, id: str) -> Layer | None:
        """The tree that was kept when the step `id` failed; its `meta()` has `error` and the command's `status`."""
        path = f"{self.path}/failed/{escape(id)}"
        return Layer(id, path) if os.path.exists(f"{path}/layer.json") else None

    # What its owner needs.

    def layers(self) -> list[Layer]:
        """All finished layers, in no order."""
        return [layer for layer in list_layers(self.path) if os.path.exists(f"{layer.path}/layer.json")]

    def failed(self) -> list[Layer]:
        """All trees of failed steps that were kept."""
        from obuild.store.prune import list_failed

        return list_failed(self)

    def delete(self, id: str, *, children: bool = False) -> list[str]:
        """Delete a layer or a failed tree, and all made from it when `children`; the ids of what was deleted.

        Raises `StoreError`, and deletes nothing, when there is no such layer, something is made from it, or one of
        them is in use.
        """
        from obuild.store.prune import delete

        return delete(self, id, children=children)

    def delete_cache(self, name: str) -> None:
        """Delete a cache directory. Raises `StoreError` when there is none or it is in use."""
        from obuild.store.cache import delete

        delete(self, name)

    def prune(
        self,
        *,
        max_age: float | None = None,
        max_count: int | None = None,
        max_size: int | None = None,
        dry_run: bool = False,
        keep: Collection[str] = (),
        only_packages: bool = False,
    ) -> list[Pruned]:
        """Delete what was not used for the longest time until the bounds hold; what was (or would be) deleted.

        Bounds: seconds since the last use, a number of layers, bytes on disk. Layers go leaves first; what is in use
        by any process stays, and all that it is made from. Cache directories and failed trees go by age and size.
        `keep` are places in the store ("debian-13-x86_64/01fc…", "failed/…") that stay, with all they are made from;
        with `only_packages` all stays that is neither a package's nor made from one.
        """
        from obuild.store.prune import prune

        bounds = {"max_age": max_age, "max_count": max_count, "max_size": max_size}
        return prune(self, **bounds, dry_run=dry_run, keep=keep, only_packages=only_packages)  # type: ignore[arg-type]

    def usage(self) -> Usage:
        """Bytes on disk by kind of thing, and how much room is left."""
        from obuild.store.prune import usage

        return usage(self)

    def fsck(self, *, repair: bool = False) -> list[Finding]:
        """What is wrong with the store; with `repair` it is also put right."""
        from obuild.store.fsck import fsck

        return fsck(self, repair=repair)

    def sync(self) -> None:
        """Make sure that all finished layers are on the disk: only what a power cut finds unsynced is built again."""
        from obuild.store.boot import sync

        sync(self.path)

    # What the other modules of the package need.

    @property
    def backend(self) -> Backend:
        """What makes root file systems in this kind of store."""
        if self._backend is None:
            self._backend = open_backend(self.kind, self.path)
        return self._backend

    def lowers(self, parents: Iterable[str]) -> list[str]:
        """The directories that together are the tree of `parents` stacked upon each other, the uppermost first."""
        if not self.backend.stacked:
            return [f"{layer_path(self.path, parent)}/fs" for parent in parents][::-1]
        if self._chain is None:
            from obuild.store.chain import Chain

            self._chain = Chain(self.path, self.backend.drop)
        return self._chain.lowers(tuple(parents))

    def hold(self, layer: Layer | str) -> Hold:
        """Keep a layer, and so all that it is made from, from being deleted until the hold is released.

        It counts as used when this process begins to.
        """
        name, path = (layer, layer_path(self.path, layer)) if isinstance(layer, str) else (layer.id, layer.path)
        while True:
            try:
                hold = self._holds.attempt(path)
            except (FileNotFoundError, NotADirectoryError):
                hint = "it was deleted meanwhile: build it again"
                raise StoreError(f'layer "{name}" is not in the store', hint=hint, temporary=True) from None
            if hold:
                return hold
            # Its maker has published it and is about to let go, or somebody is deleting it.
            time.sleep(0.001)

    def clean_up(self) -> None:
        """Remove what dead processes left, containers first. Two listdirs when there is nothing."""
        if self._backend:
            self._backend.finish()
        if self._sweeper:
            self._sweeper.wait()
        clean_up_containers(self.path)
        if os.listdir(f"{self.path}/tmp"):
            clean_up(self.path, self.backend.drop)

    def discard(self, *paths: str) -> None:
        """Take directories out of the store, in this order, each at once; then remove them."""
        scratch = None
        try:
            scratch = Scratch.fresh(self.path, "gone")
            for number, path in enumerate(paths):
                os.rename(path, f"{scratch.path}/{number}")
            drop_all([f"{scratch.path}/{number}" for number in range(len(paths))], self.backend.drop)
            os.rmdir(scratch.path)
        except OSError as error:
            raise self.explain(error, f'can not remove "{paths[0]}"') from error
        finally:
            if scratch:
                scratch.release()  # what is still in it the next start removes

    def sweep(self, path: str) -> None:
        """Take what is not used by anybody out of its place; it is removed while something else goes on."""
        if self._sweeper is None:
            self._sweeper = Sweeper(self.path)
        self._sweeper.take(path)

    def explain(self, error: OSError, what: str) -> StoreError:
        """The error to show for one of the system."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room with `obuild prune`, or use a store on a larger disk"
            return StoreError(f'{what}: no space left on the disk of "{self.path}"', hint=hint)
        if error.errno in (errno.EPERM, errno.EACCES):
            return StoreError(f"{what}: {error}", hint="run it as root")
        return StoreError(f"{what}: {error}")

    def unknown(self, id: str) -> StoreError:
        """The error for an id that no layer has."""
        return StoreError(f'no layer "{id}" in the store', hint=nearest(id, (layer.id for layer in self.layers())))


def open_backend(kind: str, path: str) -> Backend:
    """The back-end of a kind of store."""
    match kind:
        case "overlay":
            from obuild.store.overlay import Overlay

            return Overlay(path)
        case "btrfs":
            from obuild.store.btrfs import Btrfs

            return Btrfs()
        case _:
            from obuild.store.copy import Copy

            return Copy()
