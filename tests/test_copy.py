"""Writing the files of a copy: names, owners, modes, times, and paths that try to leave the root."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from obuild.copy import copy
from obuild.errors import ObuildError
from obuild.manifest import scan

OLD = 1_000_000_000


class Case:
    """A source tree, an image's root beside it, and one copy between them."""

    def __init__(self, folder: Path) -> None:
        self.context, self.root, self.outside = folder / "context", folder / "root", folder / "outside"
        for path in (self.context, self.root, self.outside):
            path.mkdir()

    def copy(self, *sources: str, to: str, user: tuple[int, int] = (0, 0), exclude: tuple[str, ...] = ()) -> None:
        into = to.endswith("/")
        found = scan(str(self.context), sources, into=into, exclude=exclude)
        copy(found, str(self.root), to, into=into, user=user)

    def file(self, name: str, text: str = "text", mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.utime(path, (OLD, OLD))
        return path


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def describe(path: Path) -> tuple[str, int, int, int]:
    info = path.lstat()
    return stat.filemode(info.st_mode), info.st_uid, info.st_gid, int(info.st_mtime)


def test_owner_mode_and_time(case: Case) -> None:
    case.file("plain"), case.file("tool", mode=0o700), case.file("dir/nested")
    (case.context / "link").symlink_to("plain")
    os.utime(case.context / "link", (OLD, OLD), follow_symlinks=False)
    os.utime(case.context / "dir", (OLD, OLD))
    case.copy("plain", "tool", "dir", "link", to="/made/here/", user=(1000, 1001))
    made = case.root / "made/here"
    assert describe(made / "plain") == ("-rw-r--r--", 1000, 1001, OLD)
    assert describe(made / "tool") == ("-rwxr-xr-x", 1000, 1001, OLD)
    assert describe(made / "dir") == ("drwxr-xr-x", 1000, 1001, OLD)
    assert describe(made / "link") == ("lrwxrwxrwx", 1000, 1001, OLD)
    assert (made / "dir/nested").read_text() == "text"
    assert describe(case.root / "made")[:3] == describe(made)[:3] == ("drwxr-xr-x", 1000, 1001)


def test_the_umask_of_the_caller_does_not_count(case: Case) -> None:
    case.file("dir/file"), case.file("dir/tool", mode=0o755)
    old = os.umask(0o077)
    try:
        case.copy("dir", to="/a/b/c/")
    finally:
        os.umask(old)
    assert [oct(p.stat().st_mode & 0o777) for p in (case.root / "a", case.root / "a/b/c/dir")] == ["0o755"] * 2
    assert oct((case.root / "a/b/c/dir/tool").stat().st_mode & 0o777) == "0o755"


def test_parents_that_exist_keep_owner_mode_and_time(case: Case) -> None:
    (case.root / "tmp").mkdir()
    (case.root / "tmp").chmod(0o1777)
    case.file("f")
    case.copy("f", to="/tmp/", user=(1000, 1000))
    assert stat.filemode((case.root / "tmp").stat().st_mode) == "drwxrwxrwt"
    assert (case.root / "tmp").stat().st_uid == 0


def test_one_item_under_a_new_name(case: Case) -> None:
    case.file("sub/a"), case.file("sub/deep/b")
    case.copy("sub", to="/x/y", user=(7, 7))
    assert (case.root / "x/y/deep/b").read_text() == "text"
    assert describe(case.root / "x")[1] == 0
    assert describe(case.root / "x/y")[1] == 7
    case.copy("sub/a", to="/x/renamed")
    assert (case.root / "x/renamed").read_text() == "text"


def test_the_content_of_the_context_to_the_root_and_to_a_directory(case: Case) -> None:
    case.file("a"), case.file("sub/b")
    case.root.chmod(0o711)
    case.copy(".", to="/", user=(5, 5))
    assert (case.root / "sub/b").exists()
    assert (stat.S_IMODE(case.root.stat().st_mode), case.root.stat().st_uid) == (0o711, 0)
    case.copy(".", to="/copy/./of/", exclude=("b",))
    assert sorted(p.name for p in (case.root / "copy/of").rglob("*")) == ["a", "sub"]


def test_files_replace_files_and_symlinks(case: Case) -> None:
    case.file("f", "new")
    (case.outside / "victim").write_text("untouched")
    (case.root / "f").symlink_to(case.outside / "victim")
    case.copy("f", to="/")
    assert not (case.root / "f").is_symlink()
    case.file("f", "newer")
    case.copy("f", to="/f")
    assert (case.root / "f").read_text() == "newer"
    assert (case.outside / "victim").read_text() == "untouched"


def test_a_hard_link_in_the_image_is_replaced_not_written_through(case: Case) -> None:
    (case.root / "f").write_text("old")
    os.link(case.root / "f", case.root / "same")
    case.file("f", "new")
    case.copy("f", to="/")
    assert ((case.root / "f").read_text(), (case.root / "same").read_text()) == ("new", "old")


def test_a_destination_behind_a_symlink_stays_in_the_image(case: Case) -> None:
    (case.root / "usr/lib").mkdir(parents=True)
    (case.root / "lib").symlink_to("usr/lib")
    case.file("lib/x")
    case.copy("lib/x", to="/lib/")
    assert (case.root / "lib").is_symlink()
    assert (case.root / "usr/lib/x").exists()
    case.copy("lib", to="/")
    assert (case.root / "lib").is_symlink()


@pytest.mark.parametrize("link", ["{outside}", "../../../../../../../..{outside}", "/proc/self/root{outside}"])
def test_a_symlink_planted_in_the_image_never_leads_outside(case: Case, link: str) -> None:
    (case.root / "evil").symlink_to(link.format(outside=case.outside))
    case.file("f"), case.file("evil/f")
    for sources, to in [(("f",), "/evil/"), (("f",), "/evil/f"), (("evil",), "/"), (("f",), "/evil/../evil/deep/")]:
        try:
            case.copy(*sources, to=to)
        except ObuildError:
            pass
        assert not list(case.outside.iterdir())


def test_an_absolute_symlink_means_the_images_own_root(case: Case) -> None:
    (case.root / "data").mkdir()
    (case.root / "to").symlink_to("/data")
    case.file("f")
    case.copy("f", to="/to/")
    assert (case.root / "data/f").exists()


def test_files_and_directories_do_not_replace_each_other(case: Case) -> None:
    case.file("x/y")
    (case.root / "x").write_text("a file")
    with pytest.raises(ObuildError, match='directory can not replace the file "/x"'):
        case.copy("x", to="/")
    (case.root / "x").unlink()
    (case.root / "x/y").mkdir(parents=True)
    with pytest.raises(ObuildError, match='file can not replace the directory "/x/y"'):
        case.copy("x", to="/")


def test_a_parent_that_is_a_file_is_named(case: Case) -> None:
    (case.root / "x").write_text("a file")
    case.file("f")
    with pytest.raises(ObuildError, match='"/x" is not a directory'):
        case.copy("f", to="/x/sub/")


def test_a_source_that_changes_after_the_scan_is_an_error(case: Case) -> None:
    path = case.file("f")
    found = scan(str(case.context), ["f"], into=True)
    path.write_text("something else")
    with pytest.raises(ObuildError, match="changed while it was being copied") as caught:
        copy(found, str(case.root), "/", into=True, user=(0, 0))
    assert caught.value.temporary


def test_large_and_sparse_files(case: Case) -> None:
    data = os.urandom(300_000)
    (case.context / "large").write_bytes(data)
    with (case.context / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    case.copy("large", "sparse", to="/")
    assert (case.root / "large").read_bytes() == data
    sparse = case.root / "sparse"
    assert sparse.stat().st_size == (50 << 20) + 3
    assert sparse.read_bytes()[-3:] == b"end"
    assert sparse.stat().st_blocks * 512 < 10 << 20


def test_long_and_odd_names(case: Case) -> None:
    names = ["a" * 255, "space and\nnewline", "\udcff\udcfe", "-rf", "ünïcode"]
    for name in names:
        case.file(f"dir/{name}")
    case.copy("dir", to="/")
    assert sorted(os.listdir(case.root / "dir")) == sorted(names)
