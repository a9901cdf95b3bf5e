"""Options that say which opam data is read and how: repositories, cache, platform, variables, opam's release."""

from __future__ import annotations

import os
import sys

from obuild.cli.option import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.opam.platform import Platform
    from obuild.opam.repo import Overlay

__all__ = ["CACHE", "JSON", "OPAM_VERSION", "PLATFORM", "REPO", "VARIABLE", "cache_folder", "open_overlay"]
__all__ += ["Progress", "global_variables", "platform_named"]

REPO = Option(
    ("-r", "--repo"),
    "An opam repository: a directory, a git repository (PATH or URL, @COMMIT), a tar; the first one has priority.",
    many=True,
    metavar="REPO",
    variable="OBUILD_REPO",
)
CACHE = Option(("--cache",), "Where what was parsed is kept.", metavar="DIR", variable="OBUILD_CACHE")
PLATFORM = Option(
    ("--platform",), "The platform, such as debian-13-x86_64; this machine's when not given.", metavar="PLATFORM"
)
VARIABLE = Option(("--var",), "Set an opam variable.", many=True, metavar="NAME=VALUE")
OPAM_VERSION = Option(
    ("--opam-version",), "The release of opam to agree with, such as 2.3 or 2.1.2.", default="2.5", metavar="VERSION"
)
JSON = Option(("--json",), "Print JSON.", None)


def cache_folder(given: str | None) -> str:
    """The directory for what was parsed."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return given or f"{home}/obuild/opam"


def open_overlay(texts: Sequence[str], cache: str | None) -> Overlay:
    """The repositories named, or a `UsageError` that says how to name one. Remote ones are fetched."""
    from obuild.opam.repo import open_repositories

    folder = cache_folder(cache)
    return open_repositories([_local(text, folder) if "://" in text else text for text in texts], folder)


def _local(text: str, folder: str) -> str:
    from obuild.clone import clone, is_remote

    return clone(text, os.path.join(folder, "git")) if is_remote(text) else text


def platform_named(key: str | None) -> Platform:
    """The platform with this key, or this machine's."""
    from obuild.opam.platform import parse_platform, platform_of

    if key:
        return parse_platform(key)
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        text = ""
    return platform_of(text, os.uname().machine)


def global_variables(platform: str | None, given: Sequence[str], version: str) -> dict[str, str]:
    """Opam's global variables: the platform's, the release's, and those set with --var, which win."""
    from obuild.opam.platform import parse_variables

    release = version if version.count(".") > 1 else f"{version}.0"
    return {**platform_named(platform).variables, "opam-version": release, **parse_variables(given)}


class Progress:
    """A bar on standard error for work on many things, on a terminal only."""

    LEAST = 100

    def __init__(self, what: str) -> None:
        self._what, self._shown = what, -1
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """So many of so many are done."""
        percent = 100 * done // max(total, 1)
        if self._terminal and total >= self.LEAST and percent != self._shown:
            self._shown = percent
            end = "\n" if done == total else ""
            bar = "#" * (percent // 4)
            print(f"\r{self._what} [{bar:25}] {done} of {total}", end=end, file=sys.stderr, flush=True)
