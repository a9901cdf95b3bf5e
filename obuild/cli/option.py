"""Options of commands as data: one table serves the quick reader, click's parser, help and completion.

Importing click costs twice what starting Python does, so a command line without a mistake in it is read here; anything
this reader does not take (help, an abbreviation, an error) goes to click, which knows how to say what is wrong.
"""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.quantity import duration, jobs, positive, size
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["Argument", "Command", "Option", "duration", "jobs", "positive", "read", "size"]


@value
class Option:
    """`flags` as typed (`-f`, `--file`); `convert` makes a value of its text, and None makes it a switch.

    `many` may be given again and collects a tuple. `variable` is an environment variable that stands in for it.
    """

    flags: tuple[str, ...]
    help: str
    convert: Callable[[str], Any] | None = str
    default: Any = None
    many: bool = False
    required: bool = False
    metavar: str = ""
    variable: str = ""
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The keyword that the command's function has for it."""
        longest = max(self.flags, key=len)
        return longest.lstrip("-").replace("-", "_")


@value
class Argument:
    """A positional argument: `count` is 1, "?" (may be left out), "*" or "+"."""

    name: str
    count: int | str = 1


@value
class Command:
    """One command: what it does, what it takes, and the function that does it and returns the exit status."""

    function: Callable[..., int]
    help: str
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    hidden: bool = False


def read(command: Command, words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The keyword arguments for a command's function, or None when click has to look at the words."""
    try:
        split = _split(command, list(words))
        return None if split is None else _complete(command, *split, environment)
    except UsageError:
        return None  # a later --help, or the same option once more, may count instead


def _complete(
    command: Command, given: dict[str, Any], rest: list[str], environment: Mapping[str, str]
) -> dict[str, Any] | None:
    """What was given and what stands for the rest; None when something is missing or too much."""
    positional = _positional(command.arguments, rest)
    if positional is None:
        return None
    for option in command.options:
        if option.name not in given:
            text = environment.get(option.variable, "") if option.variable else ""
            if option.required and not text:
                return None
            given[option.name] = _from_variable(option, text) if text else unset(option)
    return given | positional


def _split(command: Command, queue: list[str]) -> tuple[dict[str, Any], list[str]] | None:
    """The values of the options, and the other words; None for what is no plain use of them."""
    flags = {flag: option for option in command.options for flag in option.flags}
    given: dict[str, Any] = {}
    rest: list[str] = []
    while queue:
        word = queue.pop(0)
        if word == "--":
            return given, rest + queue
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        flag, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
        option = flags.get(flag)
        if option is None or (equals if option.convert is None else not equals and not queue):
            return None
        if option.convert is None:
            given[option.name] = True
            continue
        text = text if equals else queue.pop(0)
        if option.choices and text not in option.choices:
            return None
        item = converted(option, text)
        given[option.name] = (*given.get(option.name, ()), item) if option.many else item
    return given, rest


def unset(option: Option) -> Any:
    """The value of an option that was not given."""
    return () if option.many else False if option.convert is None else option.default


def _from_variable(option: Option, text: str) -> Any:
    """The value of an option by its environment variable; one that may be given again has several, as click has it."""
    return tuple([converted(option, word) for word in text.split()]) if option.many else converted(option, text)


def converted(option: Option, text: str) -> Any:
    """The value of an option's text."""
    assert option.convert is not None
    try:
        return option.convert(text)
    except ValueError as error:
        raise UsageError(f'option "{option.flags[-1]}": {error}') from None


def _positional(arguments: Sequence[Argument], words: list[str]) -> dict[str, Any] | None:
    given: dict[str, Any] = {}
    for argument in arguments:
        if argument.count in ("*", "+"):
            if argument.count == "+" and not words:
                return None
            given[argument.name], words = tuple(words), []
        elif words:
            given[argument.name], words = words[0], words[1:]
        elif argument.count == "?":
            given[argument.name] = None
        else:
            return None
    return None if words else given
