"""Opam files: what the fast reader and the grammar make of them, how deep they may be, what is said about bad ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild.errors import OpamError
from obuild.opam.grammar import parse_located
from obuild.opam.lexer import Unreadable, blank
from obuild.opam.reader import DEPTH, read
from obuild.opam.syntax import LIMIT, field, offset, parse, sections

EXAMPLES = Path(__file__).parent.parent / "examples" / "opam-repository"

a, b, c = ("ident", "a"), ("ident", "b"), ("ident", "c")

VALUES: list[tuple[str, Any]] = [
    ("a", a),
    ("a+b:installed", ("ident", "a+b:installed")),
    ("_:name", ("ident", "_:name")),
    ("a+_", ("ident", "a+_")),
    ("4a", ("ident", "4a")),
    ("-x", ("ident", "-x")),
    ("true", True),
    ("[false truer]", ("list", (False, ("ident", "truer")))),
    ("-1_000", -1000),
    ("[1-2]", ("list", (1, -2))),
    ("4611686018427387903", 4611686018427387903),
    ('""', ""),
    ('"a b"', "a b"),
    (r'"\n\r\t\b\ \'\"\\"', "\n\r\t\b '\"\\"),
    (r'"\065\x4a\x4A"', "AJJ"),
    ('"a\\\n   b"', "ab"),
    ('"a\\\r\n\tb"', "ab"),
    ('"a\r\nb"', "a\nb"),
    ('"a\rb"', "a\rb"),
    ('"""a"b""c"""', 'a"b""c'),
    ('"""\nline\n"""', "\nline\n"),
    ('"""a\\"""b"""', 'a"""b'),
    ('"(* no comment *) # either"', "(* no comment *) # either"),
    ("[]", ("list", ())),
    ("(a [b] ())", ("group", (a, ("list", (b,)), ("group", ())))),
    ("a {b c}", ("option", a, (b, c))),
    ("a {b} {c}", ("option", ("option", a, (b,)), (c,))),
    ("a | b & c", ("logop", "|", a, ("logop", "&", b, c))),
    ("a & b | c", ("logop", "|", ("logop", "&", a, b), c)),
    ("a & b & c", ("logop", "&", ("logop", "&", a, b), c)),
    ("a | b | c", ("logop", "|", ("logop", "|", a, b), c)),
    ("a & b {c}", ("logop", "&", a, ("option", b, (c,)))),
    ("!a & b", ("logop", "&", ("pfxop", "!", a), b)),
    ("!?a", ("pfxop", "!", ("pfxop", "?", a))),
    ("!a {b}", ("pfxop", "!", ("option", a, (b,)))),
    ("!a = b", ("pfxop", "!", ("relop", "=", a, b))),
    ("! = b", ("pfxop", "!", ("prefix_relop", "=", b))),
    ("a {>= b & < c}", ("option", a, (("logop", "&", ("prefix_relop", ">=", b), ("prefix_relop", "<", c)),))),
    ("[a = b = c]", ("list", (("relop", "=", a, b), ("prefix_relop", "=", c)))),
    ("[(a) = b]", ("list", (("group", (a,)), ("prefix_relop", "=", b)))),
    ("[a b | c]", ("list", (a, ("logop", "|", b, c)))),
    ("a~b", ("relop", "~", a, b)),
    ("a!=b", ("relop", "!=", a, b)),
    *[(f"[a{op}b]", ("list", (("env", op, a, b),))) for op in ("+=", ":=", "=+", "=:", "=+=")],
    ("a += b {c}", ("option", ("env", "+=", a, b), (c,))),
    ("(* a (* nested *) *) b # c", b),
    ("(*) *) b", b),
    ('(* " *) b', b),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values(text: str, value: Any) -> None:
    for ending in ("", "\n", "\r\n", " # the end"):
        data = f"field: {text}{ending}".encode("latin-1")
        assert parse(data, "f") == (("field", "field", value, 0),)
        assert same(parse(data, "f", located=True), (("field", "field", value, 0),))


