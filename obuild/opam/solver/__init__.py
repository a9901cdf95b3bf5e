"""The solver: the packages that a request needs, chosen exactly as opam-0install and day10 choose them.

    repositories ── fact ── universe ── problem ── search ── solve ── bulk      (each reads only what is left of it)
                   six     candidates  roles and  the best  requests  many, on
                   fields  and needs   sets       solution  answered  all cores

    greedy ── diagnosis ── report     why there is no solution, as opam-0install says it
    core ── chain ── wording          the same, as short as possible
    graph                             what is built before what
    recall                            answers that still hold for another commit
    relation                          who needs whom

`open_solver` puts them together.
"""

from __future__ import annotations

from obuild.opam.solver.answer import NoSolution, Request, Solution, format_answer, load_requests, parse_request
from obuild.opam.solver.bulk import everything, solve_all
from obuild.opam.solver.chain import Explanation, Step
from obuild.opam.solver.fact import FactReader, fact_of
from obuild.opam.solver.graph import build_map, build_order, closure, format_dot
from obuild.opam.solver.pin import Pin, load_pins
from obuild.opam.solver.recall import Memory, fingerprints
from obuild.opam.solver.relation import Why, dependents, format_steps, why
from obuild.opam.solver.rule import OPAM_VERSION, Rules, variable_table
from obuild.opam.solver.solve import Solver
from obuild.opam.solver.universe import DEV, Universe
from obuild.opam.solver.verify import verify
from obuild.opam.solver.wording import format_explanation, shown_explanation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from obuild.opam.package import Package
    from obuild.opam.repo import Overlay, Repository

__all__ = [
    "DEV",
    "OPAM_VERSION",
    "Explanation",
    "FactReader",
    "Memory",
    "NoSolution",
    "Pin",
    "Request",
    "Rules",
    "Solution",
    "Solver",
    "Step",
    "Universe",
    "Why",
    "build_map",
    "build_order",
    "closure",
    "dependents",
    "everything",
    "fingerprints",
    "format_answer",
    "format_dot",
    "format_explanation",
    "format_steps",
    "load_pins",
    "load_requests",
    "open_solver",
    "parse_request",
    "shown_explanation",
    "solve_all",
    "variable_table",
    "verify",
    "why",
]


def open_solver(
    repository: Overlay | Repository, rules: Rules, *, cache: str = "", pins: Mapping[str, Pin] | None = None
) -> tuple[Solver, FactReader]:
    """A solver over repositories, and what reads facts for it: `save` that at the end.

    `cache` is a directory for what is read from opam files, "" to keep nothing; `pins` are the user's own packages.
    """
    reader = FactReader(repository, cache)
    pins = pins or {}
    facts = {name: fact_of(pin.file) for name, pin in pins.items()}

    def path(package: Package) -> str:
        return pins[package.name].path if package.name in pins else repository.path(package)

    return Solver(Universe(repository.packages(), reader, rules, facts), path), reader
