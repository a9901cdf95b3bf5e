"""A spec as a Dockerfile, for those who have Docker only: OBuilder's conversion, with everything quoted.

What a Dockerfile can not say is an error where it would change the result, and one of the `losses` where it would not
or where `.dockerignore` or BuildKit can say it.
"""

from __future__ import annotations

import json
import re

from obuild.errors import Problem, SpecError, UsageError, nearest
from obuild.spec.op import Comment, Copy, Env, FromBuild, FromContext, Run, Shell, User, Workdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.spec.op import Op, Place, Spec

__all__ = ["ESCAPES", "format", "losses"]

ESCAPES = {"unix": "\\", "windows": "`"}
"""The character that continues a line and takes the meaning from the next one, by style."""

SHELLS = {"unix": ("/usr/bin/env", "bash", "-c"), "windows": ("cmd", "/S", "/C")}
"""The words in front of a command where a spec says nothing: OBuilder's, which are not Docker's."""

NETWORKS = ("host", "none", "default")
"""The networks that BuildKit knows."""


def format(spec: Spec, *, buildkit: bool = False, escape: str = "unix") -> str:
    """The Dockerfile that builds `spec`; with `buildkit`, caches, secrets and networks are in it.

    Raises `SpecError` with all that has no counterpart in a Dockerfile.
    """
    if escape not in ESCAPES:
        raise UsageError(f'unknown escape style "{escape}"', hint=nearest(escape, ESCAPES) or "unix or windows")
    file = _File(escape, buildkit=buildkit, taken={base.lower() for base in _bases(spec)} | {"scratch", "context"})
    text = file.stage(spec, "", {})
    if file.problems:
        raise SpecError(file.problems)
    return f"#escape=`\n{text}" if escape == "windows" else text


def losses(spec: Spec, *, buildkit: bool = False) -> tuple[Problem, ...]:
    """What the Dockerfile of `spec` leaves out."""
    found = [loss for _, nested in spec.builds for loss in losses(nested, buildkit=buildkit)]
    for op in spec.ops:
        match op:
            case Copy() if op.exclude:
                names = " ".join(op.exclude)
                found.append(_problem(op.place, f'"{names}" is not excluded', "list it in .dockerignore"))
            case Run():
                unsaid = [word for word, mounts in (("caches", op.cache), ("secrets", op.secrets)) if mounts]
                if unsaid and not buildkit:
                    found.append(_problem(op.place, f"{' and '.join(unsaid)} are left out", "BuildKit knows them"))
                lost = [name for name in op.network if name not in NETWORKS]
                found += [_problem(op.place, f'the network "{name}" is left out') for name in lost]
    return tuple(found)


def _problem(place: Place, message: str, hint: str = "") -> Problem:
    return Problem(message, place.path, place.line, place.column, hint=hint)


def _bases(spec: Spec) -> set[str]:
    return {spec.base}.union(*[_bases(nested) for _, nested in spec.builds])


