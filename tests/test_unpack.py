"""Unpacking: everything a tar can say is kept, nothing is written outside the root, damage is one clear error."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild.archive import Stream
from obuild.errors import FetchError
from obuild.unpack import unpack

pytestmark = pytest.mark.usefixtures("can_own")


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object) -> tuple[object, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(content), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*entries: tuple[object, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))  # type: ignore[arg-type]
    return file.getvalue()


def pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def put(data: bytes, root: Path, **options: bool) -> list[str]:
    notes: list[str] = []
    unpack(Stream(pieces(data)), str(root), "test.tar", note=notes.append, **options)
    return notes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    path = tmp_path / "root"
    path.mkdir()
    return path


def listing(root: Path) -> dict[str, str]:
    """What is in a tree: content, link target or kind by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = path.read_text() if path.is_file() else "dir" if path.is_dir() else "node"
    return found


SYMLINK, LINK, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def test_keeps_modes_owners_and_times(root: Path) -> None:
    put(
        tar(
            entry("d", FOLDER, mode=0o1750, uid=3, gid=4, mtime=11),
            entry("d/su", content=b"x", mode=0o4755, uid=1000, gid=50, pax_headers={"mtime": "1234567890.123456789"}),
            entry("d/old", content=b"", pax_headers={"mtime": "-1.5"}),
            entry("l", SYMLINK, linkname="d/su", uid=7, gid=8, mtime=12),
        ),
        root,
    )
    info = (root / "d/su").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o4755, 1000, 50)
    assert info.st_mtime_ns == 1234567890123456789
    assert (root / "d/old").stat().st_mtime_ns == -1_500_000_000
    folder = (root / "d").stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid, folder.st_mtime) == (0o1750, 3, 4, 11)
    link = (root / "l").lstat()
    assert (link.st_uid, link.st_gid, link.st_mtime) == (7, 8, 12)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_reads_every_format(root: Path, format: int) -> None:
    name = f"{'long/' * 20}name" if format == tarfile.USTAR_FORMAT else f"{'long/' * 60}{'n' * 200}"
    put(tar(entry(name, content=b"found"), entry("l", SYMLINK, linkname="x" * 90), format=format), root)
    assert (root / name).read_text() == "found"
    assert os.readlink(root / "l") == "x" * 90


