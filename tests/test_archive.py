"""Archives as streams: every compression, damage found, the same tree always the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from conftest import needs
from tree import details, make_tree

from obuild.archive import Stream, decompressor, open_archive, pack, read_chunks
from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError, ObuildError
from obuild.unpack import unpack

PROGRAMS = ["gzip", "zstd", "xz", "bzip2", "lz4"]


def test_a_stream_reads_across_chunks() -> None:
    stream = Stream(iter([b"ab", b"cde", b"", b"f"]), digest=True)
    assert stream.read(1) == b"a"
    assert stream.read(3) == b"bcd"
    assert (stream.tell(), stream.read(10), stream.read(1)) == (4, b"ef", b"")
    assert [bytes(piece) for piece in Stream(iter([b"ab", b"cde"])).pieces(4)] == [b"ab", b"cd"]


def test_a_stream_hashes_all_that_passes() -> None:
    stream = Stream(iter([b"abc"] * 10), digest=True)
    stream.seek(7)
    assert stream.read(2) == b"bc"
    stream.drain()
    assert stream.hexdigest == hashlib.sha256(b"abc" * 10).hexdigest()


def test_a_stream_does_not_go_back() -> None:
    stream = Stream(iter([b"abc"]))
    stream.read(2)
    with pytest.raises(ValueError, match="backwards"):
        stream.seek(1)


@pytest.mark.parametrize("program", PROGRAMS)
def test_reads_what_programs_compress(tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"not installed: {program}")
    content = os.urandom(100_000) + bytes(2_000_000)
    packed = subprocess.run([program, "-c"], input=content, check=True, capture_output=True).stdout
    assert decompressor(packed) == program
    path = tmp_path / "packed"
    path.write_bytes(packed)
    fd = os.open(path, os.O_RDONLY)
    with open_archive(fd, "packed", digest=True) as stream:
        assert stream.read(len(content)) == content
        stream.drain()
        assert stream.hexdigest == hashlib.sha256(content).hexdigest()
    path.write_bytes(packed[:-20])
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(FetchError, match='"packed" is damaged'), open_archive(fd, "packed") as stream:
        stream.drain()


def test_plain_data_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"x" * 5000)
    with open_archive(os.open(tmp_path / "plain", os.O_RDONLY), "plain") as stream:
        assert stream.read(10_000) == b"x" * 5000


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obuild.system.PATH", str(tmp_path))
    (tmp_path / "packed").write_bytes(b"\x28\xb5\x2f\xfd1234")
    with pytest.raises(FetchError, match="compressed with zstd") as caught:
        open_archive(os.open(tmp_path / "packed", os.O_RDONLY), "packed").__enter__()
    assert 'install "zstd"' in caught.value.hint


def test_reading_a_silent_pipe_can_be_cancelled() -> None:
    out, into = os.pipe()
    cancel = Cancel()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(Cancelled):
        list(read_chunks(out, cancel))
    os.close(out)
    os.close(into)


@pytest.fixture
def tree(tmp_path: Path, can_own: None) -> Path:
    return make_tree(tmp_path / "tree")


@needs("tar")
def test_what_is_packed_unpacks_to_the_same(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pack(str(tree)) as chunks:
        unpack(Stream(chunks), str(tmp_path / "copy"), "copy")
    assert details(tmp_path / "copy") == details(tree)


@needs("tar")
def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    both = []
    for root in (tree, tmp_path / "copy"):
        with pack(str(root)) as chunks:
            both.append(b"".join(chunks))
    assert both[0] == both[1]
    with tarfile.open(fileobj=io.BytesIO(both[0])) as archive:
        names = archive.getnames()
    assert names == sorted(names)


@needs("tar")
def test_an_unreadable_tree_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ObuildError, match="can not read all of"), pack(str(tmp_path / "missing")) as chunks:
        list(chunks)


def children() -> str:
    return "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))


@needs("tar")
def test_packing_can_be_cancelled_and_leaves_no_process(tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.truncate(64 << 20)
    cancel, before = Cancel(), children()
    with pack(str(tmp_path), cancel=cancel) as chunks:
        next(chunks)
        cancel.set()
        with pytest.raises(Cancelled):
            next(chunks)
    assert children() == before
