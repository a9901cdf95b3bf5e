"""The graph of a run: who needs whom, and what failures hold up."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from obuild.runs.failure import last_nodes, rank_failures
from obuild.runs.graph import Build, Graph, load_graph, save_graph
from obuild.runs.outcome import DependencyFailed, Failure, Success
from obuild.runs.run import Node

GRAPH = Graph(
    [
        Build("c", "ocaml.5"),
        Build("d", "dune.3", ("c",)),
        Build("b", "base.1", ("c", "d")),
        Build("p", "ppx.1", ("b",)),
        Build("z", "zarith.1", ("c",)),
        Build("a", "app.1", ("p", "z")),
        Build("d2", "dune.4", ("c",)),
    ]
)


def test_dependents_and_dependencies() -> None:
    assert GRAPH.dependents(["d"]) == {"b", "p", "a"}
    assert GRAPH.dependents(["c"], direct=True) == {"d", "b", "z", "d2"}
    assert GRAPH.dependencies(["p"]) == {"b", "c", "d"}
    assert GRAPH.dependents(["unknown"]) == GRAPH.dependencies(["unknown"]) == set()
    assert GRAPH.packages(["a", "d"]) == ["app.1", "dune.3"]
    assert [build.id for build in GRAPH.named("dune")] == ["d", "d2"]
    assert [build.id for build in GRAPH.named("dune.4")] == ["d2"]
    assert GRAPH.edges({"p", "b", "c"}) == {"base.1": ("ocaml.5",), "ocaml.5": (), "ppx.1": ("base.1",)}


def test_all_closures_at_once() -> None:
    assert GRAPH.closures() == {key: GRAPH.dependencies([key]) for key in GRAPH.builds}
    chain = Graph([Build(str(number), f"p{number}.1", (str(number - 1),)) for number in range(2000)][::-1])
    assert len(chain.closures()["1999"]) == 1999
    torn = Graph([Build("a", "a.1", ("b", "gone")), Build("b", "b.1", ("a",))])
    assert torn.closures().keys() == {"a", "b"}


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_closures_of_any_graph(size: int, random: Random) -> None:
    needs = [{str(random.randrange(number)) for _ in range(3)} if number else set() for number in range(size)]
    builds = [Build(str(number), f"p{number}.1", tuple(deps)) for number, deps in enumerate(needs)]
    random.shuffle(builds)
    graph = Graph(builds)
    assert graph.closures() == {key: graph.dependencies([key]) for key in graph.builds}


def test_saved_and_loaded(tmp_path: Path) -> None:
    save_graph(str(tmp_path), GRAPH)
    assert load_graph(str(tmp_path)).builds == GRAPH.builds
    assert load_graph(str(tmp_path / "none")).builds == {}


def test_damage_costs_single_nodes(tmp_path: Path) -> None:
    save_graph(str(tmp_path), GRAPH)
    path = tmp_path / "dag_structure.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\0\0\n", b'{"hash": 1}\n', *lines[2:-1], lines[-1][:10]]))
    graph = load_graph(str(tmp_path))
    assert graph.builds.keys() == {"c", "b", "p", "z", "a"}
    assert graph.dependencies(["b"]) == {"c"}


def test_a_deep_graph_is_no_trouble() -> None:
    graph = Graph([Build(str(number), f"p{number}.1", (str(number - 1),)) for number in range(20_000)])
    assert len(graph.dependents(["0"])) == 19_999


NODES = [
    Node(Success("ocaml.5", "c")),
    Node(Failure("dune.3", "d", error="broken")),
    Node(Failure("zarith.1", "z", error="no gmp")),
    Node(DependencyFailed("base.1", "b", "dune.3", "d")),
    Node(DependencyFailed("ppx.1", "p", "dune.3", "d")),
    Node(DependencyFailed("app.1", "a", "zarith.1", "z")),
]


def test_what_blocks_most_comes_first() -> None:
    dune, zarith = rank_failures(NODES, GRAPH)
    assert (dune.package, dune.blocks, dune.alone) == ("dune.3", ("app.1", "base.1", "ppx.1"), ("base.1", "ppx.1"))
    assert (zarith.package, zarith.blocks, zarith.alone) == ("zarith.1", ("app.1",), ())


def test_without_a_graph_each_build_says_who_blocks_it() -> None:
    dune, zarith = rank_failures(NODES, Graph([]))
    assert (dune.blocks, zarith.blocks) == (("base.1", "ppx.1"), ("app.1",))


def test_a_build_that_was_tried_again_counts_once() -> None:
    again = [*NODES, Node(Success("zarith.1", "z")), Node(Failure("zarith.1", "z"))]
    assert [item.package for item in rank_failures(again, GRAPH)] == ["dune.3"]
    assert len(last_nodes(again)) == len(NODES)
