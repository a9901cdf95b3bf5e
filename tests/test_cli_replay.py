"""Failed builds again: the step that failed, others, in a shell, edited, where something was pruned, elsewhere."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
from clinic import Clinic, install
from conftest import alive, soon
from house import PROGRAM, House, gone
from terminal import Terminal

from obuild.platform.make import build_platform
from obuild.platform.recipe import Recipe
from obuild.replay import find_failure
from obuild.replay.memory import ASKED
from obuild.runs.run import list_runs
from obuild.store import Layer, Store, open_store

COUNTS = 'build: [["sh" "-c" "echo one >one; date >when"] ["sh" "-c" "{}"] ["sh" "-c" "echo third; cat one"]]'
"""Three commands, of which the second is to be given."""


class Practice(Clinic):
    """A clinic that also replays."""

    def replay(
        self, *words: str | Path, store: str = "", stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        line = [PROGRAM, "replay", "--store", store or self.house.store, "--cache", self.house.folder / "cache", *words]
        whole = {**os.environ, "EDITOR": "false", **env}
        return subprocess.run(
            [str(word) for word in line], input=stdin, capture_output=True, text=True, timeout=120, env=whole
        )

    @property
    def store(self) -> Store:
        return self.house.open()

    def break_(self, command: str = "exit 3", depends: str = "", name: str = "bad", **others: str) -> str:
        """Let a package fail in its second step; the key of its build."""
        text = COUNTS.format(command) + (f"\ndepends: [{depends}]" if depends else "")
        self.write(**{f"{name}__1": text}, **others)
        assert self.check(name).returncode == 1
        return self.nodes()[f"{name}.1"].outcome.id

    def steps(self) -> set[str]:
        """The layers that are no package's."""
        return {layer.id for layer in self.store.layers() if "/" not in layer.id}


@pytest.fixture
def clinic(house: House) -> Practice:
    return Practice(house)


def archive(folder: Path, **files: str) -> tuple[Path, str]:
    """A tar with these files, and its checksum."""
    for name, text in files.items():
        (folder / name).write_text(text)
    path = folder / "source.tar"
    with tarfile.open(path, "w") as tar:
        for name in files:
            tar.add(folder / name, f"source/{name}")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


# Which failure.


def test_a_failure_is_found_by_all_that_people_have(clinic: Practice) -> None:
    key = clinic.break_()
    run = list_runs(clinic.root)[-1]
    log = run.log("bad.1")
    assert log
    kept = f"{clinic.store.path}/failed/{clinic.key}%2f{key}"
    for text in ("bad", "bad.1", key, key[:12], f"{clinic.key}/{key}", log, f"{kept}/build.log", kept):
        failed, others = find_failure(clinic.store, text)
        assert (failed.package, failed.key, others) == ("bad.1", key, 0), text
    assert find_failure(clinic.store, "bad", "toy")[0].key == key
    assert find_failure(clinic.store, "bad", clinic.key)[0].key == key


def test_unknown_names(clinic: Practice, tmp_path: Path) -> None:
    assert "obuild health-check builds packages" in clinic.replay("bad").stderr
    key = clinic.break_(name="broken")
    for word, said in {
        "brokn": 'hint: did you mean "broken"?',
        "ffffffffffff": "hint: failed: broken.1",
        key[:3]: "remembers no failure",
        "no/such.log": 'there is no log "no/such.log"',
        "broken --platform other": "remembers no failure",
    }.items():
        done = clinic.replay(*word.split())
        assert done.returncode == 2
        assert said in done.stderr
    other = tmp_path / "other.log"
    other.write_text("")
    assert f'the store remembers no failure for "{other}"' in clinic.replay(other).stderr


def test_of_several_failures_the_last_is_meant(clinic: Practice) -> None:
    clinic.break_("exit 3")
    last = clinic.break_("exit 4")
    failed, others = find_failure(clinic.store, "bad")
    assert (failed.key, others) == (last, 1)
    assert "another failure of it is older" in clinic.replay("bad").stderr


