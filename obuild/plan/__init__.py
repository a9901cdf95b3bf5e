"""Plans: what building a solution's packages comes to, and the spec of each.

definition ── graph ── make ── compile     definitions, what each package is built upon, keys, specs
              order            command, quote, depext, scope, system
              relocatable      record      what finished layers say
view                                       what would be done, as text, JSON and for Graphviz
style                                      the same as other programs would do it
"""

from __future__ import annotations

from obuild.plan.build import HOME, PREFIX, ROOT, SWITCH, PackageBuild, Patch, Plan, facts, meta
from obuild.plan.compile import compile, compile_switch
from obuild.plan.definition import Definitions
from obuild.plan.make import Planner, plan
from obuild.plan.record import recorded
from obuild.plan.relocatable import Relocation

__all__ = [
    "HOME",
    "PREFIX",
    "ROOT",
    "SWITCH",
    "Definitions",
    "PackageBuild",
    "Patch",
    "Plan",
    "Planner",
    "Relocation",
    "compile",
    "compile_switch",
    "facts",
    "meta",
    "plan",
    "recorded",
]
