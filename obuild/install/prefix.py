"""A directory of the host with the files of packages: made beside, then put in its place at once.

DIR/                    as opam would have installed it there
DIR/env.sh              for a shell: `. DIR/env.sh`
DIR/.obuild.json        what is in it and where it comes from: says that the directory is one of ours
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import stat
from contextlib import contextmanager

from obuild import disk, kernel
from obuild.disk import Lock
from obuild.errors import ObuildError, UsageError, few
from obuild.install.scan import relocations
from obuild.switch import act
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from obuild.cancel import Cancel
    from obuild.store import Layer

__all__ = ["Installed", "check_target", "install", "load_installed"]

RECORD, SHELL = ".obuild.json", "env.sh"
FORMAT = 1
_NAMED = 5


@value
class Installed:
    """What is in a directory: what was asked for, packages with the ids of their layers, all files with their marks.

    A mark is a file's size and time of change, a symlink's target; directories have none.
    """

    asked: tuple[str, ...]
    packages: Mapping[str, str]
    platform: str
    files: Mapping[str, str]


def load_installed(target: str) -> Installed | None:
    """What is in a directory of ours; None for no directory, or an empty one.

    Raises `UsageError` for a directory that is somebody else's.
    """
    try:
        if not os.listdir(target):
            return None
        with open(f"{target}/{RECORD}", "rb") as file:
            facts = json.load(file)
        if facts["format"] != FORMAT:
            raise UsageError(f'"{target}" was made by another release of obuild', hint="give a new directory")
        return Installed(tuple(facts["asked"]), facts["packages"], facts["platform"], facts["files"])
    except FileNotFoundError:
        if not os.path.lexists(target):
            return None
        raise UsageError(f'"{target}" has files that obuild did not put there', hint="give a new directory") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f'"{target}/{RECORD}" is damaged', hint="give a new directory") from None
    except OSError as error:
        raise UsageError(f'can not install into "{target}": {(error.strerror or "").lower()}') from None


def check_target(target: str, known: Installed | None) -> None:
    """Raise `UsageError` when updating a directory would lose something that is not ours."""
    if known is None:
        return
    now = _marks(target)
    strange = sorted(path for path, mark in now.items() if known.files.get(path) != mark)
    if strange:
        message = f'files in "{target}" were put there or changed since obuild installed it: {few(strange, _NAMED)}'
        raise UsageError(message, hint="move them away, or give a new directory")


def install(
    layers: Sequence[tuple[str, Layer]],
    prefix: str,
    target: str,
    asked: Sequence[str],
    known: Installed | None,
    cancel: Cancel,
) -> None:
    """Put the layers, each with its `NAME.VERSION`, into the directory `target`, in the order of stacking.

    `prefix` is where they were built; texts that hold it say the new place. `asked` is what the directory is for,
    `known` what was found in it. Everything belongs to the caller. The directory is as it was, or as it shall be,
    whatever happens. Raises `ObuildError`, `Cancelled`.
    """
    try:
        with _beside(target) as root:
            if load_installed(target) != known:
                raise ObuildError(f'"{target}" was changed by another process', hint="try again", temporary=True)
            made = root + target
            os.makedirs(made)
            for _, layer in layers:
                cancel.check()
                source = layer.fs + prefix
                if os.path.isdir(source):
                    disk.copy_tree(source, made)
                if prefix != target:
                    for path in relocations(layer, prefix).texts:
                        _rewrite(f"{made}/{path}", prefix.encode(), target.encode())
            _own(made)
            _finish(root, target, prefix, layers)
            _write(f"{made}/{RECORD}", _record(made, layers, asked))
            cancel.check()
            _put(made, target)
    except OSError as error:
        raise ObuildError(f'can not install into "{target}": {(error.strerror or str(error)).lower()}') from None


@contextmanager
def _beside(target: str) -> Iterator[str]:
    """A directory beside `target`; one that a killed process left is removed, one that is in use an error."""
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    root = f"{folder}/.{name}.obuild-new"
    try:
        os.mkdir(root)
    except FileExistsError:
        pass
    lock = Lock.attempt(root)
    if lock is None:
        raise ObuildError(f'"{target}" is being installed by another process', hint="try again when it has ended")
    try:
        for left in os.listdir(root):
            disk.remove_tree(f"{root}/{left}")
        yield root
    finally:
        disk.remove_tree(root)
        lock.release()


def _own(tree: str) -> None:
    """Give everything to the caller; the bits of set-user-id files go with their old owners."""
    user, group = os.geteuid(), os.getegid()
    for folder, folders, files in os.walk(tree):
        os.chown(folder, user, group)
        for name in (*files, *[name for name in folders if os.path.islink(f"{folder}/{name}")]):
            os.chown(f"{folder}/{name}", user, group, follow_symlinks=False)


def _finish(root: str, target: str, prefix: str, layers: Sequence[tuple[str, Layer]]) -> None:
    """Make a switch of it, as opam keeps one."""
    config = f"{root}{target}/.opam-switch/config"
    if prefix != target and os.path.isdir(config):
        for name in os.listdir(config):
            _rewrite(f"{config}/{name}", prefix.encode(), target.encode())
    ids = {package: layer.id.partition("/")[2] for package, layer in layers}
    user = (os.geteuid(), os.getegid())
    act("switch", root, target, src=(".",), workdir="/", package="", id="", ids=ids, user=user, write=_nothing)
    with open(f"{root}{target}/.opam-switch/environment", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    _write(f"{root}{target}/{SHELL}", _shell(lines, target))


def _nothing(_: bytes) -> None:
    pass


def _rewrite(path: str, old: bytes, new: bytes) -> None:
    """Let a text or a symlink say where it is now."""
    if os.path.islink(path):
        text = os.fsencode(os.readlink(path))
        os.unlink(path)
        os.symlink(text.replace(old, new), os.fsencode(path))
        return
    with open(path, "rb") as file:
        data = file.read()
    if old in data:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, mode | stat.S_IWUSR)
        with open(path, "wb") as file:
            file.write(data.replace(old, new))
        os.chmod(path, mode)


def _shell(lines: Sequence[Sequence[str]], target: str) -> str:
    """The environment of the switch as text for a shell."""
    # Of a directory "_opam" opam calls the one that it is in the switch.
    switch = os.path.dirname(target) if os.path.basename(target) == "_opam" else target
    found = ["# Use it with: . " + shlex.quote(f"{target}/{SHELL}"), f"export OPAMSWITCH={shlex.quote(switch)}"]
    for name, op, text, *_ in lines:
        plain = shlex.quote(_plain(text))
        match op:
            case "=":
                found.append(f"export {name}={plain}")
            case "=+":
                found.append(f'export {name}="${{{name}-}}${{{name}:+:}}"{plain}')
            case "=:":
                found.append(f'export {name}="${{{name}-}}:"{plain}')
            case ":=":
                found.append(f'export {name}={plain}":${{{name}-}}"')
            case _:
                found.append(f'export {name}={plain}"${{{name}:+:${name}}}"')
    return "\n".join(found) + "\n"


def _plain(text: str) -> str:
    """A text of the environment file without its escapes."""
    return "" if text == "@" else re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _record(made: str, layers: Sequence[tuple[str, Layer]], asked: Sequence[str]) -> str:
    packages = {package: layer.id for package, layer in layers}
    platform = next((layer.id.partition("/")[0] for _, layer in layers), "")
    facts = {"format": FORMAT, "asked": list(asked), "platform": platform, "packages": packages, "files": _marks(made)}
    return json.dumps(facts, indent=1) + "\n"


def _marks(tree: str) -> dict[str, str]:
    """All files and symlinks of a tree but our record."""
    found = {}
    for folder, folders, files in os.walk(tree):
        for name in (*files, *folders):
            path = f"{folder}/{name}"
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                found[os.path.relpath(path, tree)] = f"-> {os.readlink(path)}"
            elif not stat.S_ISDIR(info.st_mode):
                found[os.path.relpath(path, tree)] = f"{info.st_size} {info.st_mtime_ns}"
    found.pop(RECORD, None)
    return found


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def _put(made: str, target: str) -> None:
    """Let the new directory be the one at `target`; the old one is then where the new one was, and goes with that."""
    if not os.path.lexists(target):
        os.rename(made, target)
        return
    try:
        kernel.exchange(made, target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        os.rename(target, f"{made}-before")  # a file system that can not exchange two names
        os.rename(made, target)
