"""Fetchers of files and directories: keys that follow the content, records, and errors that say what to write."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import needs
from fetching import IMAGE, Open, get
from tree import details

from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError, UsageError
from obuild.export import export
from obuild.fetch import program
from obuild.fetch import record as record_module
from obuild.image import PLAIN


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("", "can not be empty", "debootstrap:SUITE"),
        ("tar:", 'names nothing after "tar:"', "tar:FILE"),
        ("/srv/root", "looks like a path", 'write "dir:/srv/root"'),
        ("./root.tar", "looks like a path", 'or "tar:./root.tar"'),
        ("tra://x", 'unknown kind of base "tra:"', 'did you mean "tar"?'),
        ("Debian:13", '"Debian" is no part of a name', "in lower case"),
        ("docker:a b", "is no Docker reference", "NAME[:TAG]"),
        (
            "debootstrap:trixie?includ=a",
            'option "includ" of "debootstrap:trixie" is unknown',
            'did you mean "include"?',
        ),
        ("debootstrap:trixie?include=", "needs a value", "write debootstrap:SUITE"),
        ("debootstrap:trixie?include=a&include=b", "is given twice", ""),
        ("debootstrap:trixie?variant=minbas", '"minbas" is no variant', 'did you mean "minbase"?'),
        ("debootstrap:trixie?mirror=x", '"x" is no mirror', "http://"),
        ("debootstrap:trixie?include=--hook", '"--hook" is no name of a package', ""),
        ("debootstrap:a b", '"a b" is no suite', ""),
        ("oci:layout@sha256:12", '"sha256:12" is no digest', ""),
    ],
)
def test_what_is_no_source(opened: Open, source: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened(source)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_an_unknown_platform(opened: Open) -> None:
    with pytest.raises(UsageError, match="unknown platform"):
        opened("debian:13", platform="windows/amd64")


@pytest.mark.parametrize("name", ["../../etc/passwd", ".hidden", "x" * 500, "a b/c%2f", "caf\udce9", ""])
def test_records_stay_in_their_directory(images: str, name: str) -> None:
    record = record_module.Record(images, name)
    assert record.load() == {}
    record.save({"name": 1})
    assert record.load() == {"name": 1}
    assert os.path.dirname(record.path) == images
    assert len(os.listdir(images)) == 1


# tar:


def pack(tree: Path, path: Path, *options: str) -> Path:
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--format=posix", *options, "-C", tree, "-cf", path, "."], check=True
    )
    return path


@needs("tar", "zstd")
@pytest.mark.parametrize("option", ["--no-auto-compress", "--gzip", "--zstd", "--xz"])
def test_a_tar_of_any_compression(opened: Open, tree: Path, tmp_path: Path, root: Path, option: str) -> None:
    path = pack(tree, tmp_path / "root.tar", option)
    fetcher = opened(f"tar:{path}")
    assert fetcher.key() == f"tar sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    image, said = get(fetcher, root)
    assert (image.env, said) == (PLAIN, "")
    assert details(root) == details(tree)


def test_the_key_of_a_tar_follows_its_content(opened: Open, tree: Path, tmp_path: Path) -> None:
    path = pack(tree, tmp_path / "root.tar")
    first = opened(f"tar:{path}").key()
    (tree / "d" / "file").write_text("other")
    pack(tree, path)
    assert opened(f"tar:{path}").key() != first


def test_a_tar_is_hashed_once(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(b"x")
    time.sleep(0.05)  # the clock of files ticks every few milliseconds
    first = opened(f"tar:{path}").key()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert opened(f"tar:{path}").key() == first


@pytest.mark.parametrize("kind", ["tar", "dir"])
def test_what_changed_just_now_is_not_remembered(
    opened: Open, images: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"x") if kind == "tar" else (tmp_path / "x").mkdir()
    monkeypatch.setattr(f"obuild.fetch.{'tar' if kind == 'tar' else 'folder'}.RACY", 10**18)  # thirty years are now
    opened(f"{kind}:{tmp_path / 'x'}").key()
    assert not os.path.exists(images)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
def test_what_is_no_tar_file(opened: Open, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(FetchError, match=r"can not read|is not a file"):
        opened(f"tar:{path}").key()


def test_a_tar_that_changes_meanwhile(opened: Open, tree: Path, tmp_path: Path, root: Path) -> None:
    fetcher = opened(f"tar:{pack(tree, tmp_path / 'root.tar')}")
    fetcher.key()
    os.utime(tmp_path / "root.tar", (1, 1))
    with pytest.raises(FetchError, match="changed while it was read"):
        get(fetcher, root)


@needs("tar")
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_a_tar_that_is_an_image(opened: Open, tree: Path, tmp_path: Path, root: Path, format: str) -> None:
    export(str(tree), IMAGE, str(tmp_path / "out"), format)
    path = pack(tmp_path / "out", tmp_path / "oci.tar") if format == "oci" else tmp_path / "out"
    with pytest.raises(FetchError, match="is an image, not a root file system") as caught:
        get(opened(f"tar:{path}"), root)
    assert f"skopeo copy {format}-archive:{path}" in caught.value.hint


# dir:


def test_a_directory_is_copied_with_everything(opened: Open, tree: Path, root: Path) -> None:
    image, _ = get(opened(f"dir:{tree}"), root)
    assert image.env == PLAIN
    assert details(root) == details(tree)


def test_the_key_of_a_directory_is_the_same_for_a_copy(opened: Open, tree: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    assert opened(f"dir:{tree}").key() == opened(f"dir:{tmp_path / 'copy'}").key()
    os.utime(tree / "d" / "file", (1, 1))  # times do not count
    assert opened(f"dir:{tree}").key() == opened(f"dir:{tmp_path / 'copy'}").key()


def set_content_but_not_the_time(tree: Path) -> None:
    before = (tree / "d" / "su").stat()
    (tree / "d" / "su").write_bytes(b"y")
    os.utime(tree / "d" / "su", ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "d" / "file").write_text("other"),
    "content, time put back": set_content_but_not_the_time,
    "mode": lambda tree: (tree / "d" / "file").chmod(0o600),
    "owner": lambda tree: os.chown(tree / "d" / "file", 5, 5),
    "link": lambda tree: ((tree / "l").unlink(), (tree / "l").symlink_to("/d/other")),
    "name": lambda tree: (tree / "d" / "file").rename(tree / "d" / "other"),
    "attribute": lambda tree: os.setxattr(tree / "d" / "su", "user.x", b"1"),
    "device": lambda tree: ((tree / "null").unlink(), os.mknod(tree / "null", 0o20666, os.makedev(1, 5))),
    "new": lambda tree: (tree / "d" / "deep" / "new").touch(),
    "gone": lambda tree: (tree / "linked").unlink(),
    "root": lambda tree: tree.chmod(0o711),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_of_a_directory_follows(opened: Open, tree: Path, change: str) -> None:
    first = opened(f"dir:{tree}").key()
    time.sleep(0.02)
    assert opened(f"dir:{tree}").key() == first
    CHANGES[change](tree)
    assert opened(f"dir:{tree}").key() != first


def test_a_directory_is_read_once(opened: Open, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time.sleep(0.05)
    first = opened(f"dir:{tree}").key()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert opened(f"dir:{tree}").key() == first


def test_a_directory_that_changes_meanwhile(opened: Open, tree: Path, root: Path) -> None:
    fetcher = opened(f"dir:{tree}")
    fetcher.key()
    (tree / "d" / "new").touch()
    with pytest.raises(FetchError, match="changed while it was copied"):
        get(fetcher, root)


def test_a_directory_around_the_store(opened: Open, tmp_path: Path, root: Path) -> None:
    with pytest.raises(UsageError, match="holds the store itself"):
        get(opened(f"dir:{tmp_path}"), root)


def test_a_directory_with_another_file_system_in_it(tmp_path: Path, can_mount: None) -> None:
    (tmp_path / "tree" / "proc").mkdir(parents=True)
    script = f"""
