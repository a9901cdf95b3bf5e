"""The files of an opam root and its switch."""

from __future__ import annotations

import pytest

from obuild.errors import OpamError
from obuild.opam.package import parse_package
from obuild.opam.state import (
    DIRECTORIES,
    format_config,
    format_repositories,
    format_state,
    format_switch,
    parse_state,
)
from obuild.opam.syntax import field, parse

PACKAGES = tuple(map(parse_package, ("b.1", "a.2", "a-b.1", "B.1")))


def test_the_state_of_a_switch() -> None:
    text = format_state(PACKAGES, compiler=PACKAGES[:1])
    assert text == (
        'opam-version: "2.0"\ncompiler: ["b.1"]\nroots: ["a.2" "a-b.1" "B.1" "b.1"]\n'
        'installed: ["a.2" "a-b.1" "B.1" "b.1"]\n'
    )
    found = parse_state(text.encode(), "switch-state")
    assert found["installed"] == found["roots"] == tuple(sorted(PACKAGES))
    assert found["compiler"] == PACKAGES[:1]
    assert found["pinned"] == ()


def test_the_state_of_an_empty_switch() -> None:
    assert format_state(()) == 'opam-version: "2.0"\n'
    assert set(parse_state(b'opam-version: "2.0"\n', "state").values()) == {()}
    assert parse_state(b'installed: "a.1"', "state")["installed"] == (parse_package("a.1"),)


def test_a_state_that_is_none() -> None:
    with pytest.raises(OpamError):
        parse_state(b"installed: [", "state")


def test_the_configuration_of_a_root() -> None:
    items = parse(format_config("default").encode(), "config")
    # 2.1: the one that opam 2.1 and all later ones take as it is
    assert [field(items, name) for name in ("opam-version", "opam-root-version")] == ["2.0", "2.1"]
    assert [field(items, name) for name in ("installed-switches", "switch", "depext")] == ["default", "default", False]
    assert field(items, "wrap-build-commands") is None
    assert parse(format_repositories().encode(), "repos-config")


def test_the_configuration_of_a_switch() -> None:
    assert format_switch("default", root="/r", user="opam", group="folk") == (
        'opam-version: "2.0"\nsynopsis: "default"\nopam-root: "/r"\npaths {\n  \n}\n'
        'variables {\n  user: "opam"\n  group: "folk"\n}\n'
    )


def test_parents_are_made_first() -> None:
    for number, path in enumerate(DIRECTORIES):
        parent = path.rpartition("/")[0]
        assert not parent or parent in DIRECTORIES[:number]
