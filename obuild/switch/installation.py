"""Installing what a package built: its `.install` and `.config` files, and the record of all that it did."""

from __future__ import annotations

import posixpath
import stat

from obuild.errors import ObuildError, OpamError
from obuild.opam.changes import Change, digest, format_changes
from obuild.opam.dotconfig import DotConfig, format_config, parse_config
from obuild.opam.dotinstall import DotInstall, format_install, parse_install
from obuild.opam.key import shown_id
from obuild.opam.opamfile import commands
from obuild.opam.package import parse_package
from obuild.opam.variable import package_lookup
from obuild.switch.placing import place, placements
from obuild.switch.scan import changed_since, owners
from obuild.switch.tree import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from obuild.opam.package import Package
    from obuild.switch.inventory import Inventory, Scene
    from obuild.switch.placing import Placement

__all__ = ["install"]


def install(scene: Scene, prefix: str, workdir: str, text: str, id: str) -> dict[str, Any]:
    """Install package `text` (`NAME.VERSION`) from the build directory `workdir` into `prefix`.

    Returns `variables` (what its `.config` says), `conflicts` (paths of other packages that it changed or removed,
    each with the package) and `messages` (what opam would warn of). Raises `ObuildError` as opam would fail.
    """
    return _Installation(scene, prefix, workdir, parse_package(text), id).run()


class _Installation:
    """One package being installed."""

    def __init__(self, scene: Scene, prefix: str, workdir: str, package: Package, id: str) -> None:
        self._scene, self._tree, self._package = scene, scene.tree, package
        self._prefix, self._build, self._id = prefix.encode("latin-1"), workdir.encode("latin-1"), id
        self._meta = self._prefix + b"/.opam-switch/"
        self._inventory: Inventory = scene.inventory(self._prefix, without=package.name)
        self._messages: list[str] = []

    def run(self) -> dict[str, Any]:
        """Do all of it, in opam's order."""
        name = self._package.name
        scripted = self._has_commands()
        wanted, config = self._read_install(), self._read_config()
        if wanted:
            self._keep(f"install/{name}.install", format_install(wanted))
        found = placements(self._tree, wanted, name, self._build, self._prefix)
        before = {path: self._state(path) for path in self._watched(found, config)}
        place(self._tree, found)
        if config is not None:
            self._keep(f"config/{name}.config", format_config(config))
        changes = self._scanned() if scripted else self._compared(before)
        self._keep(f"install/{name}.changes", format_changes(changes))
        variables = config.lookup() if config else {}
        return {"variables": variables, "conflicts": self._conflicts(changes), "messages": self._messages}

    def _has_commands(self) -> bool:
        """Whether opam ran `install:` commands: it then looks at the whole prefix."""
        file = self._inventory.file(self._package)
        if not file.values("install"):
            return False
        variant = self._id.split("+")
        local = {"with-test": "test" in variant, "with-doc": "doc" in variant, "with-dev-setup": False}
        lookup = package_lookup(
            self._package,
            file,
            prefix=self._prefix.decode("latin-1"),
            globals=self._scene.globals(),
            installed=self._inventory,
            build_id=shown_id(self._id),
            local=local,
        )
        return bool(commands(file.values("install"), lookup))

    def _keep(self, name: str, text: str) -> None:
        self._tree.write(self._meta + name.encode("latin-1"), text.encode("latin-1"))

    def _read_install(self) -> DotInstall:
        """What the `.install` file says; nothing when there is none or, as for opam, none that can be read."""
        name = f"{self._package.name}.install"
        data = self._tree.read(posixpath.join(self._build, name.encode("latin-1")))
        if data is None:
            return DotInstall({})
        wanted, problems = parse_install(data, name)
        self._warn([str(problem) for problem in problems])
        return wanted

    def _read_config(self) -> DotConfig | None:
        name = f"{self._package.name}.config"
        data = self._tree.read(posixpath.join(self._build, name.encode("latin-1")))
        if data is None:
            return None
        try:
            config, problems = parse_config(data, name)
        except OpamError as error:
            raise ObuildError(f'opam can not read "{name}" of "{self._package}":\n{error}') from None
        self._warn([str(problem) for problem in problems])
        return config

    def _warn(self, messages: Iterable[str]) -> None:
        for message in messages:
            self._messages.append(message)
            self._scene.say(f"warning: left out as by opam: {message}")

    def _watched(self, found: list[Placement], config: DotConfig | None) -> list[str]:
        """The paths below the prefix that opam watches when there are no commands, with the directories above them."""
        home = self._tree.resolve(self._prefix) + b"/"
        paths = [placement.path.removeprefix(home) for placement in found if placement.tracked]
        if config is not None:
            paths.append(f".opam-switch/config/{self._package.name}.config".encode("latin-1"))
        watched: dict[str, None] = {}
        for path in paths:
            while path and (text := path.decode("latin-1")) not in watched:
                watched[text] = None
                path = posixpath.dirname(path)
        return list(watched)

    def _state(self, path: str) -> tuple[str, int, int, int] | None:
        """The digest, the owners and the mode of what is at `path`."""
        found = self._tree.link_state(posixpath.join(self._prefix, path.encode("latin-1")))
        if not found:
            return None
        info, link = found
        return digest(info, link.decode("latin-1")), info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)

    def _compared(self, before: dict[str, tuple[str, int, int, int] | None]) -> dict[str, Change]:
        changes = {}
        for path, was in before.items():
            now = self._state(path)
            if not now or now == was:
                continue
            if not was:
                kind = "added"
            elif now[0] == was[0]:
                kind = "perm-changed"
            else:
                kind = "contents-changed" if now[0][0] == was[0][0] else "kind-changed"
            changes[path] = Change(kind, now[0])
        return changes

    def _scanned(self) -> dict[str, Change]:
        return changed_since(self._tree, self._prefix, self._inventory.packages.values())

    def _conflicts(self, changes: dict[str, Change]) -> list[dict[str, str]]:
        """The paths of other packages that did not stay what they were; directories are shared and do not count."""
        touched = sorted(path for path, change in changes.items() if change.kind not in ("added", "perm-changed"))
        whose = owners(self._tree, self._prefix, self._inventory.packages.values()) if touched else {}
        return [
            {"path": shown(path.encode("latin-1")), "package": str(whose[path])} for path in touched if path in whose
        ]
