"""`obuild check`, `fmt`, `dockerfile` and `import-dockerfile`: everything that only reads and writes specs."""

from __future__ import annotations

import os
import sys

from obuild import spec as language
from obuild.cli.option import Argument, Command, Option
from obuild.cli.show import write
from obuild.cli.where import read_text, shown
from obuild.errors import Problem, SpecError

__all__ = ["COMMANDS"]


def check(*, files: tuple[str, ...], obuilder: bool) -> int:
    """Report all problems of all files; what OBuilder lacks counts as one with --obuilder."""
    found: list[Problem] = []
    for file in files:
        text = read_text(file)
        try:
            spec = language.parse(text, shown(file))
        except SpecError as error:
            found += error.problems
            continue
        for doubt in language.doubts(spec):
            print(f"{doubt} (a doubt, not an error)", file=sys.stderr)
        if obuilder:
            found += language.extensions(text, shown(file))
    if found:
        raise SpecError(found)
    print(f"{len(files)} file{'s' if len(files) > 1 else ''} checked")
    return 0


def fmt(*, files: tuple[str, ...], check: bool) -> int:
    """Lay files out anew in place; with --check say which would change, and exit with 1 when some would."""
    changed = 0
    for file in files:
        text = read_text(file)
        tidy = language.tidy(text, shown(file))
        if file == "-" and not check:
            _out(tidy)
        elif tidy != text:
            changed += 1
            print(f"{'would change' if check else 'changed'} {shown(file)}")
            if not check:
                _replace(file, tidy)
    return 1 if check and changed else 0


def dockerfile(*, file: str, buildkit: bool, escape: str) -> int:
    """Print the Dockerfile that does what a spec does."""
    from obuild import dockerfile as docker

    spec = language.parse(read_text(file), shown(file))
    for loss in docker.losses(spec, buildkit=buildkit):
        print(f"note: {loss}", file=sys.stderr)
    _out(docker.format(spec, buildkit=buildkit, escape=escape))
    return 0


def import_dockerfile(*, file: str, context: str | None, arg: tuple[tuple[str, str], ...], no_network: bool) -> int:
    """Print the spec that does what a Dockerfile does; what had to be left out goes to standard error."""
    from obuild.dockerfile import reading

    folder = context or ("." if file == "-" else os.path.dirname(file) or ".")
    spec, notes = reading.parse(
        read_text(file),
        shown(file),
        arguments=dict(arg),
        network=() if no_network else ("host",),
        find=lambda pattern: _find(folder, pattern),
    )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    _out(language.format(spec))
    return 0


def _find(folder: str, pattern: str) -> list[str]:
    """The paths below `folder` that a source of a COPY names; a directory ends with a slash."""
    import glob

    found = glob.glob(pattern.lstrip("/"), root_dir=folder, include_hidden=True)
    return sorted(path + "/" if os.path.isdir(os.path.join(folder, path)) else path for path in found)


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f'"{text}" is not NAME=VALUE')
    return name, value


def _out(text: str) -> None:
    write(1, text.encode("utf-8", "surrogateescape"))


def _replace(file: str, text: str) -> None:
    from obuild import disk

    mode = os.stat(file).st_mode & 0o7777
    disk.write_atomic(os.path.realpath(file), text.encode("utf-8", "surrogateescape"))
    os.chmod(file, mode)


SPEC = Option(("-f", "--file"), "The file to read; - is standard input.", required=True, metavar="FILE")

COMMANDS = {
    "check": Command(
        check,
        "Report every problem of specs, with its place.",
        (Option(("--obuilder",), "Also report what OBuilder would not understand.", None),),
        (Argument("files", "+"),),
    ),
    "fmt": Command(
        fmt,
        "Lay specs out in the one standard way, comments kept.",
        (Option(("--check",), "Change nothing; exit with 1 when something would change.", None),),
        (Argument("files", "+"),),
    ),
    "dockerfile": Command(
        dockerfile,
        "Print a spec as a Dockerfile.",
        (
            SPEC,
            Option(("--buildkit",), "Use BuildKit's mounts for caches and secrets, and its network option.", None),
            Option(
                ("--escape",),
                "The escape character: \\ or that of Windows, `.",
                default="unix",
                choices=("unix", "windows"),
            ),
        ),
    ),
    "import-dockerfile": Command(
        import_dockerfile,
        "Print a Dockerfile as a spec.",
        (
            SPEC,
            Option(("--context",), "What COPY reads from; the Dockerfile's directory when not given.", metavar="DIR"),
            Option(
                ("--arg",),
                "The value of an ARG, or of a variable of the base.",
                _argument,
                many=True,
                metavar="NAME=VALUE",
            ),
            Option(("--no-network",), "Give no RUN the host's network, unlike Docker.", None),
        ),
    ),
}
