"""What is checked every day, as a TOML file: which packages of which repositories, whom to tell, what to keep.

    repositories = ["https://github.com/ocaml/opam-repository.git"]    # paths, or addresses of git; the first wins
    compilers = ["ocaml.5.4.1"]
    packages = "newest"                                                # "all-versions", or a list of packages

    [[notify]]
    channel = "slack"

    [keep]
    runs = 30

Reading it touches nothing but the text. Every problem is told with its place.
"""

from __future__ import annotations

import os
import re

from obuild.errors import Problem, ProfileError, nearest
from obuild.quantity import duration, jobs, size
from obuild.runs.moment import DAY
from obuild.runs.notify import CHANNELS, SETTINGS
from obuild.runs.timer import Timer, parse_timer
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Reader = Callable[[Any], Any]

__all__ = ["Keep", "Profile", "Recipient", "load_profile", "parse_profile"]


@value
class Recipient:
    """Whom to tell, and `on` what: "failures" (something is worse), "changes" (or better), "always".

    `channel` is as `notify.send` takes it, or "env:NAME" for the address that a variable holds. `env` gives the
    variables that hold the channel's settings, where they have other names than those.
    """

    channel: str
    on: str = "changes"
    env: tuple[tuple[str, str], ...] = ()


@value
class Keep:
    """What stays: finished `runs`; layers that those runs need, and others for `grace` seconds after their use.

    Of layers no run needs, `age`, `layers` and `size` are further bounds: seconds since the use, their number, bytes of
    the store. Of `histories`, what is older than so many seconds is thinned out.
    """

    runs: int = 30
    grace: float = 7 * DAY
    age: float | None = None
    layers: int | None = None
    size: int | None = None
    histories: float | None = 365 * DAY


@value
class Profile:
    """What to check. Paths are absolute; "" and None stand for what the command line would do without the option."""

    path: str
    name: str
    repositories: tuple[str, ...]
    compilers: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    packages: str | tuple[str, ...] = "newest"
    with_test: bool = False
    with_doc: bool = False
    patches: str = ""
    archive_mirrors: tuple[str, ...] = ()
    store: str = ""
    runs: str = ""
    sandbox: str = ""
    jobs: int | None = None
    cores: int | None = None
    total_memory: int | None = None
    timeout: float | None = None
    schedule: Timer = Timer(23, 3)
    notify: tuple[Recipient, ...] = ()
    keep: Keep = Keep()


