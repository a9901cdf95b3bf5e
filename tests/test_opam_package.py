"""Packages: names, order, lists."""

from __future__ import annotations

import marshal
import pickle
from pathlib import Path

import pytest

from obuild.errors import UsageError
from obuild.opam.package import Package, load_packages, name_key, parse_package, parse_packages, valid_name


def test_the_name_ends_at_the_first_dot() -> None:
    assert parse_package("re.1.11.0") == Package("re", "1.11.0")
    assert str(Package("re", "1.11.0")) == "re.1.11.0"


def test_packages_are_values() -> None:
    package = Package("re", "1.11.0")
    assert {package: 1}[Package("re", "1.11.0")] == 1
    assert package != ("re", "1.11.0")
    assert pickle.loads(pickle.dumps(package)) == package
    assert marshal.loads(marshal.dumps(str(package))) == "re.1.11.0"
    with pytest.raises(AttributeError):
        package.name = "other"  # type: ignore[misc]


def test_the_order_of_names_is_opams() -> None:
    """Letters compare without case, and at once with it: every `A…` comes before every `a…`."""
    names = "0install ANSITerminal a+b a-b a1 a_b aB ab alcotest B FrontC fileutils".split()
    assert sorted(sorted(names), key=name_key) == names
    assert sorted(sorted(names, reverse=True), key=name_key) == names


def test_versions_decide_within_a_name() -> None:
    packages = [Package("a", "10"), Package("b", "1"), Package("a", "2"), Package("a", "2~")]
    assert [str(package) for package in sorted(packages)] == ["a.2~", "a.2", "a.10", "b.1"]
    assert Package("a", "1").key == Package("a", "1-0").key
    assert Package("a", "1") != Package("a", "1-0")


@pytest.mark.parametrize("name", ["a", "0install", "conf-g++", "_x", "A-1"])
def test_valid_names(name: str) -> None:
    assert valid_name(name)


@pytest.mark.parametrize("name", ["", "1", "a b", "a.b", "é", "+", "a\n"])
def test_invalid_names(name: str) -> None:
    assert not valid_name(name)


@pytest.mark.parametrize("text", ["re", "re.", ".1", "1.2", "re.1:2", "a b.1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse_package(text)


def test_a_list_of_packages(tmp_path: Path) -> None:
    path = tmp_path / "installed"
    path.write_text("# all of them\n\nre.1.11.0\n  seq.base # comes with OCaml\na.1 b.2\r\nre.1.11.0\n")
    packages = load_packages(str(path))
    assert [str(package) for package in packages] == ["re.1.11.0", "seq.base", "a.1", "b.2"]


def test_every_bad_line_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        parse_packages("re\nok.1\nok.2\n1.1\n", "list")
    assert str(caught.value).splitlines() == [
        'list:1: "re" has no version; write "re.VERSION"',
        'list:3: "ok.2" beside "ok.1"',
        'list:4: "1" in "1.1" is not a package name',
    ]


def test_a_list_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_packages(str(tmp_path / "missing"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_packages(str(tmp_path / "binary"))
