"""Reading S-expressions as sexplib does, and its machine format byte for byte."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.errors import SpecError
from obuild.spec import sexp
from obuild.spec.sexp import Atom, List

TEXTS = st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))
TREES = st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=4), max_leaves=20)


def plain(node: sexp.Node) -> object:
    return [plain(item) for item in node] if isinstance(node, List) else str(node)


def read(text: str | bytes) -> object:
    return plain(sexp.parse(text, "t"))


def problem(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        sexp.parse(text, "t")
    (found,) = caught.value.problems
    return f"{found.line}:{found.column} {found.message}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("()", []),
        (" (a b)\n", ["a", "b"]),
        ("(5.10 007 1e5 nil t #t)", ["5.10", "007", "1e5", "nil", "t", "#t"]),
        (r"(a|b #a a#b C:\x [b] {c} 'd e' `f ,g)", ["a|b", "#a", "a#b", r"C:\x", "[b]", "{c}", "'d", "e'", "`f", ",g"]),
        ('(a"b"c"d""e")', ["a", "b", "c", "d", "e"]),
        ('""', ""),
        ('"a\nb"', "a\nb"),
        (r'"\n\t\r\b\\\"\'"', "\n\t\r\b\\\"'"),
        (r'"\q\ \u{e9}"', r"\q\ \u{e9}"),
        (r'"\065\x42"', "AB"),
        (r'"\226\128\147 \xe2\x80\x93"', "\u2013 \u2013"),
        (r'"\255"', "\udcff"),
        (r'"–\226\128\147"', "\u2013\u2013"),
        ('"a \\\n \t b"', "a b"),
        ('"a\\\r\n  b"', "ab"),
        ("(a;b)\n c)", ["a", "c"]),
        ("; before\n(a) ; after", ["a"]),
        ("(a #| b #| c |# d |# e)", ["a", "e"]),
        ('(a #| "|#" |# b)', ["a", "b"]),
        ("(a #;(b c) d #;e)", ["a", "d"]),
        ("(a #;#;b c d)", ["a", "d"]),
        ("\ufeff(a)", ["a"]),
        ("(a\fb\rc\x0bd)", ["a", "b", "c\x0bd"]),
    ],
)
def test_reads_what_sexplib_reads(text: str, expected: object) -> None:
    assert read(text) == expected


def test_bytes_that_are_not_utf_8_are_kept() -> None:
    assert read(b'(a\xff "\xfe\\xfd")') == ["a\udcff", "\udcfe\udcfd"]
    assert sexp.format(sexp.parse(b"(a\xff)", "t")) == r'("a\255")'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "0:0 there is no expression in it, only blanks and comments"),
        (" ; a\n", "0:0 there is no expression in it, only blanks and comments"),
        ("(a)\n(b)", "2:1 more than one expression"),
        ("(a) b", "1:5 more than one expression"),
        ("(a\n (b)", '1:1 "(" is never closed'),
        ("(a))", '1:4 ")" without a "("'),
        ('(a "b', "1:4 the string is never closed"),
        ('"a\\', "1:1 the string is never closed"),
        ('"\\"', "1:1 the string is never closed"),
        ("(a #| b #| |#)", "1:4 the comment is never closed"),
        ('#| " |#', "1:4 the string is never closed"),
        ("(a |# b)", '1:4 "|#" without a "#|"'),
        ("(a#|b)", '1:3 "#|" inside an atom'),
        ("(a b|#)", '1:5 "|#" inside an atom'),
        ("(a #;)", '1:4 "#;" without an expression to leave out'),
        ("a #;", '1:3 "#;" without an expression to leave out'),
        (r'"ab\300"', r'1:4 "\300" is not a byte'),
        (r'"\12"', "1:2 an escape is cut short"),
        (r'"\xz"', "1:2 an escape is cut short"),
        ("(" * 100_000, "1:201 lists are nested more than 200 deep"),
        ("(a \ud800)", "1:4 half of a character"),
    ],
)
def test_says_what_is_wrong_and_where(text: str, expected: str) -> None:
    assert problem(text) == expected


def test_a_missing_parenthesis_is_looked_for_by_indentation() -> None:
    with pytest.raises(SpecError, match="judging by the indentation, the one at line 2, column 2 lacks its end"):
        sexp.parse("((from a)\n (run (shell x)\n (run (shell y))\n)", "t")


def test_nodes_know_where_they_stand() -> None:
    text = '(a "b c"\n  (d))'
    source = sexp.read(text, "t")
    assert isinstance(source.node, List)
    first, second, third = source.node
    assert isinstance(first, Atom)
    assert [source.place(node.offset) for node in (source.node, first, second, third)] == [
        (1, 1),
        (1, 2),
        (1, 4),
        (2, 3),
    ]
    assert [text[node.offset : node.end] for node in (second, third)] == ['"b c"', "(d)"]


def test_comments_are_found_in_order() -> None:
    text = ";a\n(b #;(c ;d\n) #|e|# f) ;g"
    assert [text[start:end] for start, end in sexp.read(text, "t").comments] == [";a", "#;(c ;d\n)", "#|e|#", ";g"]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("a", "a"),
        ("", '""'),
        (["a", "b", ["c"], "d e", "f"], '(a b(c)"d e"f)'),
        ([[], ["a"], []], "(()(a)())"),
        ("a\n\t\r\b\\\"'", r'"a\n\t\r\b\\\"' + "'\""),
        ("é\x7f\x00", r'"\195\169\127\000"'),
        (["a;b", "(", "a#|b", "|#", "a#b"], '("a;b""(""a#|b""|#"a#b)'),
    ],
)
def test_machine_format(tree: sexp.Tree, expected: str) -> None:
    assert sexp.format(tree) == expected


@pytest.mark.parametrize(
    ("env", "network", "command", "expected"),
    [
        (
            [("PATH", "/usr/bin:/bin")],
            [],
            "echo hello",
            "400c5684521d1b3d45b53cc9193e73e0d9f6f387dfea78ca72f5c488790d00ab",
        ),
        ([], [], "echo hello", "2137feae.*c5bb"),
        ([("PATH", "/usr/bin:/bin")], ["host"], "echo hello", "10b6daeb.*5cf"),
        ([("PATH", "/usr/bin:/bin")], [], "", "c96d3413.*0bb4"),
    ],
)
def test_machine_format_gives_the_ids_that_obuilder_gives(
    env: list[tuple[str, str]], network: list[str], command: str, expected: str
) -> None:
    base = hashlib.sha256(b"busybox").hexdigest()
    fields = {"base": base, "workdir": "/", "user": [("uid", "0"), ("gid", "0")], "env": env, "cmd": command}
    rest = {"shell": ["/usr/bin/env", "bash", "-c"], "network": network, "mount_secrets": []}
    tree = [[name, field] for name, field in (fields | rest).items()]
    first, _, last = expected.partition(".*")
    found = hashlib.sha256(sexp.format(tree).encode()).hexdigest()
    assert found.startswith(first)
    assert found.endswith(last)


@given(TREES)
def test_machine_format_is_read_back(tree: sexp.Tree) -> None:
    assert read(sexp.format(tree)) == tree


@given(TREES, TREES)
def test_different_trees_have_different_texts(one: sexp.Tree, other: sexp.Tree) -> None:
    assert (sexp.format(one) == sexp.format(other)) == (one == other)


@given(TEXTS)
def test_quoted_atoms_are_read_back(text: str) -> None:
    assert read(sexp.quote(text)) == text
    assert sexp.quote(text).isprintable()


@given(st.text(alphabet='()"\\;#|ab0x1 \n', max_size=40) | st.binary(max_size=40))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    tree: sexp.Tree | None = None
    with contextlib.suppress(SpecError):
        tree = read(text)  # type: ignore[assignment]
    assert tree is None or read(sexp.format(tree)) == tree


def test_deep_trees_can_be_printed() -> None:
    tree: sexp.Tree = "a"
    for _ in range(5000):
        tree = [tree]
    assert sexp.format(tree) == "(" * 5000 + "a" + ")" * 5000


def test_a_large_text_is_read_whole() -> None:
    text = "(" + '(run ; why\n (shell "a \\\n b \\065"))\n' * 10_000 + ")"
    assert read(text) == [["run", ["shell", "a b A"]]] * 10_000
