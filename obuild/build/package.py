"""The layer of a package: what its steps add to the switch that they stand on, saved under the package's own id.

The steps are those of any spec, but private to the package: their ids say so, and who has the lock of the package's id
may drop them. After a success that happens at once. After a failure they stay, so that the next try goes on at the step
that failed, and `failed/<id>` says which one that was.
"""

from __future__ import annotations

import os
import time

from obuild import spec as language
from obuild.build.stage import Stage
from obuild.digest import sha256
from obuild.errors import ObuildError, StepFailed, few
from obuild.log import Reporter
from obuild.spec import Copy, Env, FromOpam, FromPackage
from obuild.store import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from obuild.build import Builder
    from obuild.build.context import Context
    from obuild.cancel import Cancel
    from obuild.spec import Spec
    from obuild.store import Store
    from obuild.store.package import PackageDraft
    from obuild.store.survey import Survey

__all__ = ["asked", "build_package", "request"]

FACTS = ("base", "variant", "spec")
"""What `layer.json` must say as it was asked for; another layer of the same id is replaced."""

SYSTEM = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp")
SWITCH = ("backup", "build", "environment", "lock", "reinstall", "remove", "sources", "switch-state", "packages/cache")
ROOT = (".last-env", "config.lock", "download-cache", "lock", "log", "opam-init", "plugins", "repo")
"""Directories for a while, of the switch and of the opam root, that are no part of a package; all is opam's own."""

MOST_NAMED = 10
"""Paths in a message."""


