"""What changed between two states of repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_opam_repo import as_bare, commit, opam, write

from obuild.opam.diff import Change, Diff, diff
from obuild.opam.effective import effective_text
from obuild.opam.package import Package
from obuild.opam.repo import open_repositories, open_repository


def changes(tmp_path: Path, before: str, after: str, level: str = "2.5") -> tuple[Change, ...]:
    """The changes of one package whose opam file becomes another."""
    states = []
    for name, text in (("old", before), ("new", after)):
        folder = write(tmp_path / name, {"packages/p/p.1/opam": text})
        states.append(open_repository(str(folder), ""))
    found = diff(*states, level=level)
    assert (found.added, found.removed) == ((), ())
    return found.changed


def test_added_and_removed(tmp_path: Path) -> None:
    old = {"packages/a/a.1/opam": opam(), "packages/a/a.2/opam": opam(), "packages/b/b.1/opam": opam()}
    new = {"packages/a/a.1/opam": opam(), "packages/a/a.3/opam": opam(), "packages/c/c.1/opam": opam()}
    found = diff(
        open_repository(str(write(tmp_path / "old", old)), ""), open_repository(str(write(tmp_path / "new", new)), "")
    )
    assert found == Diff(
        added=(Package("a", "3"), Package("c", "1")), removed=(Package("a", "2"), Package("b", "1")), changed=()
    )


@pytest.mark.parametrize(
    ("before", "after", "fields", "effective"),
    [
        ('synopsis: "a"', 'synopsis: "b"', ("synopsis",), ()),
        ("# one", "# two", (), ()),
        ("build: []", "", ("build",), ()),
        ('build: ["a"]', 'build: [["a"]]', ("build",), ()),
        ('depends: ["a"]', 'depends: ["b"]', ("depends",), ("depends",)),
        ('x-a: 1\nsubsts: "x"', 'substs: "y"', ("substs", "x-a"), ("substs",)),
        ('url { src: "https://a" }', 'url { src: "https://b" }', ("url",), ("url",)),
        (
            f'url {{ src: "https://a" checksum: "md5={"0" * 32}" }}',
            f'url {{ checksum: "md5={"0" * 32}" src: "https://b" }}',
            ("url",),
            (),
        ),
        (
            f'extra-source "x" {{ src: "https://a" checksum: "md5={"0" * 32}" }}',
            f'extra-source "x" {{ src: "https://a" checksum: "md5={"1" * 32}" }}',
            ('extra-source "x"',),
            ('extra-source "x"',),
        ),
    ],
)
def test_changes(tmp_path: Path, before: str, after: str, fields: tuple[str, ...], effective: tuple[str, ...]) -> None:
    assert changes(tmp_path, opam(before), opam(after)) == (Change(Package("p", "1"), fields, effective),)


def test_order_is_no_change_of_a_field(tmp_path: Path) -> None:
    both = 'url { src: "https://a" mirrors: "https://b" }', 'url { mirrors: "https://b" src: "https://a" }'
    (change,) = changes(tmp_path, opam(f"{both[0]}\nsubsts: []"), opam(f"substs: []\n{both[1]}"))
    assert change == Change(Package("p", "1"), (), ())


def test_what_counts_depends_on_the_level(tmp_path: Path) -> None:
    texts = opam("flags: plugin"), opam("flags: conf")
    assert [changes(tmp_path / level, *texts, level)[0].effective for level in ("2.1", "2.2")] == [(), ("flags",)]


def test_a_file_that_becomes_unreadable(tmp_path: Path) -> None:
    (change,) = changes(tmp_path, opam("substs: []"), "(")
    assert change == Change(Package("p", "1"), ("opam-version", "substs"), ("opam-version", "name", "version"))
    assert changes(tmp_path / "both", "(", "[") == (Change(Package("p", "1"), (), ()),)


def test_files_beside_the_opam_file(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "r", {"packages/a/a.1/opam": opam(), "packages/a/a.1/files/x": "1", "packages/b/b.1/opam": opam()}
    )
    first = commit(folder)
    write(folder, {"packages/a/a.1/files/x": "2", "packages/b/b.1/files/y": "1"})
    states = [
        open_repository(f"{folder}@{first}", ""),
        open_repository(as_bare(folder), ""),
        open_repository(str(folder), ""),
    ]
    for level, effective in (("2.1", ("extra-files",)), ("2.3", ())):
        expected = tuple([Change(Package(name, "1"), ("files/",), effective) for name in "ab"])
        assert diff(states[0], states[1], level=level).changed == expected
        assert diff(states[0], states[2], level=level).changed == expected
    assert diff(states[1], states[2]) == Diff((), (), ())


def test_a_version_written_otherwise_is_the_same_package(tmp_path: Path) -> None:
    old = open_repository(str(write(tmp_path / "old", {"packages/p/p.1/opam": opam()})), "")
    new = open_repository(str(write(tmp_path / "new", {"packages/p/p.1-0/opam": opam()})), "")
    assert diff(old, new) == Diff((), (), (Change(Package("p", "1-0"), (), ("version",)),))


def test_two_public_commits(recorded_repositories: Path, tmp_path: Path) -> None:
    """An effective change is a change of the effective text, and nothing else is."""
    main = recorded_repositories / "opam-repository.git"
    cache = str(tmp_path / "cache")
    old, new = (open_repositories([f"{main}@{revision}"], cache) for revision in ("062f516d", "97014be6"))
    found = diff(old, new)
    assert (len(found.added), [str(package) for package in found.removed]) == (195, ["micro_httpd.0.20.1"])
    assert len(found.changed) == 75
    for change in found.changed:
        before, after = (effective_text(each.opam(change.package), level="2.5", width="scalars") for each in (old, new))
        assert (before != after) == bool(change.effective), change
    changed = {change.package for change in found.changed}
    assert all(
        old.text(package) == new.text(package)
        for name in ("dune", "lwt", "ocaml")
        for package in [Package(name, version) for version in old.packages()[name]]
        if package not in changed
    )
    assert diff(new, new) == Diff((), (), ())
