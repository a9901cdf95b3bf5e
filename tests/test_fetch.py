"""Fetchers: every kind of source for real, keys that follow the content, records, and errors that say what to write."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from registry import Registry, serving
from tree import details, make_tree

from obuild import retry
from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError, ObuildError, UsageError
from obuild.export import export, load
from obuild.fetch import Fetcher, open_fetcher, program
from obuild.fetch import record as record_module
from obuild.image import PLAIN, Image, host_platform

IMAGE = Image(env=(("PATH", "/bin"), ("A", "b")), cmd=("/bin/sh",), platform=host_platform())
OTHER = "linux/s390x"

Open = Callable[..., Fetcher]


@pytest.fixture
def images(tmp_path: Path) -> str:
    return str(tmp_path / "images")


@pytest.fixture
def opened(images: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a source with the test's own memory; what was just made counts as old."""
    monkeypatch.setattr(record_module, "RACY", 0)
    monkeypatch.setattr("obuild.fetch.tar.RACY", 0)
    monkeypatch.setattr("obuild.fetch.folder.RACY", 0)
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    return lambda source, **options: open_fetcher(str(source), images=images, **{"engine": "none", **options})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def tree(tmp_path: Path, can_own: None) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def layout(tree: Path, tmp_path: Path) -> Path:
    export(str(tree), IMAGE, str(tmp_path / "layout"), "oci", name="team/image:v1")
    return tmp_path / "layout"


def get(fetcher: Fetcher, root: Path, cancel: Cancel | None = None) -> tuple[Image, str]:
    said: list[bytes] = []
    return fetcher.fetch(str(root), said.append, cancel=cancel), b"".join(said).decode()


# Sources


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


# oci:


