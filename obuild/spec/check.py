"""Checking the shape of S-expressions, and remembering everything that is wrong instead of stopping at the first.

A check that fails returns a harmless value of the right type and notes the problem; whoever asked carries on, and
`done` raises all problems at the end. Nothing here knows what the forms mean: that is `spec`.
"""

from __future__ import annotations

from obuild.errors import SpecError, nearest
from obuild.spec.sexp import Atom, List

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from obuild.errors import Problem
    from obuild.spec.sexp import Node, Source

__all__ = ["Check", "head", "shown"]

LONGEST = 400
"""Characters of a message; a file that is no spec may be one atom of megabytes."""


class Check:
    """The problems found so far in one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def wrong(self, node: Node, message: str, hint: str = "") -> None:
        """Note a problem at `node`."""
        self.problems.append(self.source.problem(node, shown(message), shown(hint)))

    def done(self) -> None:
        """Raise `SpecError` with all problems, in the order of the text, if there are any."""
        if self.problems:
            raise SpecError(sorted(self.problems, key=lambda problem: (problem.line, problem.column)))

    def text(self, node: Node, what: str, *, empty: bool = False) -> str:
        """The text of an atom; `what` it is for is named in problems. A NUL can be in no argument, path or variable."""
        if not isinstance(node, Atom):
            self.wrong(node, f"{what} is one word or a quoted text, not a list")
            return ""
        if not node and not empty:
            self.wrong(node, f"{what} is empty")
        if "\0" in node:
            self.wrong(node, f"{what} has a NUL byte in it")
        return str(node)

    def texts(self, nodes: Sequence[Node], what: str, *, empty: bool = False) -> tuple[str, ...]:
        """The texts of several atoms."""
        return tuple([self.text(node, what, empty=empty) for node in nodes])

    def arguments(self, form: List, count: int, usage: str) -> Sequence[Node] | None:
        """What follows the name of a form that takes exactly `count` arguments, or None."""
        if len(form) == count + 1:
            return form[1:]
        self.wrong(form, f'"{form[0]}" takes {_counted(count, "argument")}, not {len(form) - 1}', f"write {usage}")
        return None

    def argument(self, form: List, what: str, usage: str, *, empty: bool = False) -> str:
        """The one text that follows the name of a form."""
        found = self.arguments(form, 1, usage)
        return self.text(found[0], what, empty=empty) if found else ""

    def field(self, form: List | None, what: str, usage: str, *, empty: bool = False) -> str:
        """As `argument`, of a field that may be missing, which has been noted then."""
        return self.argument(form, what, usage, empty=empty) if form else ""

    def fields(
        self, owner: Node, nodes: Sequence[Node], known: Collection[str], required: Sequence[str]
    ) -> dict[str, List]:
        """The fields `(NAME …)` of a form by name; `owner` is where one is missing."""
        found: dict[str, List] = {}
        sound = True
        for node in nodes:
            name = head(node)
            if name is None or not isinstance(node, List):
                sound = False
                self.wrong(node, "expected a field in parentheses", f"one of {_listed(known)}")
            elif name not in known:
                sound = False
                self.wrong(node[0], f'unknown field "{name}"', nearest(name[:50], known) or f"one of {_listed(known)}")
            elif name in found:
                self.wrong(
                    node,
                    f'field "{name}" twice',
                    f"the first one is at line {self.source.place(found[name].offset)[0]}",
                )
            else:
                found[name] = node
        # A field that is misspelt is not missing too.
        for name in required:
            if name not in found and sound:
                self.wrong(owner, f'field "{name}" is missing')
        return found

    def number(self, form: List, highest: int, usage: str) -> int:
        """The one whole number from 0 to `highest` that follows the name of a form, in OCaml's notation."""
        found = self.arguments(form, 1, usage)
        if not found:
            return 0
        number = _number(found[0])
        if number is None:
            self.wrong(found[0], f'"{form[0]}" is a whole number', f"write {usage}")
        elif not 0 <= number <= highest:
            self.wrong(found[0], f'"{form[0]}" is from 0 to {highest}')
        return number or 0


def shown(text: str) -> str:
    """A message with texts of the user's in it, made fit for a terminal: printable, and not longer than it helps."""
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return (
        text if text.isprintable() else "".join([c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text])
    )


def head(node: Node) -> str | None:
    """The name that a form begins with."""
    return str(node[0]) if isinstance(node, List) and node and isinstance(node[0], Atom) else None


def _number(node: Node) -> int | None:
    """OCaml's `int_of_string`: a sign, `0x`, `0o`, `0b` or `0u`, and digits with `_` anywhere but in front."""
    if not isinstance(node, Atom) or not node.isascii():
        return None
    sign, digits = (node[:1], node[1:]) if node[:1] in ("-", "+") else ("", str(node))
    radix = {"0x": 16, "0o": 8, "0b": 2, "0u": 10}.get(digits[:2].lower(), 0)
    digits = digits[2:] if radix else digits
    if not digits[:1].isalnum() or digits != digits.strip():
        return None
    try:
        return int(sign + digits.replace("_", ""), radix or 10)
    except ValueError:
        return None


def _listed(names: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
