"""How reports write formulas whose filters are gone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.formula import Condition, Formula

__all__ = ["format_condition", "format_formula"]

_OPERATORS = {"!=": "<>", "~": ">="}


def format_condition(condition: Condition) -> str:
    """Comparisons as opam-0install writes them: `>= 1 & < 2`, "" for none."""
    match condition:
        case ("is", op, version):
            return f"{_OPERATORS.get(op, op)} {version}"
        case ("and", *parts):
            return " & ".join([_grouped(format_condition(part), part) for part in parts])
        case ("or", *parts):
            return " | ".join([format_condition(part) for part in parts])
        case _:
            return ""


def format_formula(formula: Formula) -> str:
    """Packages with their comparisons: `a >= 1 & < 2 | (b & c)`."""
    match formula:
        case ("atom", name, condition):
            return f"{name} {format_condition(condition)}".rstrip()
        case ("block", inner):
            return format_formula(inner)
        case ("and", *parts):
            return " & ".join([_grouped(format_formula(part), part) for part in parts])
        case ("or", *parts):
            return " | ".join([_grouped(format_formula(part), part, "and") for part in parts])
        case _:
            return ""


def _grouped(text: str, part: Formula, kind: str = "or") -> str:
    while part and part[0] == "block":
        part = part[1]
    return f"({text})" if part and part[0] == kind else text
