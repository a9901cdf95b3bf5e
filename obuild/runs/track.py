"""What a profile remembers from one day to the next: `track-<name>.json` beside the runs.

It has the last word on every target: its build, and what became of that. The next day only targets with another build
are due, and are compared with it; a failure that may pass is no word, so the target is due again and is compared with
what it was before. The file is replaced when a run has ended. Until then the old one counts: a run that was killed is
made again, and finds what it had built. A message that was not delivered waits in it.
"""

from __future__ import annotations

import json

from obuild.disk import write_atomic
from obuild.runs.classify import transient
from obuild.runs.diff import Difference, diff_nodes
from obuild.runs.message import Message
from obuild.runs.outcome import DependencyFailed, NoSolution
from obuild.runs.run import Node, format_node, parse_node
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from obuild.runs.merge import Target

__all__ = ["State", "Step", "advance", "due", "load_state", "save_state", "state_path"]


@value
class State:
    """The state after the run `run`: `repos` as `PATH@COMMIT`, `terms` is what else it was about, in one text.

    `nodes` are the last words on targets; `open` is whether some have none, and are due whatever the commits are.
    `untold` are messages that did not arrive, each with the numbers of its recipients in the profile.
    """

    run: str = ""
    repos: tuple[str, ...] = ()
    terms: str = ""
    nodes: tuple[Node, ...] = ()
    open: bool = False
    untold: tuple[tuple[Message, tuple[int, ...]], ...] = ()

    def same(self, repos: tuple[str, ...], terms: str) -> bool:
        """Whether nothing can differ: the same commits of all repositories, and nothing is open."""
        commits = all("@" in repo for repo in repos)
        return bool(self.run) and commits and not self.open and (self.repos, self.terms) == (repos, terms)


@value
class Step:
    """From one state to the next: the new `state`, what is different, and the targets without a last word."""

    state: State
    difference: Difference
    passing: tuple[Node, ...] = ()


def due(state: State, targets: Iterable[Target], *, again: bool = False) -> tuple[Target, ...]:
    """The targets that can differ from what is known, or with `again` also those that did not succeed."""
    known = _table(state.nodes)

    def differs(target: Target) -> bool:
        node = known.get((target.package, target.compiler))
        if node is None or node.outcome.id != target.key:
            return True
        if isinstance(target.refusal, NoSolution):
            return not isinstance(node.outcome, NoSolution)
        return target.refusal is not None or (again and node.outcome.word != "success")

    return tuple([target for target in targets if differs(target)])


def advance(state: State, targets: Iterable[Target], tried: Iterable[Target], nodes: Iterable[Node], run: str) -> Step:
    """The state when `tried` of all `targets` have come to `nodes` in the run `run`."""
    known, ended = _table(state.nodes), {(n.outcome.package, n.compiler, n.outcome.id): n for n in nodes}
    passing = {node.outcome.id for node in ended.values() if transient(node.outcome.category)}
    new, unsure = dict[tuple[str, str], Node](), []
    for target in tried:
        node = ended.get((target.package, target.compiler, target.key))
        if node is None or _passes(node, passing):
            unsure.append((target, node))
        else:
            new[target.package, target.compiler] = replace(node, blessed=False)
    after = {(target.package, target.compiler): target for target in targets}
    kept = {key: node for key, node in known.items() if key in after}
    gone = [node for key, node in known.items() if key not in after]
    before = [known[key] for key in new if key in known] + gone
    nodes = tuple((kept | new).values())
    return Step(
        replace(state, run=run, nodes=nodes, open=bool(unsure)),
        diff_nodes(before, new.values()),
        tuple([node for _, node in unsure if node]),
    )


def _passes(node: Node, passing: set[str]) -> bool:
    outcome = node.outcome
    lost = isinstance(outcome, DependencyFailed) and outcome.failed_id in passing
    return lost or transient(outcome.category)


def _table(nodes: Iterable[Node]) -> dict[tuple[str, str], Node]:
    return {(node.outcome.package, node.compiler): node for node in nodes}


def state_path(root: str, name: str) -> str:
    """The file of a profile beside the runs in `root`."""
    return f"{root}/track-{name}.json"


def save_state(path: str, state: State) -> None:
    """Replace the file. Raises `OSError`."""
    record = {
        "run": state.run,
        "repos": state.repos,
        "terms": state.terms,
        "open": state.open,
        "untold": [{"title": m.title, "text": m.text, "to": to} for m, to in state.untold],
        "nodes": [format_node(node) for node in state.nodes],
    }
    write_atomic(path, (json.dumps(record, separators=(",", ":")) + "\n").encode(), durable=True)


def load_state(path: str) -> State:
    """The state in a file; the empty one when there is none, or it is damaged: then everything is due."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.read())
        nodes = [parse_node(item) for item in record["nodes"]]
        return State(
            str(record["run"]),
            tuple(map(str, record["repos"])),
            str(record["terms"]),
            tuple([node for node in nodes if node]),
            record["open"] is True,
            tuple([_untold(item) for item in record["untold"]]),
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return State()


def _untold(item: Mapping[str, Any]) -> tuple[Message, tuple[int, ...]]:
    return Message(str(item["title"]), str(item["text"])), tuple(map(int, item["to"]))
