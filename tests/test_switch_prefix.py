"""Files that know where they were installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from obuild.switch import prefix as module
from obuild.switch.prefix import mentions

PREFIX = "/home/opam/.opam/default"


def put(tree: Path, path: str, content: bytes) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_bytes(content)


def test_texts_programs_and_links(tmp_path: Path) -> None:
    put(tmp_path, "bin/script", b"#!/home/opam/.opam/default/bin/ocaml\n")
    put(tmp_path, "bin/program", b"\x7fELF\0\0" + PREFIX.encode() + b"/lib\0\0")
    put(tmp_path, "lib/plain", b"nothing")
    put(tmp_path, "lib/end", b"at the end: " + PREFIX.encode())
    (tmp_path / "bin" / "link").symlink_to(f"{PREFIX}/bin/program")
    (tmp_path / "bin" / "near").symlink_to("program")
    assert mentions(str(tmp_path), PREFIX) == ("bin/link", "bin/program", "bin/script", "lib/end")
    assert mentions(str(tmp_path), PREFIX + "/") == mentions(str(tmp_path), PREFIX)


@pytest.mark.parametrize("text", ["default2/lib", "default-old", "default.bak", "default_x", "defaul"])
def test_other_places_are_not_meant(tmp_path: Path, text: str) -> None:
    put(tmp_path, "file", f"/home/opam/.opam/{text}".encode())
    assert mentions(str(tmp_path), PREFIX) == ()
    put(tmp_path, "both", f"/home/opam/.opam/{text}:{PREFIX}/x".encode())
    assert mentions(str(tmp_path), PREFIX) == ("both",)


@pytest.mark.parametrize("before", range(40))
def test_a_path_across_two_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    monkeypatch.setattr(module, "PIECE", 30)
    put(tmp_path, "yes", b"x" * before + PREFIX.encode() + b"/lib" + b"y" * 50)
    put(tmp_path, "no", b"x" * before + PREFIX.encode() + b"2/lib" + b"y" * 50)
    put(tmp_path, "end", b"x" * before + PREFIX.encode())
    assert mentions(str(tmp_path), PREFIX) == ("end", "yes")


def test_opams_own_files_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, f"{PREFIX[1:]}/.opam-switch/config/a.config", PREFIX.encode())
    put(tmp_path, f"{PREFIX[1:]}/lib/a", PREFIX.encode())
    assert mentions(str(tmp_path), PREFIX) == (f"{PREFIX[1:]}/lib/a",)


def test_nothing_outside_is_read(tmp_path: Path) -> None:
    put(tmp_path, "outside/file", PREFIX.encode())
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "folder").symlink_to("../outside")
    (tmp_path / "tree" / "file").symlink_to("../outside/file")
    assert mentions(str(tmp_path / "tree"), PREFIX) == ()
