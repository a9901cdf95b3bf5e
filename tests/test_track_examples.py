"""The examples tracked over two commits: a Debian with a C compiler, everything is really built."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clinic import Tracked
from house import House
from planning import EXAMPLES
from real import KEY, Real

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Examples(Tracked):
    """The examples as a git repository, and a profile of them; their archives are beside it."""

    def __init__(self, real: Real) -> None:
        self.house = House(real.folder, Path("/"))
        self.key, self.repo, self.profile = KEY, real.folder / "examples", real.folder / "daily.toml"
        shutil.copytree(EXAMPLES, self.repo, ignore=shutil.ignore_patterns("cache"))

    def change(self, package: str, old: str, new: str) -> None:
        path = self.repo / "packages" / package.partition(".")[0] / package / "opam"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def examples(shared_data: Path, can_mount: None, tmp_path: Path) -> Examples:
    folder = tmp_path / "real"
    folder.mkdir()
    real = Real(folder, shared_data)
    real.prepare()
    found = Examples(real)
    text = '[[notify]]\nchannel = "stdout"\n[keep]\nruns = 1\ngrace = "0.001s"'
    found.describe(text, compilers='["ocaml.5.3.0"]', archive_mirrors=f'["{EXAMPLES}/cache"]')
    found.commit("as they are")
    return found


def test_two_days(examples: Examples) -> None:
    text = examples.track(status=1)
    assert text.count(f"daily on {KEY}: 5 new and not well, 18 new\n") == 1, "one recipient is told once"
    assert "  broken.1.0 (OCaml 5.3.0)\n    build_failure: the sky is falling\n    again: obuild replay " in text
    assert "23 packages: 18 ok, 3 failing, 1 not tried, 1 without solution" in text
    first = {node.outcome.package: node.outcome for node in examples.runs()[-1].nodes()}

    examples.change("broken.1.0", "exit 3", "exit 0")
    examples.change("color.1.0", "%{share}%/color", "%{share}%/no/color")
    examples.change("greet-pack.1.0", "synopsis:", "x-note: [1]\nsynopsis:")
    shutil.rmtree(examples.repo / "packages" / "mono")
    shutil.rmtree(examples.repo / "packages" / "wrong-patch")
    examples.commit("two are repaired, one is broken, two are gone")
    text = examples.track(status=1)
    title, _, rest = text.partition("\n")
    assert title == f"daily on {KEY}: 2 newly failing, 2 fixed, 2 gone"
    assert rest.startswith("newly failing (2):\n  color.1.0 (OCaml 5.3.0)\n    build_failure: touch: cannot touch ")
    assert '  greet-all.1 (OCaml 5.3.0)\n    dependency "color.1.0" failed\n' in text
    assert "fixed (2):\n  broken.1.0 (OCaml 5.3.0)\n  needs-broken.1.0 (OCaml 5.3.0)\n" in text
    assert "gone (2):\n  mono.1.0 (OCaml 5.3.0)\n  wrong-patch.1.0 (OCaml 5.3.0)\n" in text
    assert "21 packages: 17 ok, 2 failing, 1 not tried, 1 without solution" in text
    (run,) = examples.runs()
    built = {node.outcome.package for node in run.nodes() if node.outcome.word == "success" and not node.outcome.cached}
    assert built == {"broken.1.0", "needs-broken.1.0"}, "all others are as they were"
    assert "deleted 1 runs, " in text
    assert first["mono.1.0"].id not in examples.layers(), "nobody needs it any more"
    assert first["greet-shout.1.0"].id in examples.layers(), "built on the first day, and needed still"
    assert examples.house.open().fsck() == []
    assert examples.track() == f"daily on {KEY}: nothing can differ since run {run.id}\n"
    assert examples.house.residue() == []
