"""Changing OCI layouts for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from obuild.image import host_platform


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


def layer_blob(layout: Path) -> Path:
    return max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


def move(layout: Path) -> str:
    """Let the tag stand for another image; the digest of its configuration."""
    first = manifest_digest(layout)
    config = json.loads((layout / "blobs" / "sha256" / first[7:]).read_bytes())["config"]["digest"]
    other = edit(layout, config, lambda found: found["config"].update(Env=["NEW=1"]))
    size = (layout / "blobs" / "sha256" / other[7:]).stat().st_size
    digest = edit(layout, first, lambda found: found["config"].update(digest=other, size=size))
    point_to(layout, {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": "v1"}})
    return other
