"""What a store remembers of the builds of packages that failed, found by what people have in hand."""

from __future__ import annotations

import os

from obuild import spec as language
from obuild.build.supply import is_stacked, is_switch
from obuild.errors import StoreError, UsageError, nearest
from obuild.spec import Copy, FromPackage, FromText, Run
from obuild.store.layer import layer_path, unescape
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from obuild.spec import Op, Spec
    from obuild.store import Layer, Store

__all__ = ["ASKED", "PARCEL", "Failed", "find_failure", "is_parcel", "open_failed", "own_steps", "stacked"]

ASKED = (
    "package",
    "build_id",
    "deps",
    "hashes",
    "base",
    "variant",
    "relocatable",
    "relocatable_why",
    "failure_accepted",
)
"""What `layer.json` says of a failed build that was said when it was asked for; see `plan.meta`."""

PARCEL = "replay.json"
"""What a directory has that is a failure to be replayed elsewhere; see `parcel`."""

_LEAST = 4
"""Letters of a key that are enough to look for it."""


@value
class Failed:
    """A build that failed: the directory that is kept of it, what that says, and the spec that was built."""

    layer: Layer
    meta: Mapping[str, Any]
    spec: Spec

    @property
    def id(self) -> str:
        """The id of the layer that it was to become, `PLATFORM/KEY`."""
        return self.layer.id

    @property
    def platform(self) -> str:
        """The key of its platform."""
        return self.id.partition("/")[0]

    @property
    def key(self) -> str:
        """The build-id, or what stands for it."""
        return self.id.partition("/")[2]

    @property
    def package(self) -> str:
        """`NAME.VERSION`."""
        return str(self.meta.get("package") or self.key)

    @property
    def steps(self) -> tuple[int, ...]:
        """Which operations are its steps."""
        return own_steps(self.spec.ops)

    @property
    def number(self) -> int:
        """Which operation failed: the first step from there on, when it was none of them."""
        op, steps = self.meta.get("op"), self.steps
        at = op if isinstance(op, int) else 0
        return next((step for step in steps if step >= at), steps[-1] if steps else 0)

    @property
    def refused(self) -> bool:
        """Whether all steps went well, and then what they left was not accepted."""
        return bool(self.meta.get("step")) and self.meta.get("step") in self.meta.get("steps", ())


def own_steps(ops: Sequence[Op]) -> tuple[int, ...]:
    """The operations that do something for a package itself: what it stands on, and its switch, are made before."""
    return tuple([number for number, op in enumerate(ops) if _is_step(op)])


def _is_step(op: Op) -> bool:
    if isinstance(op, Run):
        return True
    return isinstance(op, Copy) and not is_stacked(op) and not is_switch(op) and not _is_definition(op)


def _is_definition(op: Copy) -> bool:
    """Whether an op puts the package's definition into the switch."""
    return isinstance(op.source, FromText) and "/.opam-switch/packages/" in op.dst


def stacked(spec: Spec) -> dict[str, str]:
    """The layers of packages that a spec stands on: their ids, each with its `NAME.VERSION`."""
    sources = [op.source for op in spec.ops if isinstance(op, Copy) and is_stacked(op)]
    return {f"{spec.base}/{source.id}": source.package for source in sources if isinstance(source, FromPackage)}


def open_failed(store: Store, id: str) -> Failed | None:
    """What is remembered of the package layer `id`, if it failed when it was last tried."""
    layer = store.failed_layer(id)
    if layer is None:
        return None
    try:
        with open(f"{layer.path}/build.spec", encoding="utf-8", errors="surrogateescape") as file:
            return Failed(layer, layer.meta(), language.parse(file.read(), "build.spec"))
    except FileNotFoundError:
        return None


def is_parcel(path: str) -> bool:
    """Whether a path is that of a failure to be replayed elsewhere."""
    return os.path.exists(f"{path}/{PARCEL}")


