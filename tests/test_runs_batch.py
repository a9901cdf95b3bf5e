"""A batch from its plans to what is written down, with builds that take no time; worlds and outputs with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clinic import install
from planning import base, planned

from obuild.cancel import Cancel
from obuild.errors import FetchError, StoreError, UsageError
from obuild.opam.package import Package
from obuild.opam.repo import open_repositories
from obuild.opam.solver import parse_request
from obuild.opam.source import Source
from obuild.runs.batch import Result, run_batch
from obuild.runs.execute import Machine, Share
from obuild.runs.history import History
from obuild.runs.merge import Batch, Target, merge
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Outcome, Success
from obuild.runs.output import Writer, write_outputs
from obuild.runs.progress import load_progress
from obuild.runs.run import Run, list_runs
from obuild.runs.world import Terms, World

TEXTS = {"base.1": "", "left.1": 'depends: ["base"]', "top.1": 'depends: ["left"]', "bad.1": 'depends: ["base"]'}


def batch() -> Batch:
    cases = []
    for name in ("top", "bad"):
        plan = planned(TEXTS, name)
        cases.append((Target(f"{name}.1", "5", plan.targets[0]), plan))
    return merge([*cases, (Target("stuck.1", "5", refusal=NoSolution("stuck.1", "needs more")), None)])


class Ward:
    """Makes everything but `bad`; ends the batch where it is told to."""

    def __init__(self, made: Batch, end: str = "") -> None:
        self._batch, self._end = made, end

    def place(self, key: str, outcome: Outcome) -> str:
        return ""

    def __call__(self, key: str, share: Share, cancel: Cancel) -> Outcome:
        package = self._batch.graph.builds[key].package
        if package == self._end:
            raise StoreError("no room")
        if package == "bad.1":
            return Failure(package, key, "patch_failure", "does not apply", seconds=1.0)
        return Success(package, key, seconds=2.0)


def run(root: Path, made: Batch, end: str = "", **options: Any) -> Result:
    ward: Any = Ward(made, end)
    given = {"hits": (), "facts": {"platform": "p"}, "replay": lambda key: f"replay {key}", **options}
    return run_batch(made, ward, Machine(2, 2), str(root), **given)


def test_everything_is_written_down(tmp_path: Path) -> None:
    made = batch()
    result = run(tmp_path, made)
    record = Run(str(tmp_path), result.summary.run_id)
    assert (record.state, record.phase("plan")["platform"], record.phase("plan")["targets"]) == ("finished", "p", 3)
    assert {k: v for k, v in record.phase("solve").items() if k != "timestamp"} == {"solved": 2, "failed": 1}
    assert record.phase("dag")["need_build"] == 4
    progress = load_progress(record.path)
    assert progress
    assert (progress.phase, progress.build_completed, progress.solutions_failed) == ("completed", 4, 1)
    words = {target.package: result.outcome(target).word for target in made.targets}
    assert words == {"top.1": "success", "bad.1": "failure", "stuck.1": "no_solution"}
    failed = next(node for node in record.nodes() if node.outcome.package == "bad.1")
    assert (failed.compiler, failed.blessed, failed.replay[:7]) == ("5", True, "replay ")
    entry = History(str(tmp_path)).read("bad.1")[0]
    assert (entry.category, entry.error, entry.compiler) == ("patch_failure", "does not apply", "5")
    assert json.loads((tmp_path / "seconds.json").read_text()) == {"base.1": 2.0, "left.1": 2.0, "top.1": 2.0}


def test_hits_are_recorded_and_not_built(tmp_path: Path) -> None:
    made = batch()
    result = run(tmp_path, made, hits=[build.id for build in made.graph.builds.values() if build.package != "bad.1"])
    assert (result.summary.packages_built, result.summary.packages_cached, result.summary.packages_failed) == (3, 3, 1)


def test_the_machine_s_trouble_leaves_an_interrupted_run(tmp_path: Path) -> None:
    made = batch()
    result = run(tmp_path, made, end="left.1")
    assert isinstance(result.error, StoreError)
    ends = {target.package: result.outcome(target) for target in made.targets}
    assert ends["top.1"] is None, "it was not tried"
    assert ends["stuck.1"] == NoSolution("stuck.1", "needs more")
    assert result.summary.targets_requested == 3
    record = list_runs(str(tmp_path))[-1]
    assert record.state == "interrupted"
    assert "base.1" in {node.outcome.package for node in record.nodes()}


# Outputs.


def writer(made: Batch, folder: Path) -> Writer:
    keys = {build.package: build.id for build in made.graph.builds.values()}
    outcomes: dict[str, Outcome] = {key: Success(package, key) for package, key in keys.items()}
    outcomes[keys["base.1"]] = Failure("base.1", keys["base.1"])
    outcomes[keys["top.1"]] = DependencyFailed("top.1", keys["top.1"], "base.1", keys["base.1"])
    (folder / "log").write_bytes(b"the log \xff\n")
    return Writer(made, outcomes, lambda key: str(folder / "log") if key == keys["base.1"] else "", "abc")


def test_a_lost_package_shows_the_log_of_what_it_lost(tmp_path: Path) -> None:
    made = batch()
    shown = json.loads(writer(made, tmp_path).json(made.targets[0]))
    assert (shown["status"], shown["sha"], shown["log"]) == (
        "dependency_failed",
        "abc",
        "the log \N{REPLACEMENT CHARACTER}\n",
    )
    assert shown["solution"] == 'digraph opam {\n  "left.1" -> "base.1";\n  "top.1" -> "left.1";\n}\n'
    page = writer(made, tmp_path).markdown(made.targets[0])
    assert "# base.1\n" in page
    assert "# left.1" not in page, "there is no log of what was not tried"


def test_places_of_outputs(tmp_path: Path) -> None:
    made = batch()
    write_outputs(made, writer(made, tmp_path), {"json": f"{tmp_path}/j", "md": None, "dot": f"{tmp_path}/d"})
    assert sorted(path.name for path in (tmp_path / "j").iterdir()) == ["bad.1.json", "stuck.1.json", "top.1.json"]
    assert json.loads((tmp_path / "j" / "stuck.1.json").read_text())["solution"] == "needs more"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can not write"):
        write_outputs(made, writer(made, tmp_path), {"json": f"{tmp_path}/file"})


# Worlds.


def world(folder: Path, **packages: str) -> World:
    for name, text in packages.items():
        place = folder / "packages" / name / f"{name}.1"
        place.mkdir(parents=True)
        (place / "opam").write_text(f'opam-version: "2.0"\n{text}\n')
    (folder / "repo").write_text('opam-version: "2.0"\n')

    def content(package: Package, source: Source) -> str:
        if "gone" in source.url:
            asked.append(str(package))
            raise FetchError(f'can not get "{source.url}"')
        return "sha256=1"

    asked: list[str] = []
    made = World(open_repositories([str(folder)], ""), base(), Terms(), cache="", content=content)
    made.asked = asked  # type: ignore[attr-defined]
    return made


def target(made: World, name: str) -> Target:
    return made.case(next(made.answers([parse_request(name)], None, processes=1)), None)[0]


def test_a_source_that_nobody_knows_fails_its_package_and_those_above(tmp_path: Path) -> None:
    source = 'url { src: "https://x.example/gone.tgz" }'
    made = world(tmp_path, low=install("low", extra=source), high=install("high", depends='"low"'))
    why = 'can not get "https://x.example/gone.tgz"'
    assert target(made, "low").refusal == Failure("low.1", "low.1", "fetch_failure", why)
    assert target(made, "high").refusal == DependencyFailed("high.1", "high.1", "low.1", "low.1")
    assert made.asked == ["low.1"]  # type: ignore[attr-defined]


def test_packages_that_need_each_other_have_no_solution_that_can_be_built(tmp_path: Path) -> None:
    made = world(tmp_path, a=install("a", depends='"b"'), b=install("b", depends='"a"'))
    refusal = target(made, "a").refusal
    assert isinstance(refusal, NoSolution)
    assert 'no order to build in: "a.1" needs "b.1" needs "a.1"' in refusal.error


def test_a_package_without_a_version_is_called_by_the_newest(tmp_path: Path) -> None:
    made = world(tmp_path, a=install("a", depends='"nowhere"'))
    assert target(made, "a").package == "a.1"
