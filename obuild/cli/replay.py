"""`obuild replay`: a failed build again, from the step that failed."""

from __future__ import annotations

import os
import sys
import time

from obuild import spec as language
from obuild.build import Builder, Options
from obuild.cli.build import LIMITS, explain, named_sandbox, on_signals
from obuild.cli.option import Argument, Command, Option, duration, jobs, unset
from obuild.cli.planner import PLANNING
from obuild.cli.repository import open_overlay
from obuild.cli.show import Plain, terminal_env, write
from obuild.cli.where import SANDBOX, default_store, open_named_store, read_text, seconds_text
from obuild.errors import OpamError, StepFailed, UsageError
from obuild.platform import open_platform
from obuild.replay import Again, find_failure, is_parcel
from obuild.replay.below import check_base, missing, planned_again, recorded_repositories, restore
from obuild.runs.execute import Machine
from obuild.sandbox import Limits, Process
from obuild.spec import Copy, FromUrl, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.replay import Failed
    from obuild.runs.schedule import Schedule
    from obuild.spec import Op
    from obuild.store import Store

__all__ = ["COMMANDS"]

MODES = ("shell", "from_start", "edit", "list", "export")
"""Of these options at most one is given, but for a shell before the first step."""


def replay(*, failure: str, command: tuple[str, ...], **given: Any) -> int:
    """Run the step that failed again, and what else is asked for; see `Replay`."""
    _check_modes(command, given)
    store, cancel = open_named_store(given["store"]), on_signals()
    if is_parcel(failure):
        from obuild.replay.receive import load_parcel

        if os.path.isdir(f"{failure}/sources"):
            given["archive_mirror"] = (os.path.abspath(f"{failure}/sources"), *given["archive_mirror"])
        builder = Builder(store, lambda: named_sandbox(given["sandbox"], store), _options(given))
        failed, others = load_parcel(builder, failure, said=_say, cancel=cancel), 0
    else:
        failed, others = find_failure(store, failure, given["platform"] or "")
    doing = Replay(store, failed, given, cancel)
    doing.describe(others)
    if given["export"]:
        return doing.export(given["export"])
    if given["list"]:
        return doing.show_steps()
    return doing.run(command)


