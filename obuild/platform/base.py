"""What is known of a platform that was built, and where it is written down."""

from __future__ import annotations

import os

from obuild.disk import Lock
from obuild.errors import StoreError, UsageError, nearest
from obuild.opam.platform import Platform
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from obuild.store import Store

__all__ = ["Base", "delete_platform", "format_base", "list_platforms", "open_platform", "parse_base"]

FORMAT = 1
"""Of `platform.json`; a file of another one is made again."""


@value
class Base:
    """The base of a platform: the step `id`, and what was found in it.

    `env` is its environment as the recipe left it; `variables` are opam's global ones, without `sys-ocaml-version` when
    it has no OCaml of its own; `packages` are the names of installed system packages and of what they provide.
    `name` is what the distribution calls itself, `recipe` and `image` what the base was made from, `created` when its
    description was written, in seconds since 1970.
    """

    platform: Platform
    id: str
    env: tuple[tuple[str, str], ...]
    variables: Mapping[str, str]
    packages: frozenset[str]
    name: str = ""
    recipe: str = ""
    image: str = ""
    created: float = 0.0

    @property
    def key(self) -> str:
        """The name of the platform and of its directory in the store: `debian-13-x86_64`."""
        return self.platform.key


def open_platform(store: Store, key: str) -> Base:
    """The base of the platform `key`, or of the only one whose key begins with it (`debian-13`, `alpine-3.22`).

    Raises `UsageError` when it has not been built, and `StoreError` when what is there is damaged.
    """
    return _load(store, _find(store, key))


def list_platforms(store: Store) -> list[Base]:
    """All platforms that were built, by key; damaged ones are left out."""
    found = []
    for key in _keys(store):
        try:
            found.append(_load(store, key))
        except StoreError:
            continue
    return found


def delete_platform(store: Store, key: str) -> str:
    """Forget what `key` stands for, as `open_platform` takes it; the whole key.

    The base and the packages built on it are layers like any other from then on. Raises `UsageError` for none.
    """
    whole = _find(store, key)
    folder = f"{store.path}/{whole}"
    with Lock.take(folder):
        for name in ("base", "platform.json"):
            try:
                os.unlink(f"{folder}/{name}")
            except FileNotFoundError:
                pass  # it is damaged, and even more to be forgotten
    return whole


def format_base(base: Base) -> dict[str, Any]:
    """The content of `platform.json`."""
    platform = base.platform
    return {
        "format": FORMAT,
        "key": base.key,
        "id": base.id,
        "name": base.name,
        "recipe": base.recipe,
        "image": base.image,
        "created": base.created,
        "distribution": platform.distribution,
        "release": platform.release,
        "arch": platform.arch,
        "family": platform.family,
        "version": platform.version,
        "variables": dict(sorted(base.variables.items())),
        "env": [list(pair) for pair in base.env],
        "packages": sorted(base.packages),
    }


def parse_base(facts: Mapping[str, Any]) -> Base:
    """The base that the content of a `platform.json` describes. Raises `ValueError`, `KeyError` or `TypeError`."""
    if facts["format"] != FORMAT:
        raise ValueError(f"its format is {facts['format']}, not {FORMAT}")
    texts = [str(facts[name]) for name in ("distribution", "release", "arch", "family", "version")]
    return Base(
        platform=Platform(*texts),
        id=str(facts["id"]),
        env=tuple((str(name), str(text)) for name, text in facts["env"]),
        variables={str(name): str(text) for name, text in facts["variables"].items()},
        packages=frozenset(map(str, facts["packages"])),
        name=str(facts["name"]),
        recipe=str(facts["recipe"]),
        image=str(facts["image"]),
        created=float(facts["created"]),
    )


def _keys(store: Store) -> list[str]:
    """The keys of the platforms that have a base, sorted."""
    return sorted(name for name in os.listdir(store.path) if os.path.islink(f"{store.path}/{name}/base"))


def _find(store: Store, key: str) -> str:
    """The whole key of a platform."""
    known = _keys(store)
    found = [key] if key in known else [name for name in known if name.startswith((f"{key}-", f"{key}."))]
    if len(found) > 1:
        raise UsageError(f'"{key}" is the beginning of {len(found)} platforms', hint=", ".join(found))
    if not found:
        near = nearest(key, known)
        hint = f"obuild platform build {_recipe_of(key)}" + (f"; {near}" if near else "")
        raise UsageError(f'the platform "{key}" has not been built', hint=hint)
    return found[0]


def _load(store: Store, key: str) -> Base:
    import json

    path = f"{store.path}/{key}"
    again = f"obuild platform build {_recipe_of(key)}"
    try:
        # The link is replaced after the description: a reader between the two sees a description of another base.
        for _ in range(2):
            with open(f"{path}/platform.json", "rb") as file:
                base = parse_base(json.load(file))
            if os.path.basename(os.readlink(f"{path}/base")) == base.id:
                break
            _wait(path)
        else:
            raise ValueError("it describes another base than the one that is there")
    except FileNotFoundError:
        raise StoreError(f'the platform "{key}" has no description', hint=again) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f'"{path}/platform.json" is damaged: {error}', hint=again) from None
    if not store.exists(base.id):
        raise StoreError(f'the base of the platform "{key}" is not in the store any more', hint=again)
    return base


def _wait(path: str) -> None:
    """Wait until nobody is replacing the platform."""
    Lock.take(path, shared=True).release()


def _recipe_of(key: str) -> str:
    """The likely name of the recipe for a key: without its architecture."""
    name, dash, arch = key.rpartition("-")
    return name if dash and not arch[:1].isdecimal() else key
