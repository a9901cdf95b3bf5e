"""A failure as a directory that another machine can replay, without network and without a repository.

README  build.spec  build.log
replay.json                  what failed; the platform; which layers there are, with the digests of their tars
base.tar.gz                  the platform's base, whole
packages/NAME.VERSION/       a package below it: fs.tar.gz, and what is beside it in a store
sources/                     the sources of the failed package, in the layout of opam's cache
folders/                     those that are directories
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from obuild import disk
from obuild import spec as language
from obuild.archive import open_archive, pack
from obuild.compress import gzip_chunks
from obuild.errors import FetchError, ObuildError, StepFailed, StoreError, UsageError
from obuild.export import check, new_folder
from obuild.opam.platform import parse_platform
from obuild.package import FACTS
from obuild.platform import open_platform
from obuild.platform.base import format_base, parse_base
from obuild.platform.make import publish
from obuild.replay.memory import PARCEL, open_failed, stacked
from obuild.spec import Copy, FromUrl
from obuild.store.package import base_link
from obuild.unpack import unpack
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.download import Sources
    from obuild.replay.memory import Failed
    from obuild.spec import Op, Spec
    from obuild.store import Draft, Layer, Store

__all__ = ["load_parcel", "save_parcel"]

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

Nothing else is needed: the packages that it stands on and its sources are in here. `build.spec` is what is run,
`build.log` what was said when it failed. What is in here is put into the store: to keep it apart, name a new one with
--store.
"""


def save_parcel(
    store: Store, failed: Failed, system: Layer | None, dest: str, *, sources: Sources, cancel: Cancel
) -> None:
    """Write a failure, and all that it needs, to the new directory `dest`.

    `system` is the layer with its system packages, if it asks for any. Raises `UsageError` for a `dest` that is there,
    `StoreError` when what it needs is not in the store any more.
    """
    check(dest, "dir")
    base = open_platform(store, failed.platform)
    whole = {"base": store.layer(base.id)} | ({"system": system} if system else {})
    try:
        with new_folder(dest) as folder:
            spec = _save_sources(failed.spec, folder, sources, cancel)
            facts = {
                "format": FORMAT,
                "id": failed.id,
                "failed": {name: text for name, text in failed.meta.items() if name not in _SIZES},
                "platform": format_base(base),
                **{name: _save_whole(store, layer, f"{folder}/{name}.tar.gz", cancel) for name, layer in whole.items()},
                "packages": [_save_package(store, name, folder, cancel) for name in stacked(failed.spec)],
            }
            shutil.copyfile(failed.layer.log, f"{folder}/build.log")
            _write(f"{folder}/build.spec", language.format(spec))
            _write(f"{folder}/README", _readme(failed, dest))
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


def _save_sources(spec: Spec, folder: str, sources: Sources, cancel: Cancel) -> Spec:
    """Bring the sources of a spec; the spec that has them from there."""
    ops = [_save_source(op, folder, sources, cancel) for op in spec.ops]
    return replace(spec, ops=tuple(ops))


def _save_source(op: Op, folder: str, sources: Sources, cancel: Cancel) -> Op:
    if not isinstance(op, Copy) or not isinstance(op.source, FromUrl):
        return op
    source = op.source
    try:
        path = sources.obtain(source.url, source.checksums, source.mirrors, cancel=cancel)
    except FetchError:
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


def _readme(failed: Failed, dest: str) -> str:
    line = "=" * len(f"{failed.package} failed on {failed.platform}")
    name = os.path.basename(os.path.abspath(dest))
    error = str(failed.meta.get("error", "")).strip()
    return README.format(package=failed.package, platform=failed.platform, line=line, error=error, name=name)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def load_parcel(store: Store, path: str) -> Failed:
    """Put what is in a directory of `save_parcel` into a store; the failure, as if it had happened here.

    What is there already stays as it is. Raises `UsageError` for a directory that is not one, or that does not fit the
    store, `FetchError` for one that is damaged.
    """
    folder = os.path.abspath(path)
    try:
        with open(f"{folder}/{PARCEL}", "rb") as file:
            facts = json.load(file)
        if facts["format"] != FORMAT:
            raise UsageError(f'"{path}" was written by another release of obuild', hint=f"its format is not {FORMAT}")
        _check_ids(facts)
        _load_base(store, folder, facts)
        for package in facts["packages"]:
            _load_package(store, folder, package)
        return _load_failure(store, folder, facts)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'"{path}/{PARCEL}" is damaged: {error}') from None
    except OSError as error:
        raise UsageError(f'can not read "{error.filename}": {(error.strerror or "").lower()}') from None


