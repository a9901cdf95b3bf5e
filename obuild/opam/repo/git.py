"""A repository at one commit of a git repository, bare or not: read from its objects, nothing is checked out.

Loading pygit2 takes longer than reading a package, so a branch is looked up in git's own files where that is simple,
and the rest only loaded when an object is needed that the cache does not have.
"""

from __future__ import annotations

import os
import re

from obuild.errors import OpamError, Problem, UsageError, nearest
from obuild.opam.repo.listing import DIRECTORY, FILE, LINK, OTHER, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.opam.repo.listing import Entry

__all__ = ["GitSource", "git_folder"]

_COMMIT = re.compile(r"[0-9a-f]{40}").fullmatch
_KINDS = {0o040000: DIRECTORY, 0o100644: FILE, 0o100755: FILE, 0o100664: FILE, 0o120000: LINK}


class GitSource:
    """The tree of a commit. `revision` is anything that git understands, "" for the current branch."""

    root = b""

    def __init__(self, folder: str, revision: str) -> None:
        """`folder` is what `git_folder` says. Raises `UsageError` when there is no such commit."""
        self._folder = folder
        self._place = os.path.dirname(folder) or "." if os.path.basename(folder) == ".git" else folder
        self._opened: Any = None
        self.commit = _head(folder) if not revision else revision if _COMMIT(revision) else ""
        if not self.commit:
            self.commit = self._resolve(revision or "HEAD")
        self.where = f"{self._place}@{self.commit[:12]}"

    def identity(self) -> str:
        """The commit, in this very repository: another one may not have it."""
        return f"git {os.path.realpath(self._folder)} {self.commit}"

    def entries(self, path: str, id: bytes) -> list[Entry]:
        """What is in a tree; submodules are neither files nor directories."""
        tree = self._object(id, path) if id else self._tree()
        return [(entry.name, _KINDS.get(int(entry.filemode), OTHER), entry.id.raw) for entry in tree]

    def read(self, path: str, id: bytes) -> bytes:
        """The contents of a blob."""
        data: bytes = self._object(id, path).data
        return data

    def target(self, path: str, id: bytes) -> str:
        """What a link says is its contents."""
        return self.read(path, id).decode("utf-8", "surrogateescape")

    def blob_id(self, path: str, id: bytes) -> bytes:
        """The id that the tree has."""
        return id

    def remember(self) -> str:
        """What a scan has seen is what the identity says."""
        return self.identity()

    def shown(self, path: str) -> str:
        """As in `git show`."""
        return printable(f"{self.where}:{path}")

    def _repository(self) -> Any:
        if self._opened is None:
            import pygit2

            pygit2.settings.owner_validation = False  # nothing of the repository is ever run
            try:
                self._opened = pygit2.Repository(self._folder)
            except pygit2.GitError as error:
                raise OpamError([Problem(f"not a git repository: {error}", self._folder)]) from None
        return self._opened

    def _resolve(self, revision: str) -> str:
        import pygit2

        repository = self._repository()
        try:
            return str(repository.revparse_single(revision).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            known = [name.rpartition("/")[2] for name in repository.references]
            hint = nearest(revision, known) or "give a branch, a tag or a commit"
            raise UsageError(f'no commit "{revision}" in "{self._place}"', hint=hint) from None

    def _tree(self) -> Any:
        import pygit2

        try:
            return self._repository()[self.commit].peel(pygit2.Tree)
        except (KeyError, ValueError, pygit2.GitError):
            raise UsageError(f'no commit "{self.commit}" in "{self._place}"', hint="fetch it first") from None

    def _object(self, id: bytes, path: str) -> Any:
        import pygit2

        try:
            return self._repository()[pygit2.Oid(raw=id)]
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise OpamError([Problem(f"git can not read it: {error}", self.shown(path))]) from None


def git_folder(path: str) -> str:
    """The directory with git's own files of a work tree or bare repository at `path`, "" when there is none."""
    for folder in (os.path.join(path, ".git"), path):
        if os.path.isfile(os.path.join(folder, "HEAD")) and os.path.isdir(os.path.join(folder, "objects")):
            return folder
    link = os.path.join(path, ".git")
    return link if os.path.isfile(link) else ""


def _head(folder: str) -> str:
    """The commit of the current branch where that is plainly written down, "" where git must be asked."""
    head = _text(os.path.join(folder, "HEAD"))
    if _COMMIT(head):
        return head
    branch = head.removeprefix("ref: ")
    if not branch.startswith("refs/heads/") or ".." in branch:
        return ""
    commit = _text(os.path.join(folder, branch))
    if not commit:
        packed = re.search(rf"^([0-9a-f]{{40}}) {re.escape(branch)}$", _text(os.path.join(folder, "packed-refs")), re.M)
        commit = packed[1] if packed else ""
    return commit if _COMMIT(commit) else ""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
