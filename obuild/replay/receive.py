"""A directory of `save_parcel` put into a store: the failure is then as if it had happened here."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager

from obuild import spec as language
from obuild.archive import open_archive
from obuild.build import Context
from obuild.build.package import asked
from obuild.errors import FetchError, ObuildError, StepFailed, StoreError, UsageError
from obuild.opam.platform import parse_platform
from obuild.platform.base import parse_base
from obuild.platform.make import publish
from obuild.replay.again import NOWHERE
from obuild.replay.memory import PARCEL, open_failed
from obuild.replay.parcel import BESIDE, FORMAT, HERE
from obuild.store.package import base_link
from obuild.unpack import unpack
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from obuild.build import Builder
    from obuild.cancel import Cancel
    from obuild.replay.memory import Failed
    from obuild.spec import Spec
    from obuild.store import Draft, Store

__all__ = ["load_parcel"]


@value
class _Recipe:
    """A package that the directory has as a spec: how it is built, and what is put beside it."""

    id: str
    spec: Spec
    meta: Mapping[str, Any]
    files: Mapping[str, bytes]


def load_parcel(builder: Builder, path: str, *, said: Callable[[str], None], cancel: Cancel) -> Failed:
    """Put what is in a directory of `save_parcel` into a store; the failure, as if it had happened here.

    What is there already stays as it is; what there is only a spec of is built, and `said` hears of it. Raises
    `UsageError` for a directory that is not one, or that does not fit the store, `FetchError` for one that is damaged,
    `ObuildError` for a package below that does not build.
    """
    folder, store = os.path.abspath(path), builder.store
    with _damages(path):
        facts = _read_facts(path, folder)
        _load_base(store, folder, facts)
        recipes = [_load_package(store, folder, package) for package in facts["packages"]]
    for recipe in recipes:
        if recipe and not builder.hit(recipe.id, recipe.meta):
            _build(builder, recipe, said, cancel)
    with _damages(path):
        return _load_failure(store, folder, facts)


@contextmanager
def _damages(path: str) -> Iterator[None]:
    """What is wrong with the directory is said so."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'"{path}/{PARCEL}" is damaged: {error}') from None
    except OSError as error:
        raise UsageError(f'can not read "{error.filename}": {(error.strerror or "").lower()}') from None


def _read_facts(path: str, folder: str) -> dict[str, Any]:
    with open(f"{folder}/{PARCEL}", "rb") as file:
        facts: dict[str, Any] = json.load(file)
    if facts["format"] != FORMAT:
        raise UsageError(f'"{path}" was written by another release of obuild', hint=f"its format is not {FORMAT}")
    _check_ids(facts)
    return facts


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


def _load_package(store: Store, folder: str, package: dict[str, Any]) -> _Recipe | None:
    """Put the layer of a package into the store; the recipe of one that has to be built."""
    meta, inside = package["meta"], f"{folder}/{package['folder']}"
    beside = {name: _read(f"{inside}/{name}") for name in BESIDE if os.path.exists(f"{inside}/{name}")}
    if "sha256" not in package:
        spec = language.parse(_at_home(beside.pop("build.spec"), folder), f"{inside}/build.spec")
        return _Recipe(str(package["id"]), spec, meta, beside)
    with store.new_package(package["id"], asked(meta)) as draft:
        if draft.layer is None:
            draft.stand_on(tuple(map(str, package["parents"])))
            _load_tree(f"{inside}/fs.tar.gz", draft, package["sha256"])
            draft.meta |= meta
            draft.write(beside.pop("build.log"))
            draft.files |= beside
    return None


def _build(builder: Builder, recipe: _Recipe, said: Callable[[str], None], cancel: Cancel) -> None:
    """Build a package that the failure stands on."""
    package = recipe.meta["package"]
    said(f"built from its spec: {package}")
    try:
        context = Context(source=NOWHERE)
        builder.build(recipe.spec, context, id=recipe.id, meta=recipe.meta, files=recipe.files, cancel=cancel)
    except StepFailed as error:
        hint = f"obuild replay {package}"
        raise ObuildError(f'"{package}", which it needs, fails here: {error}', hint=hint) from error


def _at_home(text: bytes, folder: str) -> bytes:
    """The text of a spec with addresses of what is in the directory as it is called here."""
    return text.replace(HERE.encode(), f"file://{folder}/".encode())


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _load_failure(store: Store, folder: str, facts: dict[str, Any]) -> Failed:
    name, meta = str(facts["id"]), facts["failed"]
    text = _at_home(_read(f"{folder}/build.spec"), folder)
    language.parse(text, f"{folder}/build.spec")
    known = open_failed(store, name)
    if known and _read(f"{known.layer.path}/build.spec") == text:
        return known
    error = StepFailed(str(meta.get("error")), id=str(meta.get("step")), status=int(meta.get("exit_status", 1)), log="")
    try:
        with store.new_package(name, asked(meta)) as draft:
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
