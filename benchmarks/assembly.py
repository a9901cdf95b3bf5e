"""What it takes to have the environment of a package with 200 dependencies, whose layers are there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, Table
from obuild import kernel
from obuild import spec as language
from obuild.build import Builder, Context
from obuild.build.stage import Stage
from obuild.cancel import Cancel
from obuild.log import Reporter
from obuild.sandbox import open_sandbox
from obuild.spec import Copy, FromOpam
from obuild.store import open_store
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.packages import Bench
    from obuild.spec import Spec
    from obuild.store import Store

__all__ = ["assemble"]

COUNT, ROUNDS = 200, 15


def assemble(bench: Bench) -> None:
    """The file system of 200 layers mounted, and all of the environment: held, mounted, a valid switch, published."""
    spec = _spec(bench)
    store = open_store(bench.store)
    whole, alone = Row(f"an environment of {COUNT} layers: a valid switch"), Row("its mount alone")
    for _ in range(ROUNDS):
        whole.seconds.append(_environment(store, spec))
        alone.seconds.append(_mount(store, bench.folder))
    table = Table("assembling an environment")
    table.add(whole, bar="≤ 20 ms")
    table.add(alone, whole)


def _spec(bench: Bench) -> Spec:
    """The beginning of the spec of a package that needs all others, up to its switch; their layers are built."""
    repository = bench.repository(chain=False, count=COUNT)
    top = Path(repository, "packages/top/top.1")
    top.mkdir(parents=True)
    names = " ".join([f'"p{number}"' for number in range(1, COUNT + 1)])
    (top / "opam").write_text(f'opam-version: "2.0"\ndepends: [{names}]\nbuild: "true"\n')
    bench.fresh()
    bench.check("--repo", repository, "top")
    program = str(Path(sys.executable).with_name("obuild"))
    line = [program, "opam", "spec", "--store", bench.store, "--platform", bench.platform, "--repo", repository, "top"]
    spec = language.parse(subprocess.run(line, check=True, capture_output=True, text=True).stdout, "top")
    end = next(n for n, op in enumerate(spec.ops) if isinstance(op, Copy) and op.source == FromOpam("switch"))
    return replace(spec, ops=spec.ops[: end + 1])


def _environment(store: Store, spec: Spec) -> float:
    builder = Builder(store, lambda: open_sandbox("", state=f"{store.path}/run"))
    start = time.perf_counter()
    stage = Stage(builder, Reporter(), Cancel(), package="benchmark")
    layer = stage.build(spec, Context(source="/var/empty"))
    seconds = time.perf_counter() - start
    stage.end()
    store.discard(layer.path)
    return seconds


def _mount(store: Store, folder: Path) -> float:
    """The layers are the packages' own, with a directory for each in `lib`."""
    lowers = [layer.fs for layer in store.layers() if "/" in layer.id]
    kernel.private_mounts()
    with tempfile.TemporaryDirectory(dir=folder) as own:
        places = [Path(own, name) for name in ("root", "upper", "work")]
        for place in places:
            place.mkdir()
        start = time.perf_counter()
        kernel.mount_overlay(str(places[0]), lowers, str(places[1]), str(places[2]))
        seconds = time.perf_counter() - start
        assert len(list((places[0] / "home/opam/.opam/default/lib").glob("p*"))) == COUNT
        kernel.unmount(str(places[0]))
    return seconds