def test_keeps_hard_links_nodes_and_names_that_are_no_utf8(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    put(
        tar(
            entry("a", content=b"same"),
            entry("b", LINK, linkname="./a"),
            entry("pipe", tarfile.FIFOTYPE),
            entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry(name, content=b"x"),
            format=tarfile.GNU_FORMAT,
        ),
        root,
    )
    assert (root / "a").stat().st_ino == (root / "b").stat().st_ino
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert os.fsencode(name) in os.listdir(os.fsencode(root))


def test_keeps_attributes_but_those_of_overlayfs(root: Path) -> None:
    headers = {"SCHILY.xattr.user.colour": "blue", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    headers["SCHILY.xattr.security.capability"] = capability.decode("utf-8", "surrogateescape")
    put(tar(entry("f", pax_headers=headers)), root)
    names = os.listxattr(root / "f")
    assert sorted(names) == ["security.capability", "user.colour"]
    assert os.getxattr(root / "f", "user.colour") == b"blue"
    assert os.getxattr(root / "f", "security.capability") == capability


def test_tells_which_attributes_the_file_system_refuses(root: Path) -> None:
    notes = put(tar(entry("l", SYMLINK, linkname="x", pax_headers={"SCHILY.xattr.user.no": "1"})), root)
    assert len(notes) == 1
    assert "user.no" in notes[0]


@needs("tar")
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
def test_keeps_holes(root: Path, tmp_path: Path, version: str) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        for offset in (0, 1 << 20, 9 << 20):
            file.seek(offset)
            file.write(b"data at %d" % offset)
        file.truncate(20 << 20)
    option = ["--format=gnu"] if version == "gnu" else ["--format=posix", f"--sparse-version={version}"]
    made = subprocess.run(["tar", "-cS", *option, "-C", tmp_path, "sparse"], check=True, capture_output=True)
    put(made.stdout, root)
    assert (root / "sparse").read_bytes() == (tmp_path / "sparse").read_bytes()
    assert (root / "sparse").stat().st_blocks * 512 < 1 << 20


def test_later_entries_replace_earlier_ones(root: Path) -> None:
    put(
        tar(
            entry("a/b/c", content=b"deep"),
            entry("a/b", content=b"now a file"),
            entry("x", SYMLINK, linkname="a"),
            entry("x", FOLDER),
            entry("x/y", content=b"in a directory"),
            entry("a", FOLDER, mode=0o700),
        ),
        root,
    )
    assert listing(root) == {"a": "dir", "a/b": "now a file", "x": "dir", "x/y": "in a directory"}
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700


def test_parents_are_made_for_everybody_to_read(root: Path) -> None:
    before = os.umask(0o077)
    try:
        put(tar(entry("a/b/c")), root)
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o755


@pytest.mark.parametrize("target", ["../outside", "/../../../../../outside", "{outside}"])
def test_symlinks_are_followed_inside_the_root_only(root: Path, target: str) -> None:
    target = target.format(outside=root.parent / "outside")
    (root / "outside").mkdir()
    (root / str(root.parent / "outside")[1:]).mkdir(parents=True)
    put(tar(entry("way", SYMLINK, linkname=target), entry("way/file", content=b"x")), root)
    assert list((root.parent / "outside").iterdir()) == []
    assert "x" in listing(root).values()


def test_a_symlink_in_the_way_of_a_file_is_replaced_not_followed(root: Path) -> None:
    victim = root.parent / "outside" / "victim"
    victim.write_text("mine")
    put(tar(entry("f", SYMLINK, linkname=str(victim)), entry("f", content=b"theirs")), root)
    assert victim.read_text() == "mine"
    assert (root / "f").read_text() == "theirs"
    assert not (root / "f").is_symlink()


def test_a_hard_link_can_not_reach_outside(root: Path) -> None:
    victim = root.parent / "outside" / "victim"
    victim.write_text("mine")
    way = entry("way", SYMLINK, linkname="../outside")
    for archive in (
        tar(entry("f", LINK, linkname=str(victim))),
        tar(entry("f", LINK, linkname="../outside/victim")),
        tar(way, entry("f", LINK, linkname="way/victim")),
    ):
        with pytest.raises(FetchError, match=r'can not unpack "f" of "test\.tar"'):
            put(archive, root)
    assert victim.stat().st_nlink == 1


def test_a_link_to_a_symlink_does_not_follow_it(root: Path) -> None:
    victim = root.parent / "outside" / "victim"
    victim.write_text("mine")
    put(tar(entry("s", SYMLINK, linkname=str(victim)), entry("f", LINK, linkname="s")), root)
    assert (root / "f").is_symlink()
    assert victim.stat().st_nlink == 1


@pytest.mark.parametrize("name", ["../outside/x", "a/../../outside/x", "./../x"])
def test_names_that_lead_out_are_refused(root: Path, name: str) -> None:
    with pytest.raises(FetchError, match="it leads out of the root"):
        put(tar(entry(name)), root)


def test_absolute_names_and_inner_dots_are_inside(root: Path) -> None:
    put(tar(entry("/abs//./f", content=b"1"), entry("abs/x/../g", content=b"2")), root)
    assert listing(root) == {"abs": "dir", "abs/f": "1", "abs/g": "2"}


def test_the_root_gets_what_its_entry_says(root: Path) -> None:
    put(tar(entry("./", FOLDER, mode=0o711, uid=5, mtime=99), entry("f")), root)
    info = root.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_mtime) == (0o711, 5, 99)
    with pytest.raises(FetchError, match="the root can only be a directory"):
        put(tar(entry(".", SYMLINK, linkname="/etc")), root)


# Layers


def layers(root: Path, *archives: bytes) -> dict[str, str]:
    for archive in archives:
        put(archive, root, layer=True)
    return listing(root)


def test_a_whiteout_takes_away_what_is_below(root: Path) -> None:
    below = tar(entry("d/f", content=b"1"), entry("d/g", content=b"2"), entry("e/h", content=b"3"))
    assert layers(root, below, tar(entry("d/.wh.f"), entry(".wh.e"), entry(".wh.not-there"))) == {
        "d": "dir",
        "d/g": "2",
    }


@pytest.mark.parametrize("late", [False, True])
def test_an_opaque_directory_keeps_only_its_own_layer(root: Path, late: bool) -> None:
    below = tar(entry("d/f", content=b"1"), entry("d/sub/g", content=b"2"))
    own = [entry("d", FOLDER), entry("d/new", content=b"3"), entry("d/sub/own", content=b"4")]
    own.insert(len(own) if late else 1, entry("d/.wh..wh..opq"))
    assert layers(root, below, tar(*own)) == {"d": "dir", "d/new": "3", "d/sub": "dir", "d/sub/own": "4"}


def test_a_whiteout_does_not_touch_its_own_layer(root: Path) -> None:
    below = tar(entry("f", content=b"old"), entry("d/old"))
    own = tar(entry("f", content=b"new"), entry("d/new", content=b"x"), entry(".wh.f"), entry(".wh.d"))
    assert layers(root, below, own) == {"f": "new", "d": "dir", "d/new": "x"}


def test_a_layer_replaces_a_directory_by_a_file_and_back(root: Path) -> None:
    assert layers(root, tar(entry("d/f")), tar(entry("d", content=b"file"))) == {"d": "file"}
    assert layers(root, tar(entry("d", FOLDER))) == {"d": "dir"}


def test_a_whiteout_behind_a_symlink_stays_inside(root: Path) -> None:
    (root.parent / "outside" / "victim").write_text("mine")
    layers(root, tar(entry("way", SYMLINK, linkname="../outside")), tar(entry("way/.wh.victim")))
    layers(root, tar(entry("way/.wh..wh..opq")))
    assert (root.parent / "outside" / "victim").exists()


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_whiteout_of_nothing_is_refused(root: Path, name: str) -> None:
    with pytest.raises(FetchError, match="it takes away no file"):
        layers(root, tar(entry("f")), tar(entry(f"d/{name}")))
    assert (root / "f").exists()


def test_a_plain_tar_has_no_whiteouts(root: Path) -> None:
    put(tar(entry("f", content=b"1"), entry(".wh.f", content=b"2")), root)
    assert listing(root) == {"f": "1", ".wh.f": "2"}


def test_layers_extend_lower_links(root: Path) -> None:
    below = tar(entry("usr/lib/a", content=b"1"), entry("lib", SYMLINK, linkname="usr/lib"))
    found = layers(root, below, tar(entry("lib/b", content=b"2")))
    assert found["usr/lib/b"] == "2"
    assert found["lib"] == "-> usr/lib"


# Damage


def test_what_is_no_tar_is_refused(root: Path) -> None:
    with pytest.raises(FetchError, match=r'"test\.tar" is not a tar archive'):
        put(b"hello" * 1000, root)


def test_an_empty_file_has_nothing(root: Path) -> None:
    with pytest.raises(FetchError, match="is empty"):
        put(b"", root)


def test_a_damaged_header_is_not_the_end(root: Path) -> None:
    data = bytearray(tar(entry("a", content=b"1"), entry("b", content=b"2"), format=tarfile.GNU_FORMAT))
    data[1024 + 20] ^= 0xFF
    with pytest.raises(FetchError, match=r"damaged at byte 1,024: bad checksum"):
        put(bytes(data), root)


def test_a_cut_off_archive_is_an_error(root: Path) -> None:
    data = tar(entry("a", content=b"1" * 4000), entry("b", content=b"2"), format=tarfile.GNU_FORMAT)
    with pytest.raises(FetchError, match=r"cut off, 3,488 bytes are missing"):
        put(data[:1024], root)
    with pytest.raises(FetchError, match="no end mark"):
        put(data[: 512 + 4096], root)
    put(data[: 512 + 4096], root, checked=True)
    assert (root / "a").stat().st_size == 4000


def test_an_unknown_kind_of_entry_is_an_error(root: Path) -> None:
    with pytest.raises(FetchError, match=r'can not unpack "f".*unknown type'):
        put(tar(entry("f", b"Z")), root)


def test_a_full_disk_is_one_clear_error(root: Path, can_mount: None) -> None:
    archive = root / "big.tar"
    archive.write_bytes(tar(entry("big", content=bytes(4 << 20))))
    script = f"""
import sys; from obuild.archive import Stream; from obuild.unpack import unpack
data = open({str(archive)!r}, "rb").read()
try: unpack(Stream(iter([data])), "/mnt", "big.tar")
except Exception as error: print(type(error).__name__, error)
"""
    mount = 'mount -t tmpfs -o size=1m none /mnt && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == 'StoreError can not unpack "big" of "big.tar": No space left on device\n'


@settings(max_examples=300)
@given(data=st.data())
def test_damage_never_gives_another_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    archive = bytearray(
        tar(
            entry("a/b", content=b"1" * 600, pax_headers={"SCHILY.xattr.user.x": "1", "mtime": "1.5"}),
            entry("c", LINK, linkname="a/b"),
            entry("n" * 150, SYMLINK, linkname="m" * 150),
            entry("d", FOLDER),
            entry("d/.wh..wh..opq"),
            format=data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])),
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    if data.draw(st.booleans()):  # otherwise hardly any gets past a checksum
        for at in range(0, len(archive) - 511, 512):
            total = sum(archive[at : at + 148]) + 8 * 32 + sum(archive[at + 156 : at + 512])
            archive[at + 148 : at + 156] = b"%06o\0 " % total
    base = tmp_path_factory.mktemp("fuzz")
    (base / "root").mkdir()
    with contextlib.suppress(FetchError):
        put(bytes(archive), base / "root", layer=data.draw(st.booleans()))
    assert [path.name for path in base.iterdir()] == ["root"]
