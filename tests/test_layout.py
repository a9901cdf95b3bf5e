"""Laying out S-expressions: the lines of specs, comments that stay, texts that do not change a second time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.errors import SpecError
from obuild.spec import layout, sexp

WORDS = st.sampled_from(
    ["a", "run", "build", "copy", '"x y"', '""', '"a \\\n  b"', "word" * 9, '"two words of some length"']
)
COMMENTS = st.sampled_from(["; c\n", "#| d |#", "#| e\n f |#", "#;(g h)", "\n\n; i\n", "#;#;j k"])
BLANKS = st.sampled_from([" ", "\n", "\n\n", "\n\n\n  ", "  "])
LISTS = st.recursive(
    WORDS,
    lambda inner: st.lists(st.one_of(inner, inner, COMMENTS), max_size=6).flatmap(
        lambda items: st.lists(BLANKS, min_size=len(items) + 1, max_size=len(items) + 1).map(
            lambda blanks: "(" + "".join([x for pair in zip(blanks, [*items, ""], strict=True) for x in pair]) + ")"
        )
    ),
    max_leaves=15,
)
FILES = st.tuples(st.lists(COMMENTS, max_size=2), BLANKS, LISTS, BLANKS, st.lists(COMMENTS, max_size=2)).map(
    lambda parts: "".join([*parts[0], *parts[1:4], *parts[4]])
)


def tidy(text: str) -> str:
    return layout.tidy(sexp.read(text, "t"))


def comments(text: str) -> list[str]:
    return [text[start:end].rstrip() for start, end in sexp.read(text, "t").comments]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("((from a))", "((from a)\n)\n"),
        ("((from a)(run (shell x)))", "((from a)\n (run (shell x))\n)\n"),
        (
            "((from a) (run (network host) (shell x)))",
            "((from a)\n (run (network host)\n      (shell x))\n)\n",
        ),
        (
            "((build b ((from a)(env X y)))(from a))",
            "((build b\n  ((from a)\n   (env X y)))\n (from a)\n)\n",
        ),
        (
            f"((copy (src {'a' * 40} {'b' * 40}) (dst /)))",
            f"((copy (src {'a' * 40}\n            {'b' * 40})\n       (dst /))\n)\n",
        ),
        ("; head\n\n\n((from a) ; base\n\n\n\n ; next\n (env A b)\n ; end\n)\n; foot", None),
        ("((from #| b |# a) ; c\n)", "((from #| b |# a) ; c\n)\n"),
        ('((run (shell "a \\\n   b")))', '((run (shell "a \\\n   b"))\n)\n'),
        ('("\\097\\x41" "b")', '("\\097\\x41" "b")\n'),
        ("((run ; why\n(shell x)))", "((run ; why\n      (shell x))\n)\n"),
    ],
)
def test_a_text_is_laid_out_anew(text: str, expected: str | None) -> None:
    if expected is None:
        expected = "; head\n\n((from a) ; base\n\n ; next\n (env A b)\n ; end\n)\n; foot\n"
    assert tidy(text) == expected


@given(FILES)
def test_nothing_is_lost_and_a_second_time_changes_nothing(text: str) -> None:
    try:
        node = sexp.parse(text, "t")
    except SpecError:
        return  # a comment has taken the rest of the line, and a parenthesis with it
    once = tidy(text)
    assert sexp.parse(once, "t") == node
    assert comments(once) == comments(text)
    assert tidy(once) == once


def test_lines_of_a_text_stand_below_one_another() -> None:
    text = "set -e\n  make\n\nmake install\n"
    laid = layout.format(["run", ["shell", text]])
    assert laid.split("\n") == [
        '(run (shell "set -e\\',
        "             \\n  make\\",
        "             \\n\\",
        "             \\nmake install\\",
        '             \\n"))',
    ]
    assert sexp.parse(laid, "t") == ("run", ("shell", text))


def test_long_commands_go_on_behind_their_joints() -> None:
    command = "apt-get update && apt-get install -y " + "x" * 50 + " &&  rm -rf /var/lib/apt && true"
    laid = layout.format(["run", ["shell", command]], fold=True)
    assert laid.split("\n") == [
        '(run (shell "apt-get update && \\',
        f"             apt-get install -y {'x' * 50} &&  rm -rf /var/lib/apt && \\",
        '             true"))',
    ]
    assert sexp.parse(laid, "t") == ("run", ("shell", command))
    assert "\n" not in layout.format(["run", ["shell", command]])


def test_fields_are_aligned_to_the_column_of_the_heading() -> None:
    laid = layout.format(["run", ["network", "host"], ["shell", "x"]], 5)
    assert laid == "(run (network host)\n" + " " * 10 + "(shell x))"
