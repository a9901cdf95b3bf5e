"""A Dockerfile as a spec: what it says about files is kept, or is an error; the rest is a note.

Where the two differ in what is left unsaid, the spec says it: Docker's shell is `/bin/sh -c`, its commands reach the
network, its copies belong to root. What an image itself sets besides variables (user, directory, shell) is not known
here and does not count for a spec.
"""

from __future__ import annotations

import re

from obuild.dockerfile.instruction import Unsaid, expand, read, words
from obuild.errors import Problem, SpecError, nearest
from obuild.spec.form import HIGHEST_ID
from obuild.spec.op import (
    Cache,
    Comment,
    Copy,
    Env,
    FromBuild,
    FromContext,
    Place,
    Run,
    Secret,
    Shell,
    Spec,
    User,
    Workdir,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from obuild.dockerfile.instruction import Instruction
    from obuild.spec.op import Op

    Find = Callable[[str], Sequence[str]]

__all__ = ["parse"]

OBUILDER_SHELL = ("/usr/bin/env", "bash", "-c")
DOCKER_SHELL = ("/bin/sh", "-c")
NO_FILES = ("LABEL", "EXPOSE", "CMD", "ENTRYPOINT", "HEALTHCHECK", "STOPSIGNAL", "VOLUME", "MAINTAINER")
"""What is said about running the image only."""

GIVEN = re.compile("(TARGET|BUILD)(PLATFORM|OS|ARCH|VARIANT)")
"""Arguments whose values BuildKit knows without being told."""

HINTS = {
    "PATH": "write its value out; for most images it is /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst|tar\.[a-z0-9]+)$")


def parse(
    text: str,
    path: str,
    *,
    arguments: Mapping[str, str] | None = None,
    network: tuple[str, ...] = ("host",),
    find: Find | None = None,
) -> tuple[Spec, tuple[Problem, ...]]:
    """The spec that builds what the last stage of a Dockerfile is, and notes on what is not in it.

    `arguments` are the values of build arguments, and of variables of an image that the Dockerfile uses; `network` is
    what a command without `--network` gets; `find` lists the paths in the context that a source or pattern names, a
    directory with a slash at its end. Raises `SpecError` with all that has no counterpart.
    """
    if "\0" in text:
        raise SpecError([Problem.at("there is a NUL byte in it", path, text, text.index("\0"))])
    escape, instructions = read(text)
    reading = _Reading(path, escape, dict(arguments or {}), network, find)
    for instruction in instructions:
        reading.take(instruction)
    spec = reading.whole()
    if spec is None or reading.problems:
        raise SpecError(reading.problems or [Problem('there is no "FROM"', path)])
    return spec, tuple(reading.notes)


class _Stage:
    """A stage so far. `user` and `shell` are Docker's; `said_user` and `said_shell` what the ops have come to."""

    def __init__(self, name: str, base: str, place: Place) -> None:
        self.name, self.base, self.place = name, base, place
        self.ops: list[Op] = []
        self.env: dict[str, str] = {}
        self.arguments: dict[str, str | None] = {}
        self.workdir = "/"
        self.user, self.said_user = (0, 0), (0, 0)
        self.shell: tuple[str, ...] = DOCKER_SHELL
        self.said_shell: tuple[str, ...] = OBUILDER_SHELL

    def follow(self, parent: _Stage) -> None:
        """Begin as a stage before has ended: a base can only be an image, so its ops are repeated, and found done."""
        self.base, self.workdir, self.user, self.said_user = parent.base, parent.workdir, parent.user, parent.said_user
        self.shell, self.said_shell = parent.shell, parent.said_shell
        self.ops, self.env = list(parent.ops), dict(parent.env)

    def become(self, user: tuple[int, int], place: Place) -> None:
        if user != self.said_user:
            self.ops.append(User(*user, place=place))
            self.said_user = user

    def speak(self, shell: tuple[str, ...], place: Place) -> None:
        if shell != self.said_shell:
            self.ops.append(Shell(shell, place))
            self.said_shell = shell


class _Reading:
    """One method an instruction; those that have no counterpart raise `Unsaid`, which is gathered."""

    def __init__(
        self, path: str, escape: str, arguments: dict[str, str], network: tuple[str, ...], find: Find | None
    ) -> None:
        self.path, self.escape, self.arguments, self.network, self.find = path, escape, arguments, network, find
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.comments: list[str] = []
        self.defaults: dict[str, str | None] = {}  # of the arguments above the first FROM
        self.stages: list[_Stage] = []
        self.aliases: dict[str, _Stage] = {}
        self.builds: list[tuple[str, Spec]] = []
        self.images: dict[str, str] = {}  # the builds that images became
        self.at: Instruction
        self.place = Place()

    def take(self, instruction: Instruction) -> None:
        self.at, self.place = instruction, Place(self.path, instruction.line, 1)
        if instruction.name == "#":
            self.comments.append(instruction.rest)
            return
        if instruction.name != "FROM":
            self.say_comments()
        try:
            if instruction.name:
                self.instruction(instruction)
        except Unsaid as error:
            self.problems.append(error.problem(self.path, instruction))
        if instruction.name == "FROM":
            self.say_comments()

    def instruction(self, at: Instruction) -> None:
        methods = {name: getattr(self, f"take_{name.lower()}") for name in KNOWN}
        if at.name in methods:
            if at.name not in ("FROM", "ARG") and not self.stages:
                raise Unsaid(f'"{at.name}" comes before the first "FROM"')
            for document in at.heredocs:
                if not document.end:
                    raise Unsaid(f'the here-document "{document.mark}" is never closed')
            methods[at.name](at)
        elif at.name in NO_FILES:
            self.note(f'"{at.name}" changes no file and is left out')
        elif at.name == "ONBUILD":
            raise Unsaid('"ONBUILD" has no counterpart', "put the instruction into the builds that use this image")
        else:
            hint = nearest(at.name, (*KNOWN, *NO_FILES))
            raise Unsaid(f'unknown instruction "{at.name}"', hint)

    @property
    def stage(self) -> _Stage:
        return self.stages[-1]

    def note(self, message: str, hint: str = "") -> None:
        self.notes.append(Problem(message, self.path, self.at.line, 1, hint=hint))

    def say_comments(self) -> None:
        if self.comments and self.stages:
            self.stage.ops.append(Comment("\n".join(self.comments), self.place))
            self.comments = []

    def whole(self) -> Spec | None:
        if not self.stages:
            return None
        self.say_comments()
        last = self.stage
        return Spec(last.base, tuple(last.ops), tuple(self.builds), last.place)

    def expanded(self, word: str) -> str:
        return expand(word, self.variable, self.escape)

    def variable(self, name: str, needed: bool) -> str | None:
        """The value of a variable in the current stage: ENV's go before ARG's, and both before the image's."""
        if name in self.stage.env:
            return self.stage.env[name]
        if name in self.stage.arguments and not (GIVEN.fullmatch(name) and self.stage.arguments[name] is None):
            return self.stage.arguments[name]
        if name in self.arguments:
            return self.arguments[name]
        if not needed:
            self.note(f'"${name}" is taken to be unset, as "{self.stage.base}" may leave it')
            return None
        hint = HINTS.get(name, "write its value out")
        raise Unsaid(f'"${name}" is not set here, and what "{self.stage.base}" sets is not known', hint)

    def default(self, name: str, _needed: bool) -> str | None:
        return self.defaults.get(name)

    def take_from(self, at: Instruction) -> None:
        if self.stages:
            done = self.stage
            self.builds.append((done.name, Spec(done.base, tuple(done.ops), place=done.place)))
        found = [expand(word, self.default, self.escape) for word in words(at.rest, self.escape)]
        named = len(found) == 3 and found[1].lower() == "as"
        if not found or "" in found or not (named or len(found) == 1):
            self.stages.append(_Stage(self.unique("stage"), "", self.place))
            raise Unsaid("a base and perhaps a name are needed", "write FROM BASE AS NAME")
        name = self.unique(found[2] if named else f"stage-{len(self.stages)}")
        stage = _Stage(name, found[0], self.place)
        if found[0].lower() in self.aliases:
            stage.follow(self.aliases[found[0].lower()])
        self.stages.append(stage)
        if named:
            self.aliases[found[2].lower()] = stage
        if at.flags:
            raise Unsaid(f'"--{at.flags[0][0]}" has no counterpart', "a spec is built for the machine it is built on")

    def unique(self, name: str) -> str:
        taken = {stage.name for stage in self.stages} | {build for build, _ in self.builds}
        return name if name not in taken else next(f"{name}-{n}" for n in range(2, 10**6) if f"{name}-{n}" not in taken)

    def take_arg(self, at: Instruction) -> None:
        for word in words(at.rest, self.escape):
            name, equals, raw = word.partition("=")
            if not name:
                raise Unsaid("an argument has no name", "write ARG NAME=VALUE")
            lookup = self.variable if self.stages else self.default
            default = expand(raw, lookup, self.escape) if equals else None
            if not self.stages:
                self.defaults[name] = self.arguments.get(name, default)
                continue
            found = self.arguments.get(name, self.defaults.get(name) if default is None else default)
            self.stage.arguments[name] = found
            if found is not None and name not in self.stage.env:
                self.stage.ops.append(Env(name, found, self.place))
                self.note(f'"{name}" is a variable like others from here on', "a spec has no build arguments")

    def take_env(self, at: Instruction) -> None:
        found = words(at.rest, self.escape)
        if not found:
            raise Unsaid("a variable and its value are needed", "write ENV NAME=VALUE")
        if "=" not in found[0]:
            name, _, raw = at.rest.partition(" ")
            pairs = [(name, raw.strip())]
        else:
            pairs = [(name, raw) for name, _, raw in (word.partition("=") for word in found)]
        names = [self.expanded(name) for name, _ in pairs]
        if "" in names:
            raise Unsaid("a variable has no name", "write ENV NAME=VALUE")
        try:
            values = [self.expanded(raw) for _, raw in pairs]
        except Unsaid:
            self.stage.env |= dict.fromkeys(names, "")  # one problem is enough: later uses of them are none
            raise
        for name, value in zip(names, values, strict=True):
            self.stage.env[name] = value
            self.stage.ops.append(Env(name, value, self.place))

    def take_workdir(self, at: Instruction) -> None:
        path = self.expanded(at.rest)
        self.stage.ops.append(Workdir(path, self.place))
        self.stage.workdir = self.below(path)

    def below(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.stage.workdir.rstrip('/')}/{path}"

    def take_user(self, at: Instruction) -> None:
        self.stage.user = self.ids(self.expanded(at.rest), alike=False)
        self.stage.become(self.stage.user, self.place)

    def ids(self, text: str, *, alike: bool) -> tuple[int, int]:
        """The numbers of `UID[:GID]`; a missing GID is like the UID for an owner, and that of root for a user."""
        user, colon, group = text.partition(":")
        found = ["0" if name == "root" else name for name in (user, group if colon else user if alike else "0")]
        if not all(re.fullmatch("[0-9]{1,10}", name) for name in found):
            raise Unsaid(f'the numbers of "{text}" are not known here', "write UID:GID")
        if not colon and not alike and user not in ("root", "0"):
            self.note(f"the group of user {user} is taken to be 0, as it is if the image does not know the user")
        if max(map(int, found)) > HIGHEST_ID:
            raise Unsaid(f'"{text}" is beyond {HIGHEST_ID}')
        return int(found[0]), int(found[1])

    def take_shell(self, at: Instruction) -> None:
        if not at.words:
            raise Unsaid("the words of a shell are a list", 'write SHELL ["/bin/bash", "-c"]')
        self.stage.shell = at.words
        self.stage.speak(at.words, self.place)

    def take_run(self, at: Instruction) -> None:
        cache: list[Cache] = []
        secrets: list[Secret] = []
        network = self.network
        for flag, text in at.flags:
            if flag == "mount":
                mount = self.mount(text)
                (cache if isinstance(mount, Cache) else secrets).append(mount)  # type: ignore[arg-type]
            elif flag == "network":
                network = {"host": ("host",), "none": ()}.get(text, network)
            elif (flag, text) != ("security", "sandbox"):
                raise Unsaid(f'"--{flag}={text}" has no counterpart')
        shell, command = self.command(at)
        self.stage.become(self.stage.user, self.place)
        self.stage.speak(shell, self.place)
        self.stage.ops.append(Run(command, tuple(cache), network, tuple(secrets), self.place))

    def command(self, at: Instruction) -> tuple[tuple[str, ...], str]:
        """The shell of a command, and the command."""
        if at.words is not None:
            if not at.words:
                raise Unsaid("there is no command")
            return at.words[:-1], at.words[-1]
        if not at.rest:
            raise Unsaid("there is no command")
        if len(at.heredocs) == 1 and at.rest == at.heredocs[0].mark:
            body = at.heredocs[0].body
            if body.startswith("#!"):
                raise Unsaid("a script with a first line of its own has no counterpart", "call its interpreter")
            return self.stage.shell, re.sub(r"(?m)^\t+", "", body) if "<<-" in at.rest else body
        documents = "".join([f"\n{document.body}{document.end}" for document in at.heredocs])
        return self.stage.shell, at.rest + documents

    def mount(self, text: str) -> Cache | Secret:
        fields = {key.lower(): field for key, _, field in (item.partition("=") for item in text.split(","))}
        kind = fields.pop("type", "bind")
        target = next((fields.pop(key) for key in ("target", "dst", "destination") if key in fields), "")
        name = fields.pop("id", "")
        if fields.get("uid") == str(self.stage.user[0]):
            del fields["uid"]
        if kind == "secret" and "env" not in fields and (name or target):
            name = name or target.rsplit("/", 1)[-1]
            return Secret(name, self.below(target or f"/run/secrets/{name}"), tuple(fields.items()))
        if kind == "cache" and target and not {"from", "source"} & fields.keys():
            return Cache(name or target, self.below(target), tuple(fields.items()))
        raise Unsaid(f'"--mount={text}" has no counterpart', "a spec has caches and secrets, empty at first, as files")

    def take_copy(self, at: Instruction) -> None:
        if at.heredocs:
            raise Unsaid("a file written in the Dockerfile has no counterpart", "put it into the context")
        flags = dict(at.flags)
        strange = [flag for flag, _ in at.flags if flag not in ("from", "chown", "link", "exclude")]
        if strange:
            raise Unsaid(f'"--{strange[0]}" has no counterpart', "do it in a run")
        found = [self.expanded(word) for word in (at.words or words(at.rest, self.escape))]
        if len(found) < 2:
            raise Unsaid("something to copy and where to are needed", f"write {at.name} SOURCE... DESTINATION")
        source = self.origin(flags["from"]) if "from" in flags else FromContext()
        exclude = tuple(text for flag, text in at.flags if flag == "exclude")
        self.stage.become(self.ids(self.expanded(flags.get("chown", "0:0")), alike=True), self.place)
        for sources, dst in self.copies(found[:-1], found[-1], inside=isinstance(source, FromContext)):
            patterns = tuple(dict.fromkeys(_pattern(text, src) for text in exclude for src in sources))
            self.stage.ops.append(Copy(sources, dst, source, patterns, self.place))

    def take_add(self, at: Instruction) -> None:
        for word in at.words or words(at.rest, self.escape):
            if re.match(r"[a-z]+://|git@", word):
                raise Unsaid("a download has no counterpart", "download it in a run, or copy (from (url URL CHECKSUM))")
            if ARCHIVE.search(word):
                raise Unsaid(f'"{word}" would be unpacked, and a copy does not', "copy it and unpack it in a run")
        self.take_copy(at)

    def origin(self, text: str) -> FromBuild:
        """The build that `--from=` names: a stage by its name or number, or an image, which becomes a build."""
        stage = self.aliases.get(text.lower())
        if text.isascii() and text.isdecimal() and int(text) < len(self.stages):
            stage = self.stages[int(text)]
        if not text:
            raise Unsaid("the files are copied from nowhere", "write --from=STAGE")
        if stage is self.stage:
            raise Unsaid(f'"{text}" is this stage itself')
        if stage:
            return FromBuild(stage.name)
        if text not in self.images:
            self.images[text] = self.unique(text)
            self.builds.append((self.images[text], Spec(text, place=self.place)))
        return FromBuild(self.images[text])

    def copies(self, sources: Sequence[str], dst: str, *, inside: bool) -> list[tuple[tuple[str, ...], str]]:
        """The sources and destinations of the copies that do what one of Docker's does.

        Docker copies what is in a directory, never the directory; a spec does so unless the destination ends with a
        slash. So files can share a copy and directories can not.
        """
        into = len(sources) > 1 or dst.endswith(("/", "/.")) or dst == "."
        paths = [path for source in sources for path in self.paths(source, inside=inside)]
        if not into and len(paths) == 1:
            return [((paths[0].rstrip("/") or ".",), dst)]
        folder = dst if dst.endswith("/") else f"{dst}/"
        content = folder.rstrip("/") or "/."
        found = [((path.rstrip("/") or ".",), content) for path in paths if path.endswith("/")]
        files = tuple(path for path in paths if not path.endswith("/"))
        for path in files if not (inside and self.find) else ():
            self.note(f'"{path}" is taken to be a file', f"if it is a directory, write (src {path}) (dst {content})")
        return [*([(files, folder)] if files else []), *found]

    def paths(self, source: str, *, inside: bool) -> Sequence[str]:
        """The paths that a source names, a directory with a slash at its end."""
        if ".." in source.split("/"):
            raise Unsaid(f'"{source}" leads out of the context')
        pattern = re.compile(r"\[(.)\]|\\(.)|([*?\[])")
        is_glob = any(match[3] for match in pattern.finditer(source))
        path = source.removeprefix("./") or "."
        if re.search(r"[*?\[]", source):  # without one of them a backslash is a character like others
            path = pattern.sub(lambda match: match[1] or match[2] or match[3], path)
        if inside and self.find:
            found = self.find(source if is_glob else path)
            if not found:
                raise Unsaid(f'there is no "{source}" in the context')
            return found
        if is_glob:
            raise Unsaid(f'the files that "{source}" stands for are not known here', "list them")
        if not path.strip("./"):
            return ["./"]
        return [path]


def _pattern(text: str, src: str) -> str:
    """Docker's patterns are for paths below the source; one for any depth is a plain name in a spec."""
    name = text.removeprefix("**/")
    if name != text and "/" not in name:
        return name
    return "/" + "/".join([part for part in f"{src}/{text}".split("/") if part not in ("", ".")])


KNOWN = [name.removeprefix("take_").upper() for name in vars(_Reading) if name.startswith("take_")]
