"""Making the files of `substs:` from their `.in` files."""

from __future__ import annotations

import posixpath
import stat

from obuild.errors import ObuildError
from obuild.opam.key import shown_id
from obuild.opam.package import parse_package
from obuild.opam.substitute import substitute
from obuild.opam.variable import package_lookup
from obuild.switch.inventory import prefix_of
from obuild.switch.tree import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.opam.filter import Lookup
    from obuild.switch.inventory import Scene

__all__ = ["expand_files"]


def expand_files(scene: Scene, workdir: str, names: tuple[str, ...], text: str, id: str) -> dict[str, Any]:
    """Make each file of `names` in the build directory `workdir`. Raises `ObuildError` with all that are missing."""
    package, prefix = parse_package(text), prefix_of(workdir)
    inventory = scene.inventory(prefix.encode("latin-1"), without=package.name)
    file = inventory.file(package)
    lookup = package_lookup(
        package, file, prefix=prefix, globals=scene.globals(), installed=inventory, build_id=shown_id(id)
    )
    missing = [name for name in names if not _expand(scene, workdir.encode("latin-1"), name.encode("latin-1"), lookup)]
    if missing:
        listed = "".join(f'\n  "{shown(name.encode("latin-1"))}.in"' for name in missing)
        raise ObuildError(f'files that "substs" of "{package}" needs are not in its source:{listed}')
    return {}


def _expand(scene: Scene, workdir: bytes, name: bytes, lookup: Lookup) -> bool:
    """Make one file; False when it has no `.in` file. One that is there keeps its mode."""
    path = posixpath.join(workdir, name)
    data = scene.tree.read(path + b".in")
    if data is None:
        return False
    there = scene.tree.link_state(path)
    keeps = there is not None and stat.S_ISREG(there[0].st_mode)
    mode = stat.S_IMODE(there[0].st_mode) if there and keeps else 0o644
    made = substitute(data.decode("latin-1"), lookup).encode("latin-1")
    scene.tree.write(path, made, mode=mode)
    return True
