"""Health checks with the installed program and real containers: verdicts, reports, what is recorded, going on."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from clinic import Clinic, fails, install, report
from house import House

from obuild.runs.status import load_status


@pytest.fixture
def clinic(house: House) -> Clinic:
    return Clinic(house)


def family(clinic: Clinic) -> None:
    """A good package with a dependency, a bad one with two dependents, one that has no solution."""
    clinic.write(
        base__1=install("base"),
        good__1=install("good", depends='"base"'),
        bad__1=fails("the sky is falling", '"base"'),
        user__1=install("user", depends='"bad" "good"'),
        end__1=install("end", depends='"user"'),
        stuck__1=install("stuck", depends='"nowhere"'),
    )


def test_a_package_that_builds(clinic: Clinic) -> None:
    family(clinic)
    done = clinic.check("good")
    assert done.returncode == 0, done.stderr
    assert "[1/2] ok    base.1" in done.stdout
    assert "[2/2] ok    good.1" in done.stdout
    assert "1 package: 1 ok; 2 layers built in" in done.stdout
    again = clinic.check("good")
    assert "1 package: 1 ok (1 found); 0 layers built" in again.stdout
    assert list(clinic.built()) == ["base.1", "good.1"]
    assert clinic.nodes()["good.1"].outcome.cached


def test_a_failure_is_told_with_its_line_log_and_command(clinic: Clinic) -> None:
    family(clinic)
    done = clinic.check("end", "good")
    assert done.returncode == 1
    assert "FAIL  bad.1  build_failure, needed by 2 packages\n    Error: the sky is falling\n" in done.stdout
    log = next(line for line in done.stdout.splitlines() if line.startswith("    log: ")).removeprefix("    log: ")
    assert "Error: the sky is falling" in Path(log).read_text()
    key = clinic.nodes()["bad.1"].outcome.id
    assert f"    again: obuild replay {key[:12]} --store {clinic.house.store}\n" in done.stdout
    assert "2 packages: 1 ok, 1 not tried" in done.stdout
    outcomes = {package: node.outcome for package, node in clinic.nodes().items()}
    assert {package: outcome.word for package, outcome in outcomes.items()} == {
        "base.1": "success",
        "good.1": "success",
        "bad.1": "failure",
        "user.1": "dependency_failed",
        "end.1": "dependency_failed",
    }
    assert outcomes["end.1"].error == 'dependency "bad.1" failed'


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["good"], 0, ""),
        (["bad"], 1, "FAIL  bad.1"),
        (["stuck"], 3, "stuck.1 needs nowhere"),
        (["good", "stuck"], 1, "1 without solution"),
        (["--all"], 1, "6 packages: 2 ok, 1 failed, 2 not tried, 1 without solution"),
        ([], 2, "what shall be checked?"),
        (["nobody"], 2, 'no package "nobody"'),
        (["good", "--all"], 2, "asked for beside everything"),
        (["good", "--platform", "toy-9-x86_64"], 2, "obuild platform build"),
        (["good", "--compiler", "nobody.1"], 2, 'no package "nobody"'),
    ],
)
def test_exit_statuses(clinic: Clinic, words: list[str], status: int, said: str) -> None:
    family(clinic)
    done = clinic.check(*words)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


def test_a_list_may_have_packages_without_a_solution(clinic: Clinic, tmp_path: Path) -> None:
    family(clinic)
    (tmp_path / "list").write_text("good\nstuck.1  # of no use\n")
    assert clinic.check(f"@{tmp_path}/list").returncode == 0
    (tmp_path / "list").write_text('{"packages": ["good.1", "bad.1"]}')
    assert clinic.check(f"@{tmp_path}/list").returncode == 1


def test_failures_are_tried_again_unless_they_are_trusted(clinic: Clinic) -> None:
    family(clinic)
    for words, cached in (([], False), ([], False), (["--trust-failures"], True)):
        done = clinic.check("user", *words)
        assert "Error: the sky is falling" in done.stdout
        assert clinic.nodes()["bad.1"].outcome.cached is cached


def test_what_serves_a_lost_package_alone_is_built_only_to_keep_going(clinic: Clinic) -> None:
    clinic.write(
        bad__1=fails("no"),
        slow__1=install("slow", first="sleep 1"),
        end__1=install("end", depends='"bad" "slow" "tail"'),
        tail__1=install("tail", depends='"slow"'),
    )
    clinic.check("end", "-j", "1")
    assert "tail.1" not in clinic.nodes()
    clinic.check("end", "-j", "1", "--keep-going")
    assert clinic.nodes()["tail.1"].outcome.word == "success"


def test_nothing_is_built_for_a_dry_run(clinic: Clinic, tmp_path: Path) -> None:
    family(clinic)
    done = clinic.check("good", "--dry-run", "--json", tmp_path / "good.json")
    assert done.returncode == 0
    assert "2 to build" in done.stdout
    assert not clinic.runs()
    assert report(tmp_path / "good.json")["status"] == "solution"
    clinic.check("good")
    assert "0 to build" in clinic.check("good", "--dry-run", "--json", tmp_path / "good.json").stdout
    assert report(tmp_path / "good.json")["status"] == "success"
    whole = clinic.check("--all", "--dry-run")
    assert "6 packages: 5 with a solution, 1 without\n5 layers: 2 there, 3 to build" in whole.stdout
    assert clinic.check("stuck", "--dry-run").returncode == 3


def test_reports_in_the_shapes_of_day10(clinic: Clinic, tmp_path: Path) -> None:
    family(clinic)
    commit = clinic.commit("first")
    done = clinic.check("--all", "--json", tmp_path / "j", "--md", tmp_path / "m", "--dot", tmp_path / "d")
    assert done.returncode == 1
    names = {f"{name}.1" for name in ("base", "good", "bad", "user", "end", "stuck")}
    assert {path.name.removesuffix(".json") for path in (tmp_path / "j").iterdir()} == names
    good = report(tmp_path / "j" / "good.1.json")
    assert (good["name"], good["status"]) == ("good.1", "success")
    assert good["layer"] == clinic.nodes()["good.1"].outcome.id
    assert "> base; done" not in good["solution"]
    assert good["solution"] == 'digraph opam {\n  "good.1" -> "base.1";\n}\n'
    assert "echo good" in good["log"]
    bad = clinic.nodes()["bad.1"].outcome.id
    end = report(tmp_path / "j" / "end.1.json")
    assert (end["status"], end["layer"]) == ("dependency_failed", bad)
    assert "the sky is falling" in end["log"]
    stuck = report(tmp_path / "j" / "stuck.1.json")
    assert stuck["status"] == "no_solution"
    assert "nowhere" in stuck["solution"]
    assert commit  # a directory that happens to be a checkout is read as it is: no commit is claimed
    page = (tmp_path / "m" / "end.1.md").read_text()
    assert page.startswith("---\nstatus: dependency_failed\n")
    assert page.index("# base.1") < page.index("# bad.1")
    assert (tmp_path / "d" / "user.1.dot").read_text().startswith('digraph opam {\n  "bad.1" -> "base.1";\n')


def test_one_package_has_a_file(clinic: Clinic, tmp_path: Path) -> None:
    family(clinic)
    assert clinic.check("good", "--json", tmp_path / "one.json", "--dot", tmp_path / "one.dot").returncode == 0
    assert report(tmp_path / "one.json")["status"] == "success"
    done = clinic.check("good", "--json", tmp_path / "no" / "one.json")
    assert done.returncode == 2
    assert "can not write" in done.stderr


def test_two_compilers_share_what_needs_none(clinic: Clinic, tmp_path: Path) -> None:
    clinic.write(
        ocaml__4=install("ocaml"),
        ocaml__5=install("ocaml"),
        plain__1=install("plain"),
        lib__1=install("lib", depends='"ocaml" "plain"'),
        new__1=install("new", depends='"ocaml" {>= "5"}'),
    )
    done = clinic.check("--all", "--compiler", "ocaml.4", "--compiler", "ocaml.5", "--json", tmp_path / "j")
    assert done.returncode == 0, done.stdout
    nodes = [(n.outcome.package, n.compiler, n.outcome.word) for n in clinic.runs()[-1].nodes()]
    assert sorted(n for n in nodes if n[0] in ("plain.1", "lib.1", "new.1")) == [
        ("lib.1", "4", "success"),
        ("lib.1", "5", "success"),
        ("new.1", "4", "no_solution"),
        ("new.1", "5", "success"),
        ("plain.1", "4", "success"),
        ("plain.1", "5", "success"),
    ]
    libs = {n.compiler: n for n in clinic.runs()[-1].nodes() if n.outcome.package == "lib.1"}
    assert libs["4"].outcome.id != libs["5"].outcome.id
    assert [libs["4"].blessed, libs["5"].blessed] == [False, True], "the newest compiler decides"
    assert report(tmp_path / "j" / "5" / "new.1.json")["status"] == "success"


def test_tests_are_run_and_their_failure_is_called_that(clinic: Clinic) -> None:
    run = 'run-test: ["sh" "-c" "echo 1 test failed; exit 1"]'
    clinic.write(tested__1=install("tested", extra=run), user__1=install("user", depends='"tested"'))
    assert clinic.check("tested", "user").returncode == 0
    assert clinic.check("tested", "--with-test").returncode == 1
    outcome = clinic.nodes()["tested.1"].outcome
    assert (outcome.category, outcome.error) == ("test_failure", "1 test failed")
    assert outcome.id.endswith("+test")
    assert clinic.check("user", "--with-test").returncode == 0, "what others need is built without tests"


def test_a_file_outside_of_the_prefix_and_one_that_is_missing(clinic: Clinic) -> None:
    clinic.write(
        outside__1='install: ["sh" "-c" "touch /tmp/x; touch /home/opam/y; mkdir -p /home/opam/.opam/z"]',
        missing__1='build: ["sh" "-c" "echo \'bin: [ \\"no\\" ]\' >missing.install"]',
    )
    clinic.check("outside", "missing")
    found = {package: node.outcome for package, node in clinic.nodes().items()}
    assert found["outside.1"].category == "outside_prefix"
    assert "/home/opam/.opam/z" in found["outside.1"].error
    assert found["missing.1"].category == "install_failure"


def test_a_source_that_can_not_be_had_or_is_something_else(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    place = f'url {{ src: "file://{tmp_path}/x" checksum: "md5=%s" }}'
    clinic.write(
        gone__1=install("gone", extra=f'url {{ src: "https://nobody.example/x.tgz" checksum: "md5={"0" * 32}" }}'),
        wrong__1=install("wrong", extra=place % ("0" * 32)),
    )
    done = clinic.check("gone", "wrong", "--offline")
    assert done.returncode == 1
    found = {package: node.outcome.category for package, node in clinic.nodes().items()}
    assert found == {"gone.1": "fetch_failure", "wrong.1": "checksum_failure"}


def test_what_a_commit_changes(clinic: Clinic) -> None:
    family(clinic)
    clinic.write(fine__1=install("fine"), lost__1=install("lost"))
    before = clinic.commit("first")
    clinic.check("--all")
    clinic.write(
        bad__1=install("bad", depends='"base"'),
        good__1=fails("not any more", '"base"'),
        stuck__1=install("stuck"),
        lost__1=install("lost", depends='"nowhere"'),
        new__1=install("new"),
    )
    clinic.commit("second")
    repo = f"git+file://{clinic.repo}"
    words = [word if word != str(clinic.repo) else repo for word in clinic.words("--all", "--since", before)]
    import subprocess

    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert f"7 packages can differ from {before[:12]}, 2 can not" in done.stdout
    text = done.stdout[done.stdout.index("new (1)") :]
    assert text.startswith("new (1):\n  new.1  success\nfixed (1):\n  bad.1\nnewly solvable (1):\n  stuck.1  success\n")
    assert "still failing (2):\n" in text
    assert "newly without solution (1):\n  lost.1  no solution\n" in text
    assert "newly failing (1):\n  good.1\n      Error: not any more\n      log: " in text
    assert "      again: obuild replay " in text


def test_what_was_never_built_before_is_built_as_it_was(clinic: Clinic) -> None:
    clinic.write(always__1=fails("one"), now__1=install("now"))
    before = clinic.commit("first")
    clinic.write(always__1=fails("two"), now__1=fails("three"))
    clinic.commit("second")
    words = clinic.words("--all", "--since", before)
    words[words.index(str(clinic.repo))] = f"git+file://{clinic.repo}"
    import subprocess

    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert "still failing (1):\n  always.1\n      Error: two\n" in done.stdout
    assert "newly failing (1):\n  now.1\n      Error: three\n" in done.stdout
    assert done.returncode == 1


def many(clinic: Clinic) -> int:
    """Packages in layers of four, each slow enough to be interrupted."""
    for level in range(4):
        for number in range(4):
            depends = f'"p{level - 1}x{number}" "p{level - 1}x{(number + 1) % 4}"' if level else ""
            name = f"p{level}x{number}"
            clinic.write(**{f"{name}__1": install(name, first="sleep 0.1", depends=depends)})
    return 16


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_check_goes_on_where_it_was(clinic: Clinic, seed: int) -> None:
    count = many(clinic)
    chance = random.Random(seed)
    for _ in range(4):
        process = clinic.start("--all", "-j", "2")
        time.sleep(chance.uniform(0.2, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = clinic.check("--all", "-j", "2")
    assert done.returncode == 0, done.stdout
    built = list(clinic.built())
    assert len(built) == len(set(built)), "nothing is built twice"
    assert f"{count} packages: {count} ok" in done.stdout
    assert clinic.runs()[-1].state == "finished"
    assert {run.state for run in clinic.runs()[:-1]} <= {"interrupted", "finished"}


def test_an_interrupted_check_ends_in_order(clinic: Clinic) -> None:
    many(clinic)
    clinic.write(late__1=install("late", first="sleep 60", depends='"p1x0"'))
    process = clinic.start("--all", "-j", "2")
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "obuild: cancelled by SIGINT\n"
    assert not out.count("FAIL")
    assert clinic.runs()[-1].state == "interrupted"
    assert not os.listdir(f"{clinic.house.folder}/store/run")


def test_two_checks_at_once_build_everything_once(clinic: Clinic) -> None:
    count = many(clinic)
    both = [clinic.start("--all", "-j", "2") for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len(clinic.runs()) == 2
    assert sum(1 for _ in clinic.built()) >= count
    seconds = [sum(n.outcome.seconds > 0 for n in run.nodes()) for run in clinic.runs()]
    assert sum(seconds) >= count


def test_the_status_after_a_check_of_everything(clinic: Clinic) -> None:
    family(clinic)
    clinic.check("--all")
    status = load_status(clinic.root)
    assert status
    assert status.blessed_totals == {"build_failure": 1, "dependency_failure": 2, "success": 2}
    assert status.non_blessed_totals == {"no_solution": 1}
    clinic.write(bad__1=install("bad", depends='"base"'))
    clinic.check("--all")
    status = load_status(clinic.root)
    assert status
    assert {change.package: change.kind for change in status.changes} == {
        "bad.1": "recovery",
        "user.1": "recovery",
        "end.1": "recovery",
    }


def test_events_as_json(clinic: Clinic) -> None:
    import json

    family(clinic)
    done = clinic.check("good", "--progress", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["event"], event.get("package", event.get("pkg"))) for event in events] == [
        ("started", "base.1"),
        ("ended", "base.1"),
        ("started", "good.1"),
        ("ended", "good.1"),
    ]