def find_failure(store: Store, text: str, platform: str = "") -> tuple[Failed, int]:
    """The failure that a person means, and how many others the words would fit: the last one is taken.

    `text` is NAME, NAME.VERSION, the beginning of a build-id, an id, or the path of a log that a run or the store has;
    `platform` a key or the beginning of one. Raises `UsageError` that says what there is.
    """
    if "/" in text and os.path.exists(text):
        return _of_log(store, os.path.realpath(text)), 0
    known = [meta for meta in _known(store) if not platform or f"{_platform(meta)}-".startswith(f"{platform}-")]
    found = _matching(known, text)
    if not found and os.path.isfile(text):
        return _of_log(store, os.path.realpath(text)), 0
    if not found:
        raise _unknown(text, known)
    last = max(found, key=lambda meta: float(meta["created"]))
    failed = open_failed(store, str(last["id"]))
    if failed is None:
        raise _unknown(text, known)
    return failed, len(found) - 1


def _known(store: Store) -> list[dict[str, Any]]:
    """What `layer.json` says of each failed package."""
    found = []
    for name in os.listdir(f"{store.path}/failed"):
        wanted = unescape(name)
        layer = store.failed_layer(wanted) if "/" in wanted else None
        try:
            if layer:
                found.append(layer.meta())
        except StoreError:
            continue  # replaced meanwhile, or damaged: that is for `fsck`
    return found


def _platform(meta: Mapping[str, Any]) -> str:
    return str(meta["id"]).partition("/")[0]


def _matching(known: Iterable[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    """Those that the text names: an exact name counts before the beginning of a key."""
    known = list(known)
    named = [meta for meta in known if text in _names(meta)]
    begun = [meta for meta in known if str(meta["id"]).partition("/")[2].startswith(text)]
    return named or (begun if len(text) >= _LEAST else [])


def _names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    package = str(meta.get("package", ""))
    return package, package.partition(".")[0], str(meta["id"]), str(meta["id"]).partition("/")[2]


def _unknown(text: str, known: Sequence[Mapping[str, Any]]) -> UsageError:
    near = nearest(text, {name for meta in known for name in _names(meta)[:2]})
    if os.path.sep in text and not near:
        return UsageError(f'there is no log "{text}"', hint="give a package, a build-id, or the path of a log")
    latest = sorted(known, key=lambda meta: -float(meta["created"]))[:4]
    hint = near or (f"failed: {', '.join([str(meta.get('package')) for meta in latest])}" if latest else "")
    return UsageError(f'the store remembers no failure of "{text}"', hint=hint or "obuild health-check builds packages")


def _of_log(store: Store, path: str) -> Failed:
    """The failure that a log is of."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    inside = os.path.relpath(folder, os.path.realpath(store.path))
    name = unescape(inside.removeprefix("failed/")) if inside.startswith("failed/") else _of_run(path)
    failed = open_failed(store, name) if "/" in name else None
    if failed is None and "/" in name and os.path.exists(layer_path(store.path, name)):
        raise UsageError(f'"{path}" is of a build that has succeeded since', hint=f'its layer is "{name}"')
    if failed is None:
        what = f', which is of "{name}"' if name else ""
        raise UsageError(f'the store remembers no failure for "{path}"{what}', hint="is it another store? see --store")
    return failed


def _of_run(path: str) -> str:
    """The id of the build that a run's log (RUNS/runs/RUN/build/NAME.VERSION.log) is of, "" when it is of none."""
    from obuild.runs.run import Run as Record

    folder, name = os.path.split(path)
    place, kind = os.path.split(folder)
    runs, run = os.path.split(place)
    record = Record(os.path.dirname(runs), run)
    if kind != "build" or not name.endswith(".log"):
        return ""
    named = [node for node in record.nodes("build") if name.startswith(f"{node.outcome.package}.")]
    nodes = [node for node in named if path in record.logs(node.outcome.package)]
    platform = str(record.phase("plan").get("platform") or "")
    return f"{platform}/{nodes[-1].outcome.id}" if nodes and platform else ""
