"""The rules of the house that can be checked: imports, homes, sizes, linters, start-up."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "obuild").rglob("*.py"))

# Higher levels import lower ones; modules of one level only where listed in SAME.
LEVELS = [
    ["errors", "value"],
    "system kernel disk digest log cancel image reference retry compress quantity".split(),
    ["docker_engine", "spec", "dockerfile", "archive", "unpack"],
    ["store", "sandbox", "fetch", "download", "manifest", "copy", "export", "opam", "clone", "switch"],
    ["build", "plan", "platform"],
    ["runs", "replay", "install"],
    ["cli", "__main__"],
]
HOMES = {
    "apprise": "runs/notify",
    "blake3": "manifest",
    "sexpdata": "spec/sexp",
    "lark": "opam/",
    "docker": "docker_engine",
    "pyroute2": "sandbox/network",
    "pygit2": "opam/repo",
    "click": "cli/",
    "rich": "cli/",
    "subprocess": "system",
}
RECORDS = "blessing classify diff failure graph history journal lock moment notify outcome progress prune report run"
RECORDS += " run_log status swap universe usage message profile timer track"
"""The modules of `runs` that a dashboard can use alone: they import nothing above level 1 but each other."""

LIGHT = ["apprise", "click", "rich", "docker", "pyroute2", "pygit2", "lark", "tenacity", "asyncio", "dataclasses"]
LIGHT += ["pathlib", "subprocess", "inspect", "shutil", "tempfile", "logging"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "obuild").with_suffix("")).removesuffix("/__init__")


def imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """Imported module names, and whether each is only for type checkers."""
    found = []

    def visit(node: ast.AST, types: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, types)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, types) for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, types))
            found.extend((f"{node.module}.{alias.name}", types) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, types)

    visit(tree, False)
    return found


def level(module: str) -> int:
    top = module.split("/")[0]
    return next(number for number, names in enumerate(LEVELS) if top in names)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_down(path: Path) -> None:
    here = name(path)
    if here == "__init__":
        return
    for module, types in imports(ast.parse(path.read_text())):
        if not module.startswith("obuild.") or types:
            continue
        there = module.removeprefix("obuild.").replace(".", "/")
        target = ROOT / "obuild" / there
        if not (target.with_suffix(".py").exists() or target.is_dir()):
            continue  # a name inside a module
        same_room = here.split("/")[0] == there.split("/")[0]
        assert same_room or level(there) <= level(here), f"{here} imports {there} from a higher level"


@pytest.mark.parametrize("module", RECORDS.split())
def test_records_of_runs_stand_alone(module: str) -> None:
    for imported, types in imports(ast.parse((ROOT / f"obuild/runs/{module}.py").read_text())):
        if types or not imported.startswith("obuild."):
            continue
        package, _, there = imported.removeprefix("obuild.").partition(".")
        if package == "runs":
            assert there.partition(".")[0] in ("", *RECORDS.split()), f"{module} imports {imported}"
        else:
            assert level(package) <= 1, f"{module} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_third_party_packages_have_one_home(path: Path) -> None:
    for module, types in imports(ast.parse(path.read_text())):
        home = HOMES.get(module.split(".")[0])
        assert types or home is None or name(path).startswith(home), f"{module} belongs to {home}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_command_line_prints_and_reads_the_environment(path: Path) -> None:
    if name(path).startswith("cli"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Name) and node.id == "print")
        assert not (isinstance(node, ast.Attribute) and node.attr == "environ")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_sizes_and_docstrings(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 500, "no file above 500 lines"
    assert ast.get_docstring(tree), "every module says what it is"
    names = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    assert names or path.stem in ("__init__",), "every module has an __all__"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"
    for node in tree.body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        assert not public or ast.get_docstring(node), f"{node.name} has no docstring"  # type: ignore[attr-defined]


def test_exported_names_exist() -> None:
    code = "import importlib,sys\n" + "\n".join(
        f"m = importlib.import_module('obuild.{name(path).replace('/', '.')}')\n"
        f"assert all(hasattr(m, n) for n in getattr(m, '__all__', ())), m"
        for path in SOURCES
        if name(path) not in ("__init__", "__main__")
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_linters(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_repository_speaks_of_the_project_alone() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    shape = re.compile(r"/work/(main|shared)|\.\./shared/(?!data)|farm-(bench|studio)")
    for file in listed.stdout.split():
        if file != "tests/test_project.py" and (ROOT / file).exists():
            assert not shape.search((ROOT / file).read_text(errors="replace")), file


def test_a_cached_build_imports_nothing_heavy() -> None:
    code = "import sys, obuild.build, obuild.cli.build, obuild.cli.show, obuild.store.overlay; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert not set(LIGHT) & set(done.stdout.split())
