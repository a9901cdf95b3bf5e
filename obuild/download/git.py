"""Sources in git: the work tree of one commit with its repository, kept under the commit's name.

A branch or tag is asked for each time; a commit that is here is not. What is left is what opam leaves: a repository
with the remote `origin`, the commit checked out, its submodules, and nothing that git does not know.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress

from obuild import disk, system
from obuild.download.part import lock_file
from obuild.errors import FetchError
from obuild.opam.url import format_url
from obuild.retry import passes, retry
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obuild.cancel import Cancel
    from obuild.opam.url import Url

    Write = Callable[[bytes], None]

__all__ = ["MARK", "obtain"]

MARK = ".git/obuild"
"""A file that says that a directory is one of these, and not one that somebody works in."""

CONFIG = b"""[include]
\tpath = ~/.gitconfig
[safe]
\tdirectory = *
[advice]
\tdetachedHead = false
[core]
\tautocrlf = false
\teol = lf
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
"""Beside the user's own settings: a repository may belong to somebody else than root, files come as they are."""


def obtain(
    url: Url, folder: str, *, offline: bool = False, write: Write | None = None, cancel: Cancel | None = None
) -> str:
    """The path of the work tree for `url`, whose fragment is a branch, a tag or a commit. Raises `FetchError`.

    With `offline` it must be here: a branch is then the commit that it was the last time. What is on this machine
    (`git+file:`) is asked in any case.
    """
    return _Repository(url, folder, write, cancel).tree(offline=offline and url.transport != "file")


class _Repository:
    """One repository, one place in it."""

    def __init__(self, url: Url, folder: str, write: Write | None, cancel: Cancel | None) -> None:
        transport = f"{url.transport}://" if url.transport != "file" else ""
        self._address, self._place = f"{transport}{url.path}", url.fragment
        self._name = format_url(replace(url, fragment=""))
        self._folder, self._write, self._cancel = folder, write, cancel
        if self._place.startswith("-") or self._address.startswith("-"):
            raise FetchError(f'can not get "{format_url(url)}": it begins with "-"')
        self._wanted = format_url(url)

    def tree(self, *, offline: bool) -> str:
        os.makedirs(self._folder, exist_ok=True)
        disk.write_atomic(f"{self._folder}/config", CONFIG)
        record = f"{self._folder}/refs.json"
        commit = self._place if _is_commit(self._place) else ""
        if not commit:
            commit = _load(record).get(self._wanted, "") if offline else self._retry(self._resolve)
        path = f"{self._folder}/{commit[:2]}/{commit}"
        if not commit or (offline and not os.path.isdir(path)):
            hint = "run it once with network"
            raise FetchError(f'"{self._wanted}" is not on this machine, and nothing is fetched offline', hint=hint)
        if not os.path.isdir(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with self._drafting(path) as draft:
                if not os.path.isdir(path):
                    self._make(draft, commit)
                    os.rename(draft, path)
        with suppress(OSError):  # a store that may only be read
            os.utime(path)
        if not _is_commit(self._place) and not offline:
            disk.write_atomic(record, json.dumps({**_load(record), self._wanted: commit}).encode())
        return path

    def _resolve(self) -> str:
        """The commit that a branch or tag is now; a short name of a commit, and one without any, is the last resort."""
        wanted = self._place or "HEAD"
        output = self._git("ls-remote", self._address, wanted, f"{wanted}^{{}}")
        rows = [line.partition("\t") for line in output.splitlines()]
        found = {name: commit for commit, _, name in rows}
        for name in (wanted, f"refs/heads/{wanted}", f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}"):
            if name in found:
                return found[name]
        if len(wanted) >= 7 and not set(wanted) - set("0123456789abcdef"):
            return self._lengthen(wanted)
        if not self._place and not self._git("ls-remote", self._address):
            raise FetchError(f'can not get "{self._wanted}": the repository has no commit')
        raise FetchError(f'no branch or tag "{wanted}" in "{self._name}"')

    def _lengthen(self, short: str) -> str:
        """The commit whose name begins so: git servers do not say, so everything is fetched."""
        with self._drafting(f"{self._folder}/short") as draft:
            self._git("init", "--quiet", "--bare", draft)
            self._git("-C", draft, "fetch", "--quiet", self._address, "+refs/heads/*:refs/heads/*")
            return self._git("-C", draft, "rev-parse", "--verify", f"{short}^{{commit}}").strip()

    @contextmanager
    def _drafting(self, path: str) -> Iterator[str]:
        """A directory filled to become `path`, by one process at a time; what a dead one left in it is removed."""
        draft = f"{path}.draft"
        with lock_file(f"{path}.lock", cancel=self._cancel):
            try:
                disk.remove_tree(draft)
                yield draft
            finally:
                disk.remove_tree(draft)
                os.unlink(f"{path}.lock")

    def _make(self, draft: str, commit: str) -> None:
        """Fetch and check out a commit."""
        if self._write:
            self._write(f'fetching "{self._wanted}" ({commit[:12]})\n'.encode())
        self._git("init", "--quiet", draft)
        self._git("-C", draft, "remote", "add", "origin", self._address)
        self._retry(lambda: self._fetch(draft, commit))
        self._git("-C", draft, "reset", "--quiet", "--hard", commit, "--")
        if os.path.exists(f"{draft}/.gitmodules"):
            self._retry(lambda: self._git("-C", draft, "submodule", "--quiet", "update", "--init", "--recursive"))
        open(f"{draft}/{MARK}", "xb").close()

    def _fetch(self, draft: str, commit: str) -> str:
        local = f"refs/remotes/opam-ref{f'-{self._place}' if self._place else ''}"
        try:
            return self._git("-C", draft, "fetch", "--quiet", "origin", f"+{self._place or 'HEAD'}:{local}")
        except FetchError as error:
            if error.temporary or not _is_commit(self._place):
                raise
        # A server may not give a commit by its name; then it is looked for in all branches.
        self._git("-C", draft, "fetch", "--quiet", "origin")
        try:
            return self._git("-C", draft, "update-ref", local, f"{commit}^{{commit}}")
        except FetchError:
            raise FetchError(f'no commit {commit} in any branch of "{self._name}"') from None

    def _retry(self, action: Callable[[], str]) -> str:
        def note(text: str) -> None:
            if self._write:
                self._write(f"{text}\n".encode())

        return retry(action, note=note, cancel=self._cancel)

    def _git(self, *words: str) -> str:
        """What git answers."""
        from obuild.fetch import program

        env = {"GIT_CONFIG_GLOBAL": f"{self._folder}/config", "GIT_ALLOW_PROTOCOL": PROTOCOLS}
        env["GIT_TERMINAL_PROMPT"] = "0"  # nobody is there to give a password
        if not system.find("git"):
            raise FetchError(f'can not get "{self._wanted}": git is missing', hint='install "git"')
        output, problem = program.run(["git", *words], cancel=self._cancel, env=env)
        if problem:
            lines = [line for line in problem.splitlines() if line.startswith(("fatal: ", "error: "))]
            text = (lines or problem.splitlines())[0].partition(": ")[2] or problem
            raise FetchError(f'can not get "{self._wanted}": {text.rstrip(".")}', temporary=passes(problem))
        return output.decode("utf-8", "surrogateescape")


PROTOCOLS = "file:git:http:https:ssh"
"""What a repository or its submodules may be fetched by: git's `ext::` runs any program."""


def _is_commit(text: str) -> bool:
    return len(text) in (40, 64) and not set(text) - set("0123456789abcdef")


def _load(record: str) -> dict[str, str]:
    try:
        with open(record, "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
