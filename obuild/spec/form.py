"""The forms of the language: what may stand where, and the value that each form is.

Everything that OBuilder reads is read, also what can only fail later there; what can never work anywhere is a problem.
"""

from __future__ import annotations

from obuild.errors import nearest
from obuild.spec.check import Check, head, shown
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
from obuild.spec.sexp import Atom, List

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.errors import Problem
    from obuild.spec.sexp import Node, Source

__all__ = ["HIGHEST_ID", "is_glob", "read"]

HIGHEST_ID = 2**32 - 2
"""The highest uid and gid: to the kernel 2**32 - 1 means none."""

DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""The kinds of checksums, with the number of their hexadecimal digits."""

MANY = 20
"""So many names of builds are offered at most: comparing each unknown name with thousands takes minutes."""

WHOLE = "((build NAME (...))* (from BASE) OP*)"
ACTIONS = ("switch", "substs", "install")
OPS = ("comment", "workdir", "shell", "user", "env", "run", "copy")


def read(source: Source) -> tuple[Spec, tuple[Problem, ...]]:
    """The spec that the expression is, and what in it OBuilder would not understand.

    Raises `SpecError` with all problems.
    """
    forms = _Forms(source)
    spec = forms.spec(source.node, ())
    forms.done()
    return spec, tuple(sorted(forms.extensions, key=lambda problem: (problem.line, problem.column)))


def is_glob(entry: str) -> bool:
    """Whether an `exclude` is a pattern for paths below the source rather than a plain name."""
    return any(char in entry for char in "/*?[")


class _Forms(Check):
    """One method a form. `scope` is the builds that a form may copy from."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.extensions: list[Problem] = []
        self.lines: dict[str, int] = {}

    def place(self, node: Node) -> Place:
        return Place(self.source.path, *self.source.place(node.offset))

    def extension(self, node: Node, message: str) -> None:
        self.extensions.append(self.source.problem(node, shown(message)))

    def spec(self, node: Node, scope: tuple[str, ...]) -> Spec:
        if not isinstance(node, List):
            self.wrong(node, f'"{node}" is not a spec', f"write {WHOLE}")
            return Spec("")
        if head(node) in ("from", "build"):
            self.wrong(node, "a spec is a list of lists", f"one more pair of parentheses is missing: {WHOLE}")
            return Spec("")
        builds: list[tuple[str, Spec]] = []
        bases: list[str] = []
        ops: list[Op] = []
        for item in node:
            name = head(item)
            if isinstance(item, List) and name == "build":
                if bases or ops:
                    self.wrong(item, '"build" comes before "from"', f"write {WHOLE}")
                builds += self.build(item, scope)
                scope += (builds[-1][0],) if builds else ()
            elif isinstance(item, List) and name == "from":
                if bases or ops:
                    self.wrong(item, '"from" a second time' if bases else '"from" comes before the ops')
                bases.append(self.argument(item, "the base", "(from BASE)"))
            else:
                ops += self.op(item, scope)
        if not bases:
            self.wrong(node, 'there is no "(from BASE)"', f"write {WHOLE}")
        return Spec(bases[0] if bases else "", tuple(ops), tuple(builds), self.place(node))

    def build(self, form: List, scope: tuple[str, ...]) -> list[tuple[str, Spec]]:
        found = self.arguments(form, 2, "(build NAME ((from BASE) OP*))")
        if not found:
            return []
        return [(self.text(found[0], "the name of a build"), self.spec(found[1], scope))]

    def op(self, node: Node, scope: tuple[str, ...]) -> list[Op]:
        written = head(node)
        if written is None or not isinstance(node, List):
            self.wrong(node, "expected an operation in parentheses", f"one of {', '.join(OPS)}")
            return []
        name = written[:1].lower() + written[1:]
        if name not in OPS:
            hint = nearest(written[:MANY].lower(), (*OPS, "from", "build")) or f"one of {', '.join(OPS)}"
            self.wrong(node, f'unknown operation "{written}"', hint)
            return []
        form = self.unwrapped(node) if name != written else node
        op: Op | None = self.copy(form, scope) if name == "copy" else getattr(self, name)(form)
        return [] if op is None else [op]

    def unwrapped(self, form: List) -> List:
        """A capitalised form as OBuilder reads it: with one more pair of parentheses around what follows its name."""
        if len(form) != 2 or not isinstance(form[1], List) or (form[0] != "Env" and head(form[1]) is not None):
            if form[0] in ("Run", "Copy", "User", "Env"):
                self.extension(form, f'"{form[0]}" without a second pair of parentheses')
            return form
        inner = List((form[0], *form[1]))
        inner.offset, inner.end = form.offset, form.end
        return inner

    def comment(self, form: List) -> Op:
        return Comment(self.argument(form, "the comment", '(comment "TEXT")', empty=True), self.place(form))

    def workdir(self, form: List) -> Op:
        return Workdir(self.argument(form, "the directory", "(workdir DIR)", empty=True), self.place(form))

    def shell(self, form: List) -> Op:
        return Shell(self.texts(form[1:], "a word of the shell", empty=True), self.place(form))

    def env(self, form: List) -> Op | None:
        found = self.arguments(form, 2, "(env NAME VALUE)")
        if not found:
            return None
        name = self.text(found[0], "the name of a variable")
        if "=" in name:
            self.wrong(found[0], 'the name of a variable has a "=" in it', "write (env NAME VALUE)")
        return Env(name, self.text(found[1], "the value", empty=True), self.place(form))

    def user(self, form: List) -> Op | None:
        usage = "(user (uid N) (gid N))"
        names = [head(node) for node in form[1:]]
        if names == ["name"]:
            name = self.fields(form, form[1:], ("name",), ())["name"]
            return User(name=self.argument(name, "the name of a user", "(user (name NAME))"), place=self.place(form))
        fields = self.fields(form, form[1:], ("uid", "gid"), ("uid", "gid"))
        if len(fields) < 2:
            return None
        if names == ["gid", "uid"]:
            self.extension(form, '"gid" in front of "uid"')
        uid, gid = [self.number(fields[name], HIGHEST_ID, usage) for name in ("uid", "gid")]
        return User(uid, gid, place=self.place(form))

    def run(self, form: List) -> Op:
        fields = self.fields(form, form[1:], ("cache", "network", "secrets", "shell"), ("shell",))
        command = self.field(fields.get("shell"), "the command", '(shell "COMMAND")', empty=True)
        cache = [self.mount(node, "cache") for node in fields.get("cache", ())[1:]]
        secrets = [self.mount(node, "secret") for node in fields.get("secrets", ())[1:]]
        return Run(
            command,
            tuple(Cache(*mount) for mount in cache if mount),
            self.network(fields.get("network")),
            tuple(Secret(*mount) for mount in secrets if mount),
            self.place(form),
        )

    def network(self, form: List | None) -> tuple[str, ...]:
        nodes = form[1:] if form else ()
        for node in nodes:
            if node != "host":
                self.extension(node, f'the network "{node}": OBuilder has none but "host"')
        return self.texts(nodes, "the name of a network")

    def mount(self, node: Node, kind: str) -> tuple[str, str, tuple[tuple[str, str], ...]] | None:
        """The id, target and options of a cache or secret."""
        usage = "(ID (target PATH))"
        if head(node) is None or not isinstance(node, List):
            self.wrong(node, f"expected a {kind} in parentheses", f"write {usage}")
            return None
        name = self.text(node[0], f"the id of a {kind}", empty=kind == "cache")
        required = ("target",) if kind == "cache" else ()
        fields = self.fields(node, node[1:], ("target", "buildkit_options"), required)
        if "target" in fields:
            target = self.argument(fields["target"], "the target", "(target PATH)")
        else:
            target = f"/run/secrets/{name}"
            self.extension(node, "a secret without a target")
        return name, target, self.options(fields.get("buildkit_options"))

    def options(self, form: List | None) -> tuple[tuple[str, str], ...]:
        usage = "(buildkit_options ((KEY VALUE)...))"
        found = self.arguments(form, 1, usage) if form else None
        pairs = []
        for pair in found[0] if found and isinstance(found[0], List) else found or ():
            if isinstance(pair, List) and len(pair) == 2:
                pairs.append(
                    (self.text(pair[0], "an option"), self.text(pair[1], "the value of an option", empty=True))
                )
            else:
                self.wrong(pair, "expected an option and its value in parentheses", f"write {usage}")
        return tuple(pairs)

    def copy(self, form: List, scope: tuple[str, ...]) -> Op:
        fields = self.fields(form, form[1:], ("from", "src", "dst", "exclude"), ("src", "dst"))
        copy = Copy(
            self.sources(fields.get("src")),
            self.field(fields.get("dst"), "the destination", "(dst PATH)", empty=True),
            self.origin(fields["from"], scope) if "from" in fields else FromContext(),
            self.exclude(fields.get("exclude")),
            self.place(form),
        )
        if isinstance(copy.source, FromText | FromUrl | FromOpam):
            self.single(copy, fields)
        return copy

    def single(self, copy: Copy, fields: dict[str, List]) -> None:
        """What is no directory has nothing in it to choose from."""
        if isinstance(copy.source, FromText | FromUrl) and len(copy.src) > 1:
            self.wrong(fields["src"], "there is one source only", "write (src NAME)")
        if isinstance(copy.source, FromText) and copy.src and not _is_name(copy.src[0]):
            self.wrong(fields["src"], f'"{copy.src[0]}" is not the name of a file', "write (src NAME)")
        if copy.exclude:
            self.wrong(fields["exclude"], "nothing can be excluded here", "only from the context or from builds")

    def sources(self, form: List | None) -> tuple[str, ...]:
        if form and len(form) == 1:
            self.wrong(form, "there is nothing to copy", 'write (src PATH...); "." is everything')
        nodes = form[1:] if form else ()
        for node in nodes:
            if isinstance(node, Atom) and ".." in node.split("/"):
                self.wrong(node, f'"{node}" leads out of the source', 'a path to copy has no ".." in it')
        return self.texts(nodes, "a source", empty=True)

    def exclude(self, form: List | None) -> tuple[str, ...]:
        nodes = form[1:] if form else ()
        for node in nodes:
            if isinstance(node, Atom) and is_glob(node):
                self.extension(node, f'the pattern "{node}": OBuilder leaves out plain names only')
        return self.texts(nodes, "a name to exclude")

    def origin(self, form: List, scope: tuple[str, ...]) -> Origin:
        found = self.arguments(form, 1, "(from context) or (from (build NAME))")
        node = found[0] if found else Atom("context")
        if node == "context":
            return FromContext()
        makers = {
            "build": self.from_build,
            "package": self.from_package,
            "text": self.from_text,
            "url": self.from_url,
            "opam": self.from_opam,
        }
        name = head(node)
        if isinstance(node, List) and name in makers:
            return makers[name](node, scope)
        self.wrong(node, "a copy is not from there", "write (from context) or (from (build NAME))")
        return FromContext()

    def from_build(self, form: List, scope: tuple[str, ...]) -> Origin:
        name = self.argument(form, "the name of a build", "(from (build NAME))")
        if name and name not in scope:
            self.wrong(form[1], f'unknown build "{name}"', self.hint(name, scope))
        return FromBuild(name)

    def hint(self, name: str, scope: tuple[str, ...]) -> str:
        """What may be meant by the name of a build that is not there."""
        self.lines = self.lines or self.lines_of_builds()
        if name in self.lines:
            return f"the one at line {self.lines[name]} comes later, or is inside of another build"
        if not scope:
            return "no build comes before this"
        names = [f'"{known}"' for known in scope[-MANY:]]
        return nearest(name[:100], scope[-MANY:]) or f"there is {', '.join(names)}"

    def lines_of_builds(self) -> dict[str, int]:
        """The lines of all builds, wherever they are."""
        found, waiting = {}, [self.source.node]
        while waiting:
            node = waiting.pop()
            if isinstance(node, List):
                waiting += node
                if head(node) == "build" and len(node) == 3 and isinstance(node[1], Atom):
                    found[str(node[1])] = self.place(node).line
        return found

    def from_package(self, form: List, _scope: tuple[str, ...]) -> Origin:
        self.extension(form, "a copy from a package")
        found = self.arguments(form, 2, "(from (package NAME.VERSION ID))")
        return FromPackage(*self.package(found)) if found else FromPackage("?.?", "?")

    def package(self, nodes: Sequence[Node]) -> tuple[str, str]:
        """A package with its version, and its id."""
        package = self.text(nodes[0], "the package")
        name, _, version = package.partition(".")
        if package and not (name and version):
            self.wrong(nodes[0], f'"{package}" is not a package with its version', "write NAME.VERSION")
        build = self.text(nodes[1], "the build-id")
        if "/" in build or build.startswith("."):
            self.wrong(nodes[1], f'"{build}" can not be a build-id')
        return package, build

    def from_text(self, form: List, _scope: tuple[str, ...]) -> Origin:
        self.extension(form, "a copy of a text")
        return FromText(self.argument(form, "the text", "(from (text TEXT))", empty=True))

    def from_url(self, form: List, _scope: tuple[str, ...]) -> Origin:
        self.extension(form, "a copy from a url")
        usage = "(from (url URL KIND=DIGITS... (mirror URL...)))"
        if len(form) < 2:
            self.wrong(form, "a url is needed", f"write {usage}")
            return FromUrl("", ())
        checksums, mirrors = list[str](), list[str]()
        for node in form[2:]:
            if isinstance(node, List) and head(node) == "mirror":
                mirrors += self.texts(node[1:], "the url of a mirror")
            else:
                checksums.append(self.checksum(node, usage))
        return FromUrl(self.text(form[1], "the url"), tuple(checksums), tuple(mirrors))

    def checksum(self, node: Node, usage: str) -> str:
        if isinstance(node, List):
            self.wrong(node, "expected a checksum or a mirror", f"write {usage}")
            return ""
        checksum = self.text(node, "a checksum")
        kind, _, digits = checksum.partition("=")
        if checksum and (len(digits) != DIGITS.get(kind) or not set(digits) <= set("0123456789abcdefABCDEF")):
            self.wrong(node, f'"{checksum}" is not a checksum', f"write KIND=DIGITS, where KIND is {_kinds()}")
        return checksum

    def from_opam(self, form: List, _scope: tuple[str, ...]) -> Origin:
        self.extension(form, "a copy of what opam makes")
        action = self.text(form[1], "what opam does") if len(form) > 1 else ""
        usage = "(from (opam switch))" if action == "switch" else f"(from (opam {action} NAME.VERSION ID))"
        if action not in ACTIONS:
            hint = nearest(action[:MANY], ACTIONS) or f"one of {', '.join(ACTIONS)}"
            self.wrong(form, f'opam does not "{action}"', hint)
        elif found := self.arguments(form, 1 if action == "switch" else 3, usage):
            return FromOpam(action, *(self.package(found[1:]) if found[1:] else ()))
        return FromOpam("switch")


def _is_name(text: str) -> bool:
    return text not in ("", ".") and "/" not in text


def _kinds() -> str:
    return " or ".join(f"{kind} ({digits} digits)" for kind, digits in DIGITS.items())
