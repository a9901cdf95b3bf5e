"""What takes how much room, from the sizes that layers recorded when they were made: no tree is walked."""

from __future__ import annotations

import json
import os

from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Room", "Share", "layer_records", "measure_layers"]


_NO_LAYERS = frozenset("cache failed flat images index run runs sources tmp".split())
"""Directories of a store that have no finished layers."""


@value
class Share:
    """What one package takes: its `layers`, of all versions together with `all_versions`, and their bytes."""

    package: str
    layers: int
    size: int


@value
class Room:
    """All layers of a store. `platforms` and `packages` are sorted by size, the largest first.

    Layers that are steps of ordinary specs are counted as the platform "steps"; `unknown` recorded no size.
    """

    layers: int
    size: int
    unknown: int
    platforms: tuple[Share, ...]
    packages: tuple[Share, ...]


def measure_layers(store: str, *, all_versions: bool = False) -> Room:
    """The room that the layers below the directory `store` take; `all_versions` adds up packages of one name."""
    platforms: dict[str, list[int]] = {}
    packages: dict[str, list[int]] = {}
    unknown = 0
    for platform, record in layer_records(store):
        size = next((record[key] for key in ("size", "disk_usage") if type(record.get(key)) is int), None)
        unknown += size is None
        package = record.get("package")
        platforms.setdefault(platform, []).append(size or 0)
        if isinstance(package, str):
            packages.setdefault(package.partition(".")[0] if all_versions else package, []).append(size or 0)
    shares = _shares(platforms)
    total = sum(share.size for share in shares)
    return Room(sum(share.layers for share in shares), total, unknown, shares, _shares(packages))


def _shares(sizes: dict[str, list[int]]) -> tuple[Share, ...]:
    found = [Share(name, len(items), sum(items)) for name, items in sizes.items()]
    return tuple(sorted(found, key=lambda share: (-share.size, share.package)))


def layer_records(store: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every layer of a store as its directory's name ("steps", or a platform's key) and its `layer.json`."""
    for place in _directories(store):
        for name in _directories(f"{store}/{place}"):
            try:
                with open(f"{store}/{place}/{name}/layer.json", "rb") as file:
                    record = json.loads(file.read())
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield place, record


def _directories(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as found:
            names = [item.name for item in found if item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith(".") and name not in _NO_LAYERS)