from obuild.errors import FetchError
from obuild.fetch import open_fetcher
try: open_fetcher("dir:{tmp_path}/tree", images="{tmp_path}/images").key()
except FetchError as error: print(error)
"""
    mount = f'mount -t proc proc {tmp_path}/tree/proc && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f'"{tmp_path}/tree/proc" is another file system\n'


def test_a_directory_that_is_not_there(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="can not read"):
        opened(f"dir:{tmp_path / 'missing'}").key()


# Programs


def test_a_program_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PATIENCE", 0.2)
    cancel = Cancel()
    script = "trap '' TERM; echo ready; sleep 60 & wait; wait"

    def log(data: bytes) -> None:
        if b"ready" in data:
            cancel.set()

    with pytest.raises(Cancelled):
        program.run(["sh", "-c", script], log=log, cancel=cancel)


def test_output_errors_and_status_of_a_program() -> None:
    assert program.run(["sh", "-c", "echo out; echo err >&2"]) == (b"out\n", "")
    heard: list[bytes] = []
    script = "echo one; echo two >&2; echo three; exit 3"
    assert program.run(["sh", "-c", script], log=heard.append)[1] == "one\ntwo\nthree"
    assert b"".join(heard) == b"one\ntwo\nthree\n"
    assert program.run(["false"])[1] == "exit status 1"


@needs("setpriv")
def test_a_program_ends_with_obuild_itself() -> None:
    code = """
import os
from obuild.fetch import program
program.run(["sh", "-c", "echo $$; exec sleep 600"], log=lambda data: os.write(1, data))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as obuild:
        assert obuild.stdout is not None
        pid = int(obuild.stdout.readline())
        obuild.kill()
    for _ in range(500):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the program goes on")
