"""What a copy would copy: the walk, exclusions, digests and the index that remembers them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from obuild import manifest
from obuild.errors import ObuildError
from obuild.manifest import Index, fingerprint, scan


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "file").write_text("content")
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o700)
    (root / "sub" / "a.ml").write_text("a")
    (root / "sub" / "deep" / "b.ml").write_text("b")
    (root / "sub" / "deep" / "c.txt").write_text("c")
    (root / "sub" / "link").symlink_to("a.ml")
    (root / "inner").symlink_to("sub")
    return root


def paths(root: Path, *sources: str, into: bool = True, exclude: tuple[str, ...] = ()) -> list[str]:
    return [entry.path for entry in scan(str(root), sources, into=into, exclude=exclude).entries]


def digest(root: Path, index: Path, *sources: str, into: bool = True, exclude: tuple[str, ...] = ()) -> str:
    index.mkdir(exist_ok=True)
    found, kept = scan(str(root), sources, into=into, exclude=exclude), Index(str(index), str(root))
    return kept.known(fingerprint(found)) or kept.digest(found, fingerprint(found))


def age(root: Path) -> None:
    """Wait until nothing below `root` is racy any more."""
    time.sleep(2 * manifest.RACY / 1e9)


@pytest.mark.parametrize("spelling", ["sub", "/sub", "./sub", "sub/", "sub/.", "//sub//."])
def test_spellings_of_one_source(tree: Path, spelling: str) -> None:
    assert paths(tree, spelling) == paths(tree, "sub")
    assert paths(tree, spelling)[0] == "sub"


def test_into_a_directory_and_as_a_name(tree: Path) -> None:
    assert paths(tree, "sub") == ["sub", "sub/a.ml", "sub/deep", "sub/link", "sub/deep/b.ml", "sub/deep/c.txt"]
    assert paths(tree, "sub", into=False) == ["", "a.ml", "deep", "link", "deep/b.ml", "deep/c.txt"]
    assert paths(tree, "file", "tool") == ["file", "tool"]
    assert paths(tree, "sub/a.ml") == ["a.ml"]
    assert paths(tree, ".")[:2] == ["", "file"]


def test_modes_are_the_executable_bits_alone(tree: Path) -> None:
    modes = {entry.path: entry.mode for entry in scan(str(tree), ["."], into=True).entries}
    assert modes["file"] == 0o644
    assert modes["tool"] == 0o755
    assert modes["sub"] == 0o755


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("a.ml",), ["sub", "sub/deep", "sub/link", "sub/deep/b.ml", "sub/deep/c.txt"]),
        (("deep",), ["sub", "sub/a.ml", "sub/link"]),
        (("sub",), ["sub", "sub/a.ml", "sub/deep", "sub/link", "sub/deep/b.ml", "sub/deep/c.txt"]),
        (("*.ml",), ["sub", "sub/deep", "sub/link", "sub/deep/c.txt"]),
        (("sub/*.ml",), ["sub", "sub/deep", "sub/link", "sub/deep/b.ml", "sub/deep/c.txt"]),
        (("**/*.ml",), ["sub", "sub/deep", "sub/link", "sub/deep/c.txt"]),
        (("sub/**",), ["sub"]),
        (("?.txt", "[!a-b].ml"), ["sub", "sub/a.ml", "sub/deep", "sub/link", "sub/deep/b.ml"]),
        (("[",), ["sub", "sub/a.ml", "sub/deep", "sub/link", "sub/deep/b.ml", "sub/deep/c.txt"]),
    ],
)
def test_exclude(tree: Path, exclude: tuple[str, ...], left: list[str]) -> None:
    assert paths(tree, "sub", exclude=exclude) == left


@pytest.mark.parametrize(
    ("sources", "into", "message"),
    [
        ([], True, "at least one source"),
        (["file", "tool"], False, 'must end with "/"'),
        (["fil"], True, 'source path "fil" not found'),
        (["file/foo"], True, '"file" is not a directory in source path "file/foo"'),
        (["inner/a.ml"], True, '"inner" is a symlink in source path "inner/a.ml"'),
        (["../context/file"], True, '".." can not be used'),
    ],
)
def test_errors(tree: Path, sources: list[str], into: bool, message: str) -> None:
    with pytest.raises(ObuildError) as caught:
        scan(str(tree), sources, into=into)
    assert message in str(caught.value)


def test_a_missing_source_offers_the_nearest(tree: Path) -> None:
    with pytest.raises(ObuildError) as caught:
        scan(str(tree), ["sub/deep/b.m"], into=True)
    assert caught.value.hint == 'did you mean "b.ml"?'


def test_sockets_and_fifos_are_refused_unless_excluded(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(ObuildError, match="pipe"):
        scan(str(tree), ["."], into=True)
    with socket.socket(socket.AF_UNIX) as listener:
        (tree / "pipe").unlink()
        listener.bind(str(tree / "sock"))
        with pytest.raises(ObuildError, match="sock"):
            scan(str(tree), ["."], into=True)
    assert "sock" not in paths(tree, ".", exclude=("sock",))


def test_names_kinds_modes_content_and_links_count(tree: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    seen = {digest(tree, index, ".")}
    changes = [
        lambda: (tree / "file").write_text("other"),
        lambda: (tree / "file").chmod(0o755),
        lambda: (tree / "file").rename(tree / "file2"),
        lambda: (tree / "sub" / "link").unlink() or (tree / "sub" / "link").symlink_to("deep"),
        (tree / "empty").mkdir,
        lambda: (tree / "empty").rmdir() or (tree / "empty").write_text(""),
    ]
    for number, change in enumerate(changes, 2):
        change()
        seen.add(digest(tree, index, "."))
        assert len(seen) == number


def test_times_owners_and_umask_do_not_count(tree: Path, tmp_path: Path) -> None:
    before = digest(tree, tmp_path / "index", ".")
    os.utime(tree / "file", (1, 1))
    (tree / "file").chmod(0o600)
    (tree / "sub").chmod(0o700)
    assert digest(tree, tmp_path / "index", ".") == before
    assert digest(tree, tmp_path / "other index", ".") == before


def test_the_index_is_used_and_never_wrong(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    age(tree)
    first = digest(tree, index, ".")
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "_content", lambda entry, keep: pytest.fail("a file was read again"))
        assert digest(tree, index, ".") == first
    (tree / "file").write_text("CONTENT")  # the same size
    assert digest(tree, index, ".") != first
    (tree / "file").write_text("content")
    assert digest(tree, index, ".") == first


def test_a_file_changed_within_the_granularity_of_timestamps_is_seen(tree: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    for text in ["aaaaaaa", "bbbbbbb", "ccccccc"] * 20:
        (tree / "file").write_text(text)
        plain = digest(tree, tmp_path / f"fresh-{time.time_ns()}", "file")
        assert digest(tree, index, "file") == plain


def test_a_torn_index_costs_time_only(tree: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    age(tree)
    first = digest(tree, index, ".")
    for file in index.iterdir():
        file.write_bytes(file.read_bytes()[:-3] + b"\0\xff\0")
    assert digest(tree, index, ".") == first


def test_large_files_are_hashed_in_pieces_and_every_byte_counts(tmp_path: Path) -> None:
    root = tmp_path / "context"
    root.mkdir()
    data = bytearray(os.urandom(2 * manifest.CHUNK + 17))
    seen = set()
    for place in (None, 0, manifest.CHUNK, 2 * manifest.CHUNK + 16):
        if place is not None:
            data[place] ^= 1
        (root / "big").write_bytes(data)
        seen.add(digest(root, tmp_path / "index", "big"))
    assert len(seen) == 4