def same(left: Any, right: Any) -> bool:
    """Equality for which True is not 1."""
    if isinstance(left, tuple):
        return isinstance(right, tuple) and len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right  # type: ignore[no-any-return]


def test_a_file() -> None:
    text = b'opam-version: "2.0"\n# c\nurl {\n  src: "x"\n  in "n" { y: 1 }\n}\nbuild: [a]\nbuild: b'
    items = parse(text, "f")
    assert items == (
        ("field", "opam-version", "2.0", 0),
        ("section", "url", None, (("field", "src", "x", 32), ("section", "in", "n", (("field", "y", 1, 52),), 43)), 24),
        ("field", "build", ("list", (a,)), 61),
        ("field", "build", b, 72),
    )
    assert [text[at : at + 5] for at in (24, 32, 43, 52, 61)] == [b"url {", b"src: ", b'in "n', b"y: 1 ", b"build"]
    assert field(items, "build") == ("list", (a,))
    assert field(items, "install") is None
    assert [section[3][0] for section in sections(items, "url")] == [("field", "src", "x", 32)]
    assert parse(b"", "f") == parse(b" \r\n# nothing\n(* here *)", "f") == ()


def test_bytes_stay_bytes() -> None:
    items = parse('a: "é"'.encode() + b'\nb: ["\xff"]', "f")
    assert field(items, "a") == "Ã©"
    assert field(items, "b") == ("list", ("ÿ",))


def places(value: Any) -> list[tuple[int, Any]]:
    """The offset of every value of a tree, parents first."""
    parts = value if isinstance(value, tuple) else ()
    return [(offset(value, -1), value), *[place for part in parts for place in places(part)]]


def test_places() -> None:
    text = b'a: [b "c" {>= "1" & !d} 12 e += "f" (g)] | true & h = i'
    found = [place for place in places(field(parse(text, "f", located=True), "a")) if place[0] >= 0]
    strings = {value: text[at : at + 2] for at, value in found if isinstance(value, str)}
    assert strings == {"c": b'"c', "1": b'"1', "f": b'"f'}
    nodes = {(value[0], chr(text[at])) for at, value in found if isinstance(value, tuple) and len(value) > 1}
    assert nodes > {("logop", "["), ("list", "["), ("option", '"'), ("prefix_relop", ">"), ("pfxop", "!"), ("env", "e")}
    assert nodes > {("group", "("), ("relop", "h"), ("ident", "b"), ("ident", "d"), ("ident", "g"), ("ident", "i")}
    assert (text.index(b"12"), 12) in found


