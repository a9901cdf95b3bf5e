"""Package formulas: reading and printing, what opam makes of depopts and conflicts, evaluation."""

from __future__ import annotations

import pytest

from obuild.opam.format import flat
from obuild.opam.formula import (
    atoms,
    leaves,
    meets,
    partial_condition,
    read_condition,
    read_conflicts,
    read_depopts,
    read_formula,
    resolve_condition,
    resolve_formula,
    write_condition,
    write_conjunction,
    write_disjunction,
)
from obuild.opam.shape import WrongShape
from obuild.opam.syntax import parse

LOOKUP = {"os": "linux", "build": True, "post": False, "with-test": False, "version": "1.5", "text": "2.0"}.get


def value(text: str):
    (item,) = parse(f"depends: {text}".encode("latin-1"), "opam")
    return item[2]


def condition(text: str):
    """The condition in the braces of one atom."""
    _, _, braces = value(f'"p" {{{text}}}')
    return read_condition(braces)


def shown(values) -> str:
    return " ".join(map(flat, values))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('"a"', '"a"'),
        ('["a" "b"]', '"a" "b"'),
        ('["a" & "b" & "c"]', '"a" "b" "c"'),
        ('["a" | "b" "c"]', '"a" | "b" "c"'),
        ('[("a" & "b")]', '("a" & "b")'),
        ('[("a" "b")]', '("a" & "b")'),
        ('["a" & "b" | "c" & "d"]', '"a" & "b" | "c" & "d"'),
        ('[(("a" | "b"))]', '(("a" | "b"))'),
        ('["a" {>= "1" & < "2"}]', '"a" {>= "1" & < "2"}'),
        ('["a" {>= "1" < "2"}]', '"a" {>= "1" & < "2"}'),
        ('["a" {}]', '"a"'),
        ('["a" {((build))}]', '"a" {((build))}'),
        ('["a" {(true)}]', '"a" {(())}'),
        ('["a" {os = "linux" & (>= "1" | build)}]', '"a" {os = "linux" & (>= "1" | build)}'),
        ('["a" {= version}]', '"a" {= version}'),
        ("[]", ""),
    ],
)
def test_conjunctions_are_printed(text: str, printed: str) -> None:
    assert shown(write_conjunction(read_formula(value(text), "and"))) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('!(>= "1" & < "2")', '(< "1" | >= "2")'),
        ('!(= "1" | > "2")', '(!= "1" & <= "2")'),
        ('!(build & >= "1") & < "9"', '(!build | < "1") & < "9"'),
        ("!build", "!build"),
        ("!!build", "!!build"),
        ('!(!(>= "1"))', '((>= "1"))'),
        ('!(!= "1")', '(= "1")'),
        ("?build", "?build"),
    ],
)
def test_negation_moves_inwards(text: str, printed: str) -> None:
    assert shown(write_condition(condition(text))) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('["a" | "b"]', '"a" "b"'),
        ('[("a" | "b") "c"]', '"a" "b" "c"'),
        ('["a" & "b" "c"]', '"b" "a" "c"'),
        ('["a" {build} & "b" {= "1"} | "c"]', '"b" {= "1"} "a" {build} "c"'),
    ],
)
def test_depopts_are_alternatives(text: str, printed: str) -> None:
    assert shown(write_disjunction(read_depopts(value(text)))) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('["a" "b"]', '"a" "b"'),
        ('["a" | ("b")]', '"a" ("b")'),
        ('["a" & "b" "c"]', '"a" "b" "c"'),
        ('[("a" & "b") "c"]', '"a" "b" "c"'),
    ],
)
def test_conflicts_are_alternatives(text: str, printed: str) -> None:
    assert shown(write_disjunction(read_conflicts(value(text)))) == printed


@pytest.mark.parametrize(
    "text",
    ["3", '[["a"]]', '["bad name!"]', '["1"]', '["a" {>= "1 2"}]', '["a" {= ""}]', "[a]", '["a" {x y {z}}]', '[!"a"]'],
)
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(WrongShape):
        read_formula(value(text), "and")


def test_a_version_may_have_variables() -> None:
    assert shown(write_condition(condition('>= "%{version}%+x"'))) == '>= "%{version}%+x"'
    with pytest.raises(WrongShape):
        condition('>= "100%%"')


def test_long_lists_do_not_recurse() -> None:
    names = [f'"p{number}"' for number in range(3000)]
    formula = read_formula(value(f"[{' '.join(names)}]"), "and")
    assert [name for name, _ in atoms(formula)] == [name.strip('"') for name in names]
    assert len(write_conjunction(resolve_formula(formula, LOOKUP))) == 3000


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('>= "1"', ("is", ">=", "1")),
        ("= version", ("is", "=", "1.5")),
        ('= "%{version}%~"', ("is", "=", "1.5~")),
        ("= unknown", None),
        ('= "%{unknown}%"', None),
        ("= build", ("is", "=", "true")),
        ("build", True),
        ("post", False),
        ("unknown", False),
        ("!unknown", False),
        ('build & >= "1"', ("is", ">=", "1")),
        ('post & >= "1"', False),
        ('post | >= "1"', ("is", ">=", "1")),
        ('build | >= "1"', True),
        ('(>= "1" & (< "2"))', ("and", ("is", ">=", "1"), ("is", "<", "2"))),
        ('build & os = "linux"', True),
        ('post | os = "win32"', False),
        ('!(>= "1" & build)', ("is", "<", "1")),
    ],
)
def test_conditions_are_resolved(text: str, result) -> None:
    assert resolve_condition(condition(text), LOOKUP) == result


def test_no_condition_allows_everything() -> None:
    assert resolve_condition(None, LOOKUP) is None
    assert meets("anything", None)


def test_the_comparisons_of_a_condition() -> None:
    resolved = resolve_condition(condition('>= "1" & < "2" | = "3" & = unknown'), LOOKUP)
    assert not isinstance(resolved, bool)
    assert list(leaves(resolved)) == [(">=", "1"), ("<", "2"), ("=", "3")]
    assert [meets(version, resolved) for version in ("0.9", "1.5", "2", "3")] == [False, True, False, True]


def test_what_is_not_known_yet_is_left() -> None:
    lookup = {"os": "linux", "version": "1.5"}.get
    left = partial_condition(condition('(with-test & os = "linux") | = version & os = "win32"'), lookup)
    assert not isinstance(left, bool)
    assert shown(write_condition(left)) == "with-test"
    assert partial_condition(condition('os = "linux"'), lookup) is True
    assert partial_condition(condition('os = "win32" & >= "1"'), lookup) is False
    version = partial_condition(condition("= version"), lookup)
    assert version == ("is", "=", "1.5")


def test_atoms_whose_condition_is_false_vanish() -> None:
    formula = read_formula(value('["a" {post} "b" {build} ("c" {post} | "d" {< text}) ("e" {post})]'), "and")
    assert shown(write_conjunction(resolve_formula(formula, LOOKUP))) == '"b" ("d" {< "2.0"})'
