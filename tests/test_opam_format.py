"""Opam's printer; in `test_opam_effective.py` the machine's opam confirms many more layouts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.opam import format as opam_format
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.layout import lay_out
from obuild.opam.syntax import parse


def printed(text: str, width: str = "bytes") -> str:
    return format_items(parse(text.encode("latin-1"), "opam"), WIDTHS[width])


@pytest.mark.parametrize(
    "text",
    [
        "a: true",
        "a: 3",
        'a: "b"',
        "a: b",
        'a: ["b" "c"]',
        "a: (b c)",
        'a: "b" {c = "d" & !e}',
        'a: X += "y"',
        'a: ["b" & "c"]',
        'a: ?b | c != "d"',
        'a: [\n  "b" {>= "1"}\n]',
        'a: [\n  ["b"]\n]',
        'a: [\n  ["b" "c" {d}] {e}\n  ["f"]\n]',
        'url {\n  src: "https://"\n  checksum: "md5=0"\n}',
        'extra-source "a \\"b\\"" {\n  c: d\n}',
        'a: """\\\nb\nc"""',
        'a: """\nb\n"""',
    ],
)
def test_the_normal_form_stays_as_it_is(text: str) -> None:
    assert printed(text) == text


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a:[b   c]", "a: [b c]"),
        ("a: []", ""),
        ("a: [[]]", ""),
        ("a: []\nb: c", "\nb: c"),
        ('a: [["b"]]', 'a: [\n  ["b"]\n]'),
        ('a: "b\\nc"', 'a: """\\\nb\nc"""'),
        (r'a: "tab\tquote\"back\\slash"', 'a: "tab\tquote\\"back\\\\slash"'),
        (r'a: "x\n\"\"\"y"', 'a: """\\\nx\n\\"""y"""'),
        (r'a: "x\n\"\"y\\"', 'a: """\\\nx\n""y\\\\"""'),
        (r'a: "x\ny\""', 'a: """\\\nx\ny\\""""'),
        (r'a: "\065\x42"', 'a: "AB"'),
        ("s{}", "s {\n  \n}"),
    ],
)
def test_everything_else_becomes_it(text: str, form: str) -> None:
    assert printed(text) == form


def words(*sizes: int) -> str:
    return " ".join(f'"{"x" * (size - 2)}"' for size in sizes)


def test_a_line_may_have_77_columns_while_its_box_is_open() -> None:
    assert "\n" not in printed(f"depends: [{words(30, 35)}]")
    assert len(printed(f"depends: [{words(30, 35)}]")) == 77
    assert printed(f"depends: [{words(30, 36)}]") == f"depends: [\n  {words(30, 36)}\n]"


def test_a_list_breaks_everywhere_or_nowhere() -> None:
    text = printed(f"a: [{words(20, 20, 20, 20)}]")
    assert text.splitlines() == ["a: [", *[f"  {words(20)}" for _ in range(4)], "]"]


@pytest.mark.parametrize("count", [26, 27, 60])
def test_more_texts_than_fit_are_broken_as_by_the_boxes(count: int) -> None:
    values = tuple(["", 'a "', "\\", "é", "x" * 90][number % 5] for number in range(count))
    item = ("field", "depends", ("list", values), 0)
    tokens = opam_format._field_tokens("depends", ("list", values))
    for width in WIDTHS.values():
        assert format_items([item], width) == lay_out(tokens, 0, width)


def test_what_was_measured_in_time_may_end_at_the_margin() -> None:
    """The inner list takes one column too many; its elements, on a line of their own, end at column 78 and stay."""
    lines = printed(f"a: [{words(70)} [{words(30, 43)}]]").splitlines()
    assert lines == ["a: [", f"  {words(70)}", "  [", f"    {words(30, 43)}", "  ]", "]"]
    assert len(lines[3]) == 78


def test_a_value_goes_below_its_name() -> None:
    assert printed(f"a: {words(75)}") == f"a:\n  {words(75)}"
    assert printed(f"a: {words(74)}") == f"a: {words(74)}"


def test_braces_fill_lines() -> None:
    text = printed(f"a: [{words(30)} {{b = {words(36)} & c = {words(36)}}}]")
    assert text.splitlines() == ["a: [", f"  {words(30)}", f"    {{b = {words(36)} &", f"     c = {words(36)}}}", "]"]


def test_nested_operators_break_from_the_outside() -> None:
    name = "b" * 20
    text = printed("a: " + " & ".join([name] * 5))
    assert text.splitlines() == ["a:", f"  {name} & {name} & {name} &", f"  {name} &", f"  {name}"]


def test_nothing_is_indented_beyond_column_68() -> None:
    text = printed("a: " + "(" * 90 + "b & c" + ")" * 90)
    assert max(len(line) - len(line.lstrip()) for line in text.splitlines()) == 68


def test_widths_differ_for_other_than_ascii() -> None:
    text = f'a: ["éü日本" {words(60)}]'.encode().decode("latin-1")
    assert printed(text, "scalars") == text
    assert printed(text, "bytes") == text.replace("[", "[\n  ").replace("]", "\n]")


def test_undecodable_bytes_count_one_each() -> None:
    assert WIDTHS["scalars"]("\xff\xe6\x97") == 2
    assert WIDTHS["scalars"]("\xc3\xa9") == 1
    assert WIDTHS["bytes"]("\xc3\xa9") == 2


VALUES = st.recursive(
    st.one_of(
        st.text(alphabet='ab"\\\n', max_size=40),
        st.sampled_from([True, False, 7, ("ident", "name"), ("relop", ">=", ("ident", "a"), "1")]),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just("list"), st.lists(inner, max_size=5).map(tuple)),
        st.tuples(st.just("group"), st.lists(inner, max_size=3).map(tuple)),
        st.tuples(
            st.just("option"), st.one_of(st.just("x"), st.just(("ident", "y"))), st.lists(inner, max_size=3).map(tuple)
        ),
    ),
    max_leaves=25,
)


@given(VALUES)
def test_what_is_printed_reads_back(value) -> None:
    if value in (("list", ()), ("list", (("list", ()),))):
        return
    text = format_items((("field", "a", value, 0),), len)
    ((_, name, again, _),) = parse(text.encode("latin-1"), "opam")
    assert (name, again) == ("a", value)
    assert format_items((("field", "a", again, 0),), len) == text
