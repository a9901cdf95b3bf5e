"""`obuild opam spec`, as it is typed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from planning import EXAMPLES

from obuild import cli
from obuild import spec as language
from obuild.spec import FromPackage, FromText, Spec

Run = Callable[..., tuple[int, str, str]]
NOTE = "note: there is no store yet; what its base has is not known\n"


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("OBUILD_STORE", raising=False)
    monkeypatch.setattr("obuild.cli.planner.default_store", lambda: f"copy:{tmp_path}/absent")

    def run(*words: str, platform: str = "debian-13-x86_64", before: Sequence[str] = ()) -> tuple[int, str, str]:
        options = [word for each in (*before, str(EXAMPLES)) for word in ("--repo", each)]
        options += ["--cache", str(tmp_path / "cache"), "--platform", platform]
        status = cli.main(["opam", "spec", *options, *words])
        return status, *capfd.readouterr()

    return run


def parsed(answer: tuple[int, str, str]) -> Spec:
    status, text, note = answer
    assert (status, note) == (0, NOTE)
    return language.parse(text, "spec")


def below(spec: Spec) -> list[str]:
    return [op.source.package for op in spec.ops if isinstance(getattr(op, "source", None), FromPackage)]


def test_the_spec_of_a_package(run: Run) -> None:
    spec = parsed(run("greet"))
    assert spec.base == "debian-13-x86_64"
    assert below(spec) == ["conf-cc.1", "libgreet.1.1", "ocaml-base-compiler.5.3.0", "ocaml.5.3.0"]
    assert run("greet") == run("greet.2.0")


def test_tests_need_more(run: Run) -> None:
    assert "greet-check.1" in below(parsed(run("greet", "--with-test")))


def test_the_spec_of_a_dependency(run: Run) -> None:
    assert below(parsed(run("greet", "--of", "libgreet"))) == ["conf-cc.1"]
    assert run("greet", "--of", "libgreet.1.1") == run("greet", "--of", "libgreet")
    assert run("greet", "--of", "libgret") == (
        2,
        "",
        f'{NOTE}obuild: "libgret" is not built for "greet.2.0"\nhint: did you mean "libgreet"?\n',
    )


@pytest.mark.parametrize("style", ["opam", "opam-repo-ci", "opam-health-check"])
def test_other_styles_are_obuilders_own(
    run: Run, style: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = run("greet", "--style", style, "--with-test")
    assert status == 0
    (tmp_path / "a.spec").write_text(text)
    assert cli.main(["check", "--obuilder", str(tmp_path / "a.spec")]) == 0
    assert capfd.readouterr().out == "1 file checked\n"
    assert "greet.2.0" in text


def clone_of(address: str, folder: Path) -> str:
    """A repository with one commit that says that it was cloned from an address; the commit."""
    (folder / "packages" / "greet" / "greet.2.1").mkdir(parents=True)
    (folder / "packages" / "greet" / "greet.2.1" / "opam").write_text('opam-version: "2.0"\ndepends: "libgreet"\n')
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    if address:
        subprocess.run([*git, "remote", "add", "origin", address], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()[:12]


def test_all_repositories_are_in_the_style_of_opam_health_check(run: Run, tmp_path: Path) -> None:
    """The first has priority; the last, here the examples, stands for opam's own one."""
    address = "https://obuild.example/{}/opam-repository.git"
    first, second = (clone_of(address.format(name), tmp_path / name) for name in ("ox", "more"))
    words = ["greet", "--style", "opam-health-check"]
    others = [f"git+file://{tmp_path}/ox", f"{tmp_path}/more@{second}"]
    _, text, _ = run(*words, before=others)
    lines = [op.shell for op in language.parse(text, "spec").ops if isinstance(op, language.Run)]
    assert lines[1].endswith("git clone -q https://github.com/ocaml/opam-repository.git ~/opam-repository")
    assert lines[3:7] == [
        f"git clone -q {address.format('ox')} ~/ox && git -C ~/ox checkout -q {first}",
        "opam repository add --dont-select ox ~/ox",
        f"git clone -q {address.format('more')} ~/more && git -C ~/more checkout -q {second}",
        "opam repository add --dont-select more ~/more",
    ]
    assert lines[7].startswith("opam switch create --repositories=ox,more,default ")
    assert "opam install -vy greet.2.1" in lines[-1]
    assert 'clone "ox-2"' in run(*words, before=[others[0], *twins(tmp_path)])[2]


def twins(folder: Path) -> list[str]:
    """A repository of the same name that nobody can clone."""
    clone_of("", folder / "twin" / "ox")
    return [str(folder / "twin" / "ox")]


def test_what_would_be_built(run: Run) -> None:
    _, text, _ = run("greet", "--plan")
    assert text.splitlines()[-1] == "5 packages on debian-13-x86_64: 5 to build, 0 there"
    _, text, _ = run("greet", "--json")
    assert [build["package"] for build in json.loads(text)["builds"]][-1] == "greet.2.0"
    _, text, _ = run("greet", "--dot")
    assert text.startswith("digraph opam {\n")


def test_another_platform_has_other_system_packages(run: Run) -> None:
    assert " add build-base" in run("greet", platform="alpine-3.22-x86_64")[1]
    assert run("conf-cc", platform="plan9-4-x86_64")[0] == 0


def test_a_value_that_only_building_tells(run: Run) -> None:
    status, _, text = run("greet-shout")
    assert status == 2
    assert text == (
        f'{NOTE}obuild: "greet-shout.1.0" needs the variable "home" of "greet-settings.1.0", which is known when that '
        "is built\nhint: obuild health-check greet-settings.1.0\n"
    )


def test_no_solution(run: Run) -> None:
    status, out, error = run("stuck")
    assert (status, out) == (3, "")
    assert "stuck" in error


def test_an_unknown_package(run: Run) -> None:
    assert run("gret") == (2, "", f'{NOTE}obuild: no package "gret"; did you mean "greet"?\n')


def test_patches_of_ones_own(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "patches" / "greet.2.0"
    folder.mkdir(parents=True)
    (folder / "b.patch").write_text("b")
    (folder / "a.patch").write_text("a")
    (folder / "README").write_text("no patch")
    spec = parsed(run("greet", "--patches", str(folder.parent)))
    texts = [op.source.text for op in spec.ops if isinstance(getattr(op, "source", None), FromText)]
    assert texts[-2:] == ["a", "b"]
    missing = run("greet", "--patches", str(tmp_path / "absent"))
    assert missing[0] == 2
    assert "can not read the patches" in missing[2]


def test_a_prefix_of_ones_own(run: Run) -> None:
    _, text, _ = run("greet", "--prefix", "/opt/switch")
    assert "/opt/switch/.opam-switch/build/greet.2.0" in text
    assert "/home/opam/.opam" not in text


def test_a_pinned_directory_needs_a_store_for_its_content(run: Run, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "mine.opam").write_text('opam-version: "2.0"\ndepends: "conf-cc"\nbuild: ["make"]\n')
    answer = run("mine", "--pin", str(tmp_path / "project"))
    assert answer[0] == 2
    assert 'the source of "mine.dev" has no checksum' in answer[2]
    options = ["--pin", str(tmp_path / "project"), "--store", f"copy:{tmp_path}/store"]
    status, text, note = run("mine", *options)
    assert status == 0
    assert 'note: the platform "debian-13-x86_64" has not been built' in note
    assert f"(url file://{tmp_path}/project)" in " ".join(text.split())
    assert "install mine.dev dev-" in " ".join(text.split())
    (tmp_path / "project" / "new").write_text("changed")
    assert run("mine", *options)[1] != text