def _check_ids(facts: dict[str, Any]) -> None:
    """Raise `UsageError` or `ValueError` for ids of other things than what is put into a store under them."""
    base = parse_base(facts["platform"])
    parse_platform(base.key)
    steps = [facts[name]["id"] for name in ("base", "system") if name in facts]
    packages = [facts["id"], *[package["id"] for package in facts["packages"]]]
    right = [len(step) == 64 and step.isalnum() for step in steps]
    right += [package.startswith(f"{base.key}/") for package in packages]
    if not all(right) or facts["base"]["id"] != base.id:
        raise ValueError("an id in it can not be that of a layer")


def _load_base(store: Store, folder: str, facts: dict[str, Any]) -> None:
    base = parse_base(facts["platform"])
    known = base_link(store.path, base.key)
    if known and known != base.id:
        hint = "use a store of its own: --store overlay:DIR"
        raise UsageError(f'the platform "{base.key}" has another base in this store', hint=hint)
    for name in ("base", "system"):
        if name in facts:
            _load_whole(store, f"{folder}/{name}.tar.gz", facts[name])
    if not known:
        publish(store, base)


def _load_whole(store: Store, path: str, asked: dict[str, Any]) -> None:
    with store.new(str(asked["id"]), ()) as draft:
        if draft.layer is None:
            _load_tree(path, draft, asked["sha256"])
            draft.meta |= asked["meta"]
            draft.env = tuple((str(name), str(text)) for name, text in asked["env"])


def _load_tree(path: str, draft: Draft, digest: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open_archive(fd, path, digest=True) as stream:
            unpack(stream, draft.root, path)
            stream.drain()
            if stream.hexdigest != digest:
                raise FetchError(f'"{path}" is damaged: it has another digest than was written down')
    finally:
        os.close(fd)


def _load_package(store: Store, folder: str, package: dict[str, Any]) -> None:
    meta, inside = package["meta"], f"{folder}/{package['folder']}"
    with store.new_package(package["id"], {name: meta[name] for name in FACTS if name in meta}) as draft:
        if draft.layer is not None:
            return
        draft.stand_on(tuple(map(str, package["parents"])))
        _load_tree(f"{inside}/fs.tar.gz", draft, package["sha256"])
        draft.meta |= meta
        draft.write(_read(f"{inside}/build.log"))
        draft.files |= {name: _read(f"{inside}/{name}") for name in BESIDE[1:] if os.path.exists(f"{inside}/{name}")}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _load_failure(store: Store, folder: str, facts: dict[str, Any]) -> Failed:
    name, meta = str(facts["id"]), facts["failed"]
    text = _read(f"{folder}/build.spec").replace(HERE.encode(), f"file://{folder}/".encode())
    language.parse(text, f"{folder}/build.spec")
    known = open_failed(store, name)
    if known and _read(f"{known.layer.path}/build.spec") == text:
        return known
    asked = {fact: meta[fact] for fact in FACTS if fact in meta}
    error = StepFailed(str(meta.get("error")), id=str(meta.get("step")), status=int(meta.get("exit_status", 1)), log="")
    try:
        with store.new_package(name, asked) as draft:
            if draft.layer is not None:
                raise UsageError(f'"{meta.get("package")}" has been built in this store since', hint=f'layer "{name}"')
            draft.files["build.spec"] = text
            draft.meta |= meta
            draft.write(_read(f"{folder}/build.log"))
            raise error  # what leaves the block by a failure is remembered as one
    except StepFailed:
        pass
    failed = open_failed(store, name)
    if failed is None:
        raise StoreError(f'can not remember the failure of "{meta.get("package")}"', hint="is the disk full?")
    return failed
