"""`obuild ci` and `obuild exec`: a local project, whose dependencies are packages."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from obuild import kernel
from obuild.build import Builder, Context, Options
from obuild.build.context import follow
from obuild.cli.build import named_sandbox, on_signals
from obuild.cli.check import Check
from obuild.cli.health import OPTIONS
from obuild.cli.option import Argument, Command, Option, unset
from obuild.cli.planner import plan_together
from obuild.cli.show import terminal_env, write
from obuild.opam.solver import Request, load_pins
from obuild.plan import HOME, compile_switch, recorded
from obuild.sandbox import Mount, Process
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from obuild.plan import Plan
    from obuild.spec import Spec

__all__ = ["COMMANDS"]

NO_SOLUTION = 3
SOURCE = f"{HOME}/src"
"""Where a project is seen by its commands, as in day10."""


def ci(*, directory: str, **given: Any) -> int:
    """Check the packages of a project, each as its version `dev`; see `Check.status` for what is returned."""
    given = {option.name: unset(option) for option in OPTIONS} | given
    check, _ = _open(directory, given)
    batch = check.batch(check.world(given["repo"]))
    if given["dry_run"]:
        return check.show_plan(batch)
    return check.finish(check.run(batch))


def exec_(*, directory: str, command: tuple[str, ...], network: str | None, **given: Any) -> int:
    """Run a command in a project, with all that its packages need; its exit status."""
    given = {option.name: unset(option) for option in OPTIONS} | given
    check, names = _open(directory, given)
    world = check.world(given["repo"])
    request = Request(tuple([(name, "") for name in names]))
    plan = plan_together(world, request, " and ".join(names))
    if plan is None:
        return NO_SOLUTION
    below = _below(plan, names)
    with _aside():
        status = check.complete(below)
    if status:
        return status
    files = [world.terms.pins[name].file for name in names]
    spec = compile_switch(below, files, recorded(check.store, below))
    return Workplace(check, below, spec).run(os.path.abspath(directory), command, network)


def _open(directory: str, given: dict[str, Any]) -> tuple[Check, tuple[str, ...]]:
    """A check of all packages of the project, and their names."""
    names = tuple(load_pins([directory]))
    given["pin"] = (directory, *given["pin"])
    return Check(names, given), names


def _below(plan: Plan, names: tuple[str, ...]) -> Plan:
    """The part of a plan that the packages of the project stand on."""
    own = [build for build in plan.builds if build.package.name in names]
    keys = {key for build in own for key in build.parents} - {build.key for build in own}
    builds = tuple([build for build in plan.builds if build.key in keys])
    return replace(plan, builds=builds, by_key={build.key: build for build in builds}, targets=())


@contextmanager
def _aside() -> Iterator[None]:
    """What goes to standard output goes to standard error, for the time of the block: it is the command's own."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


class Workplace:
    """A switch with what a project needs, in which commands are run."""

    def __init__(self, check: Check, plan: Plan, spec: Spec) -> None:
        self._store, self._plan, self._spec = check.store, plan, spec
        self._given, self._cancel = check.given, check.cancel or on_signals()
        options = Options(variables=(("OBUILD_JOBS", str(self._given["cores"])),))
        self._builder = Builder(self._store, lambda: named_sandbox(self._given["sandbox"], self._store), options)

    def run(self, directory: str, command: tuple[str, ...], network: str | None) -> int:
        """Run a command, or a shell, in the directory; what it does anywhere else is thrown away."""
        layer = self._builder.build(self._spec, Context(source=directory), cancel=self._cancel)
        context = Context(source=directory, env=self._plan.base.env)
        for op in self._spec.ops:
            context = follow(context, op)
        info = os.stat(directory)
        user = info.st_uid, info.st_gid  # what is made in the directory belongs to whoever the directory does
        process = Process(
            argv=command or tuple(word for word in context.shell if word != "-c"),
            cwd=SOURCE,
            user=user,
            env=(*context.env, *self._builder.options.variables, *terminal_env()),
            mounts=(Mount(directory, SOURCE),),
            network=(network,) if network else (),
            terminal=sys.stdin.isatty(),
        )
        with self._store.hold(layer), self._store.writable(layer) as root:
            _give(root, self._plan.prefix, user)
            sandbox, cancel = self._builder.sandbox(), self._cancel
            return sandbox.run(process, root, lambda data: write(1, data), stdin=0, cancel=cancel)


def _give(root: str, prefix: str, user: tuple[int, int]) -> None:
    """Let another user than the one that packages are built by write where programs keep what they remember."""
    switch = os.path.dirname(prefix)
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in (HOME, switch, prefix, f"{prefix}/.opam-switch"):
            fd = kernel.open_in_root(top, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fchown(fd, *user)
            finally:
                os.close(fd)
    finally:
        os.close(top)


def _options(without: tuple[str, ...]) -> tuple[Option, ...]:
    """Those of a health check but for some."""
    return tuple([option for option in OPTIONS if option.name not in without])


COMMANDS = {
    "ci": Command(
        ci,
        "Check whether the packages of a project build: all *.opam files in DIRECTORY and below.",
        _options(("all", "all_versions", "since")),
        (Argument("directory"),),
    ),
    "exec": Command(
        exec_,
        "Run a command, or a shell, in a project with all that its packages need.",
        (
            Option(("--network",), "Which network it has: host, or the name of a private one.", metavar="NAME"),
            *_options(tuple("all all_versions since json md dot dry_run keep_going trust_failures".split())),
        ),
        (Argument("directory"), Argument("command", "*")),
    ),
}
