"""opam-0install's report on a request without a solution, letter by letter."""

from __future__ import annotations

from obuild.opam.solver.diagnosis import Part, diagnose, label, title
from obuild.opam.solver.greedy import GAP, choose_greedily
from obuild.opam.version import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obuild.opam.package import Package
    from obuild.opam.solver.order import Order
    from obuild.opam.solver.problem import Problem

__all__ = ["format_report"]

_WIDTH = 77
_SELECTED = "Selected: "
_SHOWN = 5
"""So many rejected candidates are told of each role, unless all are asked for."""


def format_report(problem: Problem, order: Order, asked: Mapping[str, Package], *, verbose: bool = False) -> str:
    """The report on the request that the problem was last given; `asked` are the user's packages by name."""
    chosen = choose_greedily(problem)
    if len(problem.choice(0, chosen[0])[2]) == 1:
        del chosen[0]
    parts = diagnose(problem, chosen, order.sort(chosen), asked)
    plain = [label(problem, part.role, part.value) for part in parts if part.value != GAP and not part.notes]
    lines = ["Can't find all required versions.", *_fill(_SELECTED, plain)]
    for part in parts:
        if part.value == GAP or part.notes:
            lines += _part(problem, part, verbose)
    return "\n".join(lines)


def _fill(head: str, words: list[str]) -> Iterator[str]:
    """The words in lines that are not too long, the first one beginning with `head`, the others indented."""
    line = head + words[0] if words else head
    for word in words[1:]:
        if len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = " " * len(head) + word
        else:
            line += f" {word}"
    yield line


def _part(problem: Problem, part: Part, verbose: bool) -> Iterator[str]:
    outcome = "(problem)" if part.value == GAP else label(problem, part.role, part.value)
    yield f"- {title(problem, part.role)} -> {outcome}"
    yield from [f"    {note}" for note in part.notes]
    if part.value != GAP:
        return
    if part.usable:
        yield "    Rejected candidates:"
    elif part.unasked:
        yield "    No usable implementations:"
    else:
        yield "    No known implementations at all"
    rejected = sorted(part.bad, key=lambda value: _age(problem, part.role, value), reverse=True)
    for value in rejected if verbose else rejected[:_SHOWN]:
        yield f"      {label(problem, part.role, value)}: {part.bad[value]}"
    if len(rejected) > _SHOWN and not verbose:
        yield "      ..."


def _age(problem: Problem, role: int, value: int) -> tuple[int, ...]:
    return version_key(problem.version(role, value)) if problem.names[role] else (value,)
