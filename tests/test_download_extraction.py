"""Putting sources into a layer: opam's rules for what is at the top of an archive, nothing outside of the root."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import needs, refused
from machine_opam import MachineOpam, write_repository
from webserver import sha256

from obuild.download import extract
from obuild.errors import FetchError, ObuildError
from obuild.opam.package import Package
from obuild.store import Store

OWNER = (1234, 4321)
TARGET = "/home/opam/build/a.1"

pytestmark = pytest.mark.usefixtures("can_own")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "home").mkdir(parents=True)
    return tmp_path / "root"


Member = tuple[str, Any]


def member(name: str, content: Any = b"", **fields: Any) -> Member:
    """An entry of a tar: bytes are a file, None a directory, text a symlink."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = 1_600_000_000, 0o644
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(content, str):
        info.type, info.linkname = tarfile.SYMTYPE, content
    else:
        info.size = len(content)
    for field, text in fields.items():
        setattr(info, field, text)
    return name, (info, content)


def tar(path: Path, *members: Member, mode: str = "w:gz") -> Path:
    """A tar archive at `path`."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for _, (info, content) in members:
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def files(folder: Path) -> dict[str, str]:
    """Everything below a directory: content of files, targets of symlinks, "/" for directories."""
    found = {}
    for path in sorted(folder.rglob("*")):
        text = f"-> {os.readlink(path)}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
        found[str(path.relative_to(folder))] = text
    return found


def unpacked(archive: Path, root: Path, **given: Any) -> dict[str, str]:
    extract(str(archive), str(root), TARGET, user=OWNER, **given)
    assert [path.name for path in root.iterdir()] == ["home"], "nothing is left beside it"
    return files(Path(f"{root}{TARGET}"))


SHAPES: dict[str, tuple[Member, ...]] = {
    "one": (member("a-1/f", b"f"), member("a-1/d/g", b"g")),
    "flat": (member("f", b"f"), member("g", b"g")),
    "mixed": (member("d/f", b"f"), member("top", b"t")),
    "two": (member("a/f", b"f"), member("b/f", b"f")),
    "hidden": (member("d/f", b"f"), member(".hidden", b"h")),
    "hidden-folder": (member("d/f", b"f"), member(".git/f", b"f")),
    "only-hidden": (member(".d/f", b"f"),),
    "symlink": (member("d/f", b"f"), member("link", "d")),
    "dangling": (member("d/f", b"f"), member("link", "nowhere")),
    "header": (member("pax_global_header", b"52 comment=0"), member("d/f", b"f")),
    "header-alone": (member("pax_global_header", b"52 comment=0"),),
    "dot": (member("./", None), member("./d/", None), member("./d/f", b"f")),
    "empty-folder": (member("d/", None),),
    "nested": (member("a/b/c/f", b"f"),),
    "empty": (),
    "inner-links": (member("d/f", b"f"), member("d/l", "f"), member("d/out", "/etc/passwd"), member("d/up", "../..")),
    "no-write": (member("d/", None, mode=0o555), member("d/f", b"f", mode=0o444)),
    "modes": (member("d/x", b"x", mode=0o4777), member("d/y", b"y", mode=0o666), member("d/z/", None, mode=0o2777)),
}


def modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): oct(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_top_of_an_archive(shape: str, root: Path, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tgz", *SHAPES[shape])
    problems = {
        "two": "has several directories at its top: a, b",
        "hidden-folder": "has several directories at its top: .git, d",
        "empty": "is empty",
        "header-alone": "is empty",
    }
    if shape in problems:
        with refused(FetchError, f'can not unpack "{archive}": it {problems[shape]}'):
            unpacked(archive, root)
        assert files(root) == {"home": "/"}
        return
    stripped = shape not in ("flat", "mixed", "hidden", "symlink", "dangling")
    names = [name.strip("./") for name, _ in SHAPES[shape]]
    wanted = {name.partition("/")[2] if stripped else name for name in names} - {"", "pax_global_header"}
    if shape == "hidden":
        wanted = {"d/f", ".hidden"}
    assert wanted <= set(unpacked(archive, root))


@pytest.fixture(scope="module")
def opam(tmp_path_factory: pytest.TempPathFactory) -> MachineOpam:
    """The machine's opam, with a package for each shape of archive."""
    if shutil.which("opam") is None:
        pytest.skip("not installed: opam")
    folder = tmp_path_factory.mktemp("opam")
    packages = {}
    for shape, members in SHAPES.items():
        archive = tar(folder / f"{shape}.tar.gz", *members)
        text = f'url {{ src: "file://{archive}" checksum: "{sha256(archive.read_bytes())}" }}\n'
        head = 'opam-version: "2.0"\nsynopsis: "s"\nmaintainer: "m"\n'
        packages[Package(f"p-{shape}", "1")] = {"opam": (head + text).encode()}
    write_repository(folder / "repository", packages)
    return MachineOpam(folder, folder / "repository")


