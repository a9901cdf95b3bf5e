"""What an opam file has run: its patches, its files made from variables, and its commands, as text for /bin/sh."""

from __future__ import annotations

from obuild.opam.filter import read_filter, satisfied
from obuild.opam.opamfile import commands
from obuild.opam.shape import option
from obuild.plan.quote import JOBS, command_line, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obuild.opam.filter import Contents, Lookup
    from obuild.opam.opamfile import OpamFile

__all__ = ["applies_patches", "command_lines", "decoded", "patch_command", "patches", "substs"]


def command_lines(file: OpamFile, lookup: Lookup, *, with_test: bool, with_doc: bool) -> tuple[str, ...]:
    """The commands that build and install a package, one line each (an argument may have newlines in it).

    What is run for tests and documentation alone does not see `with-test` and `with-doc`, as in opam.
    """
    kinds: dict[str, Contents] = {"with-test": with_test, "with-doc": with_doc, "with-dev-setup": False}

    def lines(local: Mapping[str, Contents], *names: str) -> list[str]:
        def seen(name: str) -> Contents | None:
            return JOBS if name == "jobs" else local[name] if name in local else lookup(name)

        values = [value for name in names for value in file.values(name)]
        return [command_line(tuple(map(decoded, words))) for words in commands(values, seen)]

    return (
        *lines(kinds, "build"),
        *(lines({}, "build-test", "run-test") if with_test else ()),
        *(lines({}, "build-doc") if with_doc else ()),
        *lines(kinds, "install"),
    )


def patches(file: OpamFile, lookup: Lookup) -> tuple[str, ...]:
    """The names of the patches to apply, in their order."""
    pairs = [option(value) for value in file.values("patches")]
    return tuple([decoded(str(name)) for name, condition in pairs if satisfied(read_filter(condition), lookup)])


def substs(file: OpamFile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files to make from `NAME.in`: those that are patches, which come first, and the others."""
    listed = {option(value)[0] for value in file.values("patches")}
    names = list(map(str, file.values("substs")))
    first = [decoded(name) for name in names if name in listed]
    return tuple(first), tuple([decoded(name) for name in names if name not in listed])


_PATCH = "patch -p1 -i "
_ALL = "status=0\n"


def applies_patches(command: str) -> bool:
    """Whether a command is one that `patch_command` gives."""
    return command.removeprefix(_ALL).startswith(_PATCH)


def patch_command(names: Sequence[str]) -> str:
    """The command that applies patches; all are tried, so that the log has everything that is wrong."""
    lines = [f"{_PATCH}{quote(name if not name.startswith('-') else './' + name)}" for name in names]
    if len(lines) == 1:
        return lines[0]
    return _ALL + "\n".join([*[f"{line} || status=1" for line in lines], "exit $status"])


def decoded(text: str) -> str:
    """A text of an opam file, one character per byte there, in the characters that it is meant to have."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")