def test_the_log_of_a_build_that_has_succeeded_since(clinic: Practice, tmp_path: Path) -> None:
    clinic.write(bad__1=install("bad", first=f"test -e {tmp_path}/no || ping -c 1 nobody"))
    assert clinic.check("bad").returncode == 1
    log = list_runs(clinic.root)[-1].log("bad.1")
    failed = find_failure(clinic.store, "bad")[0]
    Path(clinic.store.path, failed.id).mkdir(parents=True)
    clinic.store.discard(failed.layer.path)
    done = clinic.replay(str(log))
    assert done.returncode == 2
    assert "has succeeded since" in done.stderr


# Steps.


def test_only_the_step_that_failed_is_run(clinic: Practice) -> None:
    clinic.break_("echo two; exit 3")
    before = clinic.steps()
    done = clinic.replay("bad")
    assert done.returncode == 1
    assert '"bad.1" on toy-1-x86_64 failed' in done.stderr
    assert "in step 2 of 4" in done.stderr
    assert "failed with exit status 3" in done.stderr
    assert done.stdout.endswith("two\n")
    assert "echo one" not in done.stdout
    assert clinic.steps() == before
    look = next(line for line in done.stderr.splitlines() if line.startswith("look inside: "))
    assert subprocess.run([PROGRAM.parent / "obuild", *look.split()[3:], "--", "cat", "one"]).returncode == 0


def test_after_its_cause_is_gone_it_succeeds_and_is_finished(clinic: Practice, tmp_path: Path) -> None:
    path, digest = archive(tmp_path, data="from the archive\n")
    path.rename(tmp_path / "elsewhere")
    source = f'url {{ src: "file://{path}" checksum: "sha256={digest}" }}'
    clinic.write(late__1=f"{install('late', first='cat data')}\n{source}")
    assert clinic.check("late").returncode == 1
    assert clinic.nodes()["late.1"].outcome.category == "fetch_failure"
    assert clinic.replay("late").returncode == 4
    (tmp_path / "elsewhere").rename(path)
    done = clinic.replay("late")
    assert done.returncode == 0, done.stderr
    assert 'step 1 of "late.1" succeeds now; to finish it: obuild health-check late.1' in done.stderr
    assert clinic.check("late").returncode == 0
    assert clinic.store.failed() == []
    assert clinic.store.fsck() == []


def test_a_success_is_what_the_next_build_finds(clinic: Practice) -> None:
    clinic.break_("test ${OBUILD_JOBS} = 7")
    assert clinic.replay("bad").returncode == 1
    assert clinic.replay("bad", "-j", "7").returncode == 0
    assert clinic.check("bad").returncode == 0  # with a share of the machine that makes the step fail
    assert [layer for layer in clinic.store.failed() if "/" in layer.id] == []


def test_other_steps_and_all_of_them(clinic: Practice) -> None:
    clinic.break_("test ${OBUILD_JOBS} = 7")
    before = clinic.steps()
    first = clinic.replay("bad", "--step", "1")
    assert first.returncode == 0
    assert 'step 1 of "bad.1" succeeds' in first.stderr
    assert clinic.replay("bad", "--from-start").returncode == 1
    whole = clinic.replay("bad", "--from-start", "-j", "7")
    assert whole.returncode == 0, whole.stderr
    assert 'all steps of "bad.1" succeed now' in whole.stderr
    assert whole.stdout.endswith("third\none\n") or "third\none\n" in whole.stdout
    assert clinic.steps() == before
    assert clinic.replay("bad").returncode == 1
    listed = clinic.replay("bad", "--list").stdout.splitlines()
    assert [line[:4] for line in listed] == ["   1", "!  2", "   3", "   4"]
    assert "no step 5" in clinic.replay("bad", "--step", "5").stderr