class _File:
    """A Dockerfile in the making: the names its stages have, and what could not be said."""

    def __init__(self, style: str, *, buildkit: bool, taken: set[str]) -> None:
        self.escape, self.shell, self.buildkit = ESCAPES[style], SHELLS[style], buildkit
        self.taken = taken
        self.problems: list[Problem] = []

    def wrong(self, place: Place, message: str) -> None:
        self.problems.append(_problem(place, message))

    def stage(self, spec: Spec, name: str, scope: dict[str, str]) -> str:
        """The stages of a spec, nested builds first; `scope` has the stage of each build that can be seen."""
        text, scope = "", dict(scope)
        for build, nested in spec.builds:
            stage = self.name(build)
            text += self.stage(nested, stage, scope) + "\n"
            scope[build] = stage
        if re.search(r"\s", spec.base):
            self.wrong(spec.place, f'a Dockerfile can have no blanks in a base: "{spec.base}"')
        lines = [f"FROM {self.word(spec.base, spec.place)}" + (f" as {name}" if name else "")]
        shell: tuple[str, ...] = self.shell
        user = User()
        for op in spec.ops:
            shell = op.words if isinstance(op, Shell) else shell
            user = op if isinstance(op, User) else user
            lines += self.op(op, shell, user, scope)
        return text + "\n".join(lines) + "\n"

    def name(self, build: str) -> str:
        """A name for the stage of a build: its own one, unless Docker would not take it or take it for another."""
        plain = (
            build
            if re.fullmatch("[A-Za-z][A-Za-z0-9_.-]*", build)
            else re.sub("[^a-z0-9_.-]", "-", f"build-{build.lower()}")
        )
        name, number = plain, 2
        while name.lower() in self.taken:
            name, number = f"{plain}-{number}", number + 1
        self.taken.add(name.lower())
        return name

    def op(self, op: Op, shell: tuple[str, ...], user: User, scope: dict[str, str]) -> list[str]:
        match op:
            case Comment(text):
                lines = [f"# {line}".rstrip() for line in text.splitlines() or [""]]
            case Workdir(path):
                lines = [f"WORKDIR {self.word(path, op.place)}"] if path not in ("", ".") else []
            case Shell(words):
                lines = [f"SHELL {_array(words)}"] if words else []
            case User(uid, gid, name):
                lines = [f"USER {self.word(name, op.place)}" if name is not None else f"USER {uid}:{gid}"]
            case Env():
                lines = [self.env(op)]
            case Run():
                lines = [" ".join(["RUN", *self.flags(op, user), self.command(op.shell, shell)])]
            case Copy():
                lines = self.copy(op, user, scope)
        if any("\ud800" <= char <= "\udfff" for line in lines for char in line):
            self.wrong(op.place, "a Dockerfile can not have bytes that are not UTF-8")
        return lines

    def word(self, text: str, place: Place) -> str:
        """A text that Docker takes as it is: no variable in it is replaced, no quote removed."""
        if "\n" in text:
            self.wrong(place, "a Dockerfile can have no newline there")
        special = re.escape(self.escape) + "\"'$"
        if text and text == text.strip() and not re.search(f"[{special}]", text):
            return text
        return f'"{self.escaped(text)}"'

    def escaped(self, text: str) -> str:
        """What stands between double quotes."""
        return re.sub(f'["${re.escape(self.escape)}]', lambda match: self.escape + match[0], text)

    def env(self, op: Env) -> str:
        if not re.fullmatch(r"[^\s\"'$\\`=]+", op.name):
            self.wrong(op.place, f'a Dockerfile can have no variable "{op.name}"')
        if "\n" in op.value:
            message = f'a Dockerfile can have no newline in a variable, and "{op.name}" has one'
            self.wrong(op.place, message)
        return f'ENV {op.name}="{self.escaped(op.value)}"'

    def flags(self, op: Run, user: User) -> list[str]:
        if not self.buildkit:
            return []
        uid = [] if user.name is not None else [("uid", str(user.uid))]
        mounts = [("secret", secret) for secret in op.secrets] + [("cache", cache) for cache in op.cache]
        flags = []
        for kind, mount in mounts:
            fields = [("id", mount.id), ("target", mount.target), *uid, *mount.options]
            texts = [f"{key}={text}" for key, text in (("type", kind), *fields)]
            if any(re.search(r"""[\s,"'$\\]""", text) for text in texts):
                self.wrong(op.place, f'a Dockerfile can not have the {kind} "{mount.id}" at "{mount.target}"')
            flags.append("--mount=" + ",".join(texts))
        return flags + [f"--network={name}" for name in op.network if name in NETWORKS]

    def command(self, text: str, shell: tuple[str, ...]) -> str:
        """A command as Docker's shell would get it, or else as the list of words that is run."""
        lines = _lines(text, self.escape) if shell else None
        return f" {self.escape}\n    ".join(lines) if lines else _array((*shell, text))

    def copy(self, op: Copy, user: User, scope: dict[str, str]) -> list[str]:
        head = ["COPY"]
        if user.name is None and (user.uid, user.gid) != (0, 0):
            head.append(f"--chown={user.uid}:{user.gid}")
        if isinstance(op.source, FromBuild):
            head.append(f"--from={scope.get(op.source.name, op.source.name)}")
        elif not isinstance(op.source, FromContext):
            self.wrong(op.place, "a Dockerfile can copy from the context and from builds only")
        dst = op.dst or "./"
        if not dst.endswith("/"):
            return [self.paths(head, op.src, dst, op.place)]
        # What is copied into a directory keeps its name; Docker would put the content of a directory there.
        return [self.paths(head, (src,), dst + _name(src), op.place) for src in op.src]

    def paths(self, head: list[str], sources: tuple[str, ...], dst: str, place: Place) -> str:
        texts = [*[_unglobbed(src, self.escape) for src in sources], dst]
        if "\n" in "".join(texts):
            self.wrong(place, "a Dockerfile can have no newline in a path")
        special = re.escape(self.escape) + "\"'$"
        words = [re.sub(f"([{special}])", lambda match: self.escape + match[1], text) for text in texts]
        return " ".join([*head, _array(words) if re.search(r"\s", "".join(words)) else " ".join(words)])


def _array(words: Sequence[str]) -> str:
    return "[ " + ", ".join([json.dumps(word, ensure_ascii=False) for word in words]) + " ]"


def _name(src: str) -> str:
    """The last component of a path; nothing for the whole source."""
    return next((part for part in reversed(src.split("/")) if part not in ("", ".")), "")


def _unglobbed(src: str, escape: str) -> str:
    """A source that names one file, whatever its characters, and is no option, here-document or list.

    Docker takes a backslash for an escape only where something in the path is a pattern.
    """
    plain = src or "."
    if re.search(r"[*?\[]", plain):
        plain = re.sub(r"[*?\[]", r"[\g<0>]", plain.replace("\\", "\\\\") if escape == "\\" else plain)
    return f"./{plain}" if plain.startswith(("--", "<<", "[")) else plain


def _lines(text: str, escape: str) -> list[str] | None:
    """The lines of a command in Docker's shell form, or None where Docker would make another command of it.

    Docker joins lines without a newline, so that they may only end where the shell wants more.
    """
    lines = [line.strip(" \t") for line in text.split("\n") if line.strip(" \t")]
    if not lines or not re.sub("[\n\t]", "", text).isprintable() or "<<" in text or lines[-1].endswith(escape):
        return None
    if lines[0].startswith("--") or (lines[0].startswith("[") and _is_json(text.strip())):
        return None
    if len(lines) == 1:
        return lines
    if any(_is_intricate(line) for line in lines):
        return None
    joined = [_continued(line) for line in lines[:-1]]
    return [*[line for line in joined if line], lines[-1]] if None not in joined else None


def _is_json(text: str) -> bool:
    """Whether Docker takes a command for a list of words; it looks at nothing behind the list."""
    try:
        json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    return True


def _is_intricate(line: str) -> bool:
    """Whether a quoted text may go on behind the end of the line, or a comment ends with it."""
    odd = any(line.count(quote) % 2 for quote in "\"'`")
    return odd or re.search(r"""\\["'`]|(^|\s)#""", line) is not None


def _continued(line: str) -> str | None:
    """A line that ends where the shell reads on, without what says so to the shell only."""
    if re.search(r"(&&|\|\||\||;)$", line):
        return line
    return line[:-1].rstrip() if re.search(r"\s\\$", line) else None
