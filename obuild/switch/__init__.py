"""What opam itself does to the files of a switch: makes one, expands `.in` files, installs what a package built.

`act` does one of these to the tree of a container, from outside: no opam is needed in it. Everything is written with
opam's rules and in its format, so that a real opam in the container believes it.
"""

from __future__ import annotations

from obuild.errors import ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from obuild.opam.filter import Contents

__all__ = ["act"]


def act(
    action: str,
    root: str,
    target: str,
    *,
    src: tuple[str, ...],
    workdir: str,
    package: str,
    id: str,
    ids: Mapping[str, str],
    user: tuple[int, int],
    write: Callable[[bytes], object],
    variables: Mapping[str, Contents] | None = None,
) -> dict[str, Any]:
    """Do what `(copy (from (opam ACTION …)) …)` says to the tree below the host directory `root`.

    `root`: make `target`, the prefix, an empty switch of the opam root above it, as far as it is the same for all.
    `switch`: make it a switch with all that is in its `packages/` installed, and `workdir` if that is in it: a package
    without sources is built there, too. `substs`: make each file
    `src` in `workdir` from its `.in` file. `install`: install into the prefix `target` what `package` left in
    `workdir`.

    `package`, `id`: `NAME.VERSION` and its layer key. `ids`: the keys of the packages that are there, by `NAME.VERSION`
    or by name. `user`: whom new files belong to. `write`: takes what opam would print. `variables`: opam's global ones.
    Returns what `layer.json` keeps. Raises `ObuildError` with all that is wrong.
    """
    from obuild.switch.inventory import Scene
    from obuild.switch.tree import raw

    target, workdir = raw(target).rstrip("/"), raw(workdir).rstrip("/")
    with Scene(root, user, write, ids, variables) as scene:
        if action == "root":
            from obuild.switch.creation import make_root

            return make_root(scene, target)
        if action == "switch":
            from obuild.switch.creation import make_switch

            return make_switch(scene, target, workdir)
        if action == "substs":
            from obuild.switch.expansion import expand_files

            return expand_files(scene, workdir, tuple(map(raw, src)), package, id)
        if action == "install":
            from obuild.switch.installation import install

            return install(scene, target, workdir, package, id)
    raise ObuildError(f'opam has no action "{action}"')