def test_a_package_that_was_refused_at_its_end(clinic: Practice) -> None:
    clinic.write(stray__1='install: ["sh" "-c" "mkdir -p /home/opam/.opam/other && touch /home/opam/.opam/other/x"]')
    assert clinic.check("stray").returncode == 1
    done = clinic.replay("stray")
    assert done.returncode == 1
    assert "after all its 2 steps" in done.stderr
    assert "wrote outside its prefix" in done.stderr


@pytest.mark.parametrize(
    "words", [["--shell", "--edit"], ["--step", "1", "--from-start"], ["--list", "--export", "x"], ["--", "true"]]
)
def test_what_does_not_go_together(clinic: Practice, words: list[str]) -> None:
    assert clinic.replay("bad", *words).returncode == 2


# By hand.


def test_a_shell_where_the_step_is_about_to_run(clinic: Practice) -> None:
    clinic.break_("echo two >two; exit 3")
    script = "cat one; ls; id -u; pwd; echo $OPAM_PACKAGE_NAME; exit 5"
    done = clinic.replay("bad", "--shell", "--", "sh", "-c", script)
    assert done.returncode == 5
    folder = "/home/opam/.opam/default/.opam-switch/build/bad.1"
    assert done.stdout == f"one\none\nwhen\n1000\n{folder}\nbad\n"
    assert "before step 2 of 4, which does: sh -c 'echo two >two; exit 3'" in done.stderr
    assert clinic.replay("bad", "--shell", stdin="ls\n").stdout == "one\nwhen\n"
    assert clinic.replay("bad", "--shell", "--from-start", stdin="ls\n").stdout == ""
    before = clinic.steps()
    assert clinic.replay("bad", "--shell", "--step", "3", stdin="ls\n").returncode == 1  # the second fails
    assert clinic.steps() == before


def test_an_edited_spec(clinic: Practice, tmp_path: Path) -> None:
    clinic.break_("exit 3")
    editor = tmp_path / "edit"
    editor.write_text('#!/bin/sh\nsed -i "/(run/s/exit 3/echo mended/" "$1"\n')
    editor.chmod(0o755)
    layers = {layer.id for layer in clinic.store.layers() if "/" in layer.id}
    done = clinic.replay("bad", "--edit", EDITOR=str(editor))
    assert done.returncode == 0, done.stderr
    assert "mended\n" in done.stdout
    assert "echo one" not in done.stdout
    assert "nothing is saved" in done.stderr
    assert {layer.id for layer in clinic.store.layers() if "/" in layer.id} == layers
    again = clinic.replay("bad", "--edit", EDITOR="true")
    assert "these are your last changes" in again.stderr
    assert again.returncode == 0
    assert clinic.replay("bad").returncode == 1
    editor.write_text('#!/bin/sh\necho "(" >"$1"\n')
    assert clinic.replay("bad", "--edit", VISUAL=str(editor)).returncode == 2
    assert "nothing was run" in clinic.replay("bad", "--edit", EDITOR="false").stderr


# What is not there any more.


def test_pruned_steps_are_made_again(clinic: Practice) -> None:
    clinic.break_("echo two; exit 3")
    failed, _ = find_failure(clinic.store, "bad")
    first = failed.meta["steps"][-1]
    clinic.store.discard(Layer(first, f"{clinic.store.path}/steps/{first}").path)
    done = clinic.replay("bad")
    assert done.returncode == 1
    assert "a layer of the steps before it not in the store any more: made again" in done.stderr
    assert "echo one" in done.stdout
    assert done.stdout.endswith("two\n")
    assert "made again" not in clinic.replay("bad").stderr


def test_pruned_packages_are_built_again(clinic: Practice) -> None:
    clinic.break_("exit 3", '"user"', base__1=install("base"), user__1=install("user", depends='"base"'))
    user = clinic.nodes()["user.1"].outcome.id
    store = clinic.store
    store.discard(f"{store.path}/{clinic.key}/{user}")
    done = clinic.replay("bad")
    assert done.returncode == 1
    assert "not in the store any more, and built again: user.1" in done.stderr
    assert "[1/1] ok    user.1" in done.stdout
    assert "failed with exit status 3" in done.stderr
    assert "built again" not in clinic.replay("bad").stderr


