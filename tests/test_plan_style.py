"""Specs in the styles of other programs: their steps in order, and nothing that OBuilder would not understand."""

from __future__ import annotations

import subprocess

import pytest

from obuild import spec as language
from obuild.errors import UsageError
from obuild.opam.package import parse_package
from obuild.opam.platform import parse_platform
from obuild.plan.style import STYLES, Origin, Task, style_spec
from obuild.spec import Copy, Env, Run, Shell, Spec
from obuild.value import replace

TASK = Task(
    package=parse_package("re.1.11.0"),
    platform=parse_platform("debian-13-x86_64"),
    solution=tuple(map(parse_package, ["dune.3.17.2", "ocaml-base-compiler.5.3.0", "re.1.11.0"])),
    compiler="ocaml-base-compiler.5.3.0",
    commit="0123456789ab",
    opam="2.3",
)


def runs(spec: Spec) -> list[Run]:
    return [op for op in spec.ops if isinstance(op, Run)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("key", ["debian-13-x86_64", "alpine-3.22-x86_64", "debian-12-x86_32"])
@pytest.mark.parametrize("options", [{}, {"with_test": True, "lower_bounds": True}, {"compiler": "", "solution": ()}])
def test_obuilder_understands_it(style: str, key: str, options: dict[str, object]) -> None:
    task = replace(TASK, platform=parse_platform(key), **options)
    text = language.format(style_spec(style, task))
    assert language.extensions(text, style) == ()
    spec = language.parse(text, style)
    assert language.doubts(spec) == ()
    assert spec == style_spec(style, task)
    for run in runs(spec):
        assert subprocess.run(["sh", "-n", "-c", run.shell], capture_output=True).stderr == b""


@pytest.mark.parametrize("style", STYLES)
def test_a_processor_of_32_bits(style: str) -> None:
    narrow = style_spec(style, replace(TASK, platform=parse_platform("debian-13-x86_32")))
    assert Shell(("/usr/bin/linux32", "/bin/sh", "-c")) in narrow.ops
    wide = style_spec(style, TASK)
    assert all("linux32" not in op.words[0] for op in wide.ops if isinstance(op, Shell))


def test_there_is_no_such_style() -> None:
    with pytest.raises(UsageError, match=r'no style "opam-ci-repo"') as caught:
        style_spec("opam-ci-repo", TASK)
    assert caught.value.hint == 'did you mean "opam-repo-ci"?'


def test_the_steps_of_opam() -> None:
    spec = style_spec("opam", replace(TASK, with_test=True))
    assert spec.base == "ocaml/opam:debian-13"
    *_, depexts, fetch, others, last = runs(spec)
    assert depexts.shell.endswith("--depext-only dune.3.17.2 ocaml-base-compiler.5.3.0 re.1.11.0")
    assert (depexts.network, fetch.network) == (("host",), ("host",))
    assert (others.network, last.network) == ((), ())
    assert others.shell == "opam install dune.3.17.2 ocaml-base-compiler.5.3.0"
    assert last.shell == "opam install --verbose re.1.11.0 --with-test"
    assert all(run.cache for run in (fetch, others, last))


def test_the_steps_of_opam_health_check() -> None:
    spec = style_spec(
        "opam-health-check", replace(TASK, others=(Origin("ox", "https://obuild.example/ox.git", "fedc"),))
    )
    assert spec.base == "ocaml/opam:debian-13"
    lines = [run.shell.splitlines()[0] for run in runs(spec)]
    repository = "https://github.com/ocaml/opam-repository.git"
    assert lines == [
        "sudo ln -f /usr/bin/opam-2.3 /usr/bin/opam",
        f"rm -rf ~/opam-repository && git clone -q {repository} ~/opam-repository"
        " && git -C ~/opam-repository checkout -q 0123456789ab",
        "rm -rf ~/.opam && opam init -ya --bare --config ~/.opamrc-sandbox ~/opam-repository",
        "git clone -q https://obuild.example/ox.git ~/ox && git -C ~/ox checkout -q fedc",
        "opam repository add --dont-select ox ~/ox",
        "opam switch create --repositories=ox,default 5.3.0 ocaml-base-compiler.5.3.0",
        "opam update --depexts",
        "opam remove -y re.1.11.0",
    ]
    assert [bool(run.network) for run in runs(spec)] == [False, True, False, True, False, True, True, True]
    assert [bool(run.cache) for run in runs(spec)] == [False] * 5 + [True, False, True]
    assert [op.name for op in spec.ops if isinstance(op, Env)][:2] == ["OPAMPRECISETRACKING", "OPAMUTF8"]


def test_others_have_priority_in_their_order() -> None:
    others = tuple([Origin(name, f"https://obuild.example/{name}.git", "") for name in ("mine", "ox")])
    lines = [run.shell for run in runs(style_spec("opam-health-check", replace(TASK, others=others)))]
    assert lines[3:7] == [
        "git clone -q https://obuild.example/mine.git ~/mine",
        "opam repository add --dont-select mine ~/mine",
        "git clone -q https://obuild.example/ox.git ~/ox",
        "opam repository add --dont-select ox ~/ox",
    ]
    assert "--repositories=mine,ox,default " in lines[7]
    with pytest.raises(UsageError, match='could clone "mine"'):
        style_spec("opam-health-check", replace(TASK, others=(Origin("mine", "", "fedc"),)))


def test_old_compilers_need_another_one() -> None:
    old = style_spec("opam-health-check", replace(TASK, compiler="ocaml-base-compiler.4.07.1"))
    assert "opam install -y ocaml-secondary-compiler" in [run.shell for run in runs(old)]
    new = style_spec("opam-health-check", replace(TASK, compiler="ocaml-base-compiler.4.08.0"))
    assert not [run for run in runs(new) if "secondary" in run.shell]


def test_the_steps_of_opam_repo_ci() -> None:
    spec = style_spec("opam-repo-ci", replace(TASK, with_test=True))
    assert spec.base == "ocaml/opam:debian-13-ocaml-5.3"
    assert [run.shell.splitlines()[0] for run in runs(spec)] == [
        "sudo ln -f /usr/bin/opam-2.3 /usr/bin/opam",
        "opam init --reinit --config .opamrc-sandbox -ni",
        "opam option solver=builtin-0install && opam config report",
        "rm -rf opam-repository/",
        "opam repository set-url --strict default opam-repository/",
        "opam update --depexts || true",
        "opam pin add -k version -yn re.1.11.0 1.11.0",
        "opam reinstall re.1.11.0",
        "(opam reinstall --with-test re.1.11.0) || true",
        "opam reinstall --with-test --verbose re.1.11.0",
    ]
    assert Copy((".",), "opam-repository/") in spec.ops
    tests = runs(spec)[-1]
    assert (tests.network, tests.cache) == ((), ())


@pytest.mark.parametrize(
    ("compiler", "tag"),
    [
        ("ocaml-base-compiler.4.14.2", "4.14"),
        ("ocaml-variants.5.4.0+flambda", "5.4-flambda"),
        ("ocaml-system.5.3.0", "5.3"),
    ],
)
def test_images_of_compilers(compiler: str, tag: str) -> None:
    assert style_spec("opam-repo-ci", replace(TASK, compiler=compiler)).base == f"ocaml/opam:debian-13-ocaml-{tag}"


def test_a_compiler_changes_the_invariant() -> None:
    task = replace(TASK, package=parse_package("ocaml-variants.5.4.0+flambda"))
    assert (
        "opam reinstall --update-invariant ocaml-variants.5.4.0+flambda"
        in runs(style_spec("opam-repo-ci", task))[7].shell
    )


def script(style: str, status: int, accepted: str, *, failed: str = "", **options: object) -> tuple[int, str]:
    """What the last step makes of an opam that ends with `status`."""
    text = runs(style_spec(style, replace(TASK, **options)))[-1].shell
    opam = f"""opam() {{
        case "$*" in
        remove*) ;;
        var*) echo /tmp/none ;;
        show*) echo '{accepted}' ;;
        *) echo "opam $*"; return {status} ;;
        esac
    }}
    ls() {{ echo {failed}; }}
    """
    done = subprocess.run(["sh", "-c", opam + text], capture_output=True, text=True)
    return done.returncode, done.stdout


def test_what_is_known_to_fail_is_told_apart() -> None:
    assert script("opam-health-check", 31, '["debian-13"]')[0] == 69
    assert script("opam-health-check", 31, '["debian-12"]')[0] == 31
    assert script("opam-health-check", 0, "")[0] == 0
    assert script("opam-health-check", 20, "", with_test=True)[0] == 20
    assert script("opam-health-check", 0, "", with_test=True, lower_bounds=True) == (
        0,
        "opam install -vy re.1.11.0\nopam install -vty re.1.11.0\nopam install -vy re.1.11.0\n",
    )


def test_failures_of_dependencies_are_told_apart() -> None:
    assert script("opam-repo-ci", 20, "")[0] == 20
    status, text = script("opam-repo-ci", 31, "", failed="dune.3.17.2 re.1.11.0")
    assert (status, text.splitlines()[-1]) == (1, "dependencies failing: dune.3.17.2")
    status, text = script("opam-repo-ci", 31, '["debian-13"]', failed="re.1.11.0")
    assert (status, text.splitlines()[-1]) == (1, "re.1.11.0 is known to fail here: x-ci-accept-failures")
