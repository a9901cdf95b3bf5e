"""`oci:`: every way to name an image in a layout, platforms, and everything that can be damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fetching import IMAGE, OTHER, Open, get
from layouts import edit, layer_blob, manifest_digest, point_to, several
from tree import details

from obuild.errors import FetchError, ObuildError
from obuild.image import host_platform


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