def test_pruned_packages_of_other_repositories(clinic: Practice, tmp_path: Path) -> None:
    clinic.break_("exit 3", '"base"', base__1=install("base"))
    store = clinic.store
    store.discard(f"{store.path}/{clinic.key}/{clinic.nodes()['base.1'].outcome.id}")
    clinic.write(base__1=install("base", first="echo changed"))
    changed = clinic.replay("bad")
    assert changed.returncode == 2
    assert "is not the build that failed" in changed.stderr
    Path(clinic.root).rename(tmp_path / "away")
    done = clinic.replay("bad")
    assert done.returncode == 2
    assert "needs what is not in the store any more: base.1\nhint: --repo" in done.stderr


def test_another_base(clinic: Practice) -> None:
    clinic.break_()
    recipe = clinic.house.folder / "toy.spec"
    recipe.write_text(recipe.read_text().replace("mkdir -p", "touch /new; mkdir -p"))
    assert build_platform(clinic.house.builder(), Recipe("toy", str(recipe))).key == clinic.key
    done = clinic.replay("bad")
    assert done.returncode == 2
    assert "has another base than when" in done.stderr


# Elsewhere.


def exported(clinic: Practice, tmp_path: Path, *words: str) -> Path:
    done = clinic.replay("bad", "--export", tmp_path / "parcel", *words)
    assert done.returncode == 0, done.stderr
    return tmp_path / "parcel"


def test_on_another_machine(clinic: Practice, tmp_path: Path) -> None:
    path, digest = archive(tmp_path, data="from the archive\n")
    source = f'url {{ src: "file://{path}" checksum: "sha256={digest}" }}'
    build = 'build: [["cat" "data"] ["sh" "-c" "cat %{share}%/base; exit 9"]]\ndepends: "base"'
    clinic.write(base__1=install("base"), bad__1=f"{build}\n{source}")
    assert clinic.check("bad").returncode == 1
    parcel = exported(clinic, tmp_path)
    assert "obuild replay parcel" in (parcel / "README").read_text()
    path.unlink()
    Path(clinic.repo).rename(tmp_path / "gone")
    for kind in ("overlay", "copy"):
        store = f"{kind}:{tmp_path}/{kind}"
        done = clinic.replay(parcel, "--offline", store=store)
        assert done.returncode == 1, done.stderr
        assert "in step 3 of 4" in done.stderr
        assert done.stdout.endswith("base\n")
        assert "failed with exit status 9" in done.stderr
        again = clinic.replay("bad", "--offline", store=store)
        assert again.stdout.count("\n") < done.stdout.count("\n")
        assert again.stdout.endswith("base\n")
        assert clinic.replay(parcel, "--shell", "--", "cat", "data", store=store).stdout == "from the archive\n"
        assert subprocess.run([PROGRAM, "fsck", "--store", store]).returncode == 0


def sourced(folder: Path, name: str, **files: str) -> str:
    """The url of a package, which is gone as soon as `folder` is."""
    (folder / name).mkdir(parents=True)
    path, digest = archive(folder / name, **files)
    return f'url {{ src: "file://{path}" checksum: "sha256={digest}" }}'


