"""The store: finished layers under their ids, drafts being written, cache directories.

The laws, which `tests/test_store.py` runs on every back-end:

1. `new(id, parents)` holds the lock of `id` across threads and processes. Whoever waited finds the result in
   `draft.layer` and reuses it, and is meanwhile given the live log through `follow`.
2. Leaving the block normally publishes the layer in one rename, `layer.json` and log already inside.
3. Leaving it by an exception leaves nothing or, with `keep_failed`, the failed tree and its log: never a hit.
4. If somebody published `id` meanwhile, theirs wins and ours is dropped silently.
5. A killed process never leaves a hit that is not whole, a mount, a running container or a secret on disk; the next
   start removes the rest. Mounts therefore live in a private mount namespace.

On disk, relocatable (nothing absolute inside):

    STORE/
      store.json                 {"format": 1, "kind": "overlay"}
      boot                       what a power cut may have torn, see `boot`
      steps/<id>/                layer.json  build.log  env.json  fs/
      <platform>/base            a link to the step that the platform's packages are built on
      <platform>/<key>/          layer.json  build.log  fs/  paths, of a package, see `package`
      failed/<escaped id>/       the same, of steps that failed and were kept
      flat/<escaped id>/         many small layers as one, see `chain`
      cache/<escaped name>/<n>/  cache directories, see `cache`
      index/  images/  sources/  runs/
      tmp/<escaped id>/          what is being written, under a lock that dies with its process

An id without a slash lives in `steps/`; one with a slash (`debian-12-x86_64/<build-id>`) is its own directory. The lock
of an id that is being built is the one on its directory in `tmp/`; a finished layer that is in use has a shared lock
on its directory. So no lock file is ever left behind.
"""

from __future__ import annotations

import os

from obuild.errors import StoreError, UsageError, nearest
from obuild.store import boot
from obuild.store.layer import RESERVED, Layer
from obuild.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.store.draft import Draft as Draft

__all__ = ["Layer", "Store", "open_store"]

KINDS = ("overlay", "btrfs", "copy")


def open_store(text: str, *, create: bool = True) -> Store:
    """The store called "KIND:PATH"; a path alone is an overlay store. What dead processes left in it is removed.

    With `create` it is made when missing. Raises `UsageError` for an unknown kind, `StoreError` for a directory that
    is something else, a store of another kind, or on a file system that the kind can not use.
    """
    kind, path = _parse(text)
    path = os.path.realpath(path)
    try:
        if not _is_store(path, kind):
            if not create:
                raise StoreError(f'there is no store at "{path}"')
            _create(path, kind)
        store = Store(path, kind)
        store.distrusted = boot.check(store)
        store.clean_up()
    except OSError as error:
        raise StoreError(f'can not open the store "{path}": {error.strerror}') from error
    return store


def _parse(text: str) -> tuple[str, str]:
    kind, colon, path = text.partition(":")
    if not colon or "/" in kind:
        kind, path = "overlay", text
    if kind not in KINDS:
        raise UsageError(f'unknown kind of store "{kind}"', hint=nearest(kind, KINDS) or f"one of {', '.join(KINDS)}")
    if not path:
        raise UsageError(f'"{text}" has no directory for the store', hint=f'for example "{kind}:/var/cache/obuild"')
    return kind, path


def _label(kind: str) -> bytes:
    return b'{"format": 1, "kind": "%s"}\n' % kind.encode()


def _is_store(path: str, kind: str) -> bool:
    try:
        fd = os.open(f"{path}/store.json", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = os.read(fd, 4096)
    finally:
        os.close(fd)
    if found == _label(kind):
        return True
    for other in KINDS:
        if found == _label(other):
            raise StoreError(f'"{path}" is a store of kind "{other}"', hint=f'write it as "{other}:{path}"')
    raise StoreError(f'"{path}/store.json" is damaged, or of another version of obuild')


def _create(path: str, kind: str) -> None:
    from obuild.disk import Lock, write_atomic

    os.makedirs(path, exist_ok=True)
    with Lock.take(path):
        if _is_store(path, kind):
            return  # somebody was quicker
        known = {*RESERVED, "boot", "lost+found"}
        if not all(name in known or name.startswith("store.json.") for name in os.listdir(path)):
            raise StoreError(f'"{path}" is not a store, and not empty', hint="give a directory of its own")
        os.chmod(path, 0o755)
        os.makedirs(f"{path}/tmp", exist_ok=True)
        Store(path, kind).backend.check(path)
        for name in ("steps", "failed", "flat", "cache"):
            os.makedirs(f"{path}/{name}", exist_ok=True)
        boot.start(path)
        write_atomic(f"{path}/store.json", _label(kind))
