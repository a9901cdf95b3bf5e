"""Packages in a directory of the host: when they can be moved, what is in it then, updates, and what is refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from clinic import Clinic, install
from conftest import needs, soon, tree
from house import PROGRAM, House
from machine_opam import MachineOpam
from planning import EXAMPLES

from obuild.disk import Lock
from obuild.install.scan import relocations
from obuild.switch.prefix import Relocations

DEFAULT = "/home/opam/.opam/default"


class Shop(Clinic):
    """A clinic that also installs; the packages of the examples that need no compiler are there, too."""

    def words_of(self, *words: str | Path, directory: Path) -> list[str]:
        line = [PROGRAM, "install", "--store", self.house.store, "--platform", self.key, "--prefix", directory]
        line += ["--repo", self.repo, "--repo", EXAMPLES, "--cache", self.house.folder / "cache", *words]
        return [str(word) for word in line]

    def install(self, *words: str | Path, directory: Path) -> subprocess.CompletedProcess[str]:
        line = self.words_of(*words, directory=directory)
        return subprocess.run(line, capture_output=True, text=True, timeout=120)

    def layer(self, package: str, *facts: str) -> list[object]:
        """What `layer.json` says of a package of the last run."""
        meta = self.house.open().layer(f"{self.key}/{self.nodes()[package].outcome.id}").meta()
        return [meta[fact] for fact in facts]


@pytest.fixture
def clinic(house: House) -> Shop:
    return Shop(house)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "in" / "switch"


def done(answer: subprocess.CompletedProcess[str], status: int = 0) -> str:
    assert answer.returncode == status, answer.stderr
    return answer.stderr


def test_packages_that_can_be_moved(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"), user__1=install("user", depends='"base" "greet-settings"'))
    answer = clinic.install("user", directory=target)
    done(answer)
    assert "3 packages: 3 ok; 3 layers built" in answer.stdout
    assert answer.stdout.endswith(f"3 packages in {target}; to use them: . {target}/env.sh\n")
    assert "these packages were built on toy-1-x86_64" in answer.stderr
    assert (target / "share" / "base").read_text() == "base\n"
    assert {(info[1], info[0] & 0o022) for path, info in tree(target).items() if not (target / path).is_symlink()} == {
        (os.geteuid(), 0)
    }
    config = (target / ".opam-switch" / "config" / "greet-settings.config").read_text()
    assert f"{target}/share/greet-settings" in config
    assert DEFAULT not in config
    assert 'installed: ["base.1" "greet-settings.1.0" "user.1"]' in (target / ".opam-switch/switch-state").read_text()
    assert os.listdir(target.parent) == ["switch"]
    assert not (target.parent / "config").exists()


def test_the_environment(clinic: Shop, target: Path) -> None:
    done(clinic.install("greet-settings", directory=target))
    script = (
        f'. {target}/env.sh; echo "$OPAMSWITCH|$OPAM_SWITCH_PREFIX|$PATH|$MANPATH|$GREET_HOME|$GREET_PATH|$GREET_LATE"'
    )
    env = {"PATH": "/bin:/usr/bin", "GREET_PATH": "mine"}
    found = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True).stdout.strip().split("|")
    home = f"{target}/share/greet-settings"
    assert found == [
        str(target),
        str(target),
        f"{target}/bin:/bin:/usr/bin",
        f":{target}/man",
        home,
        f"{home}/words:mine",
        "late:",
    ]


@needs("opam")
def test_opam_says_the_same_of_the_environment(clinic: Shop, tmp_path: Path) -> None:
    target = tmp_path / "project" / "_opam"
    done(clinic.install("greet-settings", directory=target))
    opam = MachineOpam(tmp_path / "opam", EXAMPLES)
    script = opam.run("env", f"--switch={target.parent}", "--set-switch")
    ours, theirs = (shown(text) for text in (f". {target}/env.sh", script))
    assert ours == theirs
    assert ours["OPAMSWITCH"] == str(target.parent)


def shown(script: str) -> dict[str, str]:
    """The variables that a script leaves."""
    env = {"PATH": os.environ["PATH"], "GREET_PATH": ""}
    text = subprocess.run(["sh", "-c", f"{script}\nenv"], env=env, capture_output=True, text=True, check=True).stdout
    return dict(line.partition("=")[::2] for line in text.splitlines())


def test_packages_that_say_that_they_can_not_be_moved(clinic: Shop, target: Path) -> None:
    said = done(clinic.install("print-place", directory=target), 1)
    assert f'obuild: this can not be installed in "{target}":\n' in said
    assert '  "print-place.1.0" conflicts with "relocatable"\n' in said
    assert f"hint: they work at the prefix that they are built at: --prefix {DEFAULT}\n" in said
    assert not target.exists()
    assert clinic.runs() == []  # nothing was built for it


def test_files_that_hold_the_prefix(clinic: Shop, target: Path) -> None:
    clinic.write(
        base__1=install("base"),
        fixed__1='install: ["sh" "-c" "mkdir -p %{share}%/a; echo %{prefix}%/x >%{share}%/a/text; '
        'ln -s %{share}%/a/text %{bin}%/link; ln -s ../share/a/text %{bin}%/fine"]\ndepends: "base"',
    )
    said = done(clinic.install("fixed", directory=target), 1)
    assert 'files of "fixed.1" hold the prefix that it was built at: bin/link, share/a/text' in said
    assert "hint: these are texts, which --rewrite lets say the new prefix" in said
    layer = clinic.house.open().layer(f"{clinic.key}/{clinic.nodes()['fixed.1'].outcome.id}")
    known = json.loads(Path(layer.path, "relocations.json").read_text())
    assert known == {"format": 1, "prefix": DEFAULT, "texts": ["bin/link", "share/a/text"], "programs": []}
    assert relocations(layer, DEFAULT) == Relocations(("bin/link", "share/a/text"))
    done(clinic.install("fixed", "--rewrite", directory=target))
    assert (target / "bin" / "link").read_text() == f"{target}/x\n"
    assert os.readlink(target / "bin" / "link") == f"{target}/share/a/text"
    assert relocations(layer, "/home/opam/nowhere") == Relocations()
    assert clinic.house.open().fsck() == []


def test_a_compiler_that_can_not_be_moved_though_the_rules_say_so(clinic: Shop, target: Path) -> None:
    fixed = 'install: ["sh" "-c" "mkdir -p %{bin}%; echo %{prefix}%/lib/ocaml >%{bin}%/ocamlc"]\n'
    clinic.write(**{"ocaml-base-compiler__5.5.0": fixed, "ocaml-base-compiler__5.4.0": fixed})
    clinic.write(user__1=install("user", depends='"ocaml-base-compiler"'))
    said = done(clinic.install("user", directory=target), 1)
    assert 'files of "ocaml-base-compiler.5.5.0" hold the prefix that it was built at: bin/ocamlc\n' in said
    facts = ("relocatable", "relocatable_why", "relocatable_verified")
    why = "its compiler is OCaml 5.5.0 or later"
    assert clinic.layer("ocaml-base-compiler.5.5.0", *facts) == [True, why, False]
    assert clinic.layer("user.1", *facts) == [True, why, True]
    said = done(clinic.install("user", "ocaml-base-compiler.5.4.0", directory=target), 1)
    assert '"ocaml-base-compiler.5.4.0" is a compiler that can not be moved' in said
    assert not target.exists()


def test_programs_that_hold_the_prefix(clinic: Shop, target: Path) -> None:
    clinic.write(
        program__1='build: ["dd" "if=/dev/zero" "of=zero" "bs=1" "count=1"]\n'
        'install: ["sh" "-c" "mkdir -p %{bin}%; (cat zero; echo %{bin}%) >%{bin}%/program"]\n'
        'depends: "text"',
        text__1='install: ["sh" "-c" "mkdir -p %{share}%; echo %{bin}% >%{share}%/text; chmod 444 %{share}%/text"]',
    )
    said = done(clinic.install("program", directory=target), 1)
    assert "bin/program" in said
    assert "share/text" in said
    said = done(clinic.install("program", "--rewrite", directory=target), 1)
    assert "bin/program" in said
    assert "share/text" not in said
    assert not target.exists()
    done(clinic.install("text", "--rewrite", directory=target))
    assert (target / "share" / "text").read_text() == f"{target}/bin\n"
    assert (target / "share" / "text").stat().st_mode & 0o777 == 0o444


def test_the_build_directory_may_be_named_anywhere(clinic: Shop, target: Path) -> None:
    clinic.write(debug__1='install: ["sh" "-c" "mkdir -p %{share}% && pwd >%{share}%/debug"]')
    done(clinic.install("debug", directory=target))
    assert ".opam-switch/build/debug.1" in (target / "share" / "debug").read_text()


def test_what_can_not_be_moved_works_where_it_was_built(clinic: Shop) -> None:
    text = 'install: ["sh" "-c" "mkdir -p %{bin}%; echo echo %{prefix}% >%{bin}%/place; chmod 755 %{bin}%/place"]'
    clinic.write(place__1=f'{text}\nconflicts: "relocatable"')
    line = shlex.join(clinic.words_of("place", directory=Path(DEFAULT)))
    script = f"mount -t tmpfs none /home && {line} && {DEFAULT}/bin/place"  # /home of this process alone
    answer = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    done(answer)
    assert answer.stdout.endswith(f"\n{DEFAULT}\n")


# A directory that is there.


def test_an_update(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"), other__1=install("other"), base__2=install("base", first="echo 2"))
    done(clinic.install("base.1", directory=target))
    done(clinic.install("other", directory=target))
    assert sorted(path.name for path in (target / "share").iterdir()) == ["base", "other"]
    assert json.loads((target / ".obuild.json").read_text())["asked"] == ["base.1", "other"]
    done(clinic.install("base", directory=target))
    facts = json.loads((target / ".obuild.json").read_text())
    assert facts["asked"] == ["other", "base"]
    assert set(facts["packages"]) == {"base.2", "other.1"}


def test_an_empty_directory_will_do_and_another_will_not(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"))
    target.mkdir(parents=True)
    done(clinic.install("base", directory=target))
    strange = target.parent / "strange"
    strange.mkdir()
    (strange / "mine").write_text("mine")
    assert "has files that obuild did not put there" in done(clinic.install("base", directory=strange), 2)
    assert (strange / "mine").read_text() == "mine"
    assert "not a directory" in done(clinic.install("base", directory=strange / "mine"), 2)
    (target / ".obuild.json").write_text("{")
    assert "is damaged" in done(clinic.install("base", directory=target), 2)


def test_an_update_loses_nothing(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"))
    done(clinic.install("base", directory=target))
    (target / "share" / "mine").write_text("mine")
    (target / "share" / "base").write_text("changed by me")
    said = done(clinic.install("base", directory=target), 2)
    assert f'files in "{target}" were put there or changed since obuild installed it: share/base, share/mine' in said
    assert (target / "share" / "mine").read_text() == "mine"


def test_what_a_killed_process_left_is_removed(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"))
    left = target.parent / ".switch.obuild-new"
    (left / "some").mkdir(parents=True)
    lock = Lock.take(str(left))
    said = done(clinic.install("base", directory=target), 1)
    assert "is being installed by another process" in said
    lock.release()
    done(clinic.install("base", directory=target))
    assert os.listdir(target.parent) == ["switch"]


def test_a_link_to_a_directory(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"))
    target.parent.mkdir()
    target.symlink_to(target.parent / "real")
    done(clinic.install("base", directory=target))
    done(clinic.install("base", directory=target))
    assert target.is_symlink()
    assert json.loads((target.parent / "real" / ".obuild.json").read_text())["asked"] == ["base"]


def test_a_directory_that_another_process_changes_meanwhile(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"), slow__1=install("slow", first="sleep 3"))
    line = clinic.words_of("slow", directory=target)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert soon(lambda: len(clinic.runs()) == 1)
    done(clinic.install("base", directory=target))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f'"{target}" was changed by another process\nhint: try again\n' in said
    done(clinic.install("slow", directory=target))
    assert json.loads((target / ".obuild.json").read_text())["asked"] == ["base", "slow"]


def test_what_does_not_go(clinic: Shop, target: Path) -> None:
    clinic.write(a__1=install("a", depends='"b" {= "1"}'), b__1=install("b"), b__2=install("b"))
    assert "no solution for a b.2" in done(clinic.install("a", "b.2", directory=target), 3)
    assert 'no package "bse"' in done(clinic.install("bse", directory=target), 2)
    clinic.write(bad__1='build: "false"')
    answer = clinic.install("bad", directory=target)
    assert answer.returncode == 1
    assert "FAIL  bad.1" in answer.stdout
    assert not target.exists()


def test_conflicts_are_told(clinic: Shop, target: Path) -> None:
    same = 'install: ["sh" "-c" "mkdir -p %{share}%; echo x >%{share}%/same"]'
    clinic.write(one__1=same, two__1=same)
    assert "note: home/opam/.opam/default/share/same is of one.1 and two.1" in done(
        clinic.install("one", "two", directory=target)
    )


def test_killed_while_it_updates(clinic: Shop, target: Path) -> None:
    many = "mkdir -p %{share}%/many; for i in `seq 4000`; do echo $i >%{share}%/many/$i; done"
    clinic.write(base__1=install("base"), many__1=f'install: ["sh" "-c" "{many}"]')
    done(clinic.install("base", directory=target))
    assert clinic.check("many").returncode == 0
    before = tree(target)
    process = subprocess.Popen(clinic.words_of("many", directory=target), stdout=subprocess.DEVNULL)
    draft = target.parent / ".switch.obuild-new"
    assert soon(lambda: any(draft.glob("*")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert draft.exists()
    assert tree(target) == before
    done(clinic.install("many", directory=target))
    assert len(os.listdir(target / "share" / "many")) == 4000
    assert os.listdir(target.parent) == ["switch"]


def test_stopped_while_it_updates(clinic: Shop, target: Path) -> None:
    clinic.write(base__1=install("base"), slow__1=install("slow", first="sleep 60"))
    done(clinic.install("base", directory=target))
    before = tree(target)
    process = subprocess.Popen(clinic.words_of("slow", directory=target), stdout=subprocess.DEVNULL)
    assert soon(lambda: len(clinic.runs()) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert tree(target) == before
    assert os.listdir(target.parent) == ["switch"]