def test_what_it_stands_on_is_built_elsewhere(clinic: Practice, tmp_path: Path) -> None:
    one = sourced(tmp_path / "sources", "one", data="of one\n")
    clinic.write(one__1=f"{install('one', first='cat data')}\n{one}")
    clinic.write(two__1=install("two", first="cat %{share}%/one", depends='"one"'))
    bad = sourced(tmp_path / "sources", "bad", data="of bad\n")
    clinic.write(bad__1=f'build: ["sh" "-c" "cat data %{{share}}%/one %{{share}}%/two; exit 9"]\ndepends: "two"\n{bad}')
    assert clinic.check("bad").returncode == 1
    whole, parcel = exported(clinic, tmp_path), tmp_path / "specs"
    assert clinic.replay("bad", "--export", parcel, "--specs").returncode == 0
    assert sorted(path.name for path in (parcel / "packages").rglob("*")) == sorted(
        ["one.1", "two.1", *["build.spec", "opam"] * 2]
    )
    archives = [[path for path in (each / "sources").rglob("*") if path.is_file()] for each in (whole, parcel)]
    assert list(map(len, archives)) == [1, 2]
    (tmp_path / "sources").rename(tmp_path / "gone")
    Path(clinic.repo).rename(tmp_path / "gone-too")
    store = f"overlay:{tmp_path}/second"
    done = clinic.replay(parcel, "--offline", store=store)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("built from its spec: one.1\nbuilt from its spec: two.1\n")
    assert done.stdout.endswith("of bad\none\ntwo\n")
    known = [{layer.id: layer.meta() for layer in each.layers()} for each in (clinic.store, open_store(store))]
    names = [name for name in known[0] if "/" in name]
    assert len(names) == 2
    for name in names:
        mine, other = ({fact: meta[name].get(fact) for fact in ASKED} for meta in known)
        assert mine == other
    assert "built from" not in clinic.replay(parcel, "--offline", store=store).stderr
    assert subprocess.run([PROGRAM, "fsck", "--store", store]).returncode == 0


def test_sources_that_are_directories_are_brought_for_all(clinic: Practice, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "data").write_text("of the project\n")
    (project / "below.opam").write_text(
        'opam-version: "2.0"\ninstall: [["mkdir" "-p" share] ["cp" "data" "%{share}%/below"]]\n'
    )
    (project / "bad.opam").write_text(
        'opam-version: "2.0"\ndepends: "below"\nbuild: ["sh" "-c" "cat data %{share}%/below; exit 9"]\n'
    )
    assert clinic.check("bad", "--pin", project).returncode == 1
    parcel = exported(clinic, tmp_path, "--specs")
    project.rename(tmp_path / "gone")
    done = clinic.replay(parcel, "--offline", store=f"overlay:{tmp_path}/second")
    assert done.returncode == 1, done.stderr
    assert "built from its spec: below.dev\n" in done.stderr
    assert done.stdout.endswith("of the project\nof the project\n")


def test_what_it_stands_on_does_not_build_elsewhere(clinic: Practice, tmp_path: Path) -> None:
    clinic.break_(depends='"one"', one__1=install("one", first=f"test $OBUILD_JOBS -lt {os.cpu_count()}00"))
    parcel, store = tmp_path / "specs", f"overlay:{tmp_path}/second"
    assert clinic.replay("bad", "--export", parcel, "--specs").returncode == 0
    done = clinic.replay(parcel, "-j", f"{os.cpu_count()}00", store=store)
    assert done.returncode == 1
    assert '"one.1", which it needs, fails here: ' in done.stderr
    assert "hint: obuild replay one.1" in done.stderr
    assert clinic.replay("one", "-j", "1", store=store).returncode == 0
    assert "built from its spec: one.1" in clinic.replay(parcel, "-j", "1", store=store).stderr
    assert "--export DIR" in clinic.replay("bad", "--specs").stderr


def test_a_source_that_is_a_directory(clinic: Practice, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "bad.opam").write_text('opam-version: "2.0"\nbuild: ["sh" "-c" "cat data; exit 9"]\n')
    (project / "data").write_text("of the project\n")
    assert clinic.check("--pin", project).returncode == 1
    parcel = exported(clinic, tmp_path)
    project.rename(tmp_path / "gone")
    done = clinic.replay(parcel, "--offline", store=f"overlay:{tmp_path}/second")
    assert done.returncode == 1
    assert done.stdout.endswith("of the project\n")


