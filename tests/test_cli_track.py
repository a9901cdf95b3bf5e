"""A repository tracked by the installed program, commit after commit: what it builds, says, remembers and deletes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from clinic import Tracked, fails, install
from conftest import soon
from house import PROGRAM, House

from obuild.disk import Lock
from obuild.runs.outcome import NoSolution, Success
from obuild.runs.run import Node
from obuild.runs.status import load_status
from obuild.runs.track import State, save_state


@pytest.fixture
def tracked(house: House) -> Tracked:
    found = Tracked(house)
    found.write(
        base__1=install("base"),
        good__1=install("good", depends='"base"'),
        bad__1=fails("the sky is falling", '"base"'),
        user__1=install("user", depends='"bad"'),
        stuck__1=install("stuck", depends='"nowhere"'),
    )
    found.commit("first")
    found.describe()
    return found


def test_the_first_day_is_of_everything_and_the_second_of_nothing(tracked: Tracked) -> None:
    text = tracked.track(status=1)
    assert text.startswith(f"daily on {tracked.key}: 3 new and not well, 2 new\n")
    assert "  bad.1\n    build_failure: Error: the sky is falling\n    again: obuild replay " in text
    assert '  user.1\n    dependency "bad.1" failed\n' in text
    assert "5 packages: 2 ok, 1 failing, 1 not tried, 1 without solution" in text
    assert tracked.track() == f"daily on {tracked.key}: nothing can differ since run {tracked.runs()[0].id}\n"
    assert len(tracked.runs()) == 1


def test_what_a_commit_breaks_repairs_and_leaves(tracked: Tracked) -> None:
    tracked.track(status=1)
    tracked.write(
        bad__1=install("bad", depends='"base"'),
        good__1=fails("the floor is lava", '"base"'),
        stuck__1=install("stuck", depends='"base"'),
        base__2=install("base", depends='"nowhere"'),
        fresh__1=install("fresh"),
    )
    tracked.commit("second")
    before = tracked.track("--dry-run")
    assert "newly solvable (1):\n  stuck.1" in before
    assert len(tracked.runs()) == 1, "a dry run is no run"
    text = tracked.track(status=1)
    assert (
        "newly failing (1):\n  good.1\n    build_failure: Error: the floor is lava\n    again: obuild replay " in text
    )
    assert "fixed (2):\n  bad.1\n  user.1\n" in text
    assert "newly solvable (1):\n  stuck.1\n" in text
    assert "new (1):\n  fresh.1\n" in text
    tracked.write(good__1=fails("the floor is lava again", '"base"'), fresh__1="", stuck__1=fails("no", '"nowhere"'))
    tracked.commit("third")
    text = tracked.track(status=1)
    assert "newly without solution (1):\n  stuck.1\n    no_solution: " in text
    assert "still failing (1):\n  good.1\n    build_failure: Error: the floor is lava again\n" in text
    assert "gone (1):\n  fresh.1\n" in text
    assert "base.1" not in {node.outcome.package for node in tracked.runs()[-1].nodes() if not node.outcome.cached}
    status = load_status(tracked.root)
    assert status
    assert status.removed_packages == ("fresh.1",)


def test_only_what_can_differ_is_built(tracked: Tracked) -> None:
    tracked.track(status=1)
    tracked.write(fresh__1=install("fresh"))
    tracked.commit("second")
    assert "1 of 6 can differ" in tracked.track("--dry-run")
    text = tracked.track()
    assert text.startswith(f"daily on {tracked.key}: 1 new\n")
    assert [node.outcome.package for node in tracked.runs()[-1].nodes()] == ["fresh.1"]
    tracked.track("--again")
    assert {node.outcome.package for node in tracked.runs()[-1].nodes()} >= {"bad.1", "user.1", "stuck.1"} - {"stuck.1"}


class _Hook(BaseHTTPRequestHandler):
    heard: ClassVar[list[str]] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if type(self).status == 200:
            type(self).heard.append(json.loads(body)["text"])
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    _Hook.heard, _Hook.status = [], 200
    server = HTTPServer(("127.0.0.1", 0), _Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret"
    server.shutdown()
    server.server_close()


def test_people_are_told_once_and_what_could_not_be_told_waits(tracked: Tracked, hook: str) -> None:
    tracked.describe('[[notify]]\nchannel = "env:HOOK"\n[[notify]]\nchannel = "stdout"\non = "always"')
    _Hook.status = 404
    text = tracked.track(status=1, HOOK=hook)
    assert "could not tell http://127.0.0.1: the server answered 404" in tracked.errors
    assert "secret" not in text + tracked.errors
    _Hook.status = 200
    tracked.track(HOOK=hook)
    tracked.track(HOOK=hook)
    assert len(_Hook.heard) == 1
    assert _Hook.heard[0].startswith(
        f"daily on {tracked.key}: 3 new and not well, 2 new\nnew and not well (3):\n  bad.1\n"
    )
    tracked.write(bad__1=fails("the sky is falling again", '"base"'))
    tracked.commit("second")
    tracked.track(HOOK=hook)
    assert len(_Hook.heard) == 1, "still failing is no change"


def test_a_variable_that_is_not_set(tracked: Tracked) -> None:
    tracked.describe('[[notify]]\nchannel = "env:NO_SUCH_HOOK"')
    tracked.track(status=1)
    assert "could not tell env:NO_SUCH_HOOK: not set: NO_SUCH_HOOK" in tracked.errors


def test_what_no_run_needs_goes(tracked: Tracked) -> None:
    tracked.describe('[keep]\nruns = 1\ngrace = "0.001s"')
    tracked.track(status=1)
    old = tracked.layers()
    tracked.write(
        good__1=install("good", first="echo other", depends='"base"'), base__1=install("base", first="echo x")
    )
    tracked.commit("second")
    text = tracked.track()
    assert "deleted 1 runs, " in text
    live = {node.outcome.id for node in tracked.runs()[-1].nodes()}
    assert tracked.layers() <= live
    assert len(tracked.layers() - old) == 2
    assert len(tracked.runs()) == 1


def test_two_at_once(tracked: Tracked) -> None:
    os.makedirs(tracked.root)
    with Lock.make(f"{tracked.root}/track-daily.lock"):
        tracked.track(status=4)
        assert "is being tracked already" in tracked.errors
        waiting = subprocess.Popen(tracked.line("--wait"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr
        assert "waiting for another" in waiting.stderr.readline()
        assert not tracked.runs()
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert "3 new and not well" in out


@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_killed_one_is_made_up_for(tracked: Tracked, count: int) -> None:
    for number in range(6):
        tracked.write(**{f"slow{number}__1": install(f"slow{number}", first="sleep 0.3", depends='"base"')})
    tracked.commit("second")
    process = subprocess.Popen(tracked.line(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert soon(lambda: len(tracked.layers()) >= count and len(tracked.runs()) == 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = tracked.layers()
    text = tracked.track(status=1)
    assert text.startswith(f"daily on {tracked.key}: 3 new and not well, 8 new\n")
    assert tracked.runs()[0].state == "interrupted"
    built = list(tracked.built())
    assert len(built) == len(set(built)), "nothing is built twice"
    found = {node.outcome.id for node in tracked.runs()[1].nodes() if node.outcome.cached}
    assert finished <= found, "nothing that was finished is lost"


def test_each_of_several_platforms_has_records_of_its_own(tracked: Tracked, tmp_path: Path) -> None:
    from obuild.platform.make import build_platform
    from obuild.platform.recipe import Recipe

    recipe = tmp_path / "other.spec"
    recipe.write_text((tracked.house.folder / "toy.spec").read_text().replace("=1", "=2"))
    other = build_platform(tracked.house.builder(), Recipe("other", str(recipe))).key
    assert other != tracked.key
    tracked.describe(platforms=f'["{tracked.key}", "{other}"]', packages='["good"]')
    text = tracked.track()
    assert f"daily on {tracked.key}: 1 new\n" in text
    assert f"daily on {other}: 1 new\n" in text
    for key in (tracked.key, other):
        assert "finished" in tracked.tell("runs", "--runs", f"{tracked.root}/{key}")
        assert "success" in tracked.tell("history", "good.1", "--runs", f"{tracked.root}/{key}")


def test_garbage_is_shown_before_it_goes(tracked: Tracked) -> None:
    tracked.track(status=1)
    assert "would delete nothing" in tracked.tell("gc")
    tracked.write(good__1=install("good", first="echo other"))
    tracked.commit("second")
    tracked.track()
    words = ("--keep-runs", "1", "--grace", "0.001s")
    shown = tracked.tell("gc", *words)
    assert "would delete run " in shown
    assert "--delete does it" in shown
    assert len(tracked.runs()) == 2
    assert "deleted run " in tracked.tell("gc", *words, "--delete")
    assert len(tracked.runs()) == 1
    kept = {node.outcome.id for node in tracked.runs()[0].nodes()}
    assert all(Path(tracked.house.folder, "store", tracked.key, key).exists() for key in kept)
    assert "nothing can differ" in tracked.track(), "what is remembered of a profile is not lost with its run"


def test_who_builds_what_now(tracked: Tracked) -> None:
    tracked.write(slow__1=install("slow", first="sleep 2"))
    process = tracked.start("slow")
    found = ""
    for _ in range(200):
        found = tracked.tell("locks")
        if found:
            break
        time.sleep(0.02)
    assert found.startswith("build  slow.1 ")
    assert f"process {process.pid} on " in found
    assert json.loads(tracked.tell("locks", "--json"))["package"] == "slow"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert tracked.tell("locks") == ""
    assert "stale" in tracked.tell("locks", "--all")
    assert "removed " in tracked.tell("locks", "--clean", "--all")
    assert tracked.tell("locks", "--all") == ""
    tracked.tell("prune", "--max-age", "1d")  # clears up after the killed one


def test_when_it_is_done_again(tracked: Tracked) -> None:
    tracked.describe(schedule='"Sun 04:05"')
    assert tracked.track("--cron") == f"5 4 * * 0  {PROGRAM} track {tracked.profile}\n"
    units = tracked.track("--systemd")
    assert f"ExecStart={PROGRAM} track {tracked.profile}\n" in units
    assert "OnCalendar=Sun *-*-* 04:05:00\n" in units


def test_a_profile_that_is_none(tracked: Tracked) -> None:
    tracked.describe(compiler='["ocaml.5"]')
    tracked.track(status=2)
    assert 'unknown key "compiler"; did you mean "compilers"?\n  | compiler = ["ocaml.5"]\n' in tracked.errors


def test_public_commits(house: House, recorded_repositories: Path, tmp_path: Path) -> None:
    """Three weeks of opam-repository: one package of these lost its solution, some are newer, one is as it was."""
    repo = f"{recorded_repositories}/opam-repository.git"
    log = ["git", "-C", repo, "rev-list", "--first-parent", "HEAD"]
    first = subprocess.run(log, capture_output=True, text=True, check=True).stdout.split()[-1]
    clinic = Tracked(house, "ID=debian\\nVERSION_ID=13\\n")
    names = ["oclock.0.4.0", "yocaml", "prometheus", "re"]
    (tmp_path / "names").write_text("\n".join(names))
    words = [
        "--repo",
        repo,
        "--compiler",
        "ocaml.5.4.1",
        "--offline",
        "--dry-run",
        "--since",
        first,
        "--store",
        house.store,
    ]
    line = [str(PROGRAM), "health-check", f"@{tmp_path}/names", "--platform", clinic.key, *words]
    done = subprocess.run([*line, "--cache", str(tmp_path / "cache")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "newly without solution (1):\n  oclock.0.4.0 (OCaml 5.4.1)\n    no_solution: " in done.stdout
    assert "    oclock.0.4.0 needs ocaml < 5.0" in done.stdout
    assert "  yocaml.3.0.1 (OCaml 5.4.1)\n" in done.stdout
    assert "3 packages can differ" in done.stdout, "re is as it was"

    packages = json.dumps(names)
    clinic.describe(repositories=f'["{repo}"]', compilers='["ocaml.5.4.1"]', packages=packages)
    was = [Node(Success("oclock.0.4.0", "0" * 64), compiler="5.4.1"), Node(NoSolution("re.1.14.0"), compiler="5.4.1")]
    os.makedirs(clinic.root)
    save_state(f"{clinic.root}/track-daily.json", State("run", (f"{repo}@{first[:12]}",), "", tuple(was)))
    text = clinic.track("--dry-run")
    assert "newly without solution (1):\n  oclock.0.4.0 (OCaml 5.4.1)\n" in text
    assert text.startswith(f"daily on {clinic.key}: 4 of 4 can differ\n")
    assert not clinic.runs()


@pytest.mark.parametrize(
    ("old", "new", "came", "went"),
    [
        ("e001efd", "39c0e61", "top-closure.3.22.2+ox", "top-closure.3.21.0+ox"),
        ("39c0e61", "d57b5d4", "yojson.2.2.2+ox", "yojson.3.0.0"),
    ],
    ids=["a release", "a guard repaired"],
)
def test_consecutive_commits_of_two_public_repositories(
    house: House, recorded_repositories: Path, tmp_path: Path, old: str, new: str, came: str, went: str
) -> None:
    """OxCaml's repository above the other: its patched packages come and go, few others can differ."""
    clinic = Tracked(house, "ID=debian\\nVERSION_ID=13\\n")
    names = ["alcotest", "dune", "extlib", "lwt", "odoc", "opam-core", "re", "stdune", "top-closure", "xdg", "yojson"]
    names.append("wasm_of_ocaml-compiler")
    above, below = (f"{recorded_repositories}/{name}.git" for name in ("oxcaml", "opam-repository"))
    words = ["--repo", f"{above}@{new}", "--repo", below, "--compiler", "ocaml-variants.5.2.0+ox", "--since", old]
    line = [str(PROGRAM), "health-check", *names, "--platform", clinic.key, "--store", house.store, *words]
    line += ["--cache", str(tmp_path / "cache"), "--offline", "--dry-run"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"2 packages can differ from {old}, 10 can not\n")
    assert f"new (1):\n  {came} (OCaml 5.2.0+ox)\n" in done.stdout
    assert f"gone (1):\n  {went} (OCaml 5.2.0+ox)\n" in done.stdout
    assert "2 packages: 2 with a solution, 0 without\n" in done.stdout