@pytest.mark.parametrize("shape", SHAPES)
def test_opam_unpacks_the_same(shape: str, opam: MachineOpam, root: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    opam.run("source", f"p-{shape}.1", f"--dir={theirs}", check=False)
    (theirs / "opam").unlink(missing_ok=True)  # `opam source` adds it
    archive = opam.folder / f"{shape}.tar.gz"
    try:
        ours = unpacked(archive, root)
    except FetchError:
        ours = {}
    assert ours == files(theirs)
    if os.geteuid() and ours:  # as root, tar keeps what it keeps for nobody else
        assert modes(Path(f"{root}{TARGET}")) == modes(theirs)


# Who owns what, and with which mode.


def test_everything_belongs_to_the_user(root: Path, tmp_path: Path) -> None:
    members = (
        member("d/", None, mode=0o2777, uid=1, gid=1),
        member("d/x", b"x", mode=0o6755, uid=0, gid=0),
        member("d/y", b"y", mode=0o666, uid=2**20),
        member("d/l", "x", uid=5),
    )
    unpacked(tar(tmp_path / "a.tar", *members, mode="w:"), root)
    place = Path(f"{root}{TARGET}")
    for path in (place.parent, place, *place.iterdir()):
        assert (path.lstat().st_uid, path.lstat().st_gid) == OWNER, path
    assert {path.name: stat.S_IMODE(path.lstat().st_mode) for path in place.iterdir()} == {
        "x": 0o755,
        "y": 0o644,
        "l": 0o777,
    }
    assert (place / "x").stat().st_mtime == 1_600_000_000
    assert os.stat(root / "home").st_uid == 0, "what was there is left alone"


def test_attributes_and_devices_are_not_taken(root: Path, tmp_path: Path) -> None:
    attributed = member("d/f", b"f", pax_headers={"SCHILY.xattr.user.a": "b", "mtime": "1500000000.5"})
    unpacked(tar(tmp_path / "a.tgz", attributed), root)
    path = f"{root}{TARGET}/f"
    assert os.listxattr(path) == []
    assert os.stat(path).st_mtime_ns == 1_500_000_000_500_000_000
    device = member("d/null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    archive = tar(tmp_path / "b.tgz", device)
    with refused(FetchError, f'can not unpack "d/null" of "{archive}": it is a device'):
        unpacked(archive, root)


# Compressions.


@pytest.mark.parametrize("program", ["gzip", "bzip2", "xz", "zstd", "lz4", "none"])
def test_compressions(program: str, root: Path, tmp_path: Path) -> None:
    plain = tar(tmp_path / "a.tar", *SHAPES["one"], mode="w:")
    archive = tmp_path / "archive"
    if program == "none":
        archive = plain
    elif shutil.which(program) is None:
        pytest.skip(f"not installed: {program}")
    else:
        archive.write_bytes(subprocess.run([program, "-c"], input=plain.read_bytes(), capture_output=True).stdout)
    assert unpacked(archive, root) == {"f": "f", "d": "/", "d/g": "g"}


@needs("xz")
def test_old_lzma(root: Path, tmp_path: Path) -> None:
    plain = tar(tmp_path / "a.tar", *SHAPES["one"], mode="w:")
    line = ["xz", "--format=lzma", "--stdout", plain]
    (tmp_path / "a.tlz").write_bytes(subprocess.run(line, capture_output=True).stdout)
    assert unpacked(tmp_path / "a.tlz", root) == {"f": "f", "d": "/", "d/g": "g"}


def lzip(data: bytes) -> bytes:
    """A lzip file: its raw LZMA1 stream ends with a marker, as Python's older format does not have it."""
    import lzma
    import struct
    import zlib

    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packed = lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)
    size = 6 + len(packed) + 20
    return b"LZIP\x01\x10" + packed + struct.pack("<IQQ", zlib.crc32(data), len(data), size)


@needs("xz")
def test_lzip(root: Path, tmp_path: Path) -> None:
    plain = tar(tmp_path / "a.tar", *SHAPES["one"], mode="w:")
    archive = tmp_path / "a.tar.lz"
    archive.write_bytes(lzip(plain.read_bytes()))
    probe = subprocess.run(["xz", "-dc", archive], capture_output=True)
    if probe.returncode:
        pytest.skip("xz is older than 5.4 and knows no lzip")
    assert unpacked(archive, root) == {"f": "f", "d": "/", "d/g": "g"}


def test_zip(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a-1/", "")
        run = zipfile.ZipInfo("a-1/run.sh", (2020, 1, 2, 3, 4, 6))
        run.external_attr = 0o100775 << 16
        made.writestr(run, "#!/bin/sh\n" * 100)
        link = zipfile.ZipInfo("a-1/link")
        link.external_attr = 0o120777 << 16
        made.writestr(link, "run.sh")
        dos = zipfile.ZipInfo("a-1/dos")
        dos.create_system, dos.external_attr = 0, 0o20
        made.writestr(dos, "dos")
    found = unpacked(archive, root)
    assert found == {"run.sh": "#!/bin/sh\n" * 100, "link": "-> run.sh", "dos": "dos"}
    place = Path(f"{root}{TARGET}")
    assert oct((place / "run.sh").stat().st_mode) == "0o100755"
    assert oct((place / "dos").stat().st_mode) == "0o100644"


@pytest.mark.parametrize("name", ["../escape", "a/../../escape"])
def test_a_zip_that_wants_out(name: str, root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(name, "out")
    with pytest.raises(FetchError, match="it leads out of the root"):
        unpacked(tmp_path / "a.zip", root)
    assert not list(tmp_path.rglob("escape"))


# What is no archive, or a damaged one.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"just text\n" * 100, '"{}" is not a tar archive'),
        (b"", 'can not unpack "{}": it is empty'),
        (gzip.compress(b"text"), '"{}" is not a tar archive'),
        (b"PK\x03\x04 and no more", '"{}" is damaged: File is not a zip file'),
    ],
    ids=["text", "empty", "gzip", "zip"],
)
def test_what_is_no_archive(data: bytes, message: str, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(data)
    with refused(FetchError, message.format("a.tgz")):
        extract(str(path), str(root), TARGET, user=OWNER, name="a.tgz")
    assert files(root) == {"home": "/"}


def test_an_archive_that_was_cut_off(root: Path, tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tgz", member("d/f", os.urandom(100_000))).read_bytes()
    (tmp_path / "b.tgz").write_bytes(whole[:50_000])
    with pytest.raises(FetchError):
        unpacked(tmp_path / "b.tgz", root)
    assert files(root) == {"home": "/"}


# Nothing outside of the root.


@pytest.mark.parametrize("link", ["{outside}", "../../../../outside", "../../.."])
def test_symlinks_in_the_archive_stay_inside(link: str, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    members = (member("d/out", link.format(outside=outside)), member("d/out/f", b"f"))
    with contextlib.suppress(FetchError):
        unpacked(tar(tmp_path / "a.tgz", *members), root)
    assert files(outside) == {}
    assert not list(tmp_path.glob("f"))
    assert not list((root / "home").glob("**/build/f"))


def test_symlinks_in_the_image_stay_inside(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "home" / "opam").symlink_to(outside)
    archive = tar(tmp_path / "a.tgz", *SHAPES["one"])
    with refused(ObuildError, '"/home/opam" is a symlink that leads nowhere in the image'):
        extract(str(archive), str(root), TARGET, user=OWNER)
    assert files(outside) == {}
    inside = Path(f"{root}{outside}")
    inside.mkdir(parents=True)
    extract(str(archive), str(root), TARGET, user=OWNER)
    assert files(outside) == {}
    assert (inside / "build" / "a.1" / "f").read_text() == "f"


# Putting it over something.


def test_what_is_in_the_way_is_replaced_and_directories_are_merged(root: Path, tmp_path: Path) -> None:
    place = Path(f"{root}{TARGET}")
    for name in ("keep", "f", "d/keep", "d/g/was/folder"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("old")
    found = unpacked(tar(tmp_path / "a.tgz", *SHAPES["one"]), root)
    assert found == {"keep": "old", "f": "f", "d": "/", "d/keep": "old", "d/g": "g"}
    over = tar(tmp_path / "b.tgz", member("x/f/inner", b"i"), member("x/d", "keep"))
    assert unpacked(over, root) == {"keep": "old", "f": "/", "f/inner": "i", "d": "-> keep"}


def test_a_part_of_a_source(root: Path, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tgz", *SHAPES["one"])
    assert unpacked(archive, root, src="./d") == {"g": "g"}
    with refused(FetchError, f'no directory "no" in "{archive}": No such file or directory'):
        unpacked(archive, root, src="./no")
    with refused(FetchError, f'"./../x" leads out of the source "{archive}"'):
        unpacked(archive, root, src="./../x")


def test_a_part_that_is_a_symlink_stays_in_the_source(root: Path, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tgz", member("d/out", "/etc"), member("d/f", b"f"))
    with pytest.raises(FetchError, match=r'^no directory "out" in '):
        unpacked(archive, root, src="./out")


# Single files.


@pytest.mark.parametrize(("target", "path"), [("fix.patch", "fix.patch"), ("sub/dir/", "sub/dir/a.patch")])
def test_a_single_file(target: str, path: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("patch")
    (tmp_path / "source").chmod(0o600)
    extract(str(tmp_path / "source"), str(root), f"{TARGET}/{target}", src="a.patch", user=OWNER)
    found = Path(f"{root}{TARGET}/{path}")
    assert found.read_text() == "patch"
    info = found.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (*OWNER, 0o644)


def test_a_single_file_follows_no_symlink(root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("new")
    (tmp_path / "victim").write_text("old")
    (root / "home" / "f").symlink_to(tmp_path / "victim")
    extract(str(tmp_path / "source"), str(root), "/home/f", src="f", user=OWNER)
    assert (tmp_path / "victim").read_text() == "old"
    assert (root / "home" / "f").read_text() == "new"
    assert not (root / "home" / "f").is_symlink()


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None], ids=["folder", "nothing"])
def test_what_can_not_be_a_single_file(make: Callable[[Path], Any], root: Path, tmp_path: Path) -> None:
    make(tmp_path / "source")
    with pytest.raises((FetchError, FileNotFoundError)):
        extract(str(tmp_path / "source"), str(root), "/home/f", src="f", user=OWNER)
    (tmp_path / "file").write_text("x")
    (root / "home" / "d").mkdir()
    with refused(FetchError, f'can not put "{tmp_path}/file" at "/home/d": there is a directory'):
        extract(str(tmp_path / "file"), str(root), "/home/d", src="d", user=OWNER)


# Directories.


def test_a_local_directory(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("f", "d/g", ".git/HEAD", "d/.hg/x", "_build/x", "_opam/x", "_opam.old/x", ".#lock", "d/_build/y"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "h").write_text("h")
    (source / "link").symlink_to("f")
    (source / "out").symlink_to("../other")
    (source / "dangling").symlink_to("nowhere")
    assert unpacked(source, root) == {"f": "f", "d": "/", "d/g": "d/g", "link": "f", "out": "/", "out/h": "h"}
    assert os.stat(f"{root}{TARGET}/out/h").st_uid == OWNER[0]


@needs("rsync")
def test_rsync_as_opam_calls_it_does_the_same(root: Path, tmp_path: Path) -> None:
    test_a_local_directory(root, tmp_path)
    theirs = tmp_path / "theirs"
    names = (".git", "_darcs", ".hg", ".#*", "_opam*", "_build")
    excluded = [word for name in names for word in ("--exclude", name)]
    subprocess.run(["rsync", "-rLptgoDvc", *excluded, f"{tmp_path}/source/", theirs], capture_output=True)
    assert files(theirs) == files(Path(f"{root}{TARGET}"))


def test_a_directory_that_leads_in_circles(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "up").symlink_to("..")
    with refused(FetchError, f'"{source}/d/up" leads in circles'):
        unpacked(source, root)


def test_a_part_of_a_directory(root: Path, tmp_path: Path) -> None:
    (tmp_path / "source" / "d").mkdir(parents=True)
    (tmp_path / "source" / "d" / "f").write_text("f")
    assert unpacked(tmp_path / "source", root, src="./d") == {"f": "f"}
    with refused(FetchError, f'no directory "no" in "{tmp_path}/source"'):
        unpacked(tmp_path / "source", root, src="./no")


# In a store.


def test_in_a_layer_of_every_kind_of_store(store: Store, tmp_path: Path, can_mount: None) -> None:
    with store.new("base") as draft:
        for name in ("d/keep", "d/g/was/folder", "f/inner", "gone"):
            path = Path(f"{draft.root}{TARGET}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("old")
    archive = tar(tmp_path / "a.tgz", *SHAPES["one"], member("a-1/gone", "f"), member("a-1/new/h", b"h"))
    with store.new("next", ("base",)) as draft:
        extract(str(archive), draft.root, TARGET, user=OWNER)
        extract(str(archive), draft.root, f"{TARGET}/new/sub", src="./d", user=OWNER)
    layer = store.get("next")
    assert layer
    wanted = {"d": "/", "d/keep": "old", "d/g": "g", "f": "f", "gone": "-> f", "new": "/", "new/h": "h"}
    with store.view(layer) as tree:
        assert files(Path(f"{tree}{TARGET}")) == {**wanted, "new/sub": "/", "new/sub/g": "g"}
        assert not [path for path in Path(tree).glob("*") if path.name.startswith(".obuild")]
