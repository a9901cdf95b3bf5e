"""The sources of packages: fetched and verified once for all builds, and unpacked as opam does it.

sources = Sources("STORE/sources", mirrors=("/srv/opam/cache",))
path = sources.obtain("https://…/re-1.11.0.tbz", ("sha256=01fc…",))
extract(path, root, "/home/opam/.opam/default/.opam-switch/build/re.1.11.0", user=(1000, 1000))
"""

from __future__ import annotations

from obuild.download.sources import Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.download.extraction import extract

__all__ = ["Sources", "extract"]


def __getattr__(name: str) -> object:
    """What unpacks is imported when it is first asked for: a build that finds everything does without."""
    if name != "extract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from obuild.download.extraction import extract

    return extract
