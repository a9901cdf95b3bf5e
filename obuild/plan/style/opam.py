"""Opam inside the container: it installs the packages of the solution, and in a step of its own the one asked for.

The context is the opam repository. What can be fetched is fetched in steps of its own, so that nothing builds with a
network, and the packages are given with their versions, so that opam chooses nothing.
"""

from __future__ import annotations

from obuild.plan.quote import quote
from obuild.plan.style import ARCHIVES, Task
from obuild.spec import Copy, Env, Run, Shell, Spec, User, Workdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.spec import Op

__all__ = ["spec"]

_NETWORK = ("host",)


def spec(task: Task) -> Spec:
    """The spec of a task."""
    return Spec(task.image or f"ocaml/opam:{task.system}", tuple(_ops(task)))


def _ops(task: Task) -> Iterator[Op]:
    words = ("/usr/bin/linux32",) if task.is_narrow else ()
    yield Shell((*words, "/bin/sh", "-c"))
    yield User(1000, 1000)
    yield Workdir("/home/opam")
    for name, text in (("OPAMYES", "1"), ("OPAMCONFIRMLEVEL", "unsafe-yes"), ("OPAMERRLOGLEN", "0")):
        yield Env(name, text)
    yield Env("OPAMPRECISETRACKING", "1")
    yield Run("rm -rf .opam opam-repository")
    yield Copy((".",), "opam-repository/")
    yield Run("opam init --bare --no-setup --disable-sandboxing -k local default opam-repository")
    yield Run("opam switch create default --empty")
    everything = " ".join([quote(str(package)) for package in task.solution or (task.package,)])
    others = " ".join([quote(str(package)) for package in task.solution if package != task.package])
    target = quote(str(task.package)) + (" --with-test" if task.with_test else "")
    yield Run(f"opam update --depexts && opam install --depext-only {everything}", network=_NETWORK)
    yield Run(f"opam install --download-only {everything}", (ARCHIVES,), _NETWORK)
    if others:
        yield Run(f"opam install {others}", (ARCHIVES,))
    yield Run(f"opam install --verbose {target}", (ARCHIVES,))
