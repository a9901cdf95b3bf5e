"""Git repositories elsewhere: what is asked for is fetched, and what is there is not fetched again."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs, soon

from obuild import retry
from obuild.clone import address, clone, is_remote
from obuild.errors import FetchError, UsageError
from obuild.opam.package import Package
from obuild.opam.repo import open_repository

pytestmark = needs("git")


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@x.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(work: Path, number: int) -> str:
    place = work / "packages" / "a" / f"a.{number}"
    place.mkdir(parents=True)
    (place / "opam").write_text('opam-version: "2.0"\n')
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", str(number))
    return git(work, "rev-parse", "HEAD")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "served" / "work"
    work.mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch=main")
    return work


@pytest.fixture
def server(work: Path) -> Iterator[str]:
    """The address of the repository, as long as the test runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--reuseaddr", "--export-all", f"--base-path={work.parent}", "--listen=127.0.0.1", f"--port={port}"]
    daemon = subprocess.Popen(["git", "daemon", *words], stderr=subprocess.DEVNULL)
    address = f"git://127.0.0.1:{port}/work"
    assert soon(lambda: not subprocess.run(["git", "ls-remote", address], capture_output=True).returncode)
    yield address
    daemon.terminate()
    daemon.wait()


def versions(place: str) -> tuple[str, ...]:
    return open_repository(place, "").packages()["a"]


def test_branches_move_and_commits_stay(work: Path, server: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    first = commit(work, 1)
    place = clone(server, folder)
    assert place.endswith(f".git@{first}")
    assert versions(place) == ("1",)
    second = commit(work, 2)
    assert [clone(f"{server}{each}", folder).partition("@")[2] for each in ("", "@main", "#main", f"@{first}")] == [
        second, second, second, first,
    ]  # fmt: skip
    assert versions(clone(f"git+{server}", folder)) == ("1", "2")
    assert open_repository(clone(server, folder), "").opam(Package("a", "2")).package.version == "2"


def test_without_a_network_a_commit_that_is_there_is_enough(
    work: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "kept")
    first = commit(work, 1)
    clone(server, folder)
    work.rename(work.parent / "gone")
    assert clone(f"{server}@{first}", folder).endswith(first)
    monkeypatch.setattr(retry, "ATTEMPTS", 1)
    with pytest.raises(FetchError, match="can not fetch") as caught:
        clone(server, folder)
    assert f"{server}@{first}" in caught.value.hint


def test_what_is_not_there(work: Path, server: str, tmp_path: Path) -> None:
    commit(work, 1)
    with pytest.raises(FetchError, match='can not fetch "nowhere" of'):
        clone(f"{server}@nowhere", str(tmp_path / "kept"))
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="can not write"):
        clone(server, str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("https://example.org/r.git", True),
        ("git+https://example.org/r.git#feature/x", True),
        ("ssh://git@example.org/r.git@main", True),
        ("file:///r.git", False),
        ("git+file:///r.git#main", False),
        ("/r.git@main", False),
        ("ext::sh", False),
    ],
)
def test_addresses(text: str, remote: bool, tmp_path: Path) -> None:
    assert is_remote(text) is remote
    if not remote:
        with pytest.raises(UsageError, match="not the address"):
            clone(text, str(tmp_path))


def test_where_others_find_a_repository(work: Path) -> None:
    url = "https://obuild.example/mine.git"
    commit(work, 1)
    assert address(f"git+{url}#main", "") == address(f"{url}@v1", "") == address(url, "") == url
    assert address("here", "") == address("here", str(work / ".git")) == ""
    git(work, "remote", "add", "origin", url)
    git(work, "worktree", "add", "-q", "../second")
    for folder in (work / ".git", work.parent / "second" / ".git"):
        assert address("here", str(folder)) == url
    git(work, "remote", "set-url", "origin", "git@obuild.example:mine.git")
    assert address("here", str(work / ".git")) == ""
