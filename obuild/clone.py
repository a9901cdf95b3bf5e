"""Git repositories elsewhere, of which the commits that were asked for are kept on this machine.

    https://example.org/opam-repository.git[@REVISION]       also http, git and ssh, `git+` in front, `#` for `@`

Only the one commit comes over the network, without its history. A whole commit id is fetched once; what a branch or a
tag stands for is asked each time.
"""

from __future__ import annotations

import os
import re

from obuild.errors import FetchError, UsageError

__all__ = ["address", "clone", "is_remote"]

_REMOTE = re.compile(r"(?:git\+)?((?:https?|git|ssh)://[^#]+?)(?:#(.+)|@([^@#/:]+))?").fullmatch
_COMMIT = re.compile(r"[0-9a-f]{40}").fullmatch
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}


def is_remote(text: str) -> bool:
    """Whether the user's word names a repository that is not on this machine."""
    return _REMOTE(text) is not None


def address(text: str, folder: str) -> str:
    """Where others find the repository that the user's word names, "" where nobody does.

    Of one on this machine, whose own files git has in `folder`, that is what it was cloned from.
    """
    origin = _git(["--git-dir", folder, "config", "remote.origin.url"], check=False) if folder else ""
    match = _REMOTE(text) or _REMOTE(origin)
    return match[1] if match else ""


def clone(text: str, folder: str) -> str:
    """The repository and commit, as `PATH@COMMIT`, that a remote one stands for now; kept in a directory of `folder`.

    Raises `UsageError` for a word that names none, `FetchError` when it can not be had. Two processes may fetch the
    same at once: one waits for the other.
    """
    from hashlib import sha256

    from obuild.disk import Lock
    from obuild.retry import retry

    match = _REMOTE(text)
    if not match:
        raise UsageError(f'"{text}" is not the address of a git repository')
    url, revision = match[1], match[2] or match[3] or "HEAD"
    place = os.path.join(folder, sha256(url.encode()).hexdigest()[:32] + ".git")
    try:
        os.makedirs(folder, exist_ok=True)
        lock = Lock.make(f"{place}.lock")
    except OSError as error:
        raise FetchError(f'can not write "{folder}": {error.strerror}') from None
    with lock:
        _git(["init", "--quiet", "--bare", place])
        if not (_COMMIT(revision) and _commit(place, revision)):
            kept = f"refs/obuild/{sha256(revision.encode()).hexdigest()[:32]}"
            retry(lambda: _fetch(place, url, revision, kept))
            revision = _commit(place, kept)
    return f"{place}@{revision}"


def _fetch(place: str, url: str, revision: str, kept: str) -> None:
    from obuild.retry import passes
    from obuild.system import ProgramFailed

    try:
        _git(["-C", place, "fetch", "--quiet", "--depth=1", "--no-tags", url, f"+{revision}:{kept}"])
    except ProgramFailed as error:
        known = _commit(place, kept)
        raise FetchError(
            f'can not fetch "{revision}" of "{url}": {error.stderr.strip()}',
            hint=f'"{url}@{known}" is on this machine' if known else "",
            temporary=passes(error.stderr),
        ) from None


def _commit(place: str, revision: str) -> str:
    """The commit that a revision is, "" when the repository does not have it."""
    return _git(["-C", place, "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"], check=False)


def _git(words: list[str], *, check: bool = True) -> str:
    from obuild import system

    return system.run(["git", *words], env=_QUIET, check=check).stdout.decode().strip()