class Replay:
    """One failure being done again."""

    def __init__(self, store: Store, failed: Failed, given: Mapping[str, Any], cancel: Cancel) -> None:
        self._store, self._failed, self._given = store, failed, given
        self._steps = failed.steps
        self._number = self._chosen(given["step"])
        self._cancel = cancel
        self._out = Plain(color=False, cancel=self._cancel)
        mirrors = (*given["archive_mirror"], *self._own_mirrors())
        options = _options({**given, "archive_mirror": mirrors})
        self._builder = Builder(store, lambda: named_sandbox(given["sandbox"], store), options)
        self._again = Again(self._builder, failed, self._cancel)

    def _chosen(self, step: int | None) -> int:
        """The operation to begin with."""
        if self._given["from_start"] or not self._steps:
            step = 1
        if step is None:
            return self._failed.number
        if step > len(self._steps):
            message = f'"{self._failed.package}" has no step {step}'
            raise UsageError(message, hint=f"1 to {len(self._steps)}: --list shows them")
        return self._steps[step - 1] if self._steps else self._failed.number

    @property
    def _repositories(self) -> tuple[str, ...]:
        """The repositories that the package is of, as far as that is known."""
        return self._given["repo"] or recorded_repositories(f"{self._store.path}/runs", self._failed)

    def _own_mirrors(self) -> tuple[str, ...]:
        """The archive caches that its repositories name, if it has sources."""
        sources = [op for op in self._failed.spec.ops if isinstance(op, Copy) and isinstance(op.source, FromUrl)]
        if not sources:
            return ()
        from obuild.cli.check import own_mirrors

        try:
            overlay = open_overlay(self._repositories, self._given["cache"])
        except (UsageError, OpamError):
            return ()  # they are not needed where the sources are in the store
        return tuple([mirror for repository in overlay.repositories for mirror in own_mirrors(repository)])

    def describe(self, others: int) -> None:
        """Say which failure it is."""
        failed = self._failed
        age = seconds_text(time.time() - float(failed.meta["created"]))
        more = f"; {others} other failures of it are older" if others > 1 else ""
        more = "; another failure of it is older" if others == 1 else more
        _say(f'"{failed.package}" on {failed.platform} failed {age} ago, {self._place(failed.number)}{more}')

    def _place(self, number: int) -> str:
        if self._failed.refused:
            return f"after all its {len(self._steps)} steps"
        return f"in step {self._steps.index(number) + 1} of {len(self._steps)}"

    def show_steps(self) -> int:
        """List the steps; the one that failed is marked."""
        for place, number in enumerate(self._steps, 1):
            mark = "!" if number == self._failed.number and not self._failed.refused else " "
            write(1, f"{mark} {place:2}  {_shown(self._failed.spec.ops[number])}\n".encode("utf-8", "replace"))
        return 0

    def export(self, dest: str) -> int:
        """Write all that another machine needs."""
        from obuild.log import Reporter
        from obuild.replay.parcel import save_parcel

        self._prepare()
        with self._again.system(Reporter()) as system:
            sources = self._builder.sources()
            specs = self._given["specs"]
            save_parcel(self._store, self._failed, system, dest, sources=sources, cancel=self._cancel, specs=specs)
        _say(f'"{self._failed.package}" can be replayed elsewhere: obuild replay {dest}')
        return 0

    def run(self, command: tuple[str, ...]) -> int:
        """Do what was asked for; the exit status."""
        self._prepare()
        try:
            if self._given["shell"]:
                return self._shell(command)
            if self._given["edit"]:
                return self._edit()
            return self._repeat()
        except StepFailed as error:
            explain(error, self._store)
            raise
        finally:
            self._out.close()

    def _prepare(self) -> None:
        """See to it that all is there that the steps stand on."""
        check_base(self._store, self._failed)
        wanted = missing(self._store, self._failed)
        if wanted:
            self._restore(wanted)
        gone = self._again.gone()
        if gone and not (self._given["from_start"] or self._given["export"]):
            count = f"{gone} layers" if gone > 1 else "a layer"
            _say(f"{count} of the steps before it not in the store any more: made again")

    def _restore(self, wanted: dict[str, str]) -> None:
        from obuild.cli.board import Board
        from obuild.cli.check import Check
        from obuild.cli.health import OPTIONS

        names = ", ".join(wanted.values())
        if not self._repositories:
            hint = "--repo REPO says from which repositories they are built again"
            raise UsageError(f'"{self._failed.package}" needs what is not in the store any more: {names}', hint=hint)
        _say(f"not in the store any more, and built again: {names}")
        variant = self._failed.meta.get("variant", {})
        plain = {option.name: unset(option) for option in OPTIONS}
        tests = {"with_test": variant.get("with-test", False), "with_doc": variant.get("with-doc", False)}
        given = {**plain, **self._given, **tests, "compiler": (), "platform": self._failed.platform}
        check = Check((self._failed.package,), given)
        cores = os.cpu_count() or 1

        def watch(schedule: Schedule) -> Board:
            names = {key: build.package for key, build in schedule.graph.builds.items()}
            return Board(schedule, names, color=False, cancel=self._cancel)

        case = planned_again(check.world(self._repositories), self._failed)
        restore(check.maker, case, wanted, Machine(cores, cores), watch=watch, cancel=self._cancel)

    def _repeat(self) -> int:
        """Run steps again, and say that they succeed; the failure is raised otherwise."""
        failed, place = self._failed, self._steps.index(self._number) + 1 if self._steps else 0
        if self._given["from_start"]:
            self._again.run_anew(self._steps, self._out)
            _say(f'all steps of "{failed.package}" succeed now; {self._finish()}')
        elif self._given["step"] and self._number != failed.number:
            self._again.run_anew((self._number,), self._out)
            _say(f'step {place} of "{failed.package}" succeeds')
        elif failed.refused:
            layer = self._again.finish(self._out)
            _say(f'"{failed.package}" succeeds now, and is saved as "{layer.id}"')
        else:
            self._again.run(failed.number, self._out)
            _say(f'step {place} of "{failed.package}" succeeds now; {self._finish()}')
        return 0

    def _finish(self) -> str:
        return f"to finish it: obuild health-check {self._failed.package}{self._flags()}"

    def _flags(self) -> str:
        where = f"{self._store.kind}:{self._store.path}"
        store = "" if where == default_store() else f" --store {where}"
        return f" --platform {self._failed.platform}{store}"

    def _shell(self, command: tuple[str, ...]) -> int:
        """A shell, or a command, where the step is about to run."""
        failed = self._failed
        op = failed.spec.ops[self._number]
        context = self._again.context(self._number, open_platform(self._store, failed.platform).env)
        network = (self._given["network"],) if self._given["network"] else op.network if isinstance(op, Run) else ()
        process = Process(
            argv=command or tuple(word for word in context.shell if word != "-c"),
            cwd=context.workdir,
            user=context.user,
            env=(*context.env, *self._builder.options.variables, *terminal_env()),
            network=network,
            terminal=sys.stdin.isatty(),
        )
        with self._again.before(self._number, self._out) as layer:
            _say(f"before {self._place(self._number)[3:]}, which does: {_shown(op)}")
            _say("what is changed here is thrown away at the end")
            with self._store.writable(layer) as root:
                return self._builder.sandbox().run(process, root, lambda data: write(1, data), stdin=0)

    def _edit(self) -> int:
        """Let the person change the spec, and run it."""
        path = f"{self._failed.layer.path}/edited.spec"
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(language.format(self._failed.spec))
        else:
            _say("these are your last changes; remove the file to begin anew")
        _open_editor(path)
        spec = language.parse(read_text(path), path)
        if spec.base != self._failed.spec.base:
            raise UsageError(f'{path}: the base of "{self._failed.package}" can not be another one')
        self._again.run_edited(spec, self._out)
        _say(f'"{self._failed.package}" succeeds as it is in {path}; nothing is saved as that package')
        return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _check_modes(command: tuple[str, ...], given: Mapping[str, Any]) -> None:
    chosen = [f"--{name.replace('_', '-')}" for name in MODES if given[name]]
    chosen += ["--step"] if given["step"] and not given["shell"] else []
    if len(chosen) > 1 and chosen != ["--shell", "--from-start"]:
        raise UsageError(f"{chosen[0]} and {chosen[1]} do not go together", hint="leave one of them out")
    if given["specs"] and not given["export"]:
        raise UsageError("--specs says what --export writes", hint="give --export DIR, too")
    if command and not given["shell"]:
        raise UsageError(f'"{command[0]}" is one word too many', hint="a command is run with --shell -- COMMAND")


