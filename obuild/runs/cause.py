"""Why a package's build failed, from what is kept of it: the operation that failed, its error, its log."""

from __future__ import annotations

import os

from obuild import spec as language
from obuild.errors import FetchError, ObuildError
from obuild.plan.command import applies_patches
from obuild.runs.classify import Verdict, classify
from obuild.spec import Copy, FromOpam, FromUrl, Run, Workdir
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from obuild.spec import Op
    from obuild.store import Layer

__all__ = ["cause", "cause_of_error"]

OUTSIDE = "the package wrote outside its prefix"
"""What the message begins with when a finished package is refused."""

_TAIL = 512 * 1024

_PLAIN = ("build_failure", "test_failure")


def cause(failed: Layer, *, tests: Collection[str] = ()) -> Verdict:
    """The category of a failure and the line that says why, from the layer that is kept of it.

    `tests` are the commands that run the package's tests.
    """
    facts = failed.meta()
    said = str(facts.get("error") or "").removeprefix(": ")
    status = facts.get("status")
    op, heading = _operation(failed, facts.get("op"))
    if isinstance(op, Run) and facts.get("failure") == "StepFailed" and OUTSIDE not in said:
        number = status if isinstance(status, int) else 1
        output = _output(failed.log, heading)
        verdict = classify(output, status=number, test=op.shell in tests, network=bool(op.network))
        plain = verdict.category == "build_failure" and applies_patches(op.shell)
        return replace(verdict, category="patch_failure") if plain else verdict
    if facts.get("failure") == "LimitExceeded":
        return classify(_output(failed.log, heading), said=said)
    return _said(said, op)


def cause_of_error(error: ObuildError) -> Verdict:
    """The same from the error alone."""
    verdict = _said(str(error).removeprefix(": "), None)
    fetched = isinstance(error, FetchError) and verdict.category in _PLAIN
    return replace(verdict, category="fetch_failure") if fetched else verdict


def _said(said: str, op: Op | None) -> Verdict:
    line = said.partition("\n")[0]
    if OUTSIDE in said:
        return Verdict("outside_prefix", line)
    verdict = replace(classify(b"", said=said), line=line)
    if verdict.category in _PLAIN and isinstance(op, Copy):
        match op.source:
            case FromUrl():
                return replace(verdict, category="fetch_failure")
            case FromOpam("install"):
                return replace(verdict, category="install_failure")
    return verdict


def _operation(failed: Layer, number: object) -> tuple[Op | None, str]:
    """An operation of the spec, by its number, and how the log calls it."""
    try:
        with open(f"{failed.path}/build.spec", encoding="utf-8", errors="surrogateescape") as file:
            ops = language.parse(file.read(), "build.spec").ops
    except (OSError, ObuildError):
        return None, ""
    if not isinstance(number, int) or not 0 <= number < len(ops):
        return None, ""
    workdir = next((op.path for op in reversed(ops[:number]) if isinstance(op, Workdir)), "/")
    place = f"{workdir}: "
    return ops[number], place + language.format_op(ops[number], len(place))


def _output(path: str, heading: str) -> bytes:
    """The end of a log: what the last operation in it has said, of its last 512 kB."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            log = file.read()
    except OSError:
        return b""
    mark = heading.encode("utf-8", "surrogateescape")
    start = log.rfind(mark) if mark else -1
    return log if start < 0 else log[start + len(mark) :]