MISTAKES = [
    (b'a: "x', "f:1:4: this string does not end"),
    (b'a: """x"', "f:1:4: this string does not end"),
    (b'a: "b"\nc: "\\q"', 'f:2:5: a string has no escape "\\q"'),
    (b'a: "\\300"', 'f:1:5: a string has no escape "\\300"'),
    (b"a: (* (* *)", "f:1:4: this comment does not end"),
    (b"a: _", 'f:1:4: "_" is neither a number nor a name'),
    (b"a: 5--", 'f:1:4: "5--" is neither a number nor a name'),
    (b"a: 4611686018427387904", "f:1:4: this number does not fit in 63 bits"),
    (b"a: b;", 'f:1:5: ";" can not stand here'),
    ('a: "é" é'.encode(), 'f:1:8: "é" can not stand here'),
    (b"a: \xff", 'f:1:4: "�" can not stand here'),
    (b"\x7fELF\x02\x01\0\0", "f:1:1: "),
    (b'a: ["b" )', 'f:1:9: ")" can not stand here; expected a value or "]"'),
    (b"a", "f:1:2: the file ends too early; expected"),
    (b"a:\n\n\n", "f:1:3: the file ends too early; expected a value"),
    (b"a: [b\n  c: d ]", 'f:2:4: ":" can not stand here; expected a value'),
    (b"url {\n  a: b", 'f:2:7: the file ends too early; expected "}" or a name'),
    (b"a: b }", 'f:1:6: "}" can not stand here; expected'),
    (b'"a": b', "f:1:1: a string can not stand here; expected a name"),
    (b"a: b = [c]", 'f:1:8: "[" can not stand here'),
    (b"a: [b] += c", 'f:1:8: "+=" can not stand here'),
    (b"a: b & & c", 'f:1:8: "&" can not stand here; expected a value'),
    (b"a: ! {b}", 'f:1:6: "{" can not stand here; expected a value'),
    (b"a: {b}", 'f:1:4: "{" can not stand here; expected a value'),
    (b"5: a", 'f:1:1: "5" can not stand here; expected a name'),
    (b"a: " + b"[" * (DEPTH + 1), "f:1:204: brackets nest more than 200 deep"),
    (b"a: " + b"b{" * (DEPTH + 1), "f:1:405: brackets nest more than 200 deep"),
    (b"a {" * (DEPTH + 1), "f:1:603: brackets nest more than 200 deep"),
    (b"a: b\nc: d" + b"&d" * DEPTH, 'f:2:1: the value of "c" nests more than 200 deep'),
    (b"a: " + b"!" * DEPTH + b"b", 'f:1:1: the value of "a" nests more than 200 deep'),
    (b"a: (" + b"b " * DEPTH + b")", 'f:1:1: the value of "a" nests more than 200 deep'),
    (b"a: b {" + b"c " * DEPTH + b"}", 'f:1:1: the value of "a" nests more than 200 deep'),
    (b"a: b" + b"{}" * DEPTH, 'f:1:1: the value of "a" nests more than 200 deep'),
    (b" " * (LIMIT + 1), "f: an opam file of 262145 bytes"),
]


