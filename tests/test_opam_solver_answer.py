"""Requests as users write them, answers as programs read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from solving import World

from obuild.errors import UsageError
from obuild.opam.package import parse_package
from obuild.opam.solver import NoSolution, Request, Solution, everything, format_answer, load_requests, parse_request
from obuild.opam.solver.answer import parse_requests


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("re", ("re", "")), ("re.1.11.0", ("re", "1.11.0")), ("0install.2.18", ("0install", "2.18"))],
)
def test_requests(text: str, wanted: tuple[str, str]) -> None:
    assert parse_request(text) == Request((wanted,))
    assert str(parse_request(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"" is not a package'),
        ("a b", '"a b" is not a package'),
        ("a.", '"" in "a." is not a version'),
        ("a.1 2", '"1 2" in "a.1 2" is not a version'),
        ("1.2", '"1.2" is not a package'),
    ],
)
def test_what_is_no_request(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_request(text)
    assert str(raised.value) == message


def test_lists_of_requests(tmp_path: Path) -> None:
    expected = (parse_request("a.1"), parse_request("b"))
    assert parse_requests("# all\na.1\n\n  b  # any\n", "list") == expected
    assert parse_requests(json.dumps({"packages": ["a.1", "b"]}), "list") == expected
    (tmp_path / "list").write_text("a.1\nb\n")
    assert load_requests(str(tmp_path / "list")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n!\nb.\n", 'list:2: "!" is not a package; write NAME or NAME.VERSION\nlist:3: "" in "b." is not a version'),
        ('{"packages": "a"}', '"list" is not a list of packages'),
        ('{"packages": [1]}', '"list" is not a list of packages'),
        ("{", '"list" is not a list of packages'),
    ],
)
def test_lists_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_requests(text, "list")
    assert str(raised.value) == message


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_requests(str(tmp_path / "none"))
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_requests(str(tmp_path / "bytes"))


def test_json() -> None:
    packages = (parse_package("a.2"), parse_package("b.1"))
    assert format_answer(Solution(parse_request("a"), packages)) == '{"package":"a.2","solution":["a.2","b.1"]}'
    both = Request((("b", "1"), ("a", "")))
    assert json.loads(format_answer(Solution(both, packages)))["package"] == "b.1 a.2"
    assert format_answer(NoSolution(parse_request("a"), "why\n")) == '{"package":"a","error":"why\\n"}'


def test_a_request_for_each_package() -> None:
    world = World({"b.1": "", "A.1": "", "A.2": "flags: avoid-version", "c.1": "available: false", "c.0": ""})
    universe = world.solver().universe
    assert list(map(str, everything(universe))) == ["A.2", "b.1", "c.0"]
    assert list(map(str, everything(universe, all_versions=True))) == ["A.2", "A.1", "b.1", "c.0"]
