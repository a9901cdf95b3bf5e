"""Which files hold a prefix: debug information and build directories do not count, all else does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import needs

from obuild.install.scan import relocations
from obuild.store import Layer
from obuild.switch import prefix as module
from obuild.switch.debug import debug_parts
from obuild.switch.prefix import Relocations, find_relocations


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Where things are made, and where the layer says that they were."""
    (tmp_path / "prefix").mkdir()
    (tmp_path / "layer" / "fs" / str(tmp_path / "prefix")[1:]).mkdir(parents=True)
    return tmp_path / "prefix"


def found(prefix: Path, **files: bytes) -> Relocations:
    """What is found in a layer with these files."""
    layer = prefix.parent / "layer"
    for name, data in files.items():
        (layer / "fs" / str(prefix)[1:] / name).write_bytes(data)
    (layer / "relocations.json").unlink(missing_ok=True)
    return relocations(Layer("x", str(layer)), str(prefix))


def test_texts_and_programs(prefix: Path) -> None:
    here = bytes(prefix)
    assert found(prefix, text=b"in " + here, program=b"\0" + here, other=b"nothing", empty=b"") == Relocations(
        ("text",), ("program",)
    )


def test_build_directories(prefix: Path) -> None:
    build = bytes(prefix) + b"/.opam-switch/build/a.1/x"
    assert found(prefix, a=build, b=b"\0" + build + build) == Relocations()
    assert found(prefix, a=build + b" " + bytes(prefix)) == Relocations(("a",))


def test_what_is_recorded_is_not_looked_for_again(prefix: Path) -> None:
    found(prefix, text=bytes(prefix))
    record = prefix.parent / "layer" / "relocations.json"
    facts = json.loads(record.read_text())
    assert facts == {"format": 1, "prefix": str(prefix), "texts": ["text"], "programs": []}
    record.write_text(json.dumps({**facts, "texts": ["recorded"]}))
    layer = Layer("x", str(prefix.parent / "layer"))
    assert relocations(layer, str(prefix)).texts == ("recorded",)
    record.write_text("{")
    assert relocations(layer, str(prefix)).texts == ("text",)


@pytest.mark.parametrize("before", range(0, 40, 3))
def test_a_prefix_across_two_pieces(prefix: Path, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    monkeypatch.setattr(module, "PIECE", len(bytes(prefix)) + 7)
    here, other = bytes(prefix), bytes(prefix)[:-1]
    first = b"x" * before
    assert found(prefix, yes=first + here + b"y" * 50, end=first + here, no=first + other) == Relocations(
        ("end", "yes")
    )


def test_opams_own_files_and_what_is_outside_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("/p")
    for folder in (".opam-switch/config", "lib/.opam-switch"):
        (tmp_path / "top" / folder).mkdir(parents=True)
        (tmp_path / "top" / folder / "a").write_text("/p")
    (tmp_path / "top" / "folder").symlink_to("../outside")
    (tmp_path / "top" / "file").symlink_to("../outside/file")
    (tmp_path / "top" / "link").symlink_to("/p/x")
    assert find_relocations(str(tmp_path / "top"), "/p").files == ("lib/.opam-switch/a", "link")
    assert find_relocations(str(tmp_path / "none"), "/p") == Relocations()


@needs("cc", "ar", "objcopy")
@pytest.mark.parametrize("options", [[], ["-gz"], ["-fPIC"]], ids=" ".join)
def test_debug_information(prefix: Path, options: list[str]) -> None:
    def run(*words: str) -> None:
        subprocess.run(words, cwd=prefix, check=True)

    (prefix / "plain.c").write_text("int one(void) { return 1; }\n")
    (prefix / "named.c").write_text(f'const char *where(void) {{ return "{prefix}/share"; }}\n')
    run("cc", "-g", *options, "-c", "plain.c", "named.c")
    run("ar", "rc", "plain.a", "plain.o", "plain.o")
    run("ar", "rc", "both.a", "plain.o", "named.o")
    run("cc", "-g", "-shared", "-nostdlib", "-fPIC", "plain.c", "-o", "plain.so")
    data = {name: (prefix / name).read_bytes() for name in ("plain.o", "named.o", "plain.a", "both.a", "plain.so")}
    assert debug_parts(data["plain.o"])
    assert bytes(prefix) in data["plain.so"]
    assert found(prefix, **data) == Relocations((), ("both.a", "named.o"))


@needs("cc")
def test_damaged_files_have_no_debug_information(prefix: Path) -> None:
    (prefix / "a.c").write_text("int one(void) { return 1; }\n")
    subprocess.run(["cc", "-g", "-c", "a.c"], cwd=prefix, check=True)
    data = (prefix / "a.o").read_bytes()
    for size in (4, 6, 20, 63, len(data) // 2):
        assert debug_parts(data[:size]) == []
    assert debug_parts(b"!<arch>\n" + data) == []
    assert debug_parts(b"!<arch>\n" + b"x" * 48 + b"a lot     `\n" + data) == []
    cut = data[: len(data) // 2]
    if bytes(prefix) in cut:
        assert found(prefix, cut=cut).programs == ("cut",)
