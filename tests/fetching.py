"""Fixtures of all tests that fetch: sources opened with a memory of their own, a tree, its layout, its registry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from registry import Registry, serving
from tree import make_tree

from obuild import retry
from obuild.cancel import Cancel
from obuild.export import export
from obuild.fetch import Fetcher, open_fetcher
from obuild.fetch import record as record_module
from obuild.image import Image, host_platform

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


@pytest.fixture(name="root")
def new_root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(name="tree")
def sample_tree(tmp_path: Path, can_own: None) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def layout(tree: Path, tmp_path: Path) -> Path:
    export(str(tree), IMAGE, str(tmp_path / "layout"), "oci", name="team/image:v1")
    return tmp_path / "layout"


@pytest.fixture
def registry(layout: Path) -> Iterator[Registry]:
    if shutil.which("skopeo") is None:
        pytest.skip("not installed: skopeo")
    with serving(layout) as found:
        yield found


def get(fetcher: Fetcher, root: Path, cancel: Cancel | None = None) -> tuple[Image, str]:
    said: list[bytes] = []
    return fetcher.fetch(str(root), said.append, cancel=cancel), b"".join(said).decode()
