"""Why a package's build failed, from what is kept of it: the operation that failed, its error, its log."""

from __future__ import annotations

from obuild import spec as language
from obuild.errors import ObuildError
from obuild.runs.classify import Verdict, classify, classify_log
from obuild.spec import Copy, FromOpam, FromUrl, Run
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from obuild.spec import Op
    from obuild.store import Layer

__all__ = ["cause", "cause_of_error"]

OUTSIDE = "the package wrote outside its prefix"
"""What the message begins with when a finished package is refused."""

_PLAIN = ("build_failure", "test_failure")


def cause(failed: Layer, *, tests: Collection[str] = ()) -> Verdict:
    """The category of a failure and the line that says why, from the layer that is kept of it.

    `tests` are the commands that run the package's tests.
    """
    facts = failed.meta()
    said = str(facts.get("error") or "").removeprefix(": ")
    status = facts.get("status")
    op = _operation(failed, facts.get("op"))
    if isinstance(op, Run) and facts.get("failure") == "StepFailed" and OUTSIDE not in said:
        number = status if isinstance(status, int) else 1
        return classify_log(failed.log, status=number, test=op.shell in tests, network=bool(op.network))
    if facts.get("failure") == "LimitExceeded":
        return classify_log(failed.log, said=said)
    return _said(said, op)


def cause_of_error(error: ObuildError) -> Verdict:
    """The same from the error alone."""
    return _said(str(error).removeprefix(": "), None)


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


def _operation(failed: Layer, number: object) -> Op | None:
    try:
        with open(f"{failed.path}/build.spec", encoding="utf-8", errors="surrogateescape") as file:
            ops = language.parse(file.read(), "build.spec").ops
    except (OSError, ObuildError):
        return None
    return ops[number] if isinstance(number, int) and 0 <= number < len(ops) else None
