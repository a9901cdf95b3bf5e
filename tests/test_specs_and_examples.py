"""The recipes that are shipped: each is one, prints back, is laid out as `fmt` does it; the examples build."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from house import PROGRAM, House

from obuild import dockerfile
from obuild import spec as language
from obuild.dockerfile import reading
from obuild.platform.recipe import SUITES, find_recipe

ROOT = Path(__file__).parent.parent
RECIPES = sorted([*ROOT.glob("specs/*.spec"), *ROOT.glob("examples/*.spec")])
EXAMPLES = [path for path in RECIPES if path.parent.name == "examples"]

everyone = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)


def command(path: Path) -> list[str]:
    """The words of the command in the comment at a recipe's top."""
    (line,) = re.findall(r"^; +(obuild (?:platform )?build .*)$", path.read_text(), re.M)
    return shlex.split(line)


def test_there_are_some() -> None:
    assert len(RECIPES) >= 5
    assert len(EXAMPLES) >= 3


@everyone
def test_it_is_a_spec_and_prints_back(path: Path) -> None:
    text = path.read_text()
    spec = language.parse(text, path.name)
    assert language.parse(language.format(spec), path.name) == spec
    assert language.tidy(text, path.name) == text
    assert language.doubts(spec) == ()


@everyone
def test_obuilder_would_understand_it(path: Path) -> None:
    extended = path.name == "network.spec"  # private networks are ours
    assert bool(language.extensions(path.read_text(), path.name)) == extended


@everyone
def test_it_is_a_dockerfile_too(path: Path) -> None:
    text = dockerfile.format(language.parse(path.read_text(), path.name), buildkit=True)
    assert text.startswith("FROM ")
    again, _ = reading.parse(text, path.name)
    assert [name for name, _ in again.builds] == [
        name for name, _ in language.parse(path.read_text(), path.name).builds
    ]


@pytest.mark.parametrize("path", sorted(ROOT.glob("specs/*.spec")), ids=lambda path: path.name)
def test_a_platform_says_how_it_is_built(path: Path) -> None:
    assert command(path) == ["obuild", "platform", "build", path.stem]
    base = language.parse(path.read_text(), path.name).base
    assert ("--debootstrap" in path.read_text()) == (base in SUITES)
    assert find_recipe(path.stem).spec().base == base


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_command_at_its_top_is_about_it(path: Path) -> None:
    words = command(path)
    assert words[words.index("-f") + 1] == str(path.relative_to(ROOT))
    image = words[words.index("--image") + 1].partition("=")
    assert image[0] in path.read_text().split("\n\n", 1)[1]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, rootfs: Path, can_mount: None) -> House:
    """One store for all examples, on a real Debian."""
    return House(tmp_path_factory.mktemp("workshop"), rootfs)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_command_at_its_top_builds_it(path: Path, workshop: House) -> None:
    words = [PROGRAM, *command(path)[1:]]
    at = words.index("--image") + 1
    words[at] = f"{str(words[at]).partition('=')[0]}=dir:{workshop.base}"
    if "--secret" in words:
        value = workshop.folder / "token"
        value.write_text("a secret value")
        words[words.index("--secret") + 1] = f"token:{value}"
    words += ["--store", workshop.store]
    first = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=250)
    assert (first.returncode, first.stderr) == (0, "")
    assert "a secret value" not in first.stdout
    again = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=250)
    assert "---> saved as" not in again.stdout
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]


def test_the_dockerfile_is_a_spec_that_builds(workshop: House) -> None:
    done = subprocess.run(
        [PROGRAM, "import-dockerfile", "-f", ROOT / "examples" / "Dockerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0
    words = ["build", "--store", workshop.store, "--image", f"debian:13=dir:{workshop.base}", "-f", "-", str(ROOT)]
    built = subprocess.run([PROGRAM, *words], input=done.stdout, capture_output=True, text=True, timeout=250)
    assert (built.returncode, built.stderr) == (0, "")
