"""What steps get besides what they stand on: what earlier operations left for them, and how things are to be done."""

from __future__ import annotations

from obuild.sandbox import Limits
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from obuild.branch import Branch

__all__ = ["Context", "Options"]

SHELL = ("/usr/bin/env", "bash", "-c")
"""The shell of a stage that names none, as in OBuilder."""


@value
class Context:
    """What earlier operations leave for later ones; changed only by `replace`.

    `source` is the directory of the host that `copy` reads; `scope` maps names of nested builds to their results.
    """

    source: str
    env: tuple[tuple[str, str], ...] = ()
    user: tuple[int, int] = (0, 0)
    workdir: str = "/"
    shell: tuple[str, ...] = SHELL
    scope: Mapping[str, Branch] = {}
    secrets: Mapping[str, bytes] = {}


@value
class Options:
    """How to build; nothing here changes an id but what a base's name stands for.

    `images` gives a base another source; `engine` and `platform` are those of `open_fetcher`. `timeout` bounds the
    whole build in seconds, `limits` each step. `archive_mirrors` and `offline` are those of `download.Sources`;
    `variables` are added to the environment of every command that does not set them itself.
    """

    images: Mapping[str, str] = {}
    pull: bool = False
    engine: str = ""
    platform: str = ""
    jobs: int = 2
    limits: Limits = Limits()
    timeout: float | None = None
    keep_failed: bool = True
    skip_unused: bool = False
    fast_sync: bool = False
    no_new_privs: bool = False
    archive_mirrors: tuple[str, ...] = ()
    offline: bool = False
    variables: tuple[tuple[str, str], ...] = ()