@pytest.mark.parametrize(("data", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistakes(data: bytes, message: str) -> None:
    for located in (False, True):
        with pytest.raises(OpamError) as caught:
            parse(data, "f", located=located)
        assert str(caught.value).startswith(message)
        assert len(caught.value.problems) == 1


def test_a_mistake_is_quoted() -> None:
    with pytest.raises(OpamError) as caught:
        parse('synopsis: "é"\nx: "à" ;\n'.encode(), "here/opam")
    assert str(caught.value).split("\n")[1:] == ['  | x: "à" ;', "  |        ^"]


N = LIMIT - 30
HOSTILE = {
    "quotes": b'x: "' + b'\\"' * (N // 2),
    "long strings": b'x: """' + b'\\"' * (N // 2),
    "strings of quotes": b'x: "\\"' + b'"""\\"' * (N // 5),
    "dashes": b"x: [" + b"1-" * (N // 2) + b"]",
    "names": b"x: " + b"a+" * (N // 2),
    "comments": b"(*" * (N // 2),
    "hidden comments": b'"(*' * (N // 3),
    "sections": b"x{" * (N // 2),
    "operators": b"x: a" + b"&a" * (N // 2),
    "prefixes": b"x: " + b"!" * N,
    "zeros": bytes(N),
    "everything": bytes(range(256)) * (N // 256),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_take_linear_time(data: bytes) -> None:
    with pytest.raises(OpamError, match=r"^f:1:"):
        parse(data, "f")


def test_the_deepest_value_can_be_kept_and_compared() -> None:
    import marshal

    text = b"a {" * DEPTH + b"x: " + b"[" * (DEPTH - 1) + b"y" + b"]" * (DEPTH - 1) + b"}" * DEPTH
    items = parse(text, "f")
    assert marshal.loads(marshal.dumps(items)) == items == parse(text, "f", located=True)


def both(text: str) -> tuple[Any, Any]:
    """What the reader and the grammar say on their own; None for what they refuse."""
    results = []
    for way in (read, parse_located):
        try:
            results.append(way(blank(text)))
        except (ValueError, Unreadable):
            results.append(None)
    return results[0], results[1]


SIGNS = [*"[](){}&|!?~", "=", "!=", "<=", "+=", "=+=", ":=", "+", ":", "#", "(*", "*)", '"', "\\", "é"]
NAMES = ["a", "b:c", "_:x", "_", "a+b", "true", "1", "-3", "4a", "--", '"s"', '"\\q"', '"""t"t"""']
WORDS = st.sampled_from([*SIGNS, *NAMES])


@given(st.lists(st.tuples(WORDS, st.sampled_from(["", " ", "\n", "\r\n"])), max_size=12))
@settings(max_examples=400)
def test_reader_and_grammar_agree_on_any_words(words: list[tuple[str, str]]) -> None:
    text = "f: " + "".join([word + space for word, space in words])
    quick, full = both(text)
    # The reader leaves numbers without a space between them to the grammar.
    assert same(quick, full) or (quick is None and "-" in text), text


ATOMS = st.sampled_from(["a", "b:c", "true", "12", '"s"', '"""t"""'])
TEXTS = st.recursive(
    ATOMS
    | st.builds("{} {} {}".format, ATOMS, st.sampled_from(["=", "<", "+=", "=:"]), ATOMS)
    | ATOMS.map("= {}".format),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{' '.join(parts)}]"),
        st.lists(inner, max_size=3).map(lambda parts: f"({' '.join(parts)})"),
        st.builds("{} {{{}}}".format, inner, st.lists(inner, max_size=2).map(" ".join)),
        st.builds("{}{}{}".format, inner, st.sampled_from([" & ", "|"]), inner),
        st.builds("{}{}".format, st.sampled_from("!?"), inner),
    ),
)


@given(TEXTS)
@settings(max_examples=300)
def test_reader_and_grammar_agree_on_values(text: str) -> None:
    quick, full = both(f"f: {text}\ng {{ f: {text} }}")
    assert quick is not None
    assert same(quick, full)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_tree_or_a_problem(data: bytes) -> None:
    assert accepted(data) == (both(data.decode("latin-1"))[1] is not None)


def test_reader_and_grammar_agree_on_public_files(recorded_repositories: Path) -> None:
    """Every 40th file; all of them are compared by `benchmarks/opam_load.py`."""
    import pygit2

    files = {str(path): path.read_bytes() for path in EXAMPLES.rglob("opam")}
    for name in ("opam-repository", "oxcaml"):
        repository = pygit2.Repository(str(recorded_repositories / f"{name}.git"))
        index = pygit2.Index()
        index.read_tree(repository.head.peel(pygit2.Tree))
        found = [entry for entry in index if entry.path.endswith("/opam")]
        files.update((entry.path, repository[entry.id].data) for entry in found[::40])
    assert len(files) > 450
    for path, data in files.items():
        assert same(read(blank(data.decode("latin-1"))), parse(data, path, located=True)), path


def test_the_grammar_is_found_and_lark_is_not_loaded_for_a_good_file() -> None:
    code = "import sys; from obuild.opam.syntax import parse; parse(b'a: b', 'f'); assert 'lark' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs("opam")
def test_opam_accepts_and_refuses_the_same(tmp_path: Path) -> None:
    mistakes = [data[3:].decode("latin-1") for data, _ in MISTAKES if data.startswith(b"a: ")]
    env = {**os.environ, "OPAMROOT": str(tmp_path / "root")}
    for text in [*[text for text, _ in VALUES], *mistakes]:
        if len(text) > DEPTH:
            continue  # opam knows no bound
        data = f'opam-version: "2.0"\nx-value: {text}\n'.encode("latin-1")
        (tmp_path / "opam").write_bytes(data)
        said = subprocess.run(["opam", "lint", tmp_path / "opam"], capture_output=True, env=env, check=False).stdout
        assert accepted(data) == (b"error  2" not in said), text


def accepted(data: bytes) -> bool:
    try:
        parse(data, "f")
    except OpamError:
        return False
    return True
