"""Every error that obuild raises on purpose; `cli` is the only place that shows one.

    ObuildError            exit  what went wrong
    ├── UsageError            2  the command line asks for something that does not exist
    ├── SpecError             2  problems in a spec, each with its place
    ├── OpamError             2  problems in opam data, each with its place
    ├── ProfileError          2  problems in a profile, each with its place
    ├── StepFailed            1  a step's command ended with a status other than 0
    ├── StoreError            4  the store can not be read or written
    ├── SandboxError          4  a container can not be started
    │   └── LimitExceeded     1  a step wanted more memory, time or log than it may have
    ├── FetchError            4  an image or a source can not be had
    └── Cancelled           130  the user, or the last one who wanted it, gave up

Messages are lower case, without a full stop, the thing in double quotes. A `hint` says what to do instead.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Cancelled",
    "FetchError",
    "LimitExceeded",
    "ObuildError",
    "OpamError",
    "Problem",
    "ProfileError",
    "SandboxError",
    "SpecError",
    "StepFailed",
    "StoreError",
    "UsageError",
    "few",
    "nearest",
]


class ObuildError(Exception):
    """Something that a user can understand and act on.

    `temporary` errors (a network that timed out) may go away when tried again: retrying is decided by it alone.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", temporary: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.temporary = temporary

    def __str__(self) -> str:
        return self.message


class UsageError(ObuildError):
    """The command line asks for something that does not exist or does not go together."""

    exit_code = 2


class Problem:
    """One thing wrong at one place of a text: `path:line:column: message`, the line quoted, what to write instead.

    `line` and `column` count from 1; a `line` of 0 means the text as a whole.
    """

    __slots__ = ("column", "hint", "line", "message", "path", "quote")

    def __init__(
        self, message: str, path: str, line: int = 0, column: int = 0, *, quote: str = "", hint: str = ""
    ) -> None:
        self.message, self.path, self.line, self.column = message, path, line, column
        self.quote, self.hint = quote, hint

    @classmethod
    def at(cls, message: str, path: str, text: str, offset: int, *, hint: str = "") -> Problem:
        """The problem at character `offset` of `text`, with its line quoted."""
        start = text.rfind("\n", 0, offset) + 1
        end = text.find("\n", offset)
        quote = text[start : end if end >= 0 else len(text)].rstrip("\r")
        return cls(message, path, text.count("\n", 0, offset) + 1, offset - start + 1, quote=quote, hint=hint)

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        text = f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")
        if not self.quote.strip():
            return text
        # A minified or binary line is as long as its file: quote the part around the column.
        start = max(0, self.column - 61)
        quote = self.quote[start : start + 120]
        shown = "".join(c if c.isprintable() else "\t" if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in quote)
        pad = "".join(c if c == "\t" else " " for c in shown[: self.column - 1 - start])
        return f"{text}\n  | {shown}\n  | {pad}^"


class _Problems(ObuildError):
    """All problems found in one text: a validation reports every one, not the first."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | str, *, hint: str = "") -> None:
        self.problems: Sequence[Problem] = () if isinstance(problems, str) else tuple(problems)
        super().__init__(problems if isinstance(problems, str) else "\n".join(map(str, self.problems)), hint=hint)


class SpecError(_Problems):
    """A spec that is not one, with all its problems."""


class OpamError(_Problems):
    """Opam data that opam would refuse, with all its problems."""


class ProfileError(_Problems):
    """A profile of what is checked every day that is not one, with all its problems."""


class StepFailed(ObuildError):
    """A step's command ended with `status` (128 + n for signal n).

    `log` is the path of its whole output, `tail` the end of that, `look` the command that shows what it left; `said`
    is the message without the step's place.
    """

    exit_code = 1

    def __init__(self, message: str, *, id: str, status: int, log: str, tail: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.id, self.status, self.log, self.tail = id, status, log, tail
        self.look, self.said = "", message


class StoreError(ObuildError):
    """The store can not be read or written."""

    exit_code = 4


class SandboxError(ObuildError):
    """A container can not be started."""

    exit_code = 4


class LimitExceeded(SandboxError):
    """A step wanted more memory, time or log than it may have, and was killed."""

    exit_code = 1


class FetchError(ObuildError):
    """An image or a source can not be had."""

    exit_code = 4


class Cancelled(ObuildError):
    """The user, or the last one who wanted the result, gave up."""

    exit_code = 130

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)


def few(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many others there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that offers the known name closest to `name`, or "" when none is close."""
    import difflib  # only ever needed on the way to an error

    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f'did you mean "{match[0]}"?' if match else ""
