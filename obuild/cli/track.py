"""`obuild track PROFILE`: fetch, check what can differ, compare, tell people, make room; once, for cron or systemd."""

from __future__ import annotations

import os
import shlex
import sys

from obuild.cli.health import OPTIONS
from obuild.cli.option import Argument, Command, Option, converted, unset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from obuild.cli.check import Check
    from obuild.disk import Lock
    from obuild.runs.batch import Result
    from obuild.runs.merge import Batch
    from obuild.runs.message import Message
    from obuild.runs.profile import Profile, Recipient
    from obuild.runs.track import State, Step

__all__ = ["COMMANDS"]

TOLD = 50
"""Messages that wait for a recipient who can not be reached; older ones are given up."""


def track(
    *, profile: str, dry_run: bool, again: bool, wait: bool, cron: bool, systemd: bool, cache: str | None, **shown: str
) -> int:
    """Do what a profile says; 1 when something is worse than it was, or somebody could not be told."""
    from obuild.runs.profile import load_profile

    read = load_profile(profile)
    if cron or systemd:
        return _schedule(read, systemd=systemd)
    from obuild.cli.repository import open_overlay

    overlay = open_overlay(read.repositories, cache)
    repos = tuple([repository.where for repository in overlay.repositories])
    status = 0
    for platform in read.platforms or (None,):
        given = {**_given(read, platform), "repo": repos, "cache": cache, **shown, "dry_run": dry_run}
        status |= _Track(read, given, repos).run(again=again, wait=wait)
    return status


def _given(profile: Profile, platform: str | None) -> dict[str, Any]:
    """What the command line of a health check would be."""
    given: dict[str, Any] = {}
    for option in OPTIONS:
        text = os.environ.get(option.variable, "") if option.variable else ""
        given[option.name] = converted(option, text) if text and not option.many else unset(option)
    wanted = {
        "platform": platform,
        "compiler": profile.compilers,
        "all": profile.packages == "newest",
        "all_versions": profile.packages == "all-versions",
        "with_test": profile.with_test,
        "with_doc": profile.with_doc,
        "patches": profile.patches,
        "archive_mirror": profile.archive_mirrors,
        "store": profile.store,
        "sandbox": profile.sandbox,
        "runs": profile.runs,
        "jobs": profile.jobs,
        "cores": profile.cores,
        "total_memory": profile.total_memory,
        "timeout": profile.timeout,
    }
    return given | {name: item for name, item in wanted.items() if item} | {"trust_failures": True}


