"""Mount points: what is made in an image for one run is gone afterwards, and nothing outside it is ever touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, refused, tree

from obuild.errors import SandboxError
from obuild.sandbox import Mount, Process, Sandbox, SecretFile

pytestmark = pytest.mark.usefixtures("can_mount")


def test_missing_workdir_is_made(run: Run, tiny_rootfs: Path) -> None:
    before = os.umask(0o077)
    try:
        assert run("pwd", cwd="/a/b", user=(1000, 1000)) == (0, b"/a/b\n")
    finally:
        os.umask(before)
    for name in ("a", "a/b"):
        info = (tiny_rootfs / name).stat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o755, 0)


def test_workdir_through_links(run: Run, tiny_rootfs: Path) -> None:
    (tiny_rootfs / "abs").symlink_to("/srv/deep")
    assert run("/bin/busybox pwd -P", cwd="/abs/x") == (0, b"/srv/deep/x\n")
    assert (tiny_rootfs / "srv/deep/x").is_dir()
    assert not Path("/srv/deep").exists()


def test_workdir_that_is_none(run: Run, tiny_rootfs: Path) -> None:
    with refused(SandboxError, 'the working directory "/bin/busybox" is not a directory in the image'):
        run("true", cwd="/bin/busybox")
    with refused(SandboxError, '"/bin/busybox" is not a directory in the image'):
        run("true", cwd="/bin/busybox/x")
    (tiny_rootfs / "loop").symlink_to("loop")
    with pytest.raises(SandboxError, match="too many symbolic links"):
        run("true", cwd="/loop")


def test_mounts(run: Run, tiny_rootfs: Path, tmp_path: Path) -> None:
    for name in ("cache", "inner", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("one file\n")
    mounts = (
        Mount(str(tmp_path / "inner"), "/var/cache/a/b/inner"),
        Mount(str(tmp_path / "cache"), "/var/cache/a"),
        Mount(str(tmp_path / "data"), "/data", read_only=True),
        Mount(str(tmp_path / "file"), "/etc/file", read_only=True),
    )
    before = tree(tiny_rootfs)
    script = "touch /var/cache/a/1 /var/cache/a/b/inner/2; cat /etc/file; touch /data/3 || echo read-only"
    status, output = run(script, mounts=mounts)
    assert (status, output.splitlines()[0], output.splitlines()[-1]) == (0, b"one file", b"read-only")
    assert sorted(os.listdir(tmp_path / "cache")) == ["1", "b"]
    assert os.listdir(tmp_path / "inner") == ["2"]
    assert tree(tiny_rootfs) == before


def test_mounts_that_can_not_be(run: Run, tmp_path: Path) -> None:
    with refused(SandboxError, f'can not mount "{tmp_path}/none": it does not exist'):
        run("true", mounts=(Mount(f"{tmp_path}/none", "/x"),))
    with refused(SandboxError, 'can not mount at "/x/..": that is the root of the image'):
        run("true", mounts=(Mount(str(tmp_path), "/x/.."),))
    with refused(SandboxError, 'can not mount at "/bin/busybox": it is not a directory'):
        run("true", mounts=(Mount(str(tmp_path), "/bin/busybox"),))
    with refused(SandboxError, 'can not mount at "/etc": it is a directory'):
        run("true", secrets=(SecretFile("/etc", b""),))


def test_an_empty_image_stays_empty(sandbox: Sandbox, tiny_rootfs: Path, tmp_path: Path) -> None:
    root = tmp_path / "empty"
    (root / "bin").mkdir(parents=True)
    os.link(tiny_rootfs / "bin/busybox", root / "bin/sh")
    before = tree(root)
    process = Process(("/bin/sh", "-c", "echo > /dev/null"), network=("host",), secrets=(SecretFile("/a/b/c", b"x"),))
    assert sandbox.run(process, str(root), print) == 0
    assert tree(root) == before


def test_what_a_step_puts_beside_a_mount_point_stays(run: Run, tiny_rootfs: Path) -> None:
    script = "echo > /run/secrets/mine; mkdir /etc/new; chmod 700 /run"
    assert run(script, secrets=(SecretFile("/run/secrets/key", b"x"),)) == (0, b"")
    assert os.listdir(tiny_rootfs / "run/secrets") == ["mine"]
    assert stat.S_IMODE((tiny_rootfs / "run").stat().st_mode) == 0o700
    assert sorted(os.listdir(tiny_rootfs / "etc")) == ["group", "new", "passwd"]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with a file, of which nothing may change."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "hosts").write_text("")
    before = tree(path)
    yield path
    assert tree(path) == before


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_system_directories_that_are_links(run: Run, tiny_rootfs: Path, outside: Path, name: str) -> None:
    (tiny_rootfs / name).rmdir()
    (tiny_rootfs / name).symlink_to(outside)
    with refused(SandboxError, f'"/{name}" is a symbolic link in the image'):
        run("true")


@pytest.mark.parametrize("link", ["{outside}", "../../../../../../../../../..{outside}"])
def test_links_out_of_the_image(run: Run, tiny_rootfs: Path, outside: Path, link: str) -> None:
    target = link.format(outside=outside)
    (tiny_rootfs / "run").symlink_to(target)
    (tiny_rootfs / "etc/hosts").symlink_to(f"{target}/hosts")
    (tiny_rootfs / "etc/dangling").symlink_to(f"{target}/none/at/all")
    secrets = (SecretFile("/run/secrets/key", b"x"), SecretFile("/etc/dangling", b"y"))
    assert run("cat /run/secrets/key /etc/dangling", secrets=secrets, cwd="/run/work") == (0, b"xy")


def test_links_into_proc(run: Run, tiny_rootfs: Path, outside: Path) -> None:
    (tiny_rootfs / "run").symlink_to(f"/proc/1/root{outside}")
    try:
        assert run("cat /run/key", secrets=(SecretFile("/run/key", b"x"),)) == (0, b"x")
    except SandboxError as error:
        assert str(error).startswith("can not start the container: ")  # noqa: PT017 (crun refuses, runc does it right)


def test_a_step_that_swaps_its_directories_for_links(run: Run, tiny_rootfs: Path, outside: Path) -> None:
    script = f"umount -l /run/s/key; mv /run /moved; ln -s {outside} /run; mkdir -p {outside}"
    run(script, secrets=(SecretFile("/run/s/hosts", b"x"),))
    assert os.readlink(tiny_rootfs / "run") == str(outside)
