"""Making a directory the switch of an opam root, with the packages whose layers are stacked in it."""

from __future__ import annotations

import re

from obuild.opam.environment import format_environment, switch_updates
from obuild.opam.state import DIRECTORIES, format_config, format_repositories, format_state, format_switch
from obuild.opam.variable import switch_lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.opam.package import Package
    from obuild.switch.inventory import Inventory, Scene

__all__ = ["make_root", "make_switch"]

# Most definitions have none of these, and need not be read then.
_MATTERS = re.compile(rb"\b(setenv|compiler|plugin)\b").search

_plain: set[tuple[Package, str]] = set()
"""Packages, with the keys of their layers, whose definitions have none: to read 200 takes longer than to mount them."""
_MOST_PLAIN = 100_000


def make_root(scene: Scene, prefix: str) -> dict[str, Any]:
    """Make `prefix` an empty switch, and what is above it an opam root: directories, and files that never change.

    That it has been done is seen by the last of the files: looking for each costs much where hundreds of layers are
    asked for it.
    """
    root, _, switch = prefix.rpartition("/")
    user, group = scene.owner()
    last, config = f"{prefix}/.opam-switch/switch-config", format_switch(switch, root=root, user=user, group=group)
    if scene.tree.read(last.encode("latin-1")) == config.encode("latin-1"):
        return {}
    texts = {f"{root}/config": format_config(switch), f"{root}/repo/repos-config": format_repositories(), last: config}
    for name in DIRECTORIES:
        scene.tree.make(f"{prefix}/{name}".encode("latin-1"))
    for path, text in texts.items():
        scene.tree.write(path.encode("latin-1"), text.encode("latin-1"))
    return {}


def make_switch(scene: Scene, prefix: str, workdir: str = "/") -> dict[str, Any]:
    """Make `prefix` a switch with all that is in its `packages/` installed, and what is above it an opam root.

    `workdir` is made, too, if it is in the prefix.
    """
    make_root(scene, prefix)
    root, _, switch = prefix.rpartition("/")
    tree, place, home = scene.tree, prefix.encode("latin-1"), root.encode("latin-1")
    if workdir.startswith(f"{prefix}/"):
        tree.make(workdir.encode("latin-1"))
    inventory = scene.inventory(place)
    marked = _Marked(inventory)
    texts = {
        "switch-state": format_state(inventory.packages.values(), compiler=marked.compiler),
        "environment": _environment(scene, inventory, marked.setenv, prefix, switch),
    }
    for name, text in texts.items():
        tree.write(place + b"/.opam-switch/" + name.encode(), text.encode("latin-1"))
    for package in marked.plugins:
        _link_plugin(scene, home, place, switch, package.name)
    return {}


class _Marked:
    """The packages that the switch has more to do with than to list them."""

    def __init__(self, inventory: Inventory) -> None:
        self.compiler: list[Package] = []
        self.plugins: list[Package] = []
        self.setenv: list[str] = []
        for name, package in inventory.packages.items():
            key = inventory.key(package)
            if (package, key) in _plain:
                continue
            if not _MATTERS(inventory.definition(package)):
                if key and len(_plain) < _MOST_PLAIN:
                    _plain.add((package, key))
                continue
            file = inventory[name].file
            if "compiler" in file.flags:
                self.compiler.append(package)
            if "plugin" in file.flags:
                self.plugins.append(package)
            if file.values("setenv"):
                self.setenv.append(name)


def _environment(scene: Scene, inventory: Inventory, names: list[str], prefix: str, switch: str) -> str:
    lookup = switch_lookup(prefix, globals=scene.globals(), installed=inventory)
    found = [inventory[name] for name in names]
    return format_environment(switch_updates(found, prefix=prefix, switch=switch, lookup=lookup))


def _link_plugin(scene: Scene, root: bytes, prefix: bytes, switch: str, name: str) -> None:
    """Let opam find the program of a plugin: `opam publish` runs the root's `plugins/bin/opam-publish`."""
    program = (name if name.startswith("opam-") else f"opam-{name}").encode("latin-1")
    if scene.tree.state(prefix + b"/bin/" + program):
        scene.tree.link(root + b"/plugins/bin/" + program, b"../../" + switch.encode("latin-1") + b"/bin/" + program)
