"""What steps get besides what they stand on: what earlier operations left for them, and how things are to be done."""

from __future__ import annotations

from obuild.errors import ObuildError
from obuild.sandbox import Limits
from obuild.spec import Env, Shell, User, Workdir
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from obuild.build.branch import Branch
    from obuild.spec import Op

__all__ = ["Context", "Options", "facts", "follow", "join", "placed"]

SHELL = ("/usr/bin/env", "bash", "-c")
"""The shell of a stage that names none, as in OBuilder."""


@value
class Context:
    """What earlier operations leave for later ones; changed only by `replace`.

    `source` is the directory of the host that `copy` reads; `scope` maps names of nested builds to their results.
    """

    source: str
    env: tuple[tuple[str, str], ...] = ()
    user: tuple[int, int] = (0, 0)
    workdir: str = "/"
    shell: tuple[str, ...] = SHELL
    scope: Mapping[str, Branch] = {}
    secrets: Mapping[str, bytes] = {}


@value
class Options:
    """How to build; nothing here changes an id but what a base's name stands for.

    `images` gives a base another source; `engine` and `platform` are those of `open_fetcher`. `timeout` bounds the
    whole build in seconds, `limits` each step. `archive_mirrors` and `offline` are those of `download.Sources`;
    `variables` are added to the environment of every command that does not set them itself.
    """

    images: Mapping[str, str] = {}
    pull: bool = False
    engine: str = ""
    platform: str = ""
    jobs: int = 2
    limits: Limits = Limits()
    timeout: float | None = None
    keep_failed: bool = True
    skip_unused: bool = False
    fast_sync: bool = False
    no_new_privs: bool = False
    archive_mirrors: tuple[str, ...] = ()
    offline: bool = False
    variables: tuple[tuple[str, str], ...] = ()


def follow(context: Context, op: Op) -> Context:
    """What an operation leaves for later ones: the same for those that make layers. Raises `ObuildError`."""
    match op:
        case Workdir(path):
            return replace(context, workdir=join(context.workdir, path))
        case Shell(words):
            return replace(context, shell=words)
        case User(name=str() as name):
            raise ObuildError(f'the user "{name}" has no number here', hint="write (user (uid N) (gid N))")
        case User(uid, gid):
            return replace(context, user=(uid, gid))
        case Env(name, text):
            return replace(context, env=((name, text), *[pair for pair in context.env if pair[0] != name]))
    return context


def join(workdir: str, path: str) -> str:
    """A path in the container; a relative one is below `workdir`."""
    return path if path.startswith("/") else f"{workdir.rstrip('/')}/{path}"


def placed(op: Op, message: str) -> str:
    """A message with the place of the operation that it is about; the spec of a package has no places."""
    return f"{op.place}: {message}" if str(op.place) else message


def facts(op: str, text: str, context: Context) -> dict[str, Any]:
    """What `layer.json` says of how the layer was made, so that a shell can be opened in the same place."""
    place = {"env": context.env, "user": context.user, "workdir": context.workdir, "shell": context.shell}
    return {"op": op, "text": text, "context": place}
