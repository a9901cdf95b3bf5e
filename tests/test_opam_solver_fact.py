"""What the solver reads of opam files, and keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from solving import opam_file

from obuild.opam.repo import open_repositories, open_repository
from obuild.opam.solver import FactReader
from obuild.opam.solver.fact import fact_of


def write(folder: Path, package: str, text: str, version: str = "2.0") -> None:
    place = folder / "packages" / package.partition(".")[0] / package
    place.mkdir(parents=True, exist_ok=True)
    (place / "opam").write_text(f'opam-version: "{version}"\n{text}\n')


def test_six_fields() -> None:
    text = 'depends: "b" {>= "1"} depopts: "c" conflicts: "d" available: os = "linux" flags: [plugin avoid-version]'
    assert fact_of(opam_file("a.1", f'{text} conflict-class: ["k" "l" "k"]')) == (
        ("atom", "b", ("is", ">=", "1")),
        ("atom", "d", None),
        ("atom", "c", None),
        ("relop", "=", ("ident", "os"), "linux"),
        ("k", "l"),
        True,
    )
    assert fact_of(opam_file("a.1", "")) == (None, None, None, True, (), False)


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "one", "a.1", 'depends: "b"')
    reader = FactReader(open_repository(str(tmp_path / "one"), ""), str(tmp_path / "cache"))
    first = reader("a", "1")
    reader.save()
    repository = open_repository(str(tmp_path / "one"), "")
    again = FactReader(repository, str(tmp_path / "cache"))

    def fail(package: object, **_: object) -> None:
        raise AssertionError(f"{package} is parsed again")

    repository.opam = fail  # type: ignore[method-assign, assignment]
    assert again("a", "1") == first


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    for expected in ("b", "c"):
        write(tmp_path / "one", "a.1", f'depends: "{expected}"')
        reader = FactReader(open_repository(str(tmp_path / "one"), str(tmp_path / "cache")), str(tmp_path / "cache"))
        assert reader("a", "1") == (("atom", expected, None), None, None, True, (), False)
        reader.save()


@pytest.mark.parametrize(
    ("text", "version", "reason"),
    [
        ("depends: [", "2.0", "the file ends too early"),
        ("", "2.1", 'only "2.0" is read'),
        ("", "9", 'only "2.0" is read'),
    ],
)
def test_files_that_can_not_be_read(text: str, version: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, "a.1", text, version)
    reader = FactReader(open_repository(str(tmp_path), ""), "")
    assert reader("a", "1") is None
    (error,) = reader.unreadable.values()
    assert reason in str(error)
    assert "packages/a/a.1/opam" in str(error)


def test_a_definition_that_is_refused_leaves_the_next_one(tmp_path: Path) -> None:
    write(tmp_path / "top", "a.1", "depends: [")
    write(tmp_path / "top", "b.1", 'depends: "top"', "2.1")
    for package in ("a.1", "b.1"):
        write(tmp_path / "bottom", package, 'depends: "bottom"')
    both = [str(tmp_path / name) for name in ("top", "bottom")]
    cache = str(tmp_path / "cache")
    reader = FactReader(open_repositories(both, cache), cache)
    wanted = (("atom", "bottom", None), None, None, True, (), False)
    assert [reader(name, "1") for name in "ab"] == [wanted, wanted]
    assert not reader.unreadable
    reader.save()
    # What stands in for a file that can not be read is never remembered as its own.
    alone = FactReader(open_repositories(both[:1], cache), cache)
    assert [alone(name, "1") for name in "ab"] == [None, None]
    assert [str(package) for package in alone.unreadable] == ["a.1", "b.1"]
