"""Docker references, from a real registry and through a real engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fetching import IMAGE, OTHER, Open, get
from layouts import layer_blob, manifest_digest, move, point_to, several
from registry import Registry
from tree import details

from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError
from obuild.export import load
from obuild.image import Image, host_platform


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
