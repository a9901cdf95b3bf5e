"""Room on the disk, from what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

from obuild.runs.usage import Room, Share, measure_layers


def layer(store: Path, place: str, name: str, text: str | None = None, **facts: object) -> None:
    (store / place / name).mkdir(parents=True)
    (store / place / name / "layer.json").write_text(json.dumps(facts) if text is None else text)


def test_by_platform_and_package(tmp_path: Path) -> None:
    layer(tmp_path, "debian-12-x86_64", "a", package="dune.3.1", size=10)
    layer(tmp_path, "debian-12-x86_64", "b", package="dune.3.1", disk_usage=20)
    layer(tmp_path, "debian-12-x86_64", "c", package="dune.3.2", size=5)
    layer(tmp_path, "debian-12-x86_64", "d", package="base.1")
    layer(tmp_path, "debian-12-x86_64", "e", text="{torn")
    layer(tmp_path, "steps", "f", size=100)
    layer(tmp_path, "tmp", "g", size=1000)
    assert measure_layers(str(tmp_path)) == Room(
        layers=5,
        size=135,
        unknown=1,
        platforms=(Share("steps", 1, 100), Share("debian-12-x86_64", 4, 35)),
        packages=(Share("dune.3.1", 2, 30), Share("dune.3.2", 1, 5), Share("base.1", 1, 0)),
    )
    assert measure_layers(str(tmp_path), all_versions=True).packages == (Share("dune", 3, 35), Share("base", 1, 0))
    assert measure_layers(str(tmp_path / "none")) == Room(0, 0, 0, (), ())
