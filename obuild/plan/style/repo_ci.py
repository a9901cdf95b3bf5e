"""The steps of opam-repo-ci: the image's own switch, the context as its repository, the package pinned to a version."""

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
_ENVIRONMENT = {
    "OPAMDOWNLOADJOBS": "1",
    "OPAMERRLOGLEN": "0",
    "OPAMPRECISETRACKING": "1",
    "CI": "true",
    "OPAM_REPO_CI": "true",
}
_LOWEST = "+removed,+count[version-lag,solution]"
_COMPILERS = ("ocaml-variants", "ocaml-base-compiler", "ocaml-compiler")


def spec(task: Task) -> Spec:
    """The spec of a task."""
    version = task.compiler.partition(".")[2]
    image = f"ocaml/opam:{task.system}" + (f"-ocaml-{_tag(version)}" if version else "")
    return Spec(task.image or image, tuple(_ops(task)))


def _tag(version: str) -> str:
    """The version as it is in the names of images: without a patch level, options after a hyphen."""
    numbers, _, options = version.partition("+")
    return ".".join(numbers.split(".")[:2]).replace("~", "-") + (f"-{options.replace('+', '-')}" if options else "")


def _ops(task: Task) -> Iterator[Op]:
    package = quote(str(task.package))
    if task.is_narrow:
        yield Shell(("/usr/bin/linux32", "/bin/sh", "-c"))
    yield User(1000, 1000)
    yield Workdir("/home/opam")
    yield Run(f"sudo ln -f /usr/bin/opam-{task.opam} /usr/bin/opam")
    yield Run("opam init --reinit --config .opamrc-sandbox -ni", (), _NETWORK)
    yield Run("opam option solver=builtin-0install && opam config report")
    for name, text in _ENVIRONMENT.items():
        yield Env(name, text)
    yield Run("rm -rf opam-repository/")
    yield Copy((".",), "opam-repository/")
    yield Run("opam repository set-url --strict default opam-repository/")
    yield Run("opam update --depexts || true", (), _NETWORK)
    yield Run(f"opam pin add -k version -yn {package} {quote(task.package.version)}")
    yield _install(task)
    if task.lower_bounds:
        for name in ("OPAMCRITERIA", "OPAMFIXUPCRITERIA", "OPAMUPGRADECRITERIA"):
            yield Env(name, _LOWEST)
        yield _install(task)
    if task.with_test:
        yield Run(f"(opam reinstall --with-test {package}) || true", (ARCHIVES,), _NETWORK)
        yield Run("\n".join(_script(task, f"opam reinstall --with-test --verbose {package}")))


def _install(task: Task) -> Op:
    invariant = " --update-invariant" if task.package.name in _COMPILERS else ""
    script = _script(task, f"opam reinstall{invariant} {quote(str(task.package))}")
    return Run("\n".join(script), (ARCHIVES,), _NETWORK)


def _script(task: Task, command: str) -> Iterator[str]:
    """Run opam; of a build that failed (31), tell the package's own failure from those of its dependencies."""
    package = quote(str(task.package))
    yield command
    yield "res=$?"
    yield "[ $res = 31 ] || exit $res"
    yield 'failed=$(ls "$(opam var prefix)/.opam-switch/build")'
    yield "others="
    yield "for each in $failed; do"
    yield f'    if opam show -f x-ci-accept-failures: "$each" | grep -qF \'"{task.system}"\'; then'
    yield '        echo "$each is known to fail here: x-ci-accept-failures"'
    yield "    fi"
    yield f'    [ "$each" = {package} ] || others="$others $each"'
    yield "done"
    yield '[ -z "$others" ] || echo "dependencies failing:$others"'
    yield "exit 1"
