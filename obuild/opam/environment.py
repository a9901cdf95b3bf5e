"""The environment that opam gives to the commands of a package: what `build-env:` and `setenv:` make of the caller's.

An update is `(variable, operator, text, comment)`. The operators work on lists separated by colons:

    =   replaces              =+=  puts in the place where an earlier one was put, in front at first
    +=  puts in front         :=   puts in front, and an empty element behind when there was nothing
    =+  puts at the end       =:   puts at the end, and an empty element in front when there was nothing

An empty element in `MANPATH` means the system's own directories: that is what the last two are for. An empty text adds
nothing. Order and operators are those of opam 2.3; 2.1 puts into other places around empty elements.
"""

from __future__ import annotations

from obuild.opam.filter import expand
from obuild.opam.package import name_key
from obuild.opam.variable import seen_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from obuild.opam.filter import Lookup
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.syntax import Value
    from obuild.opam.variable import Installed

    Update: TypeAlias = tuple[str, str, str, str]
    Zipper: TypeAlias = tuple[list[str], list[str]]

__all__ = ["apply", "build_environment", "format_environment", "switch_updates"]

_SANITIZED = ("CDPATH", "MAKEFLAGS", "MAKELEVEL")
_ESCAPED = str.maketrans({char: "\\" + char for char in "\\ \t\n"})


def build_environment(
    package: Package,
    file: OpamFile,
    installed: Mapping[str, Installed],
    *,
    prefix: str,
    root: str,
    switch: str,
    base: Sequence[tuple[str, str]],
    lookup: Lookup,
) -> tuple[tuple[str, str], ...]:
    """The variables that opam sets for the commands of `package`, each once, on top of `base`.

    `installed`: all that is in the switch, without `package`; `root`: the opam root; `lookup`: the variables of
    `package` without local ones. Variables of `base` that opam leaves alone are not in the result.
    """
    updates = [(name, "=", "", "") for name in _SANITIZED]
    updates.append(("OPAM_PACKAGE_NAME", "=", package.name, ""))
    updates.append(("OPAM_PACKAGE_VERSION", "=", package.version, ""))
    updates.append(("OPAMCLI", "=", "2.0", ""))
    updates += [(*update, "") for update in _expanded(file.values("build-env"), lookup)]
    updates += [("OPAMROOT", "=", root, ""), ("OPAMSWITCH", "=", switch, "")]
    updates += switch_updates(installed.values(), prefix=prefix, switch=switch, lookup=lookup)
    # For builds opam puts the directory in front of all others, for a shell in the place where it was.
    updates[-1] = ("PATH", "+=", f"{prefix}/bin", "")
    return apply(updates, base)


def switch_updates(installed: Iterable[Installed], *, prefix: str, switch: str, lookup: Lookup) -> list[Update]:
    """The updates that a switch asks for: of `setenv:`, the last package first, between its prefix and `PATH`."""
    updates: list[Update] = [("OPAM_SWITCH_PREFIX", "=", prefix, "Prefix of the current opam switch")]
    for found in sorted(installed, key=lambda found: name_key(found.package.name), reverse=True):
        name = found.package.name
        own = _expanded(found.file.values("setenv"), seen_from(name, lookup))
        updates += [(*update, f"Updated by package {name}") for update in own]
    updates.append(("MANPATH", "=:", f"{prefix}/man", "Current opam switch man dir"))
    updates.append(("PATH", "=+=", f"{prefix}/bin", f"Binary dir for opam switch {switch}"))
    return updates


def _expanded(values: Iterable[Value], lookup: Lookup) -> list[tuple[str, str, str]]:
    updates = []
    for value in values:
        match value:
            case ("list", (("env" | "relop", op, ("ident", name), text),)):
                updates.append((name, op, expand(text, lookup)))
    return updates


def apply(updates: Iterable[Update], base: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The variables that `updates` change, in their order, with their values on top of `base`."""
    before = dict(base)
    found: dict[str, Zipper] = {}
    for name, op, text, _ in updates:
        if text or op == "=":
            zipper = found.get(name) or ([], before[name].split(":") if before.get(name) else [])
            found[name] = _update(op, text, zipper)
    return tuple([(name, ":".join([*front, *back])) for name, (front, back) in found.items()])


def _update(op: str, text: str, zipper: Zipper) -> Zipper:
    """What an operator makes of a list that is cut in two, and where it is cut then: what `=+=` asks for."""
    front, back = zipper
    whole = [*front, *back]
    if not any(whole):
        whole = whole[1:]
    match op:
        case "=":
            return [], [text]
        case "+=":
            return [], [text, *whole]
        case "=+":
            return (whole, [text]) if any(whole) else ([], [*whole, text])
        case "=+=":
            return front, [text, *back]
        case ":=":
            return [], [text, *(whole or [""])]
        case "=:":
            return [], [*(whole or [""]), text]
    raise AssertionError(op)


def format_environment(updates: Iterable[Update]) -> str:
    """The text of `.opam-switch/environment`, in the four columns that every opam since 2.0 reads."""
    lines = ["\t".join([name, op, _escape(text), _escape(comment)]) for name, op, text, comment in updates]
    return "".join([line + "\n" for line in lines])


def _escape(text: str) -> str:
    if text in ("", "@"):
        return "@" if not text else "\\@"
    return text.translate(_ESCAPED)
