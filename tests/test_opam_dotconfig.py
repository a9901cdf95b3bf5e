"""`.config` files: what opam takes, what it leaves out, what it refuses, how it prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.errors import OpamError
from obuild.opam.dotconfig import DotConfig, format_config, parse_config

SUM = "md5=" + "0" * 32


def read(text: str) -> tuple[DotConfig, list[str]]:
    found, problems = parse_config(text.encode("latin-1"), "a.config")
    return found, [problem.message for problem in problems]


def test_reading() -> None:
    found, problems = read(f'opam-version: "2.0"\nfile-depends: ["/f" "{SUM}"]\nvariables {{ a: true l: ["x" "y"] }}')
    assert not problems
    assert found == DotConfig((("a", True), ("l", ("x", "y"))), (("/f", SUM),))
    assert found.lookup() == {"a": True, "l": ("x", "y")}


def test_the_first_of_a_name_counts() -> None:
    found, _ = read('opam-version: "2.0" variables { a: "1" b: "2" a: "3" }')
    assert found.lookup() == {"a": "1", "b": "2"}
    assert len(found.variables) == 3


def test_without_a_version_every_field_is_a_variable() -> None:
    assert read('foo: true bar: "x"')[0].lookup() == {"foo": True, "bar": "x"}
    assert read("") == (DotConfig(), [])
    # so that a section is one thing too many
    found, problems = read("a: true variables { b: true }")
    assert (found.variables, len(problems)) == ((), 1)


@pytest.mark.parametrize(
    "inside",
    ["variables { a: true b: 3 }", "variables { b: foo }", 'variables { a: [1 "x"] }', 'variables { a: [["x"]] }'],
)
def test_one_bad_variable_drops_them_all(inside: str) -> None:
    found, problems = read(f'opam-version: "2.0" {inside}')
    assert found == DotConfig()
    assert problems == ["expected a variable: true, false, a string or a list of strings"] or problems == [
        "expected a string"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("foo: true variables { a: true }", '"foo" is not a part of a .config file'),
        ('variables { a: true } variables "b" { c: true }', '"variables" is not a part of a .config file'),
        ('file-depends: ["/f" "x"] variables { a: true }',
         "expected a checksum: md5=, sha256= or sha512= and its hexadecimal digits"),
        (f'file-depends: [["/f" "{SUM}" "x"]] variables {{ a: true }}', "expected a file and its checksum"),
    ],
)  # fmt: skip
def test_what_opam_leaves_out(text: str, problem: str) -> None:
    found, problems = read(f'opam-version: "2.0" {text}')
    assert (found.lookup(), problems) == ({"a": True}, [problem])


def test_two_sections_are_none() -> None:
    found, problems = read('opam-version: "2.0" variables { a: true } variables { b: true }')
    assert (found, problems) == (DotConfig(), ['the section "variables" is there twice'])


@pytest.mark.parametrize("text", ['opam-version: "2.0"\nvariables { a: ', 'opam-version: "2.1" variables { a: true }'])
def test_what_fails_the_package(text: str) -> None:
    with pytest.raises(OpamError, match=r"a\.config"):
        read(text)


def test_printing() -> None:
    long, other = "x" * 70, "y" * 40
    variables = (("a", True), ("l", ("x", "y")), ("e", ()), ("one", ("q",)), ("nl", "a\nb"), ("long", long))
    config = DotConfig((*variables, ("ll", (other, other)), ("z", "")), (("/f", SUM), ("/g", SUM)))
    assert format_config(config) == (
        f'opam-version: "2.0"\nfile-depends: [\n  ["/f" "{SUM}"]\n  ["/g" "{SUM}"]\n]\n'
        'variables {\n  a: true\n  l: ["x" "y"]\n  \n  one: ["q"]\n  nl: """\\\na\nb"""\n'
        f'  long:\n    "{long}"\n  ll: [\n    "{other}"\n    "{other}"\n  ]\n  z: ""\n}}\n'
    )


def test_printing_little() -> None:
    assert format_config(DotConfig()) == 'opam-version: "2.0"\nvariables {\n  \n}\n'
    alone = format_config(DotConfig(file_depends=(("/f", SUM),)))
    assert alone == f'opam-version: "2.0"\nfile-depends: ["/f" "{SUM}"]\nvariables {{\n  \n}}\n'


TEXTS = st.text(st.characters(max_codepoint=255, exclude_characters="\r"))
LISTS = st.lists(TEXTS, min_size=1).map(tuple)


@given(st.lists(st.tuples(st.from_regex(r"[a-z]+", fullmatch=True).filter(
    lambda name: name not in ("true", "false")), st.booleans() | TEXTS | LISTS)).map(tuple))  # fmt: skip
def test_what_is_printed_is_read_back(variables: tuple[tuple[str, bool | str | tuple[str, ...]], ...]) -> None:
    printed = format_config(DotConfig(variables))
    assert parse_config(printed.encode("latin-1"), "a.config") == (DotConfig(variables), ())
