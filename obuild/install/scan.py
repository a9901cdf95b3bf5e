"""What is in the way of moving packages: what their definitions say, and which of their files hold the prefix.

The latter is found when a layer is made, and kept beside it.
"""

from __future__ import annotations

from obuild import disk
from obuild.errors import few
from obuild.switch.prefix import RELOCATIONS, Relocations, find_relocations, format_relocations, parse_relocations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obuild.plan import PackageBuild
    from obuild.store import Layer

__all__ = ["obstacles", "relocations"]

_NAMED = 5
"""Files in a message."""


def obstacles(
    builds: Iterable[PackageBuild], layers: Mapping[str, Layer], prefix: str, *, rewrite: bool = False
) -> list[str]:
    """Why packages can not be moved, a line for each reason: what their definitions say, and what is in `layers`.

    Those whose key `layers` does not have are not looked into. With `rewrite` texts are no reason.
    """
    causes: dict[str, list[str]] = {}
    found = []
    for build in builds:
        if not build.relocation.possible:
            causes.setdefault(build.relocation.why, []).append(str(build.package))
        elif build.key in layers:
            known = relocations(layers[build.key], prefix)
            files = known.programs if rewrite else known.files
            if files:
                found.append(f'files of "{build.package}" hold the prefix that it was built at: {few(files, _NAMED)}')
    for why, packages in causes.items():
        others = [package for package in packages if f'"{package}"' not in why]
        found.append(f"{why}, and so can not be moved: {few(others, _NAMED)}" if others else why)
    return found


def relocations(layer: Layer, prefix: str) -> Relocations:
    """The files of a package's layer that hold `prefix`; looked for where that is not written down."""
    path = f"{layer.path}/{RELOCATIONS}"
    try:
        with open(path, "rb") as file:
            known = parse_relocations(file.read(), prefix)
    except OSError:
        known = None
    if known is None:
        known = find_relocations(layer.fs + prefix, prefix)
        try:
            disk.write_atomic(path, format_relocations(known, prefix))
        except OSError:
            pass  # a store that may only be read
    return known
