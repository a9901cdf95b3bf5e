"""What a layer is on disk: ids and the directories that they name, and what is said about a layer beside its files."""

from __future__ import annotations

import os

from obuild.errors import StoreError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["RESERVED", "Layer", "escape", "is_partial", "layer_path", "list_layers", "unescape"]

RESERVED = ("steps", "failed", "cache", "flat", "index", "images", "sources", "run", "runs", "tmp")
"""Directories at the top of a store that hold no layers of their own name; `steps` holds the ids without a slash."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+")


@value
class Layer:
    """A finished, read-only result: its id and the directory that holds `layer.json`, `build.log` and `fs`.

    `fs` is what the step added (overlay; a package's layer everywhere) or the whole tree (btrfs, copy): `Store.view`
    gives the whole tree of any.
    """

    id: str
    path: str

    @property
    def fs(self) -> str:
        """The directory of its files."""
        return f"{self.path}/fs"

    @property
    def log(self) -> str:
        """The path of its build log."""
        return f"{self.path}/build.log"

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of what it was made from: the base first, then the layers stacked above it."""
        return tuple(self.meta()["parents"])

    def meta(self) -> dict[str, Any]:
        """What `layer.json` says: `id`, `parents`, `created` (seconds since 1970), sizes, and what its maker added.

        Raises `StoreError` when it is missing or not whole.
        """
        import json  # a plain hit needs none of it

        path = f"{self.path}/layer.json"
        try:
            with open(path, "rb") as file:
                meta: dict[str, Any] = json.load(file)
            if meta["id"] != self.id or not all(isinstance(parent, str) for parent in meta["parents"]):
                raise ValueError("it describes something else")
        except FileNotFoundError:
            raise StoreError(f'layer "{self.id}" is not in the store') from None
        except (ValueError, KeyError, TypeError) as error:
            hint = "run `obuild fsck --repair`"
            raise StoreError(f'"{path}" is damaged: {error}', hint=hint) from None
        return meta

    def env(self) -> tuple[tuple[str, str], ...]:
        """The environment that its image asks for; () when it has none."""
        import json

        try:
            with open(f"{self.path}/env.json", "rb") as file:
                return tuple((str(name), str(text)) for name, text in json.load(file))
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError) as error:
            raise StoreError(f'"{self.path}/env.json" is damaged: {error}', hint="run `obuild fsck --repair`") from None


def is_partial(path: str) -> bool:
    """Whether the layer at `path` is that of a package: it has only what was added, in every kind of store.

    Its file `paths` says so, which names everything in it.
    """
    return os.path.exists(f"{path}/paths")


def layer_path(store: str, id: str) -> str:
    """The directory of the layer called `id`. Raises `StoreError` for what can not be an id."""
    if id.isalnum() and len(id) <= 64:
        return f"{store}/steps/{id}"
    if id in _checked:
        return f"{store}/{id}"
    first, *rest = parts = id.split("/")
    if not all(part and part[0] != "." and "\0" not in part and len(os.fsencode(part)) <= 255 for part in parts):
        raise StoreError(f'"{id}" can not be the id of a layer')
    if rest and (first in RESERVED or len(rest) > 1):
        raise StoreError(f'"{id}" can not be the id of a layer', hint="an id is NAME or PLATFORM/NAME")
    if rest and len(_checked) < _MOST_CHECKED:
        _checked.add(id)
    return f"{store}/{id}" if rest else f"{store}/steps/{id}"


_checked: set[str] = set()
_MOST_CHECKED = 100_000


def list_layers(store: str) -> Iterator[Layer]:
    """All finished layers, in no order."""
    for name in _names(f"{store}/steps"):
        yield Layer(name, f"{store}/steps/{name}")
    for platform in _names(store):
        if platform not in RESERVED:
            for name in _names(f"{store}/{platform}"):
                yield Layer(f"{platform}/{name}", f"{store}/{platform}/{name}")


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def escape(name: str) -> str:
    """A file name that stands for any text, and for no other: bytes that are not plain become %xx."""
    if name.isalnum() and name.isascii():
        return name
    text = "".join([c if c in _PLAIN else "".join([f"%{byte:02x}" for byte in os.fsencode(c)]) for c in name])
    return "%2e" + text[1:] if text.startswith(".") else text


def unescape(name: str) -> str:
    """The text that `escape` made a file name of."""
    head, *rest = name.split("%")
    return os.fsdecode(os.fsencode(head) + b"".join([bytes.fromhex(x[:2]) + os.fsencode(x[2:]) for x in rest]))
