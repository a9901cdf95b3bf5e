"""Commands about what is in a store: `ls`, `show`, `log`, `df`, `prune`, `delete`, `clean`, `fsck`, `export`."""

from __future__ import annotations

import json
import os
import sys
import time

from obuild.cli.option import Argument, Command, Option, duration, jobs, size
from obuild.cli.show import write
from obuild.cli.where import STORE, find_layer, open_named_store, seconds_text, size_text
from obuild.errors import StoreError, UsageError
from obuild.value import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.store import Layer, Store
    from obuild.store.prune import Pruned

__all__ = ["COMMANDS", "check_tag", "load_layer", "write_layer"]


def ls(*, store: str, json: bool, failed: bool) -> int:
    """List layers, the one used last at the end."""
    opened = open_named_store(store)
    layers = opened.failed() if failed else opened.layers()
    rows = sorted(_known(layers), key=lambda row: row[0])
    if json:
        for used, layer, meta in rows:
            _object({"used": round(used, 3), "path": layer.path, **meta})
        return 0
    for used, layer, meta in rows:
        size = size_text(meta.get("size", 0))
        print(f"{_short_id(layer.id)}  {seconds_text(time.time() - used):>8} ago  {size:>9}  {_what(meta)[:80]}")
    if not rows:
        print("nothing here yet" if not failed else "no failed steps are kept", file=sys.stderr)
    return 0


def _known(layers: Iterable[Layer]) -> Iterator[tuple[float, Layer, dict[str, Any]]]:
    """When each was used last, and what is known of it."""
    for layer in layers:
        try:
            yield os.stat(f"{layer.path}/layer.json").st_mtime, layer, layer.meta()
        except (OSError, StoreError):
            if os.path.exists(layer.path):  # not deleted meanwhile
                raise


def _short_id(id: str) -> str:
    """An id as far as it is needed to name the layer; that of a package without its platform."""
    return id.rpartition("/")[2][:12]


def _what(meta: dict[str, Any]) -> str:
    """What a layer is, on one line."""
    if "package" in meta:
        return f"package {meta['package']}"
    return f"{meta.get('op', ''):4} {' '.join(str(meta.get('text', '')).split())}"


def show(*, store: str, layer: str) -> int:
    """Print all that is known of a layer, as JSON."""
    found = find_layer(open_named_store(store), layer)
    env = dict(found.env())
    _object({"path": found.path, **found.meta(), **({"env": env} if env else {})}, indent=2)
    return 0


def log(*, store: str, layer: str, run: str | None) -> int:
    """Print the build log of a layer or of a failed step, or the last one of a package in a run."""
    if run or ("." in layer and "/" not in layer):  # no id of a layer
        from obuild.cli.runs import kept_log

        path = kept_log(store, layer, run)
    else:
        path = find_layer(open_named_store(store), layer).log
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 16):
            write(1, piece)
    return 0


def df(*, store: str, json: bool) -> int:
    """Print what takes how much room."""
    usage = open_named_store(store).usage()
    facts: dict[str, Any] = {name: getattr(usage, name) for name in fields(usage)}
    if json:
        _object(facts)
        return 0
    for name, number in facts.items():
        print(f"{name:8} {size_text(number):>10}")
    return 0


def prune(
    *, store: str, max_age: float | None, max_count: int | None, max_size: int | None, dry_run: bool, json: bool
) -> int:
    """Delete what was used least recently until the bounds hold."""
    if max_age is None and max_count is None and max_size is None:
        raise UsageError("nothing to prune by", hint="give --max-age, --max-count or --max-size")
    opened = open_named_store(store)
    pruned = opened.prune(max_age=max_age, max_count=max_count, max_size=max_size, dry_run=dry_run)
    for item in pruned:
        if json:
            _object({name: getattr(item, name) for name in fields(item)})
        else:
            print(f"{'would delete' if dry_run else 'deleted'} {item.kind} {item.id} ({size_text(item.size)})")
    if not json:
        print(_sum(pruned))
    return 0


def delete(*, store: str, layers: tuple[str, ...], children: bool, cache: tuple[str, ...]) -> int:
    """Delete layers, trees of failed steps and caches."""
    if not layers and not cache:
        raise UsageError("nothing to delete", hint="give ids of layers, or --cache NAME")
    opened = open_named_store(store)
    ids = [find_layer(opened, text).id for text in layers]
    gone: set[str] = set()
    for name in ids:
        if name not in gone:  # a child of the one before
            gone.update(opened.delete(name, children=children))
    for name in sorted(gone):
        print(f"deleted {name}")
    for name in cache:
        opened.delete_cache(name)
        print(f"deleted cache {name}")
    return 0


def clean(*, store: str) -> int:
    """Delete everything that is not in use."""
    pruned = open_named_store(store).prune(max_count=0, max_age=0)
    print(_sum(pruned))
    return 0


