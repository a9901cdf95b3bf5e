"""The language of build specs: text to values and back.

    ((build NAME SPEC)* (from BASE) OP*)

All of OBuilder's language, and more sources of a `copy`: the finished layer of a package, a text, a download, what opam
does to a switch. `extensions` lists what in a text OBuilder would not understand. docs/spec-language.md is the manual.
"""

from __future__ import annotations

from obuild.errors import Problem
from obuild.spec import form, layout, sexp
from obuild.spec.form import is_glob
from obuild.spec.op import (
    Cache,
    Comment,
    Copy,
    Env,
    FromBuild,
    FromContext,
    FromOpam,
    FromPackage,
    FromText,
    FromUrl,
    Op,
    Origin,
    Place,
    Run,
    Secret,
    Shell,
    Spec,
    User,
    Workdir,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.spec.sexp import Tree

__all__ = [
    "Cache",
    "Comment",
    "Copy",
    "Env",
    "FromBuild",
    "FromContext",
    "FromOpam",
    "FromPackage",
    "FromText",
    "FromUrl",
    "Op",
    "Origin",
    "Place",
    "Run",
    "Secret",
    "Shell",
    "Spec",
    "User",
    "Workdir",
    "builds_used",
    "doubts",
    "extensions",
    "format",
    "format_op",
    "is_glob",
    "parse",
    "tidy",
]


def parse(text: str | bytes, path: str) -> Spec:
    """The spec that `text` is; raises `SpecError` with every problem in it, each with its place in `path`."""
    return form.read(sexp.read(text, path))[0]


def extensions(text: str | bytes, path: str) -> tuple[Problem, ...]:
    """What OBuilder would not understand, or not in the same way, in a text that is a spec."""
    return form.read(sexp.read(text, path))[1]


def tidy(text: str | bytes, path: str) -> str:
    """The text laid out as `format` does it, with all its comments; raises `SpecError` if it is no spec."""
    source = sexp.read(text, path)
    form.read(source)
    return layout.tidy(source)


def format(spec: Spec) -> str:
    """The text of a spec: `parse` makes the same spec of it again."""
    if spec.builds:
        return layout.format(_spec_tree(spec), fold=True) + "\n"
    lines = [layout.format(("from", spec.base), 1), *map(_op_line, spec.ops)]
    return "(" + "\n ".join(lines) + ")\n"


def _op_line(op: Op) -> str:
    """An op on lines of its own; those of packages come again in the spec of each that depends on them."""
    if not isinstance(op, Copy) or not isinstance(op.source, FromPackage):
        return layout.format(_op_tree(op), 1, fold=True)
    line = _known.get(op)
    if line is None:
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        line = _known[op] = layout.format(_op_tree(op), 1, fold=True)
    return line


_known: dict[Op, str] = {}
_MOST_KNOWN = 10_000


def format_op(op: Op, column: int = 0) -> str:
    """The text of one op, for a heading in which it begins at `column`."""
    return layout.format(_op_tree(op), column)


def builds_used(spec: Spec) -> frozenset[str]:
    """The names of the builds that the ops copy from, themselves or through another nested build."""
    used = {op.source.name for op in spec.ops if isinstance(op, Copy) and isinstance(op.source, FromBuild)}
    for name, nested in reversed(spec.builds):
        if name in used:
            used |= builds_used(nested) - {inner for inner, _ in nested.builds}
    return frozenset(used)


def doubts(spec: Spec) -> tuple[Problem, ...]:
    """What is allowed but will fail or do nothing when it runs."""
    found = []
    used, last = builds_used(spec), dict(spec.builds)
    for name, nested in spec.builds:
        if last[name] is not nested:
            found.append(_doubt(nested.place, f'build "{name}" is hidden by a later one of that name'))
        elif name not in used:
            found.append(_doubt(nested.place, f'nothing is copied from build "{name}"'))
        found += doubts(nested)
    for op in spec.ops:
        if isinstance(op, Copy) and len(op.src) > 1 and op.dst and not op.dst.endswith("/"):
            found.append(_doubt(op.place, f'several files can not all be "{op.dst}"; end it with "/"'))
        if isinstance(op, Run):
            targets = [cache.target for cache in op.cache] + [secret.target for secret in op.secrets]
            twice = sorted({target for target in targets if targets.count(target) > 1})
            found += [_doubt(op.place, f'"{target}" is mounted twice') for target in twice]
    return tuple(found)


def _doubt(place: Place, message: str) -> Problem:
    return Problem(message, place.path, place.line, place.column)


def _spec_tree(spec: Spec) -> Tree:
    builds = [("build", name, _spec_tree(nested)) for name, nested in spec.builds]
    return [*builds, ("from", spec.base), *map(_op_tree, spec.ops)]


def _op_tree(op: Op) -> Tree:
    match op:
        case Comment(text):
            return ("comment", text)
        case Workdir(path):
            return ("workdir", path)
        case Shell(words):
            return ("shell", *words)
        case User(uid, gid, None):
            return ("user", ("uid", str(uid)), ("gid", str(gid)))
        case User(_, _, name):
            return ("user", ("name", name or ""))
        case Env(name, text):
            return ("env", name, text)
        case Run():
            cache = [("cache", *map(_mount_tree, op.cache))] if op.cache else []
            network = [("network", *op.network)] if op.network else []
            secrets = [("secrets", *map(_mount_tree, op.secrets))] if op.secrets else []
            return ("run", *cache, *network, *secrets, ("shell", op.shell))
        case Copy():
            origin = [] if op.source == FromContext() else [("from", _origin_tree(op.source))]
            exclude = [("exclude", *op.exclude)] if op.exclude else []
            return ("copy", *origin, ("src", *op.src), ("dst", op.dst), *exclude)


def _mount_tree(mount: Cache | Secret) -> Tree:
    options = [("buildkit_options", mount.options)] if mount.options else []
    return (mount.id, ("target", mount.target), *options)


def _origin_tree(origin: Origin) -> Tree:
    match origin:
        case FromContext():
            return "context"
        case FromBuild(name):
            return ("build", name)
        case FromPackage(package, id):
            return ("package", package, id)
        case FromText(text):
            return ("text", text)
        case FromUrl(url, checksums, mirrors):
            return ("url", url, *checksums, *([("mirror", *mirrors)] if mirrors else []))
        case FromOpam("switch", _, _):
            return ("opam", "switch")
        case FromOpam(action, package, id):
            return ("opam", action, package, id)
