"""Progress: phases, what is written and how often, what damaged files read as."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from obuild.runs.progress import (
    PHASES,
    Meter,
    Progress,
    delete_progress,
    format_progress,
    load_progress,
    save_progress,
)

START = Progress("2026-03-06-123456", "2026-03-06T12:34:56.000Z", targets=3)


def test_a_record_is_never_changed() -> None:
    later = START.add(build_completed=2, solutions_failed=1).expect(builds=5).enter("building")
    assert (later.build_completed, later.build_total, later.doc_total, later.phase) == (2, 5, 0, "building")
    assert (START.build_completed, START.phase) == (0, "solving")


def test_phases_only_move_forward() -> None:
    for number, phase in enumerate(PHASES):
        for other in PHASES:
            assert PHASES.index(START.enter(phase).enter(other).phase) == max(number, PHASES.index(other))
    with pytest.raises(ValueError, match="tuple"):
        START.enter("resting")


def test_saved_and_loaded(tmp_path: Path) -> None:
    save_progress(str(tmp_path), START)
    assert load_progress(str(tmp_path)) == START
    assert json.loads((tmp_path / "progress.json").read_text())["targets"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]
    delete_progress(str(tmp_path))
    delete_progress(str(tmp_path))
    assert load_progress(str(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "\0\0\0", "\xff", "{}", '{"run_id": "r", "start_time": "t", "phase": "resting"}']
    + [format_progress(START).replace("3,", wrong) for wrong in ("-1,", '"many",', "null,", "true,")],
)
def test_malformed_files_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_bytes(text.encode("latin-1"))
    assert load_progress(str(tmp_path)) is None


def test_a_list_of_targets_is_their_number(tmp_path: Path) -> None:
    record = {**json.loads(format_progress(START)), "targets": ["a.1", "b.2"], "later": 1}
    (tmp_path / "progress.json").write_text(json.dumps(record))
    progress = load_progress(str(tmp_path))
    assert progress
    assert progress.targets == 2


def test_a_meter_writes_seldom_and_loses_nothing(tmp_path: Path) -> None:
    meter = Meter(str(tmp_path), START, pause=0.2)
    threads = [threading.Thread(target=lambda: [meter.add(build_completed=1) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writes = meter.writes
    assert writes < 100
    for _ in range(100):
        progress = load_progress(str(tmp_path))
        if progress and progress.build_completed == 4000:
            break
        time.sleep(0.05)
    assert progress
    assert progress.build_completed == 4000, "the last change is written though nothing follows"


def test_a_phase_is_written_at_once(tmp_path: Path) -> None:
    meter = Meter(str(tmp_path), START, pause=1000)
    meter.add(solutions_found=7)
    meter.expect(builds=9, docs=1)
    meter.enter("building")
    assert load_progress(str(tmp_path)) == meter.progress
    meter.add(build_completed=1)
    meter.close()
    progress = load_progress(str(tmp_path))
    assert progress
    assert (progress.build_completed, progress.build_total, progress.solutions_found) == (1, 9, 7)


def test_a_file_that_can_not_be_written_is_only_noted(tmp_path: Path) -> None:
    meter = Meter(str(tmp_path / "gone"), START)
    meter.enter("building")
    assert meter.progress.phase == "building"
    assert meter.problem == "progress.json: No such file or directory"
