"""`NAME.config` files: the variables that a package leaves for others, read and reprinted as opam does."""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.dotinstall import KEPT
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.shape import WrongShape, elements, lowered, read_checksum, read_text
from obuild.opam.syntax import field, offset, parse, problem
from obuild.opam.version import holds
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.errors import Problem
    from obuild.opam.filter import Contents
    from obuild.opam.syntax import File, Item, Value

__all__ = ["DotConfig", "format_config", "parse_config"]


@value
class DotConfig:
    """Variables in the order of the file, and files of the system with their checksums (`kind=hex`)."""

    variables: tuple[tuple[str, Contents], ...] = ()
    file_depends: tuple[tuple[str, str], ...] = ()

    def lookup(self) -> dict[str, Contents]:
        """The variables by name: the first of a name counts."""
        return dict(reversed(self.variables))


def parse_config(data: bytes, path: str) -> tuple[DotConfig, tuple[Problem, ...]]:
    """What a `.config` file says, and what of it opam leaves out and why.

    Raises `OpamError` for a file that is for a newer opam or can not be read: opam fails the package then. A file
    without `opam-version` is in the format of opam 1.2, where every field is a variable.
    """
    items = parse(data, path, limit=KEPT)
    version = field(items, "opam-version")
    source = data.decode("latin-1")
    if isinstance(version, str) and holds(version, ">", "2.0"):
        raise OpamError([problem("the file is for a newer opam", path, source, _place(items, "opam-version"))])
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    variables: list[tuple[tuple[str, Contents], ...]] = []
    problems: list[Problem] = []
    if version is None or (isinstance(version, str) and holds(version, "<", "2.0")):
        items = (("section", "variables", None, tuple([item for item in items if item[1] != "opam-version"]), 0),)
    for item in items:
        try:
            _read_item(item, found, variables)
        except WrongShape as error:
            problems.append(problem(error.message, path, source, offset(error.value, item[-1])))
    if len(variables) > 1:
        problems.append(problem('the section "variables" is there twice', path, source, _place(items, "variables")))
    return DotConfig(variables[0] if len(variables) == 1 else (), found.get("file-depends", ())), tuple(problems)


def _place(items: File, name: str) -> int:
    return next(offset(item, item[-1]) for item in reversed(items) if item[1] == name)


def _read_item(
    item: Item, found: dict[str, tuple[tuple[str, str], ...]], variables: list[tuple[tuple[str, Contents], ...]]
) -> None:
    match item:
        case ("section", "variables", None, inside, _):
            variables.append(())
            variables[-1] = tuple([_read_variable(each) for each in inside])
        case ("field", "opam-version", _, _):
            pass
        case ("field", "file-depends", contents, _):
            found["file-depends"] = tuple([_read_pair(each) for each in elements(contents, 2)])
        case _:
            raise WrongShape(f'"{item[1]}" is not a part of a .config file', item)


def _read_variable(item: Item) -> tuple[str, Contents]:
    match item:
        case ("field", name, bool() | str() as contents, _):
            return name, contents
        case ("field", name, ("list", values), _):
            return name, tuple([read_text(each) for each in values])
    raise WrongShape("expected a variable: true, false, a string or a list of strings", item)


def _read_pair(value: Value) -> tuple[str, str]:
    pair = elements(value, 1)
    if len(pair) != 2:
        raise WrongShape("expected a file and its checksum", value)
    return read_text(pair[0]), read_checksum(pair[1])


def format_config(config: DotConfig) -> str:
    """The text that opam keeps in `.opam-switch/config/`, one character per byte."""
    pairs: tuple[Value, ...] = tuple([("list", pair) for pair in config.file_depends])
    items: list[Item] = [("field", "opam-version", "2.0", 0)]
    if pairs:
        items.append(("field", "file-depends", lowered(pairs, 2), 0))
    inside = tuple([("field", name, _written(contents), 0) for name, contents in config.variables])
    items.append(("section", "variables", None, inside, 0))
    return format_items(items, WIDTHS["bytes"]) + "\n"


def _written(contents: Contents) -> Value:
    return ("list", contents) if isinstance(contents, tuple) else contents