def test_exports_that_can_not_be(clinic: Practice, tmp_path: Path) -> None:
    clinic.break_(base__1=install("base"), depends='"base"')
    parcel = exported(clinic, tmp_path)
    assert "exists already" in clinic.replay("bad", "--export", parcel).stderr
    other = f"overlay:{tmp_path}/second"
    tar = parcel / "packages" / "base.1" / "fs.tar.gz"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-30] + bytes(30))
    damaged = clinic.replay(parcel, store=other)
    assert damaged.returncode == 4
    assert "damaged" in damaged.stderr
    tar.write_bytes(whole)
    assert "failed with exit status 3" in clinic.replay(parcel, store=other).stderr
    (parcel / "replay.json").write_text("{")
    assert clinic.replay(parcel, store=other).returncode == 2


def test_into_a_store_where_it_was_built(clinic: Practice, tmp_path: Path) -> None:
    clinic.break_("test ${OBUILD_JOBS} = 7")
    parcel = exported(clinic, tmp_path)
    assert clinic.replay("bad", "-j", "7").returncode == 0
    assert clinic.check("bad").returncode == 0
    done = clinic.replay(parcel)
    assert done.returncode == 2
    assert "has been built in this store since" in done.stderr


def test_system_packages(house: House, tmp_path: Path) -> None:
    clinic = Practice(house, "ID=alpine\\\\nVERSION_ID=3\\\\n")
    recipe = house.folder / "toy.spec"
    apk = "printf '#!/bin/sh\\\\necho $@ >/system\\\\n' >/bin/apk; chmod 755 /bin/apk; "
    recipe.write_text(recipe.read_text().replace("for name", apk + "for name"))
    build_platform(house.builder(), Recipe("toy", str(recipe)))
    clinic.write(bad__1='depexts: ["tool"] {os-family = "alpine"}\nbuild: ["sh" "-c" "cat /system; exit 9"]')
    assert clinic.check("bad").returncode == 1
    assert "in step 2 of 3" in clinic.replay("bad", "--list").stderr
    parcel = exported(clinic, tmp_path)
    done = clinic.replay(parcel, "--offline", store=f"overlay:{tmp_path}/second")
    assert done.returncode == 1
    assert "tool\n" in done.stdout
    assert "apk add" not in done.stdout  # it is there


def test_a_shell_on_a_terminal(clinic: Practice) -> None:
    clinic.break_()
    line = [PROGRAM, "replay", "bad", "--shell", "--store", clinic.house.store]
    terminal = Terminal([str(word) for word in line])
    terminal.until(b"bad.1 $")
    terminal.type(b"echo $((6*7)) $TERM; cat one; exit 6\n")
    status, seen = terminal.end()
    assert status == 6
    assert b"42 xterm-256color\r\none" in seen


@pytest.mark.parametrize("house", [("copy", "")], indirect=True)
def test_in_a_store_of_another_kind(clinic: Practice, tmp_path: Path) -> None:
    clinic.break_("test ${OBUILD_JOBS} = 7", '"base"', base__1=install("base"))
    before = clinic.steps()
    assert clinic.replay("bad").returncode == 1
    assert clinic.replay("bad", "--step", "1").returncode == 0
    assert clinic.replay("bad", "--shell", "--", "cat", "one").stdout == "one\n"
    assert clinic.steps() == before
    parcel = exported(clinic, tmp_path)
    assert clinic.replay(parcel, "--offline", store=f"overlay:{tmp_path}/second").returncode == 1
    assert clinic.replay("bad", "-j", "7").returncode == 0
    assert clinic.check("bad").returncode == 0
    assert clinic.store.fsck() == []


def test_stopped(clinic: Practice, mark: str) -> None:
    clinic.break_(f"test $OBUILD_JOBS -lt 7 && exit 3; sleep {mark}")
    line = [PROGRAM, "replay", "bad", "-j", "7", "--store", clinic.house.store]
    process = subprocess.Popen([str(word) for word in line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert soon(lambda: bool(alive(mark)))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"cancelled by SIGTERM" in said
    assert gone(mark)
    assert "in step 2 of 4" in clinic.replay("bad").stderr
