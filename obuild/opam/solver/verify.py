"""Solutions before the second reading of the rules, which shares nothing with what found them."""

from __future__ import annotations

from obuild.opam.audit import Terms, audit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from obuild.opam.repo import Overlay, Repository
    from obuild.opam.solver.answer import Solution
    from obuild.opam.solver.pin import Pin
    from obuild.opam.solver.rule import Rules

__all__ = ["verify"]


def verify(
    repository: Overlay | Repository, rules: Rules, solution: Solution, pins: Mapping[str, Pin] | None = None
) -> tuple[str, ...]:
    """Everything that is wrong with a solution under the rules, one sentence each."""
    asked = dict(solution.request.wanted)
    if rules.compiler:
        asked.setdefault(rules.compiler.name, rules.compiler.version)
    names = frozenset([name for name, _ in solution.request.wanted])
    terms = Terms(
        asked,
        dict(rules.variables),
        tested=names if rules.with_test else frozenset(),
        documented=names if rules.with_doc else frozenset(),
        pins={name: pin.file for name, pin in (pins or {}).items()},
        strict=rules.day10,
    )
    return audit(repository, solution.packages, terms)