def _options(given: Mapping[str, Any]) -> Options:
    limits = Limits(
        memory=given["memory"],
        cpus=given["cpus"],
        pids=given["pids"],
        seconds=given["step_timeout"],
        log=given["log_limit"],
    )
    return Options(
        limits=limits,
        timeout=given["timeout"],
        fast_sync=given["fast_sync"],
        archive_mirrors=given["archive_mirror"],
        offline=given["offline"],
        variables=(("OBUILD_JOBS", str(given["jobs"])),),
    )


def _shown(op: Op) -> str:
    """An operation on one line."""
    text = " ".join((op.shell if isinstance(op, Run) else language.format_op(op)).split())
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


_WIDTH = 160


def _open_editor(path: str) -> None:
    import shlex

    from obuild import system

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    env = {name: os.environ[name] for name in ("TERM", "HOME", "LANG", "PATH") if name in os.environ}
    words = shlex.split(editor)
    status = system.spawn([*words, path], stdin=sys.stdin.fileno(), own_group=False, env=env).wait()
    if status:
        raise UsageError(f'"{editor}" ended with exit status {status}', hint="nothing was run")


def _planning() -> Iterator[Option]:
    """The options that say how dependencies are built again."""
    wanted = "repo cache var opam_version pin rules store patches archive_mirror offline".split()
    yield from (option for option in PLANNING if option.name in wanted)


COMMANDS = {
    "replay": Command(
        replay,
        "Run the step again at which a package failed: PACKAGE, the beginning of a build-id, a log, an exported DIR.",
        (
            *_planning(),
            Option(("--platform",), "Only failures on this platform.", metavar="PLATFORM"),
            Option(("--shell",), "Open a shell where the step would run, or run a command there.", None),
            Option(("--step",), "Another step; --list numbers them.", jobs, metavar="NUMBER"),
            Option(("--from-start",), "All steps of the package.", None),
            Option(("--edit",), "Change the spec in an editor first; the result is not saved as the package.", None),
            Option(("--list",), "Only list the steps.", None),
            Option(("--export",), "Write all that another machine needs to replay it to DIR.", metavar="DIR"),
            Option(("--specs",), "Write the packages below as specs, to be built there.", None),
            Option(("--network",), "Which network a shell has: host, or the name of a private one.", metavar="NAME"),
            Option(("-j", "--jobs"), "What a step may do at once.", jobs, default=os.cpu_count() or 1, metavar="N"),
            Option(("--timeout",), "Time that it may take.", duration, metavar="TIME"),
            *[option for option in LIMITS if option.name != "no_new_privs"],
            SANDBOX,
        ),
        (Argument("failure"), Argument("command", "*")),
    )
}
