"""Opening repositories by the user's word, what is remembered of them, and several of them as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_opam_repo import Files, as_bare, as_gz, as_tar, as_xz, commit, git, opam, write

from obuild.errors import OpamError, UsageError
from obuild.opam.package import Package
from obuild.opam.repo import Overlay, Repository, open_repositories, open_repository


def parsed(repository: Repository) -> list[int]:
    """How many files are parsed while everything is loaded."""
    told: list[tuple[int, int]] = []
    repository.load(lambda done, total: told.append((done, total)))
    assert not told or told[-1][0] == told[-1][1] == max(total for _, total in told)
    return [told[-1][1]] if told else []


def test_a_new_commit_parses_what_changed(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {f"packages/a/a.{n}/opam": opam(f"x-n: {n}") for n in range(50)})
    cache = str(tmp_path / "cache")
    first = commit(folder)
    assert parsed(open_repository(f"{folder}@{first}", cache)) == [50]
    assert parsed(open_repository(f"{folder}@{first}", cache)) == []
    write(
        folder,
        {"packages/a/a.7/opam": opam("x-n: 70"), "packages/b/b.1/opam": opam(), "packages/b/b.2/opam": opam("x-n: 3")},
    )
    commit(folder)
    second = open_repository(f"{folder}@trunk", cache)
    assert parsed(second) == [2], "b.2 has the text of a.3"
    assert second.opam(Package("a", "7")).fields["x-n"] == 70
    assert open_repository(f"{folder}@{first}", cache).opam(Package("a", "7")).fields["x-n"] == 7
    assert parsed(open_repository(str(folder), cache)) == [], "the directory has the same texts"
    shutil.rmtree(cache)
    assert parsed(open_repository(str(folder), cache)) == [51]


def test_what_is_derived_is_kept(tmp_path: Path) -> None:
    files: Files = {f"packages/a/a.{n}/opam": opam(f"x-n: {n // 2}") for n in range(6)}
    folder = write(tmp_path / "r", {**files, "packages/bad/bad.1/opam": "("})
    asked: list[str] = []

    def number(file: Any) -> tuple[str, Any]:
        asked.append(str(file.package))
        return file.package.version, file.fields["x-n"]

    for expected in (6, 0):
        asked.clear()
        repository = open_repository(str(folder), str(tmp_path / "cache"))
        found = repository.derive("number-1", number)
        assert found == {"a": {str(n): (str(n), n // 2) for n in range(6)}}
        assert [str(package) for package in repository.unreadable] == ["bad.1"]
        assert len(asked) == expected
    write(folder, {"packages/a/a.9/opam": opam("x-n: 9")})
    assert open_repository(str(folder), str(tmp_path / "cache")).derive("number-1", number)["a"]["9"] == ("9", 9)
    assert asked == ["a.9"]
    assert len(open_repository(str(folder), "").derive("number-1", number)["a"]) == 7


def test_a_change_in_a_directory_is_noticed(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam("x-n: 1"), "packages/b/b.1/opam": opam()})
    cache = str(tmp_path / "cache")
    path = folder / "packages/a/a.1/opam"

    def now() -> Any:
        repository = open_repository(str(folder), cache)
        return repository.packages(), repository.opam(Package("a", "1")).fields["x-n"]

    both = {"a": ("1",), "b": ("1",)}
    assert now() == now() == (both, 1)
    before = path.stat()
    path.write_text(opam("x-n: 2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert now() == (both, 2), "of the same size, its time set back"
    path.rename(folder / "other")
    write(folder, {"packages/a/a.1/opam": opam("x-n: 3")})
    assert now() == (both, 3)
    write(folder, {"packages/b/b.2/opam": opam()})
    assert now() == ({"a": ("1",), "b": ("1", "2")}, 3)
    shutil.rmtree(folder / "packages/b")
    assert now() == ({"a": ("1",)}, 3)


def test_an_old_directory_is_not_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam()})
    cache = tmp_path / "cache"
    open_repository(str(folder), str(cache)).load()
    (record,) = cache.rglob("folder-*.record")
    future = record.stat().st_mtime + 3600
    os.utime(record, (future, future))  # as if the scan had been long after the last change
    monkeypatch.setattr(os, "scandir", None)
    assert open_repository(str(folder), str(cache)).packages() == {"a": ("1",)}


def test_one_package_from_the_cache_needs_no_git(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam("x-n: 5")})
    git_folder = as_bare(folder)
    code = """
