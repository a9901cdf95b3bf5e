"""`obuild platform build`, `list`, `show` and `delete`."""

from __future__ import annotations

import os
import sys
import time

from obuild.cli.option import Argument, Command, Option, jobs
from obuild.cli.where import SANDBOX, STORE, open_named_store, seconds_text
from obuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.log import Reporter
    from obuild.platform import Base
    from obuild.platform.recipe import Recipe
    from obuild.store import Store

__all__ = ["COMMANDS"]


def build(*, name: str, store: str | None, json: bool, **given: Any) -> int:
    """Build the base of a platform, find out what it is, and print its key."""
    from obuild.build import Builder, Options
    from obuild.cli.build import named_sandbox, on_signals
    from obuild.cli.show import Plain
    from obuild.platform.make import build_platform
    from obuild.platform.recipe import find_recipe

    recipe = find_recipe(name)
    opened = open_named_store(store)
    options = Options(
        images=_images(recipe, given),
        pull=given["pull"],
        jobs=given["jobs"],
        engine=os.environ.get("DOCKER_HOST", ""),
    )
    builder = Builder(opened, lambda: named_sandbox(given["sandbox"], opened), options)
    cancel = on_signals()
    reporter: Reporter | None = None if json else Plain(color=False, cancel=cancel)
    base = build_platform(builder, recipe, reporter=reporter, cancel=cancel)
    if reporter:
        reporter.close()
    if json:
        _print_json(_facts(opened, base))
    else:
        print(base.key)
    return 0


def list_(*, store: str | None, json: bool) -> int:
    """List the platforms that were built, and say which recipes there are for others."""
    from obuild.platform import list_platforms
    from obuild.platform.recipe import list_recipes

    opened = open_named_store(store)
    bases = list_platforms(opened)
    built = {base.recipe for base in bases}
    others = [recipe.name for recipe in list_recipes() if recipe.name not in built]
    if json:
        _print_json({"platforms": [_facts(opened, base) for base in bases], "recipes": others})
        return 0
    width = max((len(base.key) for base in bases), default=0)
    for base in bases:
        age = seconds_text(time.time() - base.created)
        ocaml = base.variables.get("sys-ocaml-version")
        extra = f", OCaml {ocaml}" if ocaml else ""
        print(f"{base.key:{width}}  {base.id[:12]}  {age:>8} ago  {base.name}{extra}")
    if others:
        print(f"not built: {', '.join(others)}", file=sys.stderr)
    return 0


def show(*, name: str, store: str | None, json: bool) -> int:
    """Print what is known of a platform that was built."""
    from obuild.platform import open_platform

    opened = open_named_store(store)
    base = open_platform(opened, name)
    if json:
        _print_json(_facts(opened, base))
        return 0
    rows = {"key": base.key, "name": base.name, "base": base.id, "recipe": base.recipe, "image": base.image}
    rows |= dict(sorted(base.variables.items()))
    rows |= {"packages": str(len(base.packages))} | {f"${name}": text for name, text in base.env}
    width = max(map(len, rows))
    for row, text in rows.items():
        print(f"{row:{width}}  {text}".rstrip())
    return 0


def delete(*, names: tuple[str, ...], store: str | None) -> int:
    """Forget platforms: their bases, and the packages built on them, are pruned like everything else from then on."""
    from obuild.platform import delete_platform

    opened = open_named_store(store)
    for name in names:
        print(delete_platform(opened, name))
    return 0


def _images(recipe: Recipe, given: dict[str, Any]) -> dict[str, str]:
    """Where the recipe's base comes from."""
    from obuild.platform.recipe import suite_of

    images = dict(given["image"])
    base = recipe.spec().base
    if given["debootstrap"]:
        if base in images:
            raise UsageError("--debootstrap and --image both say where the base comes from", hint="give one of them")
        images[base] = suite_of(base)
    return images


def _facts(store: Store, base: Base) -> dict[str, Any]:
    from obuild.platform.base import format_base

    return {**format_base(base), "path": f"{store.path}/{base.key}"}


def _print_json(facts: dict[str, Any]) -> None:
    import json

    print(json.dumps(facts, indent=2, ensure_ascii=False))


def _pair(text: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise ValueError(f'"{text}" is not NAME=SOURCE')
    return name, rest


JSON = Option(("--json",), "Print JSON.", None)
COMMANDS = {
    "platform build": Command(
        build,
        "Build the base of a platform: a recipe of obuild's own, such as debian-13, or a file FILE.spec.",
        (
            STORE,
            Option(("--image",), "Take the recipe's base NAME from SOURCE.", _pair, many=True, metavar="NAME=SOURCE"),
            Option(("--debootstrap",), "Make a base of Debian or Ubuntu from packages: needs no registry.", None),
            Option(("--pull",), "Ask again what a moving tag stands for.", None),
            Option(("-j", "--jobs"), "Steps that may run at once.", jobs, default=os.cpu_count() or 1, metavar="N"),
            SANDBOX,
            JSON,
        ),
        (Argument("name"),),
    ),
    "platform list": Command(list_, "List the platforms that were built.", (STORE, JSON)),
    "platform show": Command(show, "Print what is known of a platform.", (STORE, JSON), (Argument("name"),)),
    "platform delete": Command(
        delete, "Forget platforms; what was built on them is then pruned.", (STORE,), (Argument("names", "+"),)
    ),
}
