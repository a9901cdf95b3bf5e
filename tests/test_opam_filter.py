"""Filters: reading, printing, three-valued evaluation, interpolation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.opam.filter import evaluate, expand, partial, read_filter, resolve, satisfied, variables, write_filter
from obuild.opam.format import flat
from obuild.opam.shape import WrongShape
from obuild.opam.syntax import parse

VARIABLES = {
    "os": "linux",
    "arch": "x86_64",
    "opam-version": "2.1.2",
    "yes": True,
    "no": False,
    "word": "true",
    "_:version": "1.0",
    "a:installed": True,
    "b:installed": False,
    "a:v": "x",
    "flags": ("-O3", "-g"),
    "one": ("true",),
    "nested": "%{os}%!",
}
LOOKUP = VARIABLES.get


def read(text: str):
    (item,) = parse(f"available: {text}".encode("latin-1"), "opam")
    value = item[2]
    return read_filter(value[1] if isinstance(value, tuple) and value[0] == "list" else (value,))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('os = "linux"', True),
        ('os != "linux" | arch = "x86_64"', True),
        ('os = "linux" & arch = "arm64"', False),
        ("[]", True),
        ("yes", True),
        ("word", "true"),
        ("!word", False),
        ('"true" & yes', True),
        ('"maybe" & yes', None),
        ('"maybe" & no', False),
        ('"maybe" | yes', True),
        ("nothing", None),
        ("!nothing", None),
        ("nothing & no", False),
        ("no & nothing", False),
        ("nothing & yes", None),
        ("nothing | yes", True),
        ("nothing | no", None),
        ('nothing = "x"', None),
        ('!(nothing = "x") | yes', True),
        ("?nothing", False),
        ("?os", True),
        ("!?nothing", True),
        ("?(nothing & no)", True),
        ('opam-version >= "2.1"', True),
        ('opam-version < "2.1.2~rc"', False),
        ("3 > 12", False),
        ('yes = "true"', True),
        ('"%{os}%" = "linux"', True),
        ('"%{nothing}%" = ""', True),
        ('"100%%" = "100%"', True),
        ("nested", "linux!"),
        ("flags", "-O3 -g"),
        ("one & yes", True),
        ("a+b:installed", False),
        ("a:installed", True),
        ("a+c:installed", None),
        ("b+c:installed", False),
        ("a:enable", "enable"),
        ("b:enable", "disable"),
        ("c:enable", "disable"),
        ('_:version = "1.0"', True),
    ],
)
def test_evaluation_has_three_values(text: str, result: bool | str | None) -> None:
    assert evaluate(read(text), LOOKUP) == result
    assert type(evaluate(read(text), LOOKUP)) is type(result)
    assert satisfied(read(text), LOOKUP) is (result in (True, "true"))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("%{os}%-%{arch}%", "linux-x86_64"),
        ("%{nothing}%", ""),
        ("100%%", "100%"),
        ("%%{os}%%", "%{os}%"),
        ("%{yes}%", "true"),
        ("%{flags}%", "-O3 -g"),
        ("%{a+b:installed?both:not}%", "not"),
        ("%{yes?on:off}%", "on"),
        ("%{nothing?on:off}%", "off"),
        ("%{a:enable}%", "enable"),
        ("%{?a:v:}%", "x"),
        ("%{os", "%{os"),
        ("%{os}", "%{os}"),
        ("a}%{os}%}", "a}linux}"),
        ("%{o}s}%", ""),
        ("no variable", "no variable"),
    ],
)
def test_texts_are_expanded(text: str, result: str) -> None:
    assert expand(text, LOOKUP) == result


def test_a_variable_keeps_its_sort() -> None:
    assert resolve("flags", LOOKUP) == ("-O3", "-g")
    assert resolve("yes", LOOKUP) is True
    assert resolve("a+b:nothing", LOOKUP) is None


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("(os = arch)", "os = arch"),
        ("((a) & (b)) | c", "a & b | c"),
        ("(a | b) & c", "(a | b) & c"),
        ("a & (b & c)", "a & b & c"),
        ("!(a & b)", "!(a & b)"),
        ("!(a)", "!a"),
        ("!(a = b)", "!(a = b)"),
        ("!(!a)", "!!a"),
        ("?(a | b)", "?(a | b)"),
        ("3 >= 2", '"3" >= "2"'),
        ("[a]", "a"),
        ("!true", "!true"),
    ],
)
def test_printing_keeps_only_needed_parentheses(text: str, printed: str) -> None:
    (value,) = write_filter(read(text))
    assert flat(value) == printed


def test_a_true_filter_prints_as_nothing() -> None:
    assert write_filter(True) == ()
    assert write_filter(read("true")) == ()


@pytest.mark.parametrize("text", ["[a b]", "[()]", "[(a b)]", "[[a]]", "(a b)", "a {b}", '[= "1"]'])
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(WrongShape):
        read(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('os = "linux" & with-test', "true & with-test"),
        ("no & with-test", "false"),
        ("yes | with-test", "true"),
        ("?with-test", "false"),
        ('"%{os}%-%{with-test}%" = "50%%"', '"linux-%{with-test}%" = "50%%"'),
        ('with-test = "50%%"', 'with-test = "50%%"'),
        ('"%{with-test?a:b}%" = "b"', "true"),
        ("!with-test", "!with-test"),
        ("a+c:installed", "a+c:installed"),
        ('"x" & yes', '"x" & true'),
    ],
)
def test_partial_evaluation_leaves_the_unknown(text: str, left: str) -> None:
    assert flat(partial(read(text), LOOKUP)) == left


def test_the_variables_of_a_filter() -> None:
    found = variables(read('a+b:v & "%{os}% %{x?y:z}%" != _:name | !?yes'))
    assert list(found) == ["a:v", "b:v", "os", "x", "_:name", "yes"]


FILTERS = st.recursive(
    st.sampled_from([True, False, "true", "text", "%{os}%", ("ident", "os"), ("ident", "later"), ("ident", "yes")]),
    lambda inner: st.one_of(
        st.tuples(st.just("pfxop"), st.sampled_from("!?"), inner),
        st.tuples(st.just("logop"), st.sampled_from("&|"), inner, inner),
    ),
    max_leaves=12,
)


@given(FILTERS)
def test_printed_filters_read_back(filter) -> None:
    text = " ".join(map(flat, write_filter(filter)))
    again = read(f"[{text}]")
    assert " ".join(map(flat, write_filter(again))) == text
    if "'true'" not in repr(filter) and "%{" not in repr(filter):  # a text is no boolean that settles an `|` in opam
        assert evaluate(again, LOOKUP) == evaluate(filter, LOOKUP)


@given(FILTERS, st.booleans())
def test_two_steps_are_one(filter, later: bool) -> None:
    """What is known later may come later, unless somebody asks whether it is known at all."""
    if "?" in repr(filter):
        return
    whole = {**VARIABLES, "later": later}.get
    assert satisfied(partial(filter, LOOKUP), whole) == satisfied(filter, whole)