def asked(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Of what `layer.json` is to say, that which makes a layer of the id the one that is asked for."""
    return {name: meta[name] for name in FACTS if name in meta}


def request(spec: Spec, store: Store) -> dict[str, Any]:
    """How `Builder.build` is asked for the layer of the package that a spec says it builds, {} when it says none.

    What its text builds is saved under the package's own id unless another text has been built under it. A planned
    build takes the layer for its own only when it has been planned, too: the text may have been changed.
    """
    last = spec.ops[-1] if spec.ops else None
    if not isinstance(last, Copy) or not isinstance(last.source, FromOpam) or last.source.action != "install":
        return {}
    base = store.base(spec.base)
    if base is None or not last.source.id:
        return {}
    name, digest = f"{spec.base}/{last.source.id}", sha256(_text(spec)).hexdigest()
    layer = store.get(name)
    if layer and layer.meta().get("spec") != digest:
        return {}
    return {"id": name, "meta": {"package": last.source.package, "base": base.id, "spec": digest}}


def _text(spec: Spec) -> bytes:
    return language.format(spec).encode("utf-8", "surrogateescape")


def build_package(
    builder: Builder,
    spec: Spec,
    context: Context,
    *,
    id: str,
    meta: Mapping[str, Any],
    files: Mapping[str, bytes],
    reporter: Reporter,
    cancel: Cancel,
) -> Layer:
    """See `Builder.build`."""
    facts = asked(meta)
    start, made = time.monotonic(), False
    layer = builder.store.package(id, facts)
    if layer is None:
        with builder.store.new_package(id, facts, follow=reporter.output, cancel=cancel) as draft:
            made = draft.layer is None
            if made:
                draft.files |= {"build.spec": _text(spec), **files}
                _Package(builder, spec, id, meta, draft).build(context, reporter, cancel)
        assert draft.layer is not None
        layer = draft.layer
    reporter.note(f'---> saved as "{id}"' if made else f'---> using "{id}" from cache')
    reporter.step("package", id, cached=not made, status=0, seconds=time.monotonic() - start)
    return layer


class _Package:
    """One package being built."""

    def __init__(self, builder: Builder, spec: Spec, id: str, meta: Mapping[str, Any], draft: PackageDraft) -> None:
        self._store, self._builder = builder.store, builder
        self._spec, self._id, self._asked, self._draft = spec, id, meta, draft
        below = [op.source for op in spec.ops if isinstance(op, Copy) and isinstance(op.source, FromPackage)]
        self._below = {source.id: source.package for source in below}
        draft.meta |= {
            "deps": [source.package for source in reversed(below)],
            "hashes": [source.id for source in reversed(below)],
            "spec": sha256(draft.files["build.spec"]).hexdigest(),
            **meta,
        }

    def build(self, context: Context, reporter: Reporter, cancel: Cancel) -> None:
        """Make the steps, and fill the draft from them."""
        start = time.monotonic()
        owner = f"{self._id} {sha256(self._draft.files['build.spec']).hexdigest()}"
        stage = Stage(self._builder, _Joined(reporter, self._draft.write), cancel, package=owner)
        try:
            try:
                stage.build(self._spec, context)
                self._gather(stage)
            except OSError as error:
                raise self._store.explain(error, f'can not make the layer "{self._id}"') from error
        except ObuildError as error:
            self._failed(stage, error)
            raise
        finally:
            self._draft.meta["seconds"] = round(time.monotonic() - start, 3)
            stage.end()

    def _gather(self, stage: Stage) -> None:
        """Fill the layer, and drop the steps."""
        if stage.switch is None:
            hint = "(copy (from (opam switch)) (src .) (dst PREFIX)) comes before its own steps"
            raise ObuildError("the spec of a package needs a switch", hint=hint)
        number, prefix = stage.switch
        before = next(layer for place, layer in stage.layers if place == number)
        own = [layer for place, layer in reversed(stage.layers) if place > number]
        base = stage.layers[0][1].id
        if self._asked.get("base", base) != base:
            message = f'"{self._spec.base}" is not the base any more that this package was planned for'
            raise ObuildError(message, hint="start again", temporary=True)
        if not own:
            raise ObuildError("the spec of a package ends with its switch")
        opam: dict[str, Any] = next((facts for layer in own if (facts := layer.meta().get("opam"))), {})
        conflicts = self._conflicts(opam)
        self._draft.meta |= {"exit_status": 0, "base": base, "prefix": prefix, "opam": opam, "conflicts": conflicts}
        self._draft.stand_on(tuple([parent for parent in before.parents if parent != stage.root]))
        stage.end()

        def accept(survey: Survey) -> None:
            self._check(survey, prefix, own[0])

        self._draft.gather(own, before, self._skip(prefix), accept, [*own, before, *self._left_over(own)])
        self._look_for(prefix)

    def _look_for(self, prefix: str) -> None:
        """Write down which files hold the prefix: whether what the package says of being moved is so."""
        from obuild.switch.prefix import RELOCATIONS, find_relocations, format_relocations

        found = find_relocations(self._draft.root + prefix, prefix)
        self._draft.files[RELOCATIONS] = format_relocations(found, prefix)
        self._draft.meta |= {"relocations": found.summary, "relocatable_verified": not found.files}

    def _conflicts(self, opam: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The files that several packages have: those below it, or it and one that it has changed. Opam lets them."""
        names = {f"{self._spec.base}/{key}": package for key, package in self._below.items()}
        shared = self._store.conflicts(tuple(names))
        found = [{"path": f"/{path}", "packages": [names[key] for key in keys]} for path, keys in shared.items()]
        own = str(self._draft.meta.get("package", self._id))
        return found + [
            {"path": each["path"], "packages": [each["package"], own]} for each in opam.get("conflicts", ())
        ]

    def _skip(self, prefix: str) -> Callable[[str], bool]:
        """Whether a path is no part of any package."""
        root = os.path.dirname(prefix)
        homes = [op.value for op in self._spec.ops if isinstance(op, Env) and op.name == "HOME"]
        home = homes[-1].rstrip("/") if homes else os.path.dirname(root)
        names = {*SYSTEM, *[f"{prefix}/.opam-switch/{name}" for name in SWITCH], *[f"{root}/{name}" for name in ROOT]}

        def skip(path: str) -> bool:
            return path in names or (os.path.dirname(path) == home and not f"{prefix}/".startswith(f"{path}/"))

        return skip

    def _check(self, survey: Survey, prefix: str, last: Layer) -> None:
        """Raise `StepFailed` for what is not in the prefix, and note what it did to the files of others."""
        paths = [f"/{path}" for path in (*survey.paths, *survey.removed)]
        strays = sorted(path for path in paths if not path.startswith(f"{prefix}/"))
        if strays:
            named = few([f'"{path}"' for path in strays], MOST_NAMED)
            message = f"the package wrote outside its prefix: {named}"
            hint = f'only what is in "{prefix}" becomes part of a package'
            raise StepFailed(message, id=last.id, status=1, log=self._draft.log, hint=hint)
        self._draft.meta |= {name: found for name in ("changed", "removed") if (found := getattr(survey, name))}

    def _left_over(self, own: Sequence[Layer]) -> list[Layer]:
        """What an earlier try that failed has left, but for the layers `own`."""
        failed = self._store.failed_layer(self._id)
        if failed is None:
            return []
        meta, known = failed.meta(), {layer.id for layer in own}
        step = self._store.failed_layer(str(meta.get("step")))
        steps = [layer for name in meta.get("steps", ()) if name not in known and (layer := self._store.get(str(name)))]
        return [failed, *([step] if step else []), *steps[::-1]]

    def _failed(self, stage: Stage, error: ObuildError) -> None:
        """Say of the failure where to go on."""
        number = stage.switch[0] if stage.switch else len(self._spec.ops)
        own = [layer for place, layer in stage.layers if place >= number]
        step = getattr(error, "id", stage.making)
        self._draft.retire([layer for layer in self._left_over(own) if layer.id not in (self._id, step)])
        last = stage.layers[-1][1].id if stage.layers else None
        self._draft.parents = (last,) if last else ()
        status = getattr(error, "status", 1)
        self._draft.meta |= {
            "exit_status": status,
            "failure": type(error).__name__,
            "hint": error.hint,
            "op": stage.number,
            "step": step,
            "last": last,
            "steps": [layer.id for layer in own],
        }


class _Joined(Reporter):
    """Hears all that is said of a package's steps, keeps it in one log, and passes it on."""

    def __init__(self, to: Reporter, write: Callable[[bytes], None]) -> None:
        self._to, self._write = to, write

    def heading(self, text: str) -> None:
        self._line(text)
        self._to.heading(text)

    def note(self, text: str) -> None:
        self._line(text)
        self._to.note(text)

    def output(self, data: bytes) -> None:
        self._write(data)
        self._to.output(data)

    def step(self, op: str, id: str, *, cached: bool, status: int, seconds: float) -> None:
        self._to.step(op, id, cached=cached, status=status, seconds=seconds)

    def started(self, op: str, text: str) -> None:
        self._to.started(op, text)

    def branch(self, name: str) -> Reporter:
        return _Joined(self._to.branch(name), self._write)

    def close(self) -> None:
        self._to.close()

    def _line(self, text: str) -> None:
        self._write(f"{text}\n".encode("utf-8", "surrogateescape"))
