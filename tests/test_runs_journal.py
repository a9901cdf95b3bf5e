"""Files of JSON lines: torn, damaged, written by many, killed, on a full disk."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.runs.journal import Journal, backwards, parse_line

CHILD = """
import sys
from obuild.runs.journal import Journal
journal = Journal(sys.argv[1])
for number in range(int(sys.argv[3])):
    journal.append({"who": sys.argv[2], "number": number, "text": "x" * 300})
    if number == 0:
        print("started", flush=True)
"""


def child(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CHILD, str(path), name, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_append_and_read(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "a" / "b.jsonl"))
    assert journal.read() == ([], 0)
    journal.append({"a": 1})
    journal.append({"text": "é\n\x00\ud800"}, durable=True)
    assert journal.read() == ([{"a": 1}, {"text": "é\n\x00\ud800"}], 0)
    assert (tmp_path / "a" / "b.jsonl").read_bytes().count(b"\n") == 2


def test_an_empty_file_is_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    assert Journal(str(path)).read() == ([], 0)
    assert list(backwards(str(path), 1000)) == []


@pytest.mark.parametrize(
    "wreck",
    [b'{"a":', b"\0\0\0\0", b"\xff\xfe{}", b"[1]", b"null", b"7", b"{" * 100_000, b'{"a":' * 100_000, b"\x80"],
    ids=range(9),
)
def test_damaged_lines_are_skipped_and_counted(tmp_path: Path, wreck: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"n":1}\n' + wreck + b'\n\n  \n{"n":2}\n')
    assert Journal(str(path)).read() == ([{"n": 1}, {"n": 2}], 1)
    assert [record["n"] for record in backwards(str(path), 1 << 20)] == [2, 1]


def test_nuls_around_a_record_are_no_part_of_it() -> None:
    assert parse_line(b'\0\0\0{"n":1}\0\0') == {"n": 1}


def test_a_tail_torn_anywhere_costs_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a"
    line = b'{"n":1,"text":"\xc3\xa9"}\n'
    for cut in range(len(line) + 1):
        path.write_bytes(b'{"n":0}\n' + line[:cut])
        Journal(str(path)).append({"n": 2})
        records, broken = Journal(str(path)).read()
        whole = cut >= len(line) - 1
        assert [record["n"] for record in records] == ([0, 1, 2] if whole else [0, 2])
        assert broken == (0 if whole or cut == 0 else 1)


def test_threads_append_together(tmp_path: Path) -> None:
    path = str(tmp_path / "a")

    def work(who: int) -> None:
        for number in range(50):
            Journal(path).append({"who": who, "number": number, "text": "y" * (number * 100)})

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records, broken = Journal(path).read()
    assert broken == 0
    assert sorted((record["who"], record["number"]) for record in records) == [
        (w, n) for w in range(8) for n in range(50)
    ]


def test_processes_append_together_while_it_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    children = [child(path, name, 200) for name in "abc"]
    for process in children:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
    while any(process.poll() is None for process in children):
        Journal(str(path)).rewrite(lambda lines: [b'{"mark":1}', *lines])
        time.sleep(0.002)
    assert [process.wait() for process in children] == [0, 0, 0]
    records, broken = Journal(str(path)).read()
    mine = sorted((record["who"], record["number"]) for record in records if "who" in record)
    assert broken == 0
    assert mine == [(name, number) for name in "abc" for number in range(200)]


def test_a_killed_writer_costs_one_record_at_most(tmp_path: Path) -> None:
    """The kernel ends a write at a page's end when its process is killed; the next writer ends the line."""
    path = tmp_path / "a"
    for turn in range(10):
        process = child(path, str(turn), 10**9)
        assert process.stdout
        process.stdout.readline()
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        Journal(str(path)).append({"who": "test", "number": turn})
    records, broken = Journal(str(path)).read()
    assert broken <= 10
    assert [record["number"] for record in records if record["who"] == "test"] == list(range(10))
    for turn in range(10):
        numbers = [record["number"] for record in records if record["who"] == str(turn)]
        assert numbers == list(range(len(numbers)))


FULL = """
import resource, sys
from obuild.runs.journal import Journal
journal = Journal(sys.argv[1])
journal.append({"n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))
try:
    journal.append({"text": "z" * 100})
except OSError as error:
    print(error.errno)
print(len(journal.read()[0]), open(sys.argv[1]).read().count("z"))
"""


def test_a_write_that_is_cut_short_is_taken_back(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "a"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("27\n1 0\n", "")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 30


def test_a_failed_rewrite_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "a"))
    journal.append({"n": 1})
    with pytest.raises(ZeroDivisionError):
        journal.rewrite(lambda lines: [b""] * (1 // 0))
    journal.append({"n": 2})
    assert [record["n"] for record in journal.read()[0]] == [1, 2]
    assert os.listdir(tmp_path) == ["a"]


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_whatever_a_file_holds_the_next_record_is_read(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        for number, piece in enumerate(pieces):
            with open(path, "ab") as file:
                file.write(piece)
            Journal(str(path)).append({"n": number, "mine": True})
        records, _ = Journal(str(path)).read()
        assert [record["n"] for record in records if record.get("mine")] == list(range(len(pieces)))
        if pieces:
            last = next(backwards(str(path), 1 << 20))
            assert last == {"n": len(pieces) - 1, "mine": True}


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    (tmp_path / "a").symlink_to("other")
    with pytest.raises(OSError, match="Too many levels"):
        Journal(str(tmp_path / "a")).append({"n": 1})
    assert (tmp_path / "other").read_text() == ""


@pytest.mark.parametrize("limit", [1, 100, 4095, 4096, 4097, 9000, 1 << 20])
def test_reading_backwards(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "a"
    lines = [json.dumps({"n": number, "text": "t" * (number * 7 % 900)}) for number in range(60)]
    data = "\n".join(lines)  # the last line is torn off its end, and whole
    path.write_text(data)
    found = [record["n"] for record in backwards(str(path), limit)]
    whole = data[-limit:] if limit < len(data) else "\n" + data
    expected = [json.loads(line)["n"] for line in whole.split("\n")[1:]]
    assert found == expected[::-1]
