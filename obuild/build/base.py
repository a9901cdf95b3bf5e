"""What a stage begins with: the base of a platform that was built, or an image from elsewhere."""

from __future__ import annotations

from obuild.build.step import FromStep
from obuild.errors import FetchError
from obuild.fetch import open_fetcher
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from obuild.build.stage import Stage
    from obuild.cancel import Cancel
    from obuild.store import Draft, Layer

__all__ = ["Begun", "begin"]

ARCHITECTURES = frozenset(("x86_64", "arm64", "x86_32", "arm32", "ppc64", "s390x", "riscv64"))
"""What the key of a platform ends with, in opam's words."""


@value
class Begun:
    """The base's layer, the environment that it asks for, and opam's variables where it is that of a platform."""

    layer: Layer
    env: tuple[tuple[str, str], ...]
    variables: Mapping[str, str] | None = None


def begin(stage: Stage, name: str, facts: dict[str, Any]) -> Begun:
    """The base called `name`, fetched unless it is there; `facts` are for its `layer.json`."""
    builder = stage.builder
    if name not in builder.options.images and (builder.store.base(name) or _is_platform(name)):
        return _platform(stage, name)
    try:
        layer = _fetch(stage, name, facts)
    except FetchError as error:
        if not error.hint and name not in builder.options.images:
            error.hint = f"to take it from elsewhere: --image {name}=SOURCE"
        raise
    return Begun(layer, layer.env())


def _is_platform(name: str) -> bool:
    """Whether a name can only be the key of a platform (`debian-13-x86_64`)."""
    return name.count("-") > 1 and name.rpartition("-")[2] in ARCHITECTURES and not set(name) & set("/:@")


def _platform(stage: Stage, key: str) -> Begun:
    from obuild.platform import open_platform

    store = stage.builder.store
    while True:
        base = open_platform(store, key)
        layer = store.get(base.id)
        if layer and stage.keep(layer):
            break
    stage.reporter.note(f'---> using "{layer.id}" from cache')
    stage.reporter.step("from", layer.id, cached=True, status=0, seconds=0.0)
    return Begun(layer, base.env, base.variables)


def _fetch(stage: Stage, name: str, facts: dict[str, Any]) -> Layer:
    builder, options = stage.builder, stage.builder.options
    source = options.images.get(name, name)
    fetcher = open_fetcher(
        source, images=f"{builder.store.path}/images", engine=options.engine, platform=options.platform
    )
    if source not in stage.keys:
        found = fetcher.key(stage.reporter.output, pull=options.pull, cancel=stage.cancel)
        stage.keys.setdefault(source, found)
    key = stage.keys[source]

    def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
        from obuild.image import format_config  # a cached build does without both
        from obuild.sandbox.point import prepare

        if fetcher.key(write, pull=options.pull, cancel=cancel) != key:
            raise FetchError(f'"{name}" has changed since the build began', hint="start again", temporary=True)
        image = fetcher.fetch(draft.root, write, cancel=cancel)
        prepare(draft.root)
        draft.env = image.env
        draft.meta |= {"image": image.digest, "config": format_config(image, ())}

    return stage.make(FromStep(key).id, facts, (), fill)