def load_profile(path: str) -> Profile:
    """The profile in a file. Raises `ProfileError`."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ProfileError(f'can not read "{path}": {(error.strerror or "").lower()}') from None
    except UnicodeDecodeError:
        raise ProfileError(f'"{path}" is not UTF-8') from None
    return parse_profile(text, path)


def parse_profile(text: str, path: str) -> Profile:
    """The profile that a text is; paths in it are relative to its own. Raises `ProfileError` with all problems."""
    import tomllib

    try:
        record = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError([_syntax_problem(str(error), path, text)]) from None
    reading = _Reading(path, text)
    found = reading.table(record, _profile_readers(path), ())
    if "repositories" not in record:
        reading.problem('"repositories" is missing', (), hint='repositories = ["PATH or URL"]')
    notify = [reading.table(item, RECIPIENT, ("notify", n)) for n, item in enumerate(found.get("notify", ()))]
    for number, item in enumerate(notify):
        reading.check_recipient(item, ("notify", number))
    keep = reading.table(found.get("keep", {}), KEEP, ("keep",))
    if reading.problems:
        raise ProfileError(reading.problems)
    people = [Recipient(item["channel"], item.get("on", "changes"), item.get("env", ())) for item in notify]
    found |= {"notify": tuple(people), "keep": Keep(**keep)}
    path = os.path.abspath(path)
    name = os.path.splitext(os.path.basename(path))[0]
    return Profile(**{"name": name, **found, "path": path})


_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)").fullmatch


def _syntax_problem(message: str, path: str, text: str) -> Problem:
    match = _PLACE(message)
    message = (match[1] if match else message).replace("'", '"')
    lines = text.split("\n")
    line = int(match[2]) if match and match[2] else len(lines)
    column = int(match[3]) if match and match[3] else len(lines[-1]) + 1
    return Problem(message[:1].lower() + message[1:], path, line, column, quote=lines[line - 1])


def _text(item: Any) -> str:
    if not isinstance(item, str) or not item or "\0" in item:
        raise ValueError("must be a text")
    return item


def _texts(item: Any) -> tuple[str, ...]:
    if not isinstance(item, list) or not item or not all(isinstance(each, str) and each for each in item):
        raise ValueError("must be a list of texts")
    return tuple(item)


def _flag(item: Any) -> bool:
    if type(item) is not bool:
        raise ValueError("must be true or false")
    return bool(item)


def _count(item: Any) -> int:
    if type(item) is not int or item < 1:
        raise ValueError("must be a whole number above 0")
    return jobs(str(item))


def _size(item: Any) -> int:
    return size(str(item)) if type(item) is int else size(_text(item))


def _duration(item: Any) -> float:
    if item is False:
        raise ValueError("must be a duration such as 90s, 10m, 2h or 7d")
    return duration(_text(item))


def _choice(*known: str) -> Reader:
    def read(item: Any) -> str:
        if item not in known:
            raise ValueError(f'"{item}" is none of {", ".join(known)}')
        return str(item)

    return read


def _packages(item: Any) -> str | tuple[str, ...]:
    if item in ("newest", "all-versions"):
        return str(item)
    if type(item) is str:
        raise ValueError(f'"{item}" is not "newest", "all-versions" or a list of packages')
    return _texts(item)


def _named(item: Any) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", _text(item)):
        raise ValueError(f'"{item}" must be made of letters, digits, ".", "_" and "-"')
    return str(item)


def _tables(item: Any) -> list[dict[str, Any]]:
    if not isinstance(item, list) or not all(isinstance(each, dict) for each in item):
        raise ValueError("must be tables: [[notify]]")
    return item


def _table(item: Any) -> dict[str, Any]:
    if type(item) is not dict:
        raise ValueError("must be a table: [keep]")
    return dict(item)


def _variables(item: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(item, dict) or not all(isinstance(text, str) for text in item.values()):
        raise ValueError('must be a table such as { SLACK_WEBHOOK_URL = "NAME_OF_VARIABLE" }')
    return tuple(item.items())


def _profile_readers(path: str) -> Mapping[str, Reader]:
    """The keys of a profile and what reads each; relative paths begin where the profile is."""
    folder = os.path.dirname(os.path.abspath(path))

    def place(text: str) -> str:
        return text if "://" in text else os.path.normpath(os.path.join(folder, os.path.expanduser(text)))

    def store(item: Any) -> str:
        kind, colon, rest = _text(item).partition(":")
        return f"{kind}:{place(rest)}" if colon and "/" not in kind else place(kind + colon + rest)

    def mirror(text: str) -> str:
        return text if ":" in text else place(text)

    return {
        "name": _named,
        "repositories": lambda item: tuple(map(place, _texts(item))),
        "compilers": _texts,
        "platforms": _texts,
        "packages": _packages,
        "with-test": _flag,
        "with-doc": _flag,
        "patches": lambda item: place(_text(item)),
        "archive-mirrors": lambda item: tuple(map(mirror, _texts(item))),
        "store": store,
        "runs": lambda item: place(_text(item)),
        "sandbox": _choice("crun", "runc"),
        "jobs": _count,
        "cores": _count,
        "total-memory": _size,
        "timeout": _duration,
        "schedule": lambda item: parse_timer(_text(item)),
        "notify": _tables,
        "keep": _table,
    }


RECIPIENT: Mapping[str, Reader] = {
    "channel": _text,
    "on": _choice("failures", "changes", "always"),
    "env": _variables,
    "secret-in-file": _flag,
}

KEEP: Mapping[str, Reader] = {
    "runs": _count,
    "grace": _duration,
    "age": _duration,
    "layers": _count,
    "size": _size,
    "histories": _duration,
}


class _Reading:
    """A profile being read: its problems, and where things are in its text."""

    def __init__(self, path: str, text: str) -> None:
        self._path, self._text = path, text
        self._places = dict(_keys(text))
        self.problems: list[Problem] = []

    def problem(self, message: str, key: tuple[object, ...], *, hint: str = "", near: str = "") -> None:
        """Note a problem with the value of a key, or with the text `near` in it."""
        while key and key not in self._places:
            key = key[:-1]  # of an inline table only the whole is known
        if not key:
            self.problems.append(Problem(message, self._path, hint=hint))
            return
        offset = self._places[key]
        found = self._text.find(f'"{near}"', offset) if near else -1
        self.problems.append(Problem.at(message, self._path, self._text, max(offset, found), hint=hint))

    def table(
        self, record: Mapping[str, Any], readers: Mapping[str, Reader], key: tuple[object, ...]
    ) -> dict[str, Any]:
        """The values of a table, by the names of fields."""
        found = {}
        for name, item in record.items():
            if name not in readers:
                self.problem(f'unknown key "{name}"', (*key, name), hint=nearest(name, list(readers)))
                continue
            try:
                found[name.replace("-", "_")] = readers[name](item)
            except ValueError as error:
                message = str(error)
                shown = message if message.startswith('"') else f'"{name}" {message}'
                self.problem(shown, (*key, name))
        return found

    def check_recipient(self, item: Mapping[str, Any], key: tuple[object, ...]) -> None:
        """A channel that there is, with settings that it has, and no secret in the file unless that is meant."""
        channel = item.get("channel")
        if channel is None:
            self.problem('"channel" is missing', (*key, "channel"), hint=f"one of {', '.join(CHANNELS)}, or env:NAME")
            return
        address, colon, name = channel.partition(":")
        if colon and address != "env" and not item.get("secret_in_file"):
            hint = 'name a variable that holds it: "env:NAME"; or say secret-in-file = true'
            self.problem("an address may hold a secret", (*key, "channel"), hint=hint)
        elif (colon and not name) or (not colon and channel not in CHANNELS):
            hint = nearest(channel, CHANNELS) or f"one of {', '.join(CHANNELS)}, or env:NAME"
            self.problem(f'no channel "{channel}"', (*key, "channel"), hint=hint)
        for setting, _ in item.get("env", ()):
            known = (*SETTINGS.get(channel, ()), *(_MAIL if channel == "email" else ()))
            if setting not in known:
                hint = nearest(setting, known)
                self.problem(f'"{channel}" has no setting "{setting}"', (*key, "env"), hint=hint, near=setting)


_MAIL = ("EMAIL_SERVER", "EMAIL_USER", "EMAIL_PASSWORD")

_LINE = re.compile(
    r"^[ \t]*(?:(?P<open>\[\[?)[ \t]*(?P<table>[\w.-]+)[ \t]*\]\]?|(?P<key>[\w-]+|\"[^\"\n]*\")[ \t]*=)", re.MULTILINE
)


def _keys(text: str) -> Iterator[tuple[tuple[object, ...], int]]:
    """Where keys and tables begin. A long string may look like some: then a place is wrong, and nothing else."""
    table: tuple[object, ...] = ()
    counts: dict[str, int] = {}
    for match in _LINE.finditer(text):
        if match["key"]:
            yield (*table, match["key"].strip('"')), match.start("key")
            continue
        table = tuple(match["table"].split("."))
        yield table, match.start("open")
        if match["open"] == "[[":
            table = (*table, counts.setdefault(match["table"], 0))
            counts[match["table"]] += 1
            yield table, match.start("open")
