"""Opam repositories: directories, git repositories at a commit, tars; several of them as one.

    PATH                       a directory as it is, a bare git repository at its current branch, a tar file
    PATH@REVISION              a git repository at a branch, tag or commit
    git+file://PATH[#REVISION] the same, also for a directory with a work tree

Nothing is checked out or unpacked to disk. What is parsed is kept in a cache by git blob id, so that a new commit costs
what changed. Parsing happens when a package is asked for; `derive` is for who needs something of all of them.
"""

from __future__ import annotations

import os

from obuild.errors import UsageError
from obuild.opam.cache import Cache
from obuild.opam.repo.git import GitSource, git_folder
from obuild.opam.repo.overlay import Overlay
from obuild.opam.repo.repository import Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from obuild.opam.repo.listing import Source

__all__ = ["Overlay", "Repository", "open_repositories", "open_repository"]


def open_repositories(texts: Iterable[str], cache: str) -> Overlay:
    """The repositories that the user's words name, the first with the highest priority; see `open_repository`."""
    repositories = tuple([open_repository(text, cache) for text in texts])
    if not repositories:
        raise UsageError("no opam repository is given", hint="name one with --repo PATH")
    return Overlay(repositories)


def open_repository(text: str, cache: str) -> Repository:
    """The repository that the user's word names; `cache` is a directory for what is parsed, "" to keep nothing.

    Raises `UsageError` for one that does not exist, `OpamError` (when it is used) for one that can not be read.
    """
    kept = Cache(cache)
    return Repository(_open_source(text, kept), kept)


def _open_source(text: str, cache: Cache) -> Source:
    path, revision, git = _parse(text)
    if not path:
        raise UsageError(f'"{text}" names no opam repository', hint="give a directory, a git repository or a tar file")
    folder = git_folder(path)
    if git or revision or (folder == path and folder):
        if not folder:
            raise UsageError(
                f'no git repository at "{path}"', hint="" if os.path.exists(path) else "there is no such directory"
            )
        return GitSource(folder, revision)
    if os.path.isdir(path):
        from obuild.opam.repo.folder import FolderSource

        return FolderSource(path, cache)
    if os.path.isfile(path):
        from obuild.opam.repo.tar import TarSource

        return TarSource(path)
    raise UsageError(f'no opam repository at "{path}"', hint="give a directory, a git repository or a tar file")


def _parse(text: str) -> tuple[str, str, bool]:
    """Path, revision, and whether it must be a git repository."""
    if not text.startswith(("git+file://", "file://")):
        if "://" in text:
            raise UsageError(f'"{text}" is not on this machine', hint="clone it first and give the path")
        if os.path.exists(text):
            return text, "", False
        path, at, revision = text.rpartition("@")
        return (path, revision, True) if at else (text, "", False)
    path = text.partition("://")[2]
    for mark in "#@":
        before, found, revision = path.rpartition(mark)
        if found and not os.path.exists(path):
            return before, revision, True
    return path, "", text.startswith("git+")
