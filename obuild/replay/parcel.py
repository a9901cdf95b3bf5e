"""A failure as a directory that another machine can replay, without network and without a repository.

README  build.spec  build.log
replay.json                  what failed; the platform; which layers there are, with the digests of their tars
base.tar.gz                  the platform's base, whole
packages/NAME.VERSION/       a package below it: fs.tar.gz, and what is beside it in a store; or build.spec alone
sources/                     the sources of what has to be built, in the layout of opam's cache
folders/                     those that are directories
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import partial

from obuild import disk
from obuild import spec as language
from obuild.archive import pack
from obuild.compress import gzip_chunks
from obuild.errors import FetchError, ObuildError
from obuild.export import check, new_folder
from obuild.platform import open_platform
from obuild.platform.base import format_base
from obuild.replay.memory import ASKED, PARCEL, stacked
from obuild.spec import Copy, FromUrl
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.download import Sources
    from obuild.replay.memory import Failed
    from obuild.spec import Op, Spec
    from obuild.store import Layer, Store

__all__ = ["BESIDE", "FORMAT", "HERE", "save_parcel"]

FORMAT = 1
HERE = "file:///replay/"
"""What an address in the spec begins with that is in the directory itself, wherever that will be."""

BESIDE = ("build.log", "build.spec", "opam", "paths")
"""Files of a package's layer, besides its tree and `layer.json`."""

_SIZES = ("id", "parents", "entries", "length", "size")
"""What a store says of a layer by itself."""

README = """\
{package} failed on {platform}
{line}

{error}

To see it again, on any machine of the same architecture with obuild, as root:

    obuild replay {name}                 the step that failed
    obuild replay {name} --shell         a shell where it is about to run
    obuild replay {name} --list          all steps

Nothing else is needed: {needs}.
`build.spec` is what is run, `build.log` what was said when it failed. What is in here is put into the store: to keep it
apart, name a new one with --store.
"""
LAYERS = "the packages that it stands on and its sources are in here"
SPECS = "the packages that it stands on are built first, and the sources of all are in here"


def save_parcel(
    store: Store,
    failed: Failed,
    system: Layer | None,
    dest: str,
    *,
    sources: Sources,
    cancel: Cancel,
    specs: bool = False,
) -> None:
    """Write a failure, and all that it needs, to the new directory `dest`.

    `system` is the layer with its system packages, if it asks for any. With `specs` the packages below it are to be
    built again: their specs and sources are written, not their layers. Raises `UsageError` for a `dest` that is there,
    `StoreError` when what it needs is not in the store any more, `FetchError` for a source of a package below.
    """
    check(dest, "dir")
    base = open_platform(store, failed.platform)
    whole = {"base": store.layer(base.id)} | ({"system": system} if system else {})
    try:
        with new_folder(dest) as folder:
            spec = _save_sources(failed.spec, folder, sources, cancel, needed=False)
            save = partial(_save_recipe, sources=sources) if specs else _save_package
            facts = {
                "format": FORMAT,
                "id": failed.id,
                "failed": {name: text for name, text in failed.meta.items() if name not in _SIZES},
                "platform": format_base(base),
                **{name: _save_whole(store, layer, f"{folder}/{name}.tar.gz", cancel) for name, layer in whole.items()},
                "packages": [save(store, name, folder, cancel) for name in stacked(failed.spec)],
            }
            shutil.copyfile(failed.layer.log, f"{folder}/build.log")
            _write(f"{folder}/build.spec", language.format(spec))
            _write(f"{folder}/README", _readme(failed, dest, specs=specs))
            _write(f"{folder}/{PARCEL}", json.dumps(facts, indent=1) + "\n")
    except OSError as error:
        raise ObuildError(f'can not write "{dest}": {error.strerror}') from None


def _save_whole(store: Store, layer: Layer, path: str, cancel: Cancel) -> dict[str, Any]:
    """Write the whole tree of a layer; what is to be known of it."""
    with store.view(layer) as tree:
        digest = _save_tree(tree, path, cancel)
    return {"id": layer.id, "meta": _facts(layer), "env": layer.env(), "sha256": digest}


