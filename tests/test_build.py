"""The interpreter on real containers: OBuilder's own list of tests, sharing, cancelling, failing."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import alive, refused, soon
from house import Gate, House, Log, Party, gone, sh, stage

from obuild.build import Builder
from obuild.cancel import Cancel
from obuild.errors import Cancelled, ObuildError, SandboxError, StepFailed, StoreError
from obuild.sandbox import Limits, Sandbox


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


def no_sandbox() -> Sandbox:
    """For builds in which nothing may run."""
    raise SandboxError("something ran")


def notes(log: Log) -> list[str]:
    """What became of each step: "saved" or "using"."""
    return [line.split()[1] for line in log.text.splitlines() if line.startswith("--->")]


def wanted(builder: Builder) -> int:
    """How many builds wait for the steps that run."""
    assert builder._flights
    return sum(flight.users for flight in tuple(builder._flights._running.values()))


SIMPLE = stage(sh("echo base-distro > /etc/base; echo running"), sh("echo runner >> /etc/base"))


def test_simple(house: House) -> None:
    layer, log = house.build(SIMPLE)
    assert house.read(layer, "/etc/base") == "base-distro\nrunner\n"
    first = house.open().get(layer.parents[0])
    assert first
    assert log.text.splitlines() == [
        "(from b)",
        f'---> saved as "{first.parents[0]}"',
        "/: (shell /bin/sh -c)",
        '/: (run (shell "echo base-distro > /etc/base; echo running"))',
        "running",
        f'---> saved as "{first.id}"',
        '/: (run (shell "echo runner >> /etc/base"))',
        f'---> saved as "{layer.id}"',
    ]


def test_a_hit_says_the_log_again_and_runs_nothing(house: House) -> None:
    layer, log = house.build(SIMPLE)
    again, second = house.build(SIMPLE, sandbox=no_sandbox)
    assert again == layer
    assert second.text.splitlines() == [
        line.replace("saved as", "using") + " from cache" if line.startswith("--->") else line
        for line in log.text.splitlines()
    ]


def test_prune_deletes_what_was_not_used_for_long(house: House) -> None:
    layer, _ = house.build(SIMPLE)
    store = house.open()
    assert store.prune(max_age=60) == []
    for old in store.layers():
        os.utime(f"{old.path}/layer.json", (1, 1))
    assert [item.kind for item in store.prune(max_age=60)] == ["layer"] * 3
    again, log = house.build(SIMPLE)
    assert (again, notes(log)) == (layer, ["saved"] * 3)


def test_deleting_a_layer_deletes_its_children_and_it_can_be_built_again(house: House) -> None:
    layer, _ = house.build(SIMPLE)
    store = house.open()
    first = layer.parents[0]
    with refused(StoreError, f'1 layer is made from "{first}"'):
        store.delete(first)
    assert store.delete(first, children=True) == [layer.id, first]
    again, log = house.build(SIMPLE)
    assert (again, notes(log)) == (layer, ["using", "saved", "saved"])


# Sharing.


def test_two_builds_with_a_common_step_run_it_once_and_both_hear_it_live(house: House, gate: Gate) -> None:
    builder = house.builder(jobs=4)
    shared = gate.run("echo A", "echo B")
    first = Party(house, stage(shared, sh("echo C")), builder=builder)
    gate.wait()
    second = Party(house, stage(shared, sh("echo D")), builder=builder)
    assert soon(lambda: second.log.shown.endswith(b"\nA\n")), second.log.text
    assert soon(lambda: first.log.shown.endswith(b"\nA\n")), first.log.text
    gate.open()
    assert first.result() != second.result()
    assert (gate.count, gate.nobody()) == (1, True)
    assert notes(first.log) == ["saved", "saved", "saved"]
    assert notes(second.log) == ["using", "saved", "saved"]  # it joined, so it saw the step being made
    assert "\nA\nB\n---> saved" in second.log.text


@pytest.mark.parametrize("late", [False, True])
def test_when_a_shared_step_fails_both_hear_of_it(house: House, gate: Gate, late: bool) -> None:
    builder = house.builder(jobs=4)
    shared = gate.run("echo A", "exit 7")
    first = Party(house, stage(shared, sh("echo C")), builder=builder)
    gate.wait()
    second = Party(house, stage(shared, sh("echo D")), builder=builder)
    assert soon(lambda: second.log.shown.endswith(b"A\n"))
    gate.open()
    ends = [first.end().text, second.end().text]
    assert isinstance(first.error, StepFailed)
    assert str(first.error) == str(second.error)
    assert first.error.status == 7
    assert all(end.endswith("A\n") for end in ends)
    assert [len(notes(first.log)), len(notes(second.log))] == [1, 1]


def test_eight_builds_share_a_prefix(house: House, gate: Gate) -> None:
    builder = house.builder(jobs=8)
    shared = gate.run()
    parties = [Party(house, stage(shared, sh(f"echo {number}")), builder=builder) for number in range(8)]
    gate.wait()
    gate.open()
    assert len({party.result().id for party in parties}) == 8
    assert gate.nobody()


def test_another_process_follows_live_and_gets_the_result(house: House, gate: Gate) -> None:
    text = stage(gate.run("echo A", "echo B"))
    first = house.start(text)
    gate.wait()
    second = house.start(text)
    assert second.stdout
    seen = b""
    os.set_blocking(second.stdout.fileno(), True)
    while not seen.endswith(b"\nA\n"):
        piece = os.read(second.stdout.fileno(), 4096)
        assert piece, seen
        seen += piece
    assert first.poll() is None
    gate.open()
    out, err = first.communicate(timeout=60)
    rest, errors = second.communicate(timeout=60)
    assert (first.returncode, second.returncode, err, errors) == (0, 0, b"", b"")
    assert gate.nobody()
    assert b"\nA\nB\n---> saved as" in out
    assert b"\nA\nB\n---> using" in seen + rest
    assert out.splitlines()[-1] == rest.splitlines()[-1]


def test_a_step_of_a_process_that_is_killed_is_taken_over(house: House, gate: Gate) -> None:
    text = stage(gate.run("echo A; sleep 987652 &", "echo B"))
    first = house.start(text)
    gate.wait()
    second = house.start(text)
    time.sleep(0.3)
    first.kill()
    first.communicate()
    gate.wait()
    gate.open()
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert out.endswith(b'"\n')
    assert gone("987652")


# Cancelling.


def test_cancel(house: House, gate: Gate) -> None:
    party = Party(house, stage(gate.run("echo A; sleep 987653 &")))
    gate.wait()
    party.cancel.set("enough")
    party.end()
    assert isinstance(party.error, Cancelled)
    assert str(party.error) == "enough"
    assert alive("987653") == []  # it has ended when the build says so
    assert house.residue() == []


def test_cancelling_before_anything_runs(house: House) -> None:
    cancel = Cancel()
    cancel.set("never mind")
    with refused(Cancelled, "never mind"):
        house.build(SIMPLE, cancel=cancel)


def test_one_of_two_gives_up_and_the_other_succeeds(house: House, gate: Gate) -> None:
    builder = house.builder()
    first, second = (Party(house, stage(gate.run()), builder=builder) for _ in range(2))
    gate.wait()
    assert soon(lambda: wanted(builder) == 2)
    first.cancel.set()
    first.end()
    assert isinstance(first.error, Cancelled)
    gate.open()
    assert second.result()
    assert gate.nobody()


def waiting(house: House, gate: Gate, text: str, *words: str) -> list[subprocess.Popen[bytes]]:
    """Two processes that build the same: a step runs in the first, and the second, with `words`, hears it."""
    first = house.start(text)
    gate.wait()
    second = house.start(text, *words)
    assert second.stdout
    assert any(line == b"heard\n" for line in second.stdout)
    return [first, second]


def test_a_failure_is_shared_between_processes(house: House, gate: Gate) -> None:
    text = stage(gate.run("echo heard", "echo last; exit 7"))
    processes = waiting(house, gate, text)
    gate.open()
    said = [re.sub(rb"\d+\.spec", b"x.spec", process.communicate(timeout=60)[1]) for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert gate.nobody()
    assert said[0] == said[1]
    assert b'x.spec:1:31: "/bin/sh" "-c" ' in said[0]
    assert b"failed with exit status 7" in said[0]
    path = re.findall(rb"^log: (.*)$", said[1], re.M)[0].decode()
    assert Path(path).read_text() == "heard\nlast\n"
    later = house.start(text)
    gate.wait()  # whoever asks later tries again
    gate.open()
    later.communicate(timeout=60)
    assert later.returncode == 1


@pytest.mark.parametrize("words", [["--pids", "50"], ["--fast-sync"], ["--discard-failed"]], ids=" ".join)
def test_a_failure_on_other_terms_is_not_shared(house: House, gate: Gate, words: list[str]) -> None:
    text = stage(gate.run("echo heard", "exit 7"))
    first, second = waiting(house, gate, text, *words)
    gate.open()
    first.communicate(timeout=60)
    if words != ["--discard-failed"]:  # which says nothing of how the step runs
        gate.wait()
        gate.open()
    second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (1, 1)
    assert gate.nobody()


def test_both_give_up_and_the_step_is_ended(house: House, gate: Gate) -> None:
    builder = house.builder()
    parties = [Party(house, stage(gate.run("sleep 987654 &")), builder=builder) for _ in range(2)]
    gate.wait()
    assert soon(lambda: wanted(builder) == 2)
    for party in parties:
        party.cancel.set()
    for party in parties:
        party.end()
        assert isinstance(party.error, Cancelled)
    assert alive("987654") == []


def test_cancelling_a_build_that_failed_does_not_disturb_its_successors(house: House, gate: Gate) -> None:
    builder, text = house.builder(), stage(gate.run("echo A", "exit $(cat /tmp/status 2>/dev/null || echo 1)"))
    first = Party(house, text, builder=builder)
    gate.wait()
    gate.open()
    first.end()
    assert isinstance(first.error, StepFailed)
    second = Party(house, text, builder=builder)
    gate.wait()
    first.cancel.set()
    third = Party(house, text, builder=builder)
    assert soon(lambda: third.log.shown.endswith(b"A\n"))
    second.cancel.set()
    second.end()
    gate.open()
    third.end()
    assert isinstance(second.error, Cancelled)
    assert isinstance(third.error, StepFailed)
    assert gate.nobody()


def test_a_request_while_the_first_is_being_cancelled_starts_anew(house: House, gate: Gate) -> None:
    builder, text = house.builder(), stage(gate.run())
    first = Party(house, text, builder=builder)
    gate.wait()
    first.cancel.set()
    assert soon(lambda: not wanted(builder))  # before that, a request would join
    second = Party(house, text, builder=builder)
    gate.wait()
    gate.open()
    assert second.result()
    first.end()
    assert isinstance(first.error, Cancelled)


@pytest.mark.parametrize("early", [False, True], ids=["read before", "read meanwhile"])
def test_a_cancelled_copy_ends_within_a_file(house: House, monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    (house.context / "large").write_bytes(os.urandom(200 << 15))
    cancel, pieces = Cancel(), list[int]()
    monkeypatch.setattr("obuild.copy.PIECE", 1 << 15)
    monkeypatch.setattr("obuild.build.stage.EARLY", 0 if early else 1 << 40)

    def slowly(move: Callable[..., int]) -> Callable[..., int]:
        def moved(*given: int) -> int:
            pieces.append(move(*given))
            cancel.set()
            time.sleep(0.05)
            return pieces[-1]

        return moved

    for name in ("copy_file_range", "sendfile"):
        monkeypatch.setattr(os, name, slowly(getattr(os, name)))
    with pytest.raises(Cancelled):
        house.build(stage("(copy (src large) (dst /))"), cancel=cancel)
    assert 0 < len(pieces) < 200
    assert soon(lambda: not house.residue()), house.residue()


# Failing.


def test_a_failing_step_is_not_a_hit_and_is_kept_to_look_at(house: House) -> None:
    text = stage(sh("echo kept > /file"), sh("echo last words; touch /tmp/left; exit 3"), sh("echo never"))
    with pytest.raises(StepFailed) as failed:
        house.build(text)
    error = failed.value
    assert str(error) == (
        'test.spec:1:65: "/bin/sh" "-c" "echo last words; touch /tmp/left; exit 3" failed with exit status 3'
    )
    assert error.status == 3
    assert Path(error.log).read_text() == "last words\n"
    store = house.open()
    assert store.get(error.id) is None
    kept = store.failed_layer(error.id)
    assert kept
    with store.view(kept) as tree:
        assert os.path.exists(f"{tree}/tmp/left")
        assert Path(tree, "file").read_text() == "kept\n"
    log = Log()
    with pytest.raises(StepFailed):
        house.build(text, log=log)
    assert log.steps == [("from", True, 0), ("run", True, 0), ("run", False, 3)]


def test_a_failed_tree_is_not_kept_when_nobody_wants_it(house: House) -> None:
    with pytest.raises(StepFailed):
        house.build(stage(sh("exit 3")), keep_failed=False)
    assert house.open().failed() == []


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("exit 255", 255, "failed with exit status 255"),
        ("kill -SEGV $$", 139, "failed with signal SIGSEGV (exit status 139)"),
        ("kill -9 $$", 137, "failed with signal SIGKILL (exit status 137)"),
        ("nonesuch", 127, "failed with exit status 127"),
    ],
)
def test_how_a_step_failed(house: House, command: str, status: int, words: str) -> None:
    with pytest.raises(StepFailed, match="failed") as failed:
        house.build(stage(sh(command)))
    assert failed.value.status == status
    assert str(failed.value).endswith(words)


def test_the_time_of_a_step(house: House) -> None:
    with refused(StepFailed, "test.spec:1:31: time limit: the step took more than 0.5 seconds"):
        house.build(stage(sh("sleep 987655")), limits=Limits(seconds=0.5))
    assert alive("987655") == []


def test_the_time_of_the_whole_build(house: House) -> None:
    with refused(ObuildError, "time limit: the build took more than 1 seconds"):
        house.build(stage(sh("sleep 0.4"), sh("sleep 0.5"), sh("sleep 987657")), timeout=1)
    assert alive("987657") == []
    assert len(house.open().layers()) >= 2  # what ended well stays
