"""Export: what comes out is what is in the layer, other programs take it, and nothing of the user's is overwritten."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import needs
from tree import details, make_tree

from obuild import export as module
from obuild.archive import Stream
from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError, ObuildError, UsageError
from obuild.export import FORMATS, export, load
from obuild.fetch import open_fetcher
from obuild.image import Image, host_platform
from obuild.unpack import unpack

pytestmark = [needs("tar"), pytest.mark.usefixtures("can_own")]

IMAGE = Image(env=(("PATH", "/bin"), ("A", "b=c")), cmd=("/bin/sh",), user="1000", platform=host_platform())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


def test_a_directory_is_a_copy_of_everything(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # an empty one may be filled
    assert export(str(tree), IMAGE, str(tmp_path / "out"), "dir") == ""
    assert details(tmp_path / "out") == details(tree)


def test_a_tar_unpacks_to_the_same(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_text("old")  # a file may be replaced
    export(str(tree), IMAGE, str(tmp_path / "out.tar"), "tar")
    (tmp_path / "copy").mkdir()
    with open(tmp_path / "out.tar", "rb") as file:
        unpack(Stream(iter([file.read()])), str(tmp_path / "copy"), "out.tar")
    assert details(tmp_path / "copy") == details(tree)


def test_a_layout_is_what_it_says(tree: Path, tmp_path: Path) -> None:
    digest = export(
        str(tree), IMAGE, str(tmp_path / "out"), "oci", name="team/image:v1", created="2024-01-01T00:00:00Z"
    )
    blobs = tmp_path / "out" / "blobs" / "sha256"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    index = json.loads((tmp_path / "out" / "index.json").read_bytes())
    assert index["manifests"][0]["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    assert manifest["config"]["digest"] == digest
    config = json.loads((blobs / digest[7:]).read_bytes())
    assert config["created"] == "2024-01-01T00:00:00Z"
    assert config["config"] == {"Env": ["PATH=/bin", "A=b=c"], "Cmd": ["/bin/sh"], "User": "1000"}
    assert len(list(blobs.iterdir())) == 3


def test_our_own_fetcher_takes_a_layout(tree: Path, tmp_path: Path) -> None:
    digest = export(str(tree), IMAGE, str(tmp_path / "out"), "oci")
    fetcher = open_fetcher(f"oci:{tmp_path / 'out'}", images=str(tmp_path / "images"))
    (tmp_path / "root").mkdir()
    image = fetcher.fetch(str(tmp_path / "root"), lambda _: None)
    assert (image.env, image.cmd, image.user, image.digest) == (IMAGE.env, IMAGE.cmd, IMAGE.user, digest)
    assert details(tmp_path / "root") == details(tree)


@needs("skopeo")
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_skopeo_takes_it(tree: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    export(str(tree), IMAGE, str(out), format, name="team/image:v1")
    source = f"oci:{out}:v1" if format == "oci" else f"docker-archive:{out}"
    done = subprocess.run(["skopeo", "inspect", source], check=True, capture_output=True)
    found = json.loads(done.stdout)
    assert found["Env"] == ["PATH=/bin", "A=b=c"]
    assert len(found["Layers"]) == 1
    subprocess.run(["skopeo", "copy", source, f"dir:{tmp_path / 'copied'}"], check=True, capture_output=True)


@needs("buildah")
def test_buildah_starts_from_it(tree: Path, tmp_path: Path) -> None:
    export(str(tree), IMAGE, str(tmp_path / "out"), "oci")
    storage = ["buildah", "--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    made = subprocess.run([*storage, "from", f"oci:{tmp_path / 'out'}"], capture_output=True, text=True, check=True)
    name = made.stdout.strip().splitlines()[-1]
    found = subprocess.run([*storage, "mount", name], capture_output=True, text=True, check=True).stdout.strip()
    assert (Path(found) / "d" / "file").read_bytes() == b"content" * 100
    subprocess.run([*storage, "rm", name], capture_output=True, check=True)


def test_a_docker_archive_is_loaded(tree: Path, tmp_path: Path, docker_engine: str) -> None:
    digest = export(str(tree), IMAGE, str(tmp_path / "out.tar"), "docker", name="team/archive:v1")
    docker = ["docker", "--host", docker_engine]
    if subprocess.run([*docker, "version"], capture_output=True).returncode:
        pytest.skip("no docker client that works with the engine")
    subprocess.run([*docker, "load", "--input", tmp_path / "out.tar"], check=True, capture_output=True)
    shown = subprocess.run([*docker, "inspect", "team/archive:v1"], check=True, capture_output=True)
    found = json.loads(shown.stdout)[0]
    assert found["Id"] == digest
    assert found["Config"]["Env"] == ["PATH=/bin", "A=b=c"]


def test_an_image_goes_straight_into_an_engine(tree: Path, tmp_path: Path, docker_engine: str) -> None:
    digest = load(str(tree), IMAGE, "team/direct:v2", engine=docker_engine)
    fetcher = open_fetcher("team/direct:v2", images=str(tmp_path / "images"), engine=docker_engine)
    assert fetcher.key() == f"image {digest}"


def test_without_an_engine_the_way_out_is_told(tree: Path) -> None:
    with pytest.raises(FetchError, match="no Docker engine answers") as caught:
        load(str(tree), IMAGE, "x:1", engine="none")
    assert "--format docker" in caught.value.hint


@pytest.mark.parametrize("format", ["tar", "docker"])
def test_standard_output(tree: Path, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "stdout", "wb") as file, monkeypatch.context() as patched:
        patched.setattr(module, "STDOUT", file.fileno())
        export(str(tree), IMAGE, "-", format)
    export(str(tree), IMAGE, str(tmp_path / "file"), format)
    assert (tmp_path / "stdout").read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("format", ["tar", "docker"])
def test_a_tar_of_a_tar_program_reads_it(tree: Path, tmp_path: Path, format: str) -> None:
    export(str(tree), IMAGE, str(tmp_path / "file"), format)
    done = subprocess.run(["tar", "-tf", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert not done.stderr
    if format == "docker":
        with tarfile.open(tmp_path / "file") as archive:
            member = archive.extractfile("manifest.json")
            assert member is not None
            manifest = json.load(member)[0]
            layer = archive.extractfile(manifest["Layers"][0])
            assert layer is not None
            with tarfile.open(fileobj=io.BytesIO(layer.read())) as inner:
                assert "./d/file" in inner.getnames()


def test_the_same_tree_gives_the_same_digest(tree: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    digests = {
        export(str(root), IMAGE, str(tmp_path / f"{number}"), "oci")
        for number, root in enumerate([tree, tmp_path / "copy"])
    }
    digests.add(export(str(tree), IMAGE, str(tmp_path / "docker"), "docker"))
    assert len(digests) == 1


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_of_the_users_is_lost(tree: Path, tmp_path: Path, format: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("x")
    with pytest.raises(UsageError, match=r"exists already|is a directory"):
        export(str(tree), IMAGE, str(mine), format)
    assert [path.name for path in mine.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("dest", "format", "message"),
    [
        ("-", "dir", "can not go to standard output"),
        ("-", "oci", "can not go to standard output"),
        ("missing/out", "tar", 'no directory "missing"'),
        ("", "tar", "can not write"),
        ("out", "zip", 'unknown format "zip"'),
    ],
)
def test_a_place_that_can_not_be(
    tree: Path, tmp_path: Path, dest: str, format: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        export(str(tree), IMAGE, dest, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_cancelled_export_leaves_nothing(tree: Path, tmp_path: Path, format: str) -> None:
    cancel = Cancel()
    cancel.set()
    before = set(os.listdir(tmp_path))
    with pytest.raises(Cancelled):
        export(str(tree), IMAGE, str(tmp_path / "out"), format, cancel=cancel)
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_the_old_file(tree: Path, format: str, can_mount: None) -> None:
    (tree / "big").write_bytes(os.urandom(2 << 20))
    script = f"""
import os, sys
from obuild.errors import ObuildError
from obuild.export import export
from obuild.image import Image
folder = {format!r} in ("dir", "oci")
if not folder: open("/mnt/out", "w").write("old")
try: export({str(tree)!r}, Image(), "/mnt/out", {format!r})
except ObuildError as error: print(error)
print(sorted(os.listdir("/mnt")))
"""
    mount = 'mount -t tmpfs -o size=1m none /mnt && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    left = [] if format in ("dir", "oci") else ["out"]
    assert done.stdout == f'can not write "/mnt/out": No space left on device\n{left}\n'


def test_a_tree_that_changes_meanwhile_is_noticed(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = module._measure

    def then_change(root: str, cancel: Cancel | None) -> tuple[int, str]:
        found = measure(root, cancel)
        (tree / "d" / "file").write_bytes(b"CONTENT" * 100)
        return found

    monkeypatch.setattr(module, "_measure", then_change)
    with pytest.raises(ObuildError, match="changed while it was exported"):
        export(str(tree), IMAGE, str(tmp_path / "out"), "docker")
    assert not (tmp_path / "out").exists()