def edit(layout: Path, digest: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Store a changed copy of a JSON blob; its digest."""
    blobs = layout / "blobs" / "sha256"
    found = json.loads((blobs / digest[7:]).read_bytes())
    change(found)
    data = json.dumps(found).encode()
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return f"sha256:{name}"


def index(layout: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout / "index.json").read_bytes())
    return found


def manifest_digest(layout: Path) -> str:
    return str(index(layout)["manifests"][0]["digest"])


def point_to(layout: Path, *entries: dict[str, Any]) -> None:
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def several(layout: Path) -> str:
    """An index of two platforms beside the image; its digest."""
    first = manifest_digest(layout)
    blobs = layout / "blobs" / "sha256"
    config = json.loads((blobs / first[7:]).read_bytes())["config"]["digest"]
    other = edit(layout, config, lambda found: found.update(architecture="s390x"))
    second = edit(layout, first, lambda found: found["config"].update(digest=other))
    system, architecture = host_platform().split("/")[:2]
    entries = [
        {"digest": "sha256:" + "0" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": second, "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": first, "platform": {"os": system, "architecture": architecture, "variant": "v8"}},
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return f"sha256:{name}"


@pytest.mark.parametrize("form", ["{}", "{}:v1", "{}@{digest}"])
def test_a_layout_by_tag_digest_or_alone(opened: Open, layout: Path, tree: Path, root: Path, form: str) -> None:
    image, said = get(opened(f"oci:{form.format(layout, digest=manifest_digest(layout))}"), root)
    assert (image.env, image.cmd) == (IMAGE.env, IMAGE.cmd)
    assert "layer 1 of 1: sha256:" in said
    assert details(root) == details(tree)


def test_a_layout_at_a_path_with_a_colon(opened: Open, layout: Path, tmp_path: Path) -> None:
    layout.rename(tmp_path / "a:b")
    assert opened(f"oci:{tmp_path / 'a:b'}").key() == opened(f"oci:{tmp_path / 'a:b'}:v1").key()


def test_a_layout_made_by_skopeo(opened: Open, layout: Path, tree: Path, tmp_path: Path, root: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("not installed: skopeo")
    other = tmp_path / "zstd"
    convert = ["skopeo", "copy", "--dest-compress-format", "zstd", f"oci:{layout}:v1", f"oci:{other}:x"]
    subprocess.run(convert, check=True, capture_output=True)
    get(opened(f"oci:{other}:x"), root)
    assert details(root) == details(tree)


@pytest.mark.parametrize("platform", [host_platform(), OTHER])
def test_a_layout_for_several_platforms(opened: Open, layout: Path, root: Path, platform: str) -> None:
    point_to(layout, {"digest": several(layout)})
    image, _ = get(opened(f"oci:{layout}", platform=platform), root)
    assert image.platform == platform


def test_a_platform_that_is_not_there(opened: Open, layout: Path) -> None:
    point_to(layout, {"digest": several(layout)})
    with pytest.raises(FetchError, match="has no image for linux/riscv64") as caught:
        opened(f"oci:{layout}", platform="riscv64").key()
    assert "linux/s390x" in caught.value.hint
    assert "unknown" not in caught.value.hint


def test_an_image_for_another_machine_is_noted(opened: Open, layout: Path, root: Path) -> None:
    _, said = get(opened(f"oci:{layout}", platform=OTHER), root)
    assert f"is for {host_platform()}, not {OTHER}" in said


def test_an_unknown_tag(opened: Open, layout: Path) -> None:
    with pytest.raises(FetchError, match='has no image "v2"') as caught:
        opened(f"oci:{layout}:v2").key()
    assert '"v1"' in caught.value.hint


def test_what_is_no_layout(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not an OCI layout"):
        opened(f"oci:{tmp_path}").key()


def layer_blob(layout: Path) -> Path:
    return max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


def test_a_damaged_layer_is_found_before_it_is_unpacked(opened: Open, layout: Path, root: Path) -> None:
    blob = layer_blob(layout)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    with pytest.raises(FetchError, match=r"layer 1 of 1 of oci:.* is damaged: its content has another digest"):
        get(opened(f"oci:{layout}"), root)
    assert list(root.iterdir()) == []


def test_a_damaged_configuration(opened: Open, layout: Path, root: Path) -> None:
    key = opened(f"oci:{layout}").key()
    (layout / "blobs" / "sha256" / key.rpartition(":")[2]).write_text("{}")
    with pytest.raises(FetchError, match="is damaged"):
        get(opened(f"oci:{layout}"), root)


def test_a_missing_layer(opened: Open, layout: Path, root: Path) -> None:
    layer_blob(layout).unlink()
    with pytest.raises(FetchError, match="can not read layer 1 of 1"):
        get(opened(f"oci:{layout}"), root)


def test_a_layer_that_is_a_symlink_is_not_read(opened: Open, layout: Path, root: Path, tmp_path: Path) -> None:
    layer_blob(layout).rename(tmp_path / "elsewhere")
    (layout / "blobs" / "sha256" / hashlib.sha256((tmp_path / "elsewhere").read_bytes()).hexdigest()).symlink_to(
        tmp_path / "elsewhere"
    )
    with pytest.raises(FetchError, match="can not read layer 1 of 1"):
        get(opened(f"oci:{layout}"), root)


def test_a_layer_with_another_content_than_the_configuration_says(opened: Open, layout: Path, root: Path) -> None:
    first = manifest_digest(layout)
    config = json.loads((layout / "blobs" / "sha256" / first[7:]).read_bytes())["config"]["digest"]
    wrong = edit(layout, config, lambda found: found["rootfs"].update(diff_ids=["sha256:" + "1" * 64]))
    point_to(layout, {"digest": edit(layout, first, lambda found: found["config"].update(digest=wrong))})
    with pytest.raises(FetchError, match="it is not what the configuration says"):
        get(opened(f"oci:{layout}"), root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("config"), "names no configuration"),
        (lambda found: found["config"].update(digest="sha256:../../x"), "is no digest"),
        (lambda found: found["layers"][0].update(mediaType="application/vnd.cncf.helm.chart"), "is not a file system"),
        (lambda found: found.update(layers={}), '"layers" is not a list'),
        (lambda found: found.update(layers=[]), "has 0 layers, but its configuration lists 1"),
        (lambda found: found.update(fsLayers=[]), "format of before 2016"),
    ],
)
def test_manifests_that_make_no_sense(
    opened: Open, layout: Path, root: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    point_to(layout, {"digest": edit(layout, manifest_digest(layout), change)})
    with pytest.raises(FetchError) as caught:
        get(opened(f"oci:{layout}"), root)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"manifests": 3}', '{"manifests": [1]}', '{"manifests": [{}]}', "[" * 9999]
)
def test_indexes_that_make_no_sense(opened: Open, layout: Path, text: str) -> None:
    (layout / "index.json").write_text(text)
    with pytest.raises(ObuildError):
        opened(f"oci:{layout}").key()


# Docker references, from a registry


@pytest.fixture
def registry(layout: Path) -> Iterator[Registry]:
    if shutil.which("skopeo") is None:
        pytest.skip("not installed: skopeo")
    with serving(layout) as found:
        yield found


def test_an_image_from_a_registry(opened: Open, registry: Registry, tree: Path, root: Path) -> None:
    fetcher = opened(f"{registry.host}/team/image:v1")
    image, said = get(fetcher, root)
    assert fetcher.key() == f"image {image.digest}"
    assert (image.env, image.cmd) == (IMAGE.env, IMAGE.cmd)
    assert details(root) == details(tree)
    assert "layer 1 of 1" in said
    assert not Path(f"{root}.blobs").exists()


def test_the_key_is_the_same_by_every_way(opened: Open, registry: Registry, layout: Path, docker_engine: str) -> None:
    name = f"{registry.host}/team/image"
    keys = {
        opened(f"{name}:v1").key(),
        opened(f"docker:{name}:v1", engine=docker_engine).key(),
        opened(f"{name}@{manifest_digest(layout)}").key(),
        opened(f"oci:{layout}").key(),
    }
    assert len(keys) == 1


def test_a_second_build_asks_nobody(opened: Open, registry: Registry) -> None:
    first = opened(f"{registry.host}/team/image:v1").key()
    registry.requests.clear()
    assert opened(f"{registry.host}/team/image:v1").key() == first
    assert registry.requests == []


def move(layout: Path) -> str:
    """Let the tag stand for another image; the digest of its configuration."""
    first = manifest_digest(layout)
    config = json.loads((layout / "blobs" / "sha256" / first[7:]).read_bytes())["config"]["digest"]
    other = edit(layout, config, lambda found: found["config"].update(Env=["NEW=1"]))
    size = (layout / "blobs" / "sha256" / other[7:]).stat().st_size
    digest = edit(layout, first, lambda found: found["config"].update(digest=other, size=size))
    point_to(layout, {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": "v1"}})
    return other


def test_a_tag_that_moves_is_seen_with_pull_only(opened: Open, registry: Registry, layout: Path, root: Path) -> None:
    name = f"{registry.host}/team/image:v1"
    first = opened(name).key()
    other = move(layout)
    assert opened(name).key() == first
    old, _ = get(opened(name), root)  # the old image, by its digest, although the tag has moved
    assert old.env == IMAGE.env
    assert opened(name).key(pull=True) == f"image {other}"
    shutil.rmtree(root)
    root.mkdir()
    new, _ = get(opened(name), root)
    assert new.env == (("NEW", "1"),)


def test_a_digest_is_not_asked_for_again(opened: Open, registry: Registry, layout: Path) -> None:
    name = f"{registry.host}/team/image@{manifest_digest(layout)}"
    first = opened(name).key()
    registry.requests.clear()
    assert opened(name).key(pull=True) == first
    assert registry.requests == []


def test_platforms_are_remembered_apart(opened: Open, registry: Registry, layout: Path) -> None:
    point_to(layout, {"digest": several(layout), "annotations": {"org.opencontainers.image.ref.name": "v1"}})
    name = f"{registry.host}/team/image:v1"
    keys = [opened(name, platform=platform).key() for platform in (host_platform(), OTHER, host_platform())]
    assert keys[0] == keys[2] != keys[1]


def test_a_registry_in_trouble_is_asked_again(opened: Open, registry: Registry) -> None:
    registry.fail, said = 2, list[bytes]()
    assert opened(f"{registry.host}/team/image:v1").key(said.append).startswith("image sha256:")
    assert b"trying again" in b"".join(said)


def test_an_image_that_a_registry_does_not_have(opened: Open, registry: Registry) -> None:
    with pytest.raises(FetchError, match=r'can not get ".*/team/image:v2": .*manifest unknown') as caught:
        opened(f"{registry.host}/team/image:v2").key()
    assert caught.value.hint == "check the name and the tag"
    assert not caught.value.temporary


def test_a_blob_that_is_gone_leaves_no_files(opened: Open, registry: Registry, layout: Path, root: Path) -> None:
    fetcher = opened(f"{registry.host}/team/image:v1")
    fetcher.key()
    layer_blob(layout).unlink()
    with pytest.raises(FetchError, match="can not get"):
        get(fetcher, root)
    assert not Path(f"{root}.blobs").exists()


def test_a_record_that_is_damaged_is_none(opened: Open, registry: Registry, images: str) -> None:
    name = f"{registry.host}/team/image:v1"
    first = opened(name).key()
    (record,) = Path(images).iterdir()
    record.write_text("{")
    assert opened(name).key() == first


def test_fetching_can_be_cancelled(opened: Open, registry: Registry, root: Path) -> None:
    fetcher = opened(f"{registry.host}/team/image:v1")
    fetcher.key()
    registry.gate.clear()
    cancel = Cancel()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(Cancelled):
        get(fetcher, root, cancel)
    assert not Path(f"{root}.blobs").exists()


def test_without_engine_and_skopeo(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obuild.system.PATH", str(tmp_path))
    with pytest.raises(FetchError, match="no Docker engine answers and skopeo is missing") as caught:
        opened("debian:13").key()
    assert "install skopeo" in caught.value.hint


def test_a_mistyped_kind(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obuild.system.PATH", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        opened("debotstrap:trixie").key()
    assert caught.value.hint == 'did you mean "debootstrap"?'


def test_a_cached_build_imports_nothing_heavy(opened: Open, registry: Registry, images: str) -> None:
    name = f"{registry.host}/team/image:v1"
    first = opened(name).key()
    code = f"""
import sys
from obuild.fetch import open_fetcher
print(open_fetcher({name!r}, images={images!r}).key())
heavy = "docker tenacity requests subprocess tempfile shutil pathlib typing dataclasses tarfile logging contextlib"
print([name for name in heavy.split() if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"], capture_output=True, text=True
    )
    assert done.stdout == f"{first}\n[]\n", done.stderr


# Docker references, through an engine


def test_an_image_from_an_engine(opened: Open, tree: Path, root: Path, docker_engine: str) -> None:
    load(str(tree), IMAGE, "team/own:v1", engine=docker_engine)
    fetcher = opened("team/own:v1", engine=docker_engine)
    image, _ = get(fetcher, root)
    assert fetcher.key() == f"image {image.digest}"
    assert image.env == IMAGE.env
    found = {entry[0]: entry for entry in details(root)}
    for entry in details(tree):
        # An engine keeps no attributes but capabilities; it adds what it mounts over, and so changes the root.
        assert found[entry[0]][1:6] == entry[1:6]
    assert b".dockerenv" not in found


def test_an_image_that_only_the_engine_has_is_kept_by_pull(opened: Open, tree: Path, docker_engine: str) -> None:
    load(str(tree), IMAGE, "127.0.0.1:9/only-here:v1", engine=docker_engine)
    said = list[bytes]()
    key = opened("127.0.0.1:9/only-here:v1", engine=docker_engine).key(said.append, pull=True)
    assert key.startswith("image sha256:")
    assert b"taking the engine's own" in b"".join(said)


def test_an_engine_pulls_what_it_does_not_have(
    opened: Open, registry: Registry, layout: Path, root: Path, docker_engine: str
) -> None:
    fetcher, said = opened(f"{registry.host}/team/pulled:v1", engine=docker_engine), list[bytes]()
    fetcher.key(said.append)
    assert b"Pulling from team/pulled" in b"".join(said)
    subprocess.run(["docker", "--host", docker_engine, "rmi", f"{registry.host}/team/pulled:v1"], capture_output=True)
    image, _ = get(fetcher, root)  # forgotten by the engine, had again by its digest
    assert image.env == IMAGE.env
    assert (root / "d" / "file").exists()


def test_an_image_that_is_gone_for_good(opened: Open, tree: Path, root: Path, docker_engine: str) -> None:
    digest = load(str(tree), Image(env=(("GONE", "1"),)), "team/gone:v1", engine=docker_engine)
    opened("team/gone:v1", engine=docker_engine).key()
    done = subprocess.run(["docker", "--host", docker_engine, "rmi", "team/gone:v1"], capture_output=True)
    if done.returncode:
        pytest.skip("no docker client that works with the engine")
    with pytest.raises(FetchError, match=f"{digest}.* is gone") as caught:
        get(opened("team/gone:v1", engine=docker_engine), root)
    assert "--pull" in caught.value.hint


def test_a_silent_engine_can_be_cancelled(opened: Open, registry: Registry, docker_engine: str) -> None:
    registry.gate.clear()
    cancel = Cancel()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(Cancelled):
        opened(f"{registry.host}/team/slow:v1", engine=docker_engine).key(cancel=cancel)


# debootstrap:


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("trixie", "trixie"),
        ("trixie?", "trixie"),
        ("trixie?variant=minbase&components=main", "trixie"),
        ("trixie?include=b,a,b", "trixie?include=a,b"),
        ("sid?mirror=http://deb.example/debian/&variant=apt", "sid?variant=apt&mirror=http://deb.example/debian"),
    ],
)
def test_wishes_in_their_shortest_form(text: str, shortest: str) -> None:
    from obuild.fetch.debian import parse_wish

    assert str(parse_wish(text)) == shortest
    assert parse_wish(shortest) == parse_wish(text)