class _Track:
    """A profile on one platform."""

    def __init__(self, profile: Profile, given: dict[str, Any], repos: tuple[str, ...]) -> None:
        from obuild.cli.check import Check
        from obuild.runs.track import state_path

        self._profile, self._given, self._repos = profile, given, repos
        words = profile.packages if isinstance(profile.packages, tuple) else ()
        self._check: Check = Check(words, given)
        if len(profile.platforms) > 1:  # a history tells compilers apart, but not platforms
            self._check = Check(words, given | {"runs": f"{self._check.root}/{given['platform']}"})
        self._root = self._check.root
        self._path = state_path(self._root, profile.name)

    def run(self, *, again: bool, wait: bool) -> int:
        """Go from what is remembered to now."""
        from obuild.runs.track import load_state

        if self._given["dry_run"]:
            return self._foresee(load_state(self._path), again=again)
        with self._lock(wait=wait):
            state = self._deliver(load_state(self._path))
            worse = False
            if not again and state.same(self._repos, self._terms()):
                print(f"{self._about}: nothing can differ since run {state.run}")
            else:
                state, worse = self._advance(state, again=again)
            self._collect()
            return int(worse or bool(state.untold))

    @property
    def _about(self) -> str:
        platform = self._given["platform"]
        return f"{self._profile.name} on {platform}" if platform else self._profile.name

    def _lock(self, *, wait: bool) -> Lock:
        from obuild.disk import Lock
        from obuild.errors import StoreError

        path = f"{self._root}/track-{self._profile.name}.lock"
        os.makedirs(self._root, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        lock = Lock.attempt(path)
        if lock is None and wait:
            print(f"{self._about}: waiting for another obuild track", file=sys.stderr)
            lock = Lock.make(path)
        if lock is None:
            raise StoreError(f'profile "{self._profile.name}" is being tracked already', hint="--wait waits for it")
        return lock

    def _terms(self) -> str:
        """What else decides about builds than the repositories; patches may change under the same name."""
        from obuild import __version__

        given = self._given
        names = ("compiler", "all", "all_versions", "with_test", "with_doc")
        parts = [__version__, self._check.base_id, self._profile.packages, *(given[name] for name in names)]
        return "" if self._profile.patches else repr(parts)

    def _batch(self) -> Batch:
        return self._check.batch(self._check.world(self._repos))

    def _foresee(self, state: State, *, again: bool) -> int:
        """Say what would be done, and what has a solution now or has none any more."""
        from obuild.runs.message import write_message
        from obuild.runs.since import narrow, solvable
        from obuild.runs.track import due

        batch = self._batch()
        tried = due(state, batch.targets, again=again)
        print(f"{self._about}: {len(tried)} of {len(batch.targets)} can differ")
        if state.nodes:
            self._check.print_lines(write_message("", solvable(state.nodes, batch.targets)).text.splitlines())
        self._check.show_plan(narrow(batch, tried))
        return 0

    def _advance(self, state: State, *, again: bool) -> tuple[State, bool]:
        """Build what is due, remember what came of it, and tell; whether something is worse."""
        from obuild.runs.message import is_worse
        from obuild.runs.since import narrow
        from obuild.runs.track import advance, due, save_state
        from obuild.value import replace

        self._given["trust_failures"] = not again
        batch = self._batch()
        tried = due(state, batch.targets, again=again)
        result = self._build(narrow(batch, tried), batch) if tried else None
        nodes, run = (result.nodes, result.summary.run_id) if result else ((), state.run)
        step = advance(state, batch.targets, tried, nodes, run)
        message = self._message(state, step, result)
        recipients = tuple([n for n, each in enumerate(self._profile.notify) if _wants(each, step)])
        state = replace(step.state, repos=self._repos, terms=self._terms())
        state = replace(state, untold=(*state.untold, (message, recipients))[-TOLD:])
        save_state(self._path, state)
        if not any(self._profile.notify[number].channel == "stdout" for number in recipients):
            self._check.print_lines([message.title, *message.text.splitlines()])
        return self._deliver(state), is_worse(step.difference)

    def _build(self, due: Batch, whole: Batch) -> Result:
        expected = {target.package for target in whole.targets}
        expected.update(build.package for build in whole.graph.builds.values())
        result = self._check.run(due, expected=expected)
        if result.error:
            raise result.error  # what is remembered stays: the next time it goes on with what is built
        return result

    def _message(self, state: State, step: Step, result: Result | None) -> Message:
        from obuild.runs.message import write_message

        return write_message(
            self._about, step.difference, passing=step.passing, notes=_notes(state.repos, self._repos, step, result)
        )

    def _deliver(self, state: State) -> State:
        """Send what waits; what does not arrive waits for the next time."""
        from obuild.runs.track import save_state
        from obuild.value import replace

        if not state.untold:
            return state
        left = []
        for message, recipients in state.untold:
            missed = tuple([number for number in recipients if not self._send(message, number)])
            left += [(message, missed)] if missed else []
        state = replace(state, untold=tuple(left))
        save_state(self._path, state)
        return state

    def _send(self, message: Message, number: int) -> bool:
        """Whether a recipient has it; who is not in the profile any more wants nothing."""
        from obuild.runs.notify import send

        if number >= len(self._profile.notify):
            return True
        recipient = self._profile.notify[number]
        channel, kind, name = recipient.channel, *recipient.channel.partition("env:")[1:]
        if kind and not (channel := os.environ.get(name, "")):
            print(f"obuild: could not tell {recipient.channel}: not set: {name}", file=sys.stderr)
            return False
        sent = send(
            channel,
            message.text,
            title=message.title,
            settings=_settings(recipient),
            write=lambda text: self._check.print_lines(text.splitlines()),
            cancel=self._check.cancel,
        )
        if not sent:
            print(f"obuild: could not tell {sent.channel}: {sent.reason}", file=sys.stderr)
        return bool(sent)

    def _collect(self) -> None:
        """Keep to what the profile says of how much stays."""
        from obuild.cli.collect import show_collected
        from obuild.errors import UsageError
        from obuild.runs.collect import collect, compact_histories
        from obuild.runs.run import find_run

        keep = self._profile.keep
        try:
            nodes = find_run(self._root, "latest").nodes()
            found = collect(self._check.store, keep, others=[self._root], dry_run=False)
        except UsageError:
            return  # nothing was built yet, so nothing is too much
        compact_histories(self._root, {node.outcome.package for node in nodes}, keep.histories)
        show_collected(found, dry_run=False, short=True)


def _wants(recipient: Recipient, step: Step) -> bool:
    from obuild.runs.message import is_worse

    match recipient.on:
        case "always":
            return True
        case "failures":
            return is_worse(step.difference)
    return bool(step.difference)


def _settings(recipient: Recipient) -> Mapping[str, str]:
    """The environment, in which the profile may have given settings other names."""
    return {**os.environ, **{setting: os.environ.get(name, "") for setting, name in recipient.env}}


def _notes(old: tuple[str, ...], new: tuple[str, ...], step: Step, result: Result | None) -> Iterator[str]:
    """How things are altogether, and what this is about."""
    words = [node.outcome.word for node in step.state.nodes]
    texts = {"success": "ok", "failure": "failing", "dependency_failed": "not tried", "no_solution": "without solution"}
    totals = [f"{words.count(word)} {text}" for word, text in texts.items() if words.count(word)]
    yield f"{len(words)} packages: {', '.join(totals) or 'nothing is known of them'}"
    known = dict(where.rpartition("@")[::2] for where in old)
    for where in new:
        place, at, commit = where.rpartition("@")
        before = known.get(place, "")
        yield f"{place or where} {f'{before}..' if before and before != commit else ''}{commit if at else ''}".rstrip()
    if result:
        yield f"run {result.summary.run_id}: {result.path}"


def _schedule(profile: Profile, *, systemd: bool) -> int:
    """Print what makes a machine track the profile."""
    from obuild.runs.timer import format_cron, format_service, format_timer

    program = os.path.abspath(sys.argv[0])
    command = shlex.join([program, "track", profile.path])
    if not systemd:
        print(format_cron(profile.schedule, command), end="")
        return 0
    unit, about = f"obuild-{profile.name}", f"obuild track {profile.name}"
    print(f"# /etc/systemd/system/{unit}.service\n{format_service(command, about)}")
    print(f"# /etc/systemd/system/{unit}.timer\n{format_timer(profile.schedule, about)}")
    print(f"# systemctl enable --now {unit}.timer")
    return 0


COMMANDS = {
    "track": Command(
        track,
        "Check what a profile says, tell people what has changed, and make room.",
        (
            Option(("--dry-run",), "Only say what would be built, and what has a solution or none any more.", None),
            Option(("--again",), "Also try again what did not succeed.", None),
            Option(("--wait",), "Wait for another obuild track of this profile.", None),
            Option(("--cron",), "Print the line of a crontab that does this when the profile says.", None),
            Option(("--systemd",), "Print systemd's units that do.", None),
            *[option for option in OPTIONS if option.name in ("cache", "progress", "color")],
        ),
        (Argument("profile"),),
    )
}
