"""`obuild health-check --since COMMIT`: what a change of the repositories does to packages."""

from __future__ import annotations

from obuild.cli.verdict import counted, difference_lines
from obuild.errors import UsageError
from obuild.opam.repo import Repository
from obuild.runs.message import write_message
from obuild.runs.outcome import Success
from obuild.runs.run import Node
from obuild.runs.since import compare, different, known_outcomes, solvable, unknown_before

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.cli.check import Check

__all__ = ["check_since"]


def check_since(check: Check, commit: str) -> int:
    """Check what can differ; 1 when something fails or has no solution that had one, 0 otherwise."""
    repo = check.given["repo"]
    before = check.batch(check.world(_at(repo, commit)))
    after = check.batch(check.world(repo))
    old, new = different(before, after)
    left = len(after.targets) - len(new.targets)
    print(f"{counted(len(new.targets), 'package')} can differ from {commit[:12]}, {left} can not")
    if check.given["dry_run"]:
        nodes = [
            Node(target.refusal or Success(target.package, ""), compiler=target.compiler) for target in old.targets
        ]
        check.print_lines(write_message("", solvable(nodes, new.targets)).text.splitlines())
        return check.show_plan(new)
    maker = check.maker(old)
    known = known_outcomes(old, maker)
    result = check.run(new)
    if result.error:
        return check.finish(result)
    check.write(new, result.outcomes, check.maker(new))
    more = unknown_before(old, known, new, result.outcomes)
    if more.targets:
        print(f"{counted(len(more.targets), 'package')} fails now and nothing is known of before: built as it was")
        known |= check.build(more)
    found = compare(old, known, new, result.nodes)
    check.print_lines(difference_lines(found, result.path))
    if not found and not found.still_failing:
        print("nothing is different")
    return int(bool(found.newly_failing or found.newly_unsolvable))


def _at(repo: Sequence[str], commit: str) -> list[str]:
    """The repositories as they were: the first that has the commit is taken there, the others as they are."""
    for place, text in enumerate(repo):
        path, at, _ = text.rpartition("@")
        for plain in (text, path if at else text):
            try:
                _open(f"{plain}@{commit}")
            except UsageError:
                continue
            return [*repo[:place], f"{plain}@{commit}", *repo[place + 1 :]]
    raise UsageError(f'no repository has the commit "{commit}"', hint="--since is for git repositories")


def _open(text: str) -> Repository:
    from obuild.opam.repo import open_repository

    return open_repository(text, "")
