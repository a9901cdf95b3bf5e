"""Explanations in words, no more than are needed, and in what JSON has."""

from __future__ import annotations

from collections import Counter

from obuild.opam.solver.chain import NAMED, Explanation, Step
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obuild.opam.package import Package

__all__ = ["dump_explanation", "format_explanation", "shown_explanation"]

_LONG = 4
"""So many steps of which each leads to nothing but the next are told by the first and the last."""


def format_explanation(explanation: Explanation, path: Callable[[Package], str]) -> str:
    """The explanation for a reader; `path` gives the opam file of a package.

    Where many versions of a package say much the same of the same packages, one of them speaks for all; packages that
    say the same do so together; what only leads on and on is told by its beginning and its end.
    """
    compiler = f' with "{explanation.compiler}"' if explanation.compiler else ""
    lines = [f'no solution for "{explanation.request}"{compiler}']
    lines += [f"  {text}" for text in explanation.missing]
    for run in _runs(_together(map(_merged, _alike(explanation.steps)))):
        if len(run) < _LONG:
            lines += [line for step in run for line in _told(step, path)]
        else:
            between = len({package.name for step in run[1:-1] for package in step.packages})
            lines += [*_told(run[0], path), f"  and so on, through {between} packages, until", *_told(run[-1], path)]
    return "\n".join(lines)


def _told(step: Step, path: Callable[[Package], str]) -> tuple[str, str]:
    others = f" and {len(step.packages) - 1} more" if len(step.packages) > 1 else ""
    return f"  {step}", f"      {path(step.packages[0])}: {step.field}{others}"


def _alike(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps with those put together of which there are many of a kind."""
    kinds: dict[object, list[Step]] = {}
    for step in steps:
        kinds.setdefault((step.packages[0].name, step.field, step.names, bool(step.note)), []).append(step)
    for kind in kinds.values():
        if len(kind) > NAMED:
            yield kind
        else:
            yield from [[step] for step in kind]


def _merged(steps: list[Step]) -> Step:
    """One step for many of a kind, the newest version in front."""
    if len(steps) == 1:
        return steps[0]
    packages = sorted([package for step in steps for package in step.packages], reverse=True)
    subject = f"{steps[0].subject}, or another version of {' or '.join(steps[0].names)} like that"
    return replace(steps[0], packages=tuple(packages), subject=subject)


def _together(steps: Iterable[Step]) -> list[Step]:
    """One step for all packages that say the same, where the first of them is."""
    found: dict[object, Step] = {}
    for step in steps:
        key = (step.field, step.subject, step.note)
        found[key] = replace(step, packages=found[key].packages + step.packages) if key in found else step
    return list(found.values())


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The steps, those together of which each leads to nothing but the next."""
    said = Counter(name for step in steps for name in _owners(step))
    following = {_owners(step): step for step in steps if step.field == "depends"}
    left = dict.fromkeys(steps)
    for first in steps:
        if first in left:
            run, step = [], first
            while step in left:
                del left[step]
                run.append(step)
                if step.field == "depends" and all(said[name] == 1 for name in step.names):
                    step = following.get(frozenset(step.names), step)
            yield run


def _owners(step: Step) -> frozenset[str]:
    return frozenset([package.name for package in step.packages])


def shown_explanation(explanation: Explanation, path: Callable[[Package], str]) -> dict[str, object]:
    """The explanation in what JSON has."""
    steps = [
        {
            "packages": list(map(str, step.packages)),
            "files": list(map(path, step.packages)),
            "field": step.field,
            "subject": step.subject,
            "names": list(step.names),
            **({"note": step.note} if step.note else {}),
            "text": str(step),
        }
        for step in explanation.steps
    ]
    return {
        "package": str(explanation.request),
        **({"compiler": explanation.compiler} if explanation.compiler else {}),
        **({"missing": list(explanation.missing)} if explanation.missing else {}),
        "steps": steps,
    }


def dump_explanation(explanation: Explanation, path: Callable[[Package], str]) -> str:
    """The explanation as a JSON object: `error` is its text, `explanation` what it is made of."""
    import json

    shown = {"error": format_explanation(explanation, path), "explanation": shown_explanation(explanation, path)}
    return json.dumps(shown, ensure_ascii=False)
