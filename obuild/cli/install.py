"""`obuild install`: packages put into a directory of this machine."""

from __future__ import annotations

import os
import shlex
import sys

from obuild.cli.check import Check
from obuild.cli.health import OPTIONS
from obuild.cli.option import Argument, Command, Option, unset
from obuild.cli.planner import plan_together
from obuild.cli.repository import platform_named
from obuild.cli.verdict import counted
from obuild.errors import ObuildError, UsageError
from obuild.install import install, load_installed, obstacles
from obuild.install.prefix import check_target
from obuild.opam.solver import Request, parse_request
from obuild.plan.record import package_layer
from obuild.platform import open_platform
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from obuild.install import Installed
    from obuild.plan import Plan
    from obuild.store import Layer

__all__ = ["COMMANDS"]

NO_SOLUTION = 3
LEFT_OUT = "all all_versions since json md dot dry_run keep_going trust_failures with_test with_doc".split()
"""Options of a health check that are about nothing else."""


@value
class Aim:
    """The directory, what it is for, and what is in it."""

    target: str
    asked: tuple[str, ...]
    known: Installed | None


def install_packages(*, packages: tuple[str, ...], prefix: str, rewrite: bool, **given: Any) -> int:
    """Solve, build what is not there, and put it all into the directory."""
    given = {option.name: unset(option) for option in OPTIONS} | given
    if len(given["compiler"]) > 1:
        raise UsageError("there can be only one compiler in a directory", hint="give --compiler once")
    target = os.path.realpath(prefix) if os.path.islink(prefix) else os.path.abspath(prefix)
    known = load_installed(target)
    check_target(target, known)
    asked = _asked(packages, known.asked if known else ())
    check = Check(asked, given)
    platform = open_platform(check.store, given["platform"] or platform_named(None).key)
    if known and known.platform != platform.key:
        hint = f"--platform {known.platform}, or a new directory"
        raise UsageError(f'"{target}" has packages of another platform, "{known.platform}"', hint=hint)
    world = check.world(given["repo"])
    request = Request(tuple([pair for text in asked for pair in parse_request(text).wanted]))
    plan = plan_together(world, request, str(request), whole=True)
    if plan is None:
        return NO_SOLUTION
    _check_movable(plan, {}, target, rewrite=rewrite)
    status = check.complete(plan)
    if status:
        return status
    layers = {build.key: layer for build in plan.builds if (layer := package_layer(check.store, build, plan))}
    _check_movable(plan, layers, target, rewrite=rewrite)
    _note_host(platform.key)
    _install(check, plan, layers, Aim(target, asked, known))
    print(f"{counted(len(plan.builds), 'package')} in {target}; to use them: . {shlex.quote(target)}/env.sh")
    return 0


def _asked(packages: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
    """What the directory is for: what it was for already, and what is asked for now."""
    names = {parse_request(text).wanted[0][0] for text in packages}
    return (*[text for text in before if parse_request(text).wanted[0][0] not in names], *dict.fromkeys(packages))


def _check_movable(plan: Plan, layers: Mapping[str, Layer], target: str, *, rewrite: bool) -> None:
    """Raise `ObuildError` with all that stops working at another prefix than the one that it is built at."""
    if target == plan.prefix:
        return
    found = obstacles(plan.builds, layers, plan.prefix, rewrite=rewrite)
    if not found:
        return
    hint = f"they work at the prefix that they are built at: --prefix {plan.prefix}"
    if layers and not rewrite and not obstacles(plan.builds, layers, plan.prefix, rewrite=True):
        hint = f"these are texts, which --rewrite lets say the new prefix; or --prefix {plan.prefix}"
    lines = "".join([f"\n  {line}" for line in found])
    raise ObuildError(f'this can not be installed in "{target}":{lines}', hint=hint)


def _install(check: Check, plan: Plan, layers: Mapping[str, Layer], aim: Aim) -> None:
    from obuild.cli.build import on_signals

    stack = [(str(build.package), layers[build.key]) for build in plan.builds]
    names = {layer.id: package for package, layer in stack}
    holds = [check.store.hold(layer) for _, layer in stack]
    try:
        for path, owners in check.store.conflicts(list(names)).items():
            print(f"note: {path} is of {' and '.join([names[owner] for owner in owners])}", file=sys.stderr)
        cancel = check.cancel or on_signals()
        install(stack, plan.prefix, aim.target, asked=aim.asked, known=aim.known, cancel=cancel)
    finally:
        for hold in holds:
            hold.release()


def _note_host(key: str) -> None:
    """Say when the packages were built for another system than the one that they are installed on."""
    host = platform_named(None).key
    if host != key:
        print(f"note: these packages were built on {key}, and this is {host}", file=sys.stderr)


COMMANDS = {
    "install": Command(
        install_packages,
        "Put packages, and all that they need, into a directory of this machine.",
        (
            Option(
                ("--prefix",), "The directory: a new one, or one that this command made.", required=True, metavar="DIR"
            ),
            Option(("--rewrite",), "Texts that hold the prefix that they were built at say the new one.", None),
            *[option for option in OPTIONS if option.name not in LEFT_OUT],
        ),
        (Argument("packages", "+"),),
    )
}