import sys
from obuild.opam.package import Package
from obuild.opam.repo import open_repository
repository = open_repository(sys.argv[1], sys.argv[2])
if sys.argv[3] == "load":
    repository.load()
assert repository.opam(Package("a", "1")).fields["x-n"] == 5
assert ("pygit2" in sys.modules) == (sys.argv[3] == "load")
assert "lark" not in sys.modules
"""
    for what in ("load", "open"):
        subprocess.run([sys.executable, "-c", code, git_folder, tmp_path / "cache", what], check=True)


# The user's words


def test_revisions(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam()})
    first = commit(folder)
    git(folder, "tag", "-a", "v1", "-m", "x")
    write(folder, {"packages/a/a.2/opam": opam()})
    second = commit(folder)
    write(folder, {"packages/a/a.3/opam": opam()})
    ways = {
        f"{folder}@{first}": 1,
        f"{folder}@{first[:8]}": 1,
        f"{folder}@v1": 1,
        f"{folder}@trunk~1": 1,
        f"{folder}@HEAD": 2,
        f"{folder}@trunk": 2,
        f"git+file://{folder}": 2,
        f"git+file://{folder}#v1": 1,
        f"git+file://{folder}@{second}": 2,
        f"file://{folder}": 3,
        str(folder): 3,
        f"{folder}/": 3,
    }
    for text, count in ways.items():
        repository = open_repository(text, "")
        assert len(repository.packages()["a"]) == count, text
        assert str(folder) in repository.where
    git(folder, "checkout", "-q", first)
    assert len(open_repository(f"{folder}@HEAD", "").packages()["a"]) == 1
    git(folder, "checkout", "-q", "trunk")
    git(folder, "pack-refs", "--all")
    assert len(open_repository(f"{folder}@HEAD", "").packages()["a"]) == 2
    git(folder, "worktree", "add", "-q", str(tmp_path / "tree"), "v1")
    assert len(open_repository(f"{tmp_path}/tree@HEAD", "").packages()["a"]) == 1


def test_a_path_may_have_an_at_sign(tmp_path: Path) -> None:
    folder = write(tmp_path / "a@b", {"packages/a/a.1/opam": opam()})
    assert open_repository(str(folder), "").packages() == {"a": ("1",)}
    commit(folder)
    assert open_repository(f"{folder}@trunk", "").packages() == {"a": ("1",)}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{r}@trnk", 'no commit "trnk" in "{r}"', 'did you mean "trunk"?'),
        ("{r}@" + "1" * 40, 'no commit "1111111111111111111111111111111111111111" in "{r}"', "fetch it first"),
        ("{r}/packages@trunk", 'no git repository at "{r}/packages"', ""),
        ("{r}/nothing", 'no opam repository at "{r}/nothing"', "give a directory, a git repository or a tar file"),
        ("@trunk", '"@trunk" names no opam repository', "give a directory, a git repository or a tar file"),
        ("https://opam.example/", '"https://opam.example/" is not on this machine', "clone it first and give the path"),
    ],
)
def test_places_that_do_not_exist(tmp_path: Path, text: str, message: str, hint: str) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam()})
    commit(folder)
    with pytest.raises(UsageError) as caught:
        open_repository(text.format(r=folder), "").packages()
    assert (str(caught.value), caught.value.hint) == (message.format(r=folder), hint)


def test_damaged_tars_and_git_repositories(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam(), "big": os.urandom(50_000)})
    for way in (as_tar, as_gz, as_xz):
        path = Path(way(folder))
        path.write_bytes(path.read_bytes()[:30_000])
        with pytest.raises(OpamError, match="not a tar file that can be read"):
            open_repository(str(path), "").packages()
    commit(folder)
    for path in (folder / ".git/objects").glob("[0-9a-f][0-9a-f]/*"):
        path.unlink()
    with pytest.raises((OpamError, UsageError), match=r"no commit|git can not read"):
        open_repository(f"{folder}@HEAD", "").packages()


def test_submodules_and_special_files_are_no_packages(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {"packages/a/a.1/opam": opam()})
    os.mkfifo(folder / "packages/pipe")
    (folder / "packages/b/b.1").mkdir(parents=True)
    os.mkfifo(folder / "packages/b/b.1/opam")
    assert open_repository(str(folder), "").packages() == {"a": ("1",)}
    shutil.rmtree(folder / "packages/b")
    (folder / "packages/pipe").unlink()
    head = commit(folder)
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{head},packages/module")
    git(folder, "commit", "-q", "-m", "x")
    repository = open_repository(f"{folder}@HEAD", "")
    assert (repository.packages(), repository.notes) == ({"a": ("1",)}, ('"packages/module" is not a package',))


# Several repositories


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    top = write(
        tmp_path / "top",
        {
            "packages/a/a.1/opam": opam("x-n: 1"),
            "packages/a/a.3/opam": "(",
            "packages/b/b.1-0/opam": opam("x-n: 1"),
            "packages/only-top/only-top.1/opam": "(",
        },
    )
    base = write(
        tmp_path / "base",
        {
            "packages/a/a.1/opam": opam("x-n: 2"),
            "packages/a/a.2/opam": opam("x-n: 2"),
            "packages/a/a.3/opam": opam("x-n: 2"),
            "packages/b/b.1/opam": opam("x-n: 2"),
            "packages/b/b.1/files/x": "",
            "packages/Z/Z.1/opam": opam("x-n: 2"),
            "packages/stray": "",
        },
    )
    return open_repositories([str(top), str(base)], str(tmp_path / "cache"))


def test_the_first_repository_that_has_a_package_counts(overlay: Overlay) -> None:
    assert overlay.packages() == {"a": ("1", "2", "3"), "b": ("1-0",), "only-top": ("1",), "Z": ("1",)}
    numbers = {
        each: overlay.opam(Package(*each.split("."))).fields["x-n"] for each in ("a.1", "a.2", "b.1-0", "b.1", "Z.1")
    }
    assert numbers == {"a.1": 1, "a.2": 2, "b.1-0": 1, "b.1": 1, "Z.1": 2}
    assert overlay.find(Package("b", "1")) == Package("b", "1-0")
    assert overlay.files(Package("b", "1")) == {}
    assert [note.split(": ")[1] for note in overlay.notes] == ['"packages/stray" is not a package']


def test_an_unreadable_definition_is_none(overlay: Overlay) -> None:
    assert overlay.opam(Package("a", "3")).fields["x-n"] == 2
    loaded = overlay.load()
    assert {name: list(row) for name, row in loaded.items()} == {"a": ["1", "2", "3"], "b": ["1-0"], "Z": ["1"]}
    assert [str(package) for package in overlay.unreadable] == ["only-top.1"]
    found = overlay.derive("n-1", lambda file: file.fields["x-n"])
    assert found == {"a": {"1": 1, "2": 2, "3": 2}, "b": {"1-0": 1}, "Z": {"1": 2}}
    with pytest.raises(OpamError, match=r"top/packages/only-top/only-top.1/opam:1:1: "):
        overlay.opam(Package("only-top", "1"))


def test_unknown_packages_of_several_repositories(overlay: Overlay) -> None:
    with pytest.raises(UsageError, match='no package "onlytop" in') as caught:
        overlay.opam(Package("onlytop", "1"))
    assert caught.value.hint == 'did you mean "only-top"?'
    with pytest.raises(UsageError, match='no version "9" of "a" in') as caught:
        overlay.text(Package("a", "9"))
    assert caught.value.hint == "the newest is 3"
    with pytest.raises(UsageError, match="no opam repository is given"):
        open_repositories([], "")
