"""The steps of opam-health-check: one switch a compiler, the package removed and installed in the last step."""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.opam.version import holds
from obuild.plan.quote import quote
from obuild.plan.style import ARCHIVES, Task
from obuild.spec import Env, Run, Shell, Spec, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.spec import Op

__all__ = ["spec"]

_NETWORK = ("host",)
_ENVIRONMENT = {
    "OPAMPRECISETRACKING": "1",
    "OPAMUTF8": "never",
    "OPAMEXTERNALSOLVER": "builtin-0install",
    "OPAMCRITERIA": "+removed",
    "CI": "true",
    "OPAM_HEALTH_CHECK_CI": "true",
}
_FAILED, _ACCEPTED, _NO_SOLUTION = 31, 69, 20


def spec(task: Task) -> Spec:
    """The spec of a task."""
    return Spec(task.image or f"ocaml/opam:{task.system}", tuple(_ops(task)))


def _ops(task: Task) -> Iterator[Op]:
    if task.is_narrow:
        yield Shell(("/usr/bin/linux32", "/bin/sh", "-c"))
    yield User(1000, 1000)
    for name, text in _ENVIRONMENT.items():
        yield Env(name, text)
    yield Run(f"sudo ln -f /usr/bin/opam-{task.opam} /usr/bin/opam")
    yield Run(f"rm -rf ~/opam-repository && {_clone('opam-repository', task.repository, task.commit)}", (), _NETWORK)
    yield Run("rm -rf ~/.opam && opam init -ya --bare --config ~/.opamrc-sandbox ~/opam-repository")
    for other in task.others:
        yield Run(_clone(other.name, other.address, other.commit), (), _NETWORK)
        yield Run(f"opam repository add --dont-select {quote(other.name)} ~/{quote(other.name)}")
    chosen = ",".join([*(other.name for other in task.others), "default"])
    compiler = quote(task.compiler) if task.compiler else "--empty"
    name = quote(task.compiler.partition(".")[2] or "default")
    yield Run(f"opam switch create --repositories={quote(chosen)} {name} {compiler}", (ARCHIVES,), _NETWORK)
    yield Run("opam update --depexts", (), _NETWORK)
    if task.compiler and holds(task.compiler.partition(".")[2], "<", "4.08~"):
        yield Run("opam install -y ocaml-secondary-compiler", (ARCHIVES,), _NETWORK)
    yield Run("\n".join(_script(task)), (ARCHIVES,), _NETWORK)


def _clone(folder: str, address: str, commit: str) -> str:
    if not address:
        hint = "name the repository by its URL, or give one that was cloned from there"
        raise UsageError(f'no address is known from which a container could clone "{folder}"', hint=hint)
    clone = f"git clone -q {quote(address)} ~/{quote(folder)}"
    return f"{clone} && git -C ~/{quote(folder)} checkout -q {quote(commit)}" if commit else clone


def _script(task: Task) -> Iterator[str]:
    """Install the package, then again with its tests, then with the oldest dependencies that it allows."""
    package = quote(str(task.package))
    yield f"opam remove -y {package}"
    yield f"opam install -vy {package}"
    yield "res=$?"
    accepted = f"opam show -f x-ci-accept-failures: {package} | grep -qF {quote(chr(34) + task.system + chr(34))}"
    yield f"if [ $res = {_FAILED} ] && {accepted}; then"
    yield "    echo 'it is known to fail here: x-ci-accept-failures'"
    yield f"    exit {_ACCEPTED}"
    yield "fi"
    if task.with_test:
        yield "if [ $res = 0 ]; then"
        yield f"    opam remove -y {package}"
        yield f"    opam install -vty {package}"
        yield "    res=$?"
        yield f"    [ $res != {_NO_SOLUTION} ] || res=0"
        yield "fi"
    if task.lower_bounds:
        yield "if [ $res = 0 ]; then"
        yield f"    opam remove -y {package}"
        yield f"    OPAMCRITERIA='+removed,+count[version-lag,solution]' opam install -vy {package}"
        yield "    res=$?"
        yield "fi"
    yield "exit $res"
