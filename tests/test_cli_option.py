"""Reading command lines: values of options, and that the quick reader and click never disagree."""

from __future__ import annotations

import os
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild import cli
from obuild.cli import parser
from obuild.cli.option import Argument, Command, Option, duration, jobs, positive, read, size
from obuild.errors import UsageError
from obuild.value import replace


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.5k", 512), ("1000", 1000), ("512M", 512 << 20), ("2GiB", 2 << 30), ("3gb", 3 << 30), ("1t", 1 << 40)],
)
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("7d", 604800), (" 3 ", 3)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("convert", "text", "message"),
    [
        (size, "", '"" is not a size such as 512M'),
        (size, "5Q", '"5Q" is not a size such as 512M'),
        (size, "-1M", '"-1M" is not a size such as 512M'),
        (size, "nan", '"nan" is not a size such as 512M'),
        (size, "1e400", '"1e400" is not a size such as 512M'),
        (size, "0.1", '"0.1" is not a size such as 512M'),
        (duration, "soon", '"soon" is not a duration such as 90s, 10m, 2h or 7d'),
        (duration, "0", '"0" is not a duration such as 90s, 10m, 2h or 7d'),
        (positive, "0", '"0" is not a number above 0'),
        (positive, "inf", '"inf" is not a number above 0'),
        (jobs, "0", '"0" is not a whole number above 0'),
        (jobs, "1.5", '"1.5" is not a whole number above 0'),
        (jobs, "²", '"²" is not a whole number above 0'),
        (jobs, "1" * 5000, f'"{"1" * 5000}" is not a whole number above 0'),
    ],
)
def test_what_is_no_value(convert: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared)
        convert(text)
    assert str(error.value) == message


COMMAND = Command(
    lambda **_: 0,
    "Do it.",
    (
        Option(("-f", "--file"), "", required=True, variable="OBUILD_FILE"),
        Option(("-q", "--quiet"), "", None),
        Option(("--size",), "", size, default=5),
        Option(("--many",), "", many=True),
        Option(("--how",), "", default="well", choices=("well", "badly")),
    ),
    (Argument("first"), Argument("rest", "*")),
)
DEFAULT = {"quiet": False, "size": 5, "many": (), "how": "well", "rest": ()}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["-f", "x", "a"], {"file": "x", "first": "a"}),
        (["a", "--file=x", "b", "-q"], {"file": "x", "first": "a", "quiet": True, "rest": ("b",)}),
        (["--file", "--quiet", "a"], {"file": "--quiet", "first": "a"}),
        (["--file=", "a"], {"file": "", "first": "a"}),
        (["-f", "x", "--", "-q", "--file"], {"file": "x", "first": "-q", "rest": ("--file",)}),
        (["-f", "-", "-"], {"file": "-", "first": "-"}),
        (["-f1", "a"], None),
        (["-f", "x", "a", "--size", "1k", "--size", "2k"], {"file": "x", "first": "a", "size": 2048}),
        (["-f", "x", "a", "--many", "1", "--many", "2"], {"file": "x", "first": "a", "many": ("1", "2")}),
        (["-f", "x", "a", "--how", "worse"], None),
        (["-f", "x", "a", "--quiet=1"], None),
        (["-f", "x", "a", "--qui"], None),
        (["-f", "x", "a", "--help"], None),
        (["-f", "x", "a", "--size", "large"], None),
        (["-f", "x"], None),
        (["a"], None),
        (["a", "-f"], None),
    ],
)
def test_what_the_quick_reader_takes(words: list[str], found: dict[str, Any] | None) -> None:
    assert read(COMMAND, words, {}) == (None if found is None else DEFAULT | found)


def test_a_variable_stands_in_for_an_option() -> None:
    assert read(COMMAND, ["a"], {"OBUILD_FILE": "y"}) == DEFAULT | {"file": "y", "first": "a"}
    assert read(COMMAND, ["a", "-f", "x"], {"OBUILD_FILE": "y"}) == DEFAULT | {"file": "x", "first": "a"}
    assert read(COMMAND, ["a"], {"OBUILD_FILE": ""}) is None


def test_a_variable_has_several_values_of_an_option_that_may_be_given_again() -> None:
    option = Option(("--repo",), "", many=True, variable="OBUILD_REPO")
    command = Command(lambda **_: 0, "", (option,))
    assert read(command, [], {"OBUILD_REPO": "one  two"}) == {"repo": ("one", "two")}
    assert read(command, ["--repo", "x"], {"OBUILD_REPO": "one"}) == {"repo": ("x",)}
    assert read(command, [], {}) == {"repo": ()}


# The quick reader and click.


def by_click(command: Command, words: list[str]) -> dict[str, Any] | str:
    """What click reads, or that it refuses."""
    found: dict[str, Any] = {}

    def keep(**values: Any) -> int:
        found.update(values)
        return 0

    reader = parser._command("test", replace(command, function=keep))
    try:
        reader.main(list(words), prog_name="test", standalone_mode=False)
    except (click.ClickException, UsageError):
        return "refused"
    return found or "help"


NAMES = sorted(cli.COMMANDS)


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A command and words for it, mostly of its own options."""
    name = draw(st.sampled_from(NAMES))
    command = cli.find_command(name)
    flags = [flag for option in command.options for flag in option.flags]
    choices = [choice for option in command.options for choice in option.choices]
    values = st.sampled_from(
        [*choices, "a", "", "-", "--", "1", "0", "2h", "10M", "a=b", "a:b", "a:", "é", "-x", "--y"]
    )
    flag = st.sampled_from(flags or ["--none"])
    word = st.one_of(
        flag,
        values,
        st.builds("{}={}".format, flag, values),
        st.builds(lambda flag, size: flag[: size + 1], flag, st.integers(2, 6)),
        st.builds("{}{}".format, flag, values),
        st.text(max_size=5),
    )
    pairs = st.builds(lambda flag, text: [flag, text], flag, values)
    parts = draw(st.lists(st.one_of(pairs, word.map(lambda word: [word])), max_size=6))
    return name, [word for part in parts for word in part]


@given(lines())
@settings(max_examples=1500)
def test_the_quick_reader_and_click_agree(line: tuple[str, list[str]]) -> None:
    name, words = line
    command = cli.find_command(name)
    quick = read(command, words, os.environ)
    if quick is not None:
        assert quick == by_click(command, words)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_takes_what_its_table_says(name: str) -> None:
    command = cli.find_command(name)
    assert command.help.endswith(".")
    flags = [flag for option in command.options for flag in option.flags]
    assert len(flags) == len(set(flags))
    assert not {"-h", "--help"} & set(flags)
    for option in command.options:
        assert option.help.endswith("."), f"{option.flags[-1]}: a sentence"
        assert option.metavar or option.choices or option.convert is None, f"{option.flags[-1]}: a word for its value"
