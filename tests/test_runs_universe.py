"""Universes and blessings."""

from __future__ import annotations

import hashlib
import random

from obuild.runs.blessing import Choice, bless, choices, compiler_of
from obuild.runs.graph import Build, Graph
from obuild.runs.universe import universe_id, universes

PACKAGES = ["dune.3.17.2", "ocaml.5.3.0", "base.v0.17.1"]


def test_by_name_it_is_docs_cis() -> None:
    expected = hashlib.md5(b"\nbase.v0.17.1\ndune.3.17.2\nocaml.5.3.0").hexdigest()
    assert universe_id(PACKAGES) == expected
    assert universe_id(reversed(PACKAGES)) == universe_id([*PACKAGES, PACKAGES[0]]) == expected
    assert universe_id([]) == hashlib.md5(b"").hexdigest()


def test_by_content_it_follows_definitions() -> None:
    ids = dict.fromkeys(PACKAGES, "1")
    one = universe_id(PACKAGES, ids)
    assert len(one) == 32
    assert one != universe_id(PACKAGES)
    assert one == universe_id(reversed(PACKAGES), ids)
    assert one != universe_id(PACKAGES, {**ids, "dune.3.17.2": "2"})


GRAPH = Graph(
    [
        Build("c3", "ocaml-base-compiler.5.3.0"),
        Build("c4", "ocaml-base-compiler.5.4.1"),
        Build("l3", "lib.1", ("c3",)),
        Build("l4", "lib.1", ("c4",)),
        Build("o4", "opt.1", ("c4",)),
        Build("a3", "app.1", ("l3",)),
        Build("a4", "app.1", ("l4", "o4")),
        Build("b3", "both.1", ("l3",)),
    ]
)


def test_a_universe_is_all_dependencies() -> None:
    found = universes(GRAPH, content=False)
    assert found["a3"] == universe_id(["lib.1", "ocaml-base-compiler.5.3.0"])
    assert found["c3"] == found["c4"] == universe_id([])
    assert found["a3"] != found["a4"]
    assert universes(GRAPH)["a3"] == universe_id(
        ["lib.1", "ocaml-base-compiler.5.3.0"], {"lib.1": "l3", "ocaml-base-compiler.5.3.0": "c3"}
    )


def test_the_most_dependencies_then_dependents_then_the_newest_compiler() -> None:
    blessed = bless(choices(GRAPH))
    assert blessed["app.1"] == "a4", "it has an optional dependency more"
    assert blessed["lib.1"] == "l3", "two packages are built upon it"
    tie = [Choice("x.1", "1", 3, 2, "5.3.0"), Choice("x.1", "2", 3, 2, "5.4.0"), Choice("x.1", "3", 3, 2, "5.4.0~rc1")]
    assert bless(tie) == {"x.1": "2"}
    assert bless([Choice("x.1", "1", 3, 2, "5.10.0"), Choice("x.1", "2", 3, 2, "5.9.0")]) == {"x.1": "1"}
    assert bless(tie, newest=lambda version: version == "5.3.0") == {"x.1": "1"}


def test_the_order_of_candidates_does_not_matter() -> None:
    found = [Choice("x.1", str(number), number % 3, number % 2, "5") for number in range(30)]
    expected = bless(found)
    for seed in range(20):
        random.Random(seed).shuffle(found)
        assert bless(found) == expected


def test_the_compiler_of_a_build() -> None:
    assert compiler_of(["dune.3", "ocaml.5.3.0", "ocaml-base-compiler.5.3.0"]) == "5.3.0"
    assert compiler_of(["ocaml-variants.5.2.0+ox"]) == "5.2.0+ox"
    assert compiler_of(["conf-gmp.4"]) == ""
    assert [choice.compiler for choice in choices(GRAPH, {"c3": "5.3.0"})][:3] == ["5.3.0", "", "5.3.0"]