@needs("mmdebstrap", "apt-get")
def test_a_real_debian(opened: Open, root: Path, can_mount: None) -> None:
    source = "debootstrap:bookworm?variant=extract&include=base-files,tzdata"
    fetcher = opened(source)
    try:
        key = fetcher.key()
    except FetchError as error:
        pytest.skip(f"no Debian mirror can be reached: {error}")
    image, said = get(fetcher, root)
    assert "success" in said
    assert image.env == PLAIN
    assert (root / "etc" / "debian_version").exists()
    lines = (root / "etc" / "apt" / "sources.list").read_text().splitlines()
    assert [line.split()[3] for line in filter(None, lines)] == ["bookworm", "bookworm-updates", "bookworm-security"]
    for name in ("resolv.conf", "hostname"):
        assert (root / "etc" / name).read_bytes() == b""
    assert list((root / "var" / "cache" / "apt" / "archives").glob("*.deb")) == []
    assert root.stat().st_mtime < time.time() - 3600
    assert opened(source).key() == opened(source).key(pull=True) == key


@needs("mmdebstrap", "apt-get")
@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (
            "debootstrap:bookwrm?mirror=http://127.0.0.1:1/debian",
            'no packages of "bookwrm"',
            'did you mean "bookworm"?',
        ),
        ("debootstrap:bookworm?mirror=file:/nowhere", 'no packages of "bookworm"', "?mirror=URL"),
    ],
)
def test_an_archive_that_does_not_answer(opened: Open, source: str, message: str, hint: str) -> None:
    with pytest.raises(FetchError) as caught:
        opened(source).key()
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_missing_keyring_is_named(opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from obuild.fetch import mirror
    from obuild.value import replace

    if shutil.which("mmdebstrap") is None:
        pytest.skip("not installed: mmdebstrap")
    monkeypatch.setattr(mirror, "UBUNTU", replace(mirror.UBUNTU, keyring=str(tmp_path / "missing.gpg")))
    with pytest.raises(FetchError, match="can not verify Ubuntu packages") as caught:
        opened("debootstrap:noble").key()
    assert 'install "ubuntu-keyring"' in caught.value.hint


def test_without_mmdebstrap(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obuild.system.PATH", str(tmp_path))
    with pytest.raises(FetchError, match="mmdebstrap is missing"):
        opened("debootstrap:trixie").key()


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
