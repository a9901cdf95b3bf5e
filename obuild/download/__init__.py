"""The sources of packages: fetched and verified once for all builds, and unpacked as opam does it.

sources = Sources("STORE/sources", mirrors=("/srv/opam/cache",))
path = sources.obtain("https://…/re-1.11.0.tbz", ("sha256=01fc…",))
extract(path, root, "/home/opam/.opam/default/.opam-switch/build/re.1.11.0", user=(1000, 1000))
"""

from __future__ import annotations

from obuild.download.extract import extract
from obuild.download.sources import Sources

__all__ = ["Sources", "extract"]