def fsck(*, store: str, repair: bool, json: bool) -> int:
    """Look for damage; 1 when there is some that was not repaired."""
    found = open_named_store(store).fsck(repair=repair)
    for finding in found:
        if json:
            _object({"path": finding.path, "message": finding.message, "repaired": finding.repaired})
        else:
            print(f"{finding.path}: {finding.message}{' (repaired)' if finding.repaired else ''}")
    left = sum(not finding.repaired for finding in found)
    if not json:
        print("nothing is wrong" if not found else f"{len(found)} findings, {left} not repaired")
    return 1 if left else 0


def export(*, store: str, layer: str, format: str, output: str | None, load: bool, tag: str) -> int:
    """Write the whole tree of a layer somewhere else, or give it to a Docker engine."""
    if bool(output) == load:
        raise UsageError("export to where?", hint="-o DEST writes it, --load gives it to the Docker engine")
    check_tag(tag)
    opened = open_named_store(store)
    found = find_layer(opened, layer)
    if output:
        write_layer(opened, found, format, output, tag=tag)
    else:
        print(load_layer(opened, found, tag))
    return 0


def write_layer(
    store: Store, layer: Layer, format: str, output: str, cancel: Cancel | None = None, *, tag: str = ""
) -> None:
    """Write a layer's whole tree, with what its base and its last step say of it as an image."""
    from obuild.export import export
    from obuild.image import describe

    image = describe(store, layer)
    with store.view(layer) as tree:
        export(tree, image, output, format, name=tag, cancel=cancel)


def load_layer(store: Store, layer: Layer, tag: str, cancel: Cancel | None = None) -> str:
    """Give a layer to the Docker engine as the image `tag`; the image's digest."""
    from obuild.export import load
    from obuild.image import describe

    image = describe(store, layer)
    with store.view(layer) as tree:
        return load(tree, image, tag, engine=os.environ.get("DOCKER_HOST", ""), cancel=cancel)


def check_tag(tag: str) -> None:
    """Raise `UsageError` when an image can not be called `tag`: a build asks before it begins."""
    from obuild.reference import parse_reference

    if tag and parse_reference(tag).digest:
        raise UsageError(f'an image can not be given the digest in "{tag}"', hint="write NAME or NAME:TAG")


def _sum(pruned: Sequence[Pruned]) -> str:
    return f"{len(pruned)} item{'' if len(pruned) == 1 else 's'}, {size_text(sum(item.size for item in pruned))}"


def _object(facts: dict[str, Any], indent: int | None = None) -> None:
    write(1, json.dumps(facts, indent=indent).encode() + b"\n")


JSON = Option(("--json",), "One JSON object a line.", None)

COMMANDS = {
    "ls": Command(ls, "List layers.", (STORE, JSON, Option(("--failed",), "The trees of failed steps.", None))),
    "show": Command(show, "Print what is known of a layer.", (STORE,), (Argument("layer"),)),
    "log": Command(
        log,
        "Print the log of a layer, or of a package (NAME.VERSION) in a run.",
        (STORE, Option(("--run",), "The run; the last that has one when not given.", metavar="RUN")),
        (Argument("layer"),),
    ),
    "df": Command(df, "Print what takes how much room.", (STORE, JSON)),
    "prune": Command(
        prune,
        "Delete what was used least recently.",
        (
            STORE,
            Option(("--max-age",), "Delete what was not used for TIME, such as 7d.", duration, metavar="TIME"),
            Option(("--max-count",), "Keep at most so many layers.", jobs, metavar="NUMBER"),
            Option(("--max-size",), "Keep at most SIZE, such as 20G.", size, metavar="SIZE"),
            Option(("--dry-run",), "Only say what would be deleted.", None),
            JSON,
        ),
    ),
    "delete": Command(
        delete,
        "Delete layers, trees of failed steps and caches.",
        (
            STORE,
            Option(("--children",), "Also all that was made from them.", None),
            Option(("--cache",), "The cache NAME.", many=True, metavar="NAME"),
        ),
        (Argument("layers", "*"),),
    ),
    "clean": Command(clean, "Delete everything that is not in use.", (STORE,)),
    "fsck": Command(fsck, "Look for damage.", (STORE, Option(("--repair",), "Put it right.", None), JSON)),
    "export": Command(
        export,
        "Write the tree of a layer as a directory, a tar, an OCI layout or a Docker archive, or load it into Docker.",
        (
            STORE,
            Option(("--format",), "What to write.", default="dir", choices=("dir", "tar", "oci", "docker")),
            Option(("-o", "--output"), "Where to; - is standard output for tar and docker.", metavar="DEST"),
            Option(("--load",), "Give it to the Docker engine, as an image.", None),
            Option(("-t", "--tag"), "What the image is called: NAME or NAME:TAG.", default="", metavar="NAME"),
        ),
        (Argument("layer"),),
    ),
}
