"""Building a platform: its recipe is built, the result is asked what it is, and linked under its key."""

from __future__ import annotations

import os
import time

from obuild import disk
from obuild.build import Context
from obuild.errors import FetchError, ObuildError, SandboxError, UsageError
from obuild.opam.platform import parse_platform
from obuild.platform.base import Base, format_base, list_platforms
from obuild.platform.probe import SCRIPT, parse_answers
from obuild.platform.recipe import SUITES
from obuild.sandbox import Limits, Process
from obuild.spec import Env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.build import Builder
    from obuild.cancel import Cancel
    from obuild.log import Reporter
    from obuild.platform.probe import Found
    from obuild.platform.recipe import Recipe
    from obuild.spec import Spec
    from obuild.store import Layer, Store

__all__ = ["build_platform", "publish"]

LIMITS = Limits(seconds=120.0, log=64 << 20)
"""Of the script that asks what an image is: it takes a fraction of a second and prints the names of packages."""


def build_platform(
    builder: Builder, recipe: Recipe, *, reporter: Reporter | None = None, cancel: Cancel | None = None
) -> Base:
    """Build the base of a platform, and make it the one that its key stands for; it replaces an older one.

    Nothing is done for what is there already. Raises what a build raises, and `ObuildError` for a base that does not
    say what it is.
    """
    spec = recipe.spec()
    _check_base(builder, spec)
    context = Context(source=os.path.dirname(recipe.path))
    try:
        layer = builder.build(spec, context, reporter=reporter, cancel=cancel)
    except FetchError as error:
        if spec.base in SUITES and spec.base not in builder.options.images:
            error.hint = f"without a registry: obuild platform build {recipe.name} --debootstrap"
        elif spec.base not in builder.options.images:
            error.hint = f"to take it from elsewhere: --image {spec.base}=SOURCE, such as tar:FILE or oci:PATH"
        raise
    store = builder.store
    with store.hold(layer):
        env = _env(store, layer, spec)
        image = builder.options.images.get(spec.base, spec.base)
        known = next((base for base in list_platforms(store) if base.id == layer.id), None)
        if known and (known.env, known.recipe, known.image) == (env, recipe.name, image):
            return known
        found = _probe(builder, layer, env, cancel)
        base = Base(
            platform=found.platform,
            id=layer.id,
            env=env,
            variables=found.variables,
            packages=found.packages,
            name=found.name,
            recipe=recipe.name,
            image=image,
            created=round(time.time(), 3),
        )
        _check(base)
        publish(store, base)
    return base


def _check_base(builder: Builder, spec: Spec) -> None:
    """Refuse what would take itself as its base the next time."""
    if spec.base not in builder.options.images and os.path.islink(f"{builder.store.path}/{spec.base}/base"):
        hint = "begin it with (from IMAGE), as the recipe of that platform does"
        raise UsageError(f'{spec.place}: a platform can not be made from the platform "{spec.base}"', hint=hint)


def _env(store: Store, layer: Layer, spec: Spec) -> tuple[tuple[str, str], ...]:
    """The environment at the end of a spec: the image's, and what the recipe sets."""
    first = layer
    while parents := first.parents:
        found = store.get(parents[0])
        if found is None:
            raise store.unknown(parents[0])
        first = found
    env = first.env()
    for op in spec.ops:
        if isinstance(op, Env):
            env = ((op.name, op.value), *(pair for pair in env if pair[0] != op.name))
    return env


def _probe(builder: Builder, layer: Layer, env: tuple[tuple[str, str], ...], cancel: Cancel | None) -> Found:
    """Run the script in a throw-away copy of the base."""
    output: list[bytes] = []
    process = Process(argv=("/bin/sh", "-c", SCRIPT), env=env, limits=LIMITS)
    with builder.store.writable(layer) as root:
        builder.sandbox().run(process, root, output.append, cancel=cancel)
    if not output:
        raise SandboxError("the platform's base has no /bin/sh that works", hint="it is asked by a shell script")
    return parse_answers(b"".join(output).decode("utf-8", "replace"))


def _check(base: Base) -> None:
    """Refuse a base without a good key: it comes from the image, and names a directory of the store."""
    try:
        parse_platform(base.key)
    except UsageError:
        hint = "its /etc/os-release needs ID and VERSION_ID"
        raise ObuildError(f'the base can not be a platform: it calls itself "{base.key}"', hint=hint) from None


def publish(store: Store, base: Base) -> None:
    """Write the description, then replace the link: readers notice when the two do not belong together."""
    import json

    folder = f"{store.path}/{base.key}"
    draft = f"{folder}/.base-{os.urandom(8).hex()}"
    try:
        os.makedirs(folder, exist_ok=True)
        with disk.Lock.take(folder):
            text = json.dumps(format_base(base), indent=1, ensure_ascii=False)
            disk.write_atomic(f"{folder}/platform.json", text.encode("utf-8", "surrogateescape") + b"\n")
            os.symlink(f"../steps/{base.id}", draft)
            os.rename(draft, f"{folder}/base")
    except OSError as error:
        raise store.explain(error, f'can not write down the platform "{base.key}"') from error