def _facts(layer: Layer) -> dict[str, Any]:
    return {name: fact for name, fact in layer.meta().items() if name not in _SIZES}


def _save_tree(tree: str, path: str, cancel: Cancel) -> str:
    """Write a tree as a compressed tar; the digest of the tar itself."""
    digest = hashlib.sha256()

    def hashed(chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    with open(path, "wb") as file, pack(tree, cancel=cancel) as chunks:
        for chunk in gzip_chunks(hashed(chunks)):
            file.write(chunk)
    return digest.hexdigest()


def _save_package(store: Store, name: str, folder: str, cancel: Cancel) -> dict[str, Any]:
    layer = store.layer(name)
    with store.hold(layer):
        meta = layer.meta()
        inside = f"packages/{meta['package']}"
        os.makedirs(f"{folder}/{inside}")
        beside = [file for file in BESIDE if os.path.exists(f"{layer.path}/{file}")]
        for file in beside:
            shutil.copyfile(f"{layer.path}/{file}", f"{folder}/{inside}/{file}")
        digest = _save_tree(layer.fs, f"{folder}/{inside}/fs.tar.gz", cancel)
        return {"id": name, "folder": inside, "meta": _facts(layer), "parents": layer.parents, "sha256": digest}


def _save_recipe(store: Store, name: str, folder: str, cancel: Cancel, *, sources: Sources) -> dict[str, Any]:
    """Write how a package is built."""
    layer = store.layer(name)
    with store.hold(layer):
        meta = layer.meta()
        inside = f"packages/{meta['package']}"
        os.makedirs(f"{folder}/{inside}")
        with open(f"{layer.path}/build.spec", encoding="utf-8", errors="surrogateescape") as file:
            spec = language.parse(file.read(), f"{layer.path}/build.spec")
        if os.path.exists(f"{layer.path}/opam"):
            shutil.copyfile(f"{layer.path}/opam", f"{folder}/{inside}/opam")
    spec = _save_sources(spec, folder, sources, cancel, needed=True)
    _write(f"{folder}/{inside}/build.spec", language.format(spec))
    return {"id": name, "folder": inside, "meta": {fact: meta[fact] for fact in ASKED if fact in meta}}


def _save_sources(spec: Spec, folder: str, sources: Sources, cancel: Cancel, *, needed: bool) -> Spec:
    """Bring the sources of a spec; the spec that has them from there. One that is not `needed` may stay away."""
    ops = [_save_source(op, folder, sources, cancel, needed=needed) for op in spec.ops]
    return replace(spec, ops=tuple(ops))


def _save_source(op: Op, folder: str, sources: Sources, cancel: Cancel, *, needed: bool) -> Op:
    if not isinstance(op, Copy) or not isinstance(op.source, FromUrl):
        return op
    source = op.source
    try:
        path = sources.obtain(source.url, source.checksums, source.mirrors, cancel=cancel)
    except FetchError:
        if needed:
            raise
        return op  # that may be why it failed
    if os.path.isdir(path):
        number = len(os.listdir(f"{folder}/folders")) if os.path.exists(f"{folder}/folders") else 0
        disk.copy_tree(path, _made(f"{folder}/folders/{number}"))
        return replace(op, source=FromUrl(f"{HERE}folders/{number}", ()))
    digest = os.path.basename(path)
    kind = os.path.basename(os.path.dirname(os.path.dirname(path)))
    inside = f"sources/{kind}/{digest[:2]}"
    shutil.copyfile(path, f"{_made(f'{folder}/{inside}')}/{digest}")
    return op if source.checksums else replace(op, source=replace(source, checksums=(f"{kind}={digest}",)))


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder


def _readme(failed: Failed, dest: str, *, specs: bool) -> str:
    line = "=" * len(f"{failed.package} failed on {failed.platform}")
    name = os.path.basename(os.path.abspath(dest))
    error = str(failed.meta.get("error", "")).strip()
    facts = {"package": failed.package, "platform": failed.platform, "line": line, "error": error, "name": name}
    return README.format(needs=SPECS if specs else LAYERS, **facts)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
