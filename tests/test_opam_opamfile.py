"""What opam files say: typed fields, sources, command lines."""

from __future__ import annotations

import pytest

from obuild.opam.filter import satisfied
from obuild.opam.formula import atoms
from obuild.opam.opamfile import OpamFile, commands
from obuild.opam.package import Package
from obuild.opam.source import Source
from obuild.opam.syntax import parse

MD5 = "0123456789abcdef0123456789abcdef"
VARIABLES = {
    "name": "p",
    "jobs": "4",
    "make": "make",
    "os": "linux",
    "with-test": False,
    "flags": ("-a", "-b"),
    "yes": True,
    "percent": "%{os}%",
}


def opam(text: str) -> OpamFile:
    return OpamFile(Package("p", "1"), parse(f'opam-version: "2.0"\n{text}'.encode("latin-1"), "opam"))


def test_an_empty_file() -> None:
    file = opam("")
    assert (file.depends, file.depopts, file.conflicts, file.available) == (None, None, None, True)
    assert (file.flags, file.conflict_classes, file.depexts, file.extra_sources) == ((), (), (), ())
    assert (file.url, file.extra_files, file.files) == (None, None, {})
    assert file.values("build") == ()
    assert file.dropped == {}
    assert file.refusal("2.5") == ""


def test_dependencies() -> None:
    file = opam('depends: ["a" {>= "1"} "b" | "c"] depopts: ["d" | "e"] conflicts: "f" conflict-class: ["g" "h"]')
    assert [name for name, _ in atoms(file.depends)] == ["a", "b", "c"]
    assert [name for name, _ in atoms(file.depopts)] == ["d", "e"]
    assert [name for name, _ in atoms(file.conflicts)] == ["f"]
    assert file.conflict_classes == ("g", "h")


def test_availability() -> None:
    file = opam('available: os = "linux" ocaml-version: [>= "4"] os: [!"win32"]')
    assert satisfied(file.available, {"os": "linux", "ocaml-version": "5.1"}.get)
    assert not satisfied(file.available, {"os": "linux", "ocaml-version": "3.12"}.get)
    assert not satisfied(file.available, {"os": "linux"}.get)


def test_flags_come_from_tags_as_well() -> None:
    assert opam("flags: [verbose compiler unknown]").flags == ("verbose", "compiler")
    assert opam('flags: avoid-version tags: ["a" "flags:conf" "flags:plugin"]').flags == (
        "plugin",
        "conf",
        "avoid-version",
    )


def test_sources() -> None:
    file = opam(
        f'url {{ src: "https://x.org/a.tgz" mirrors: "http://y.org/a" checksum: ["sha256={"A" * 64}" "{MD5}"] }}'
        f'extra-source "b" {{ src: "https://x.org/b" checksum: "{MD5}" }}'
    )
    assert file.url == Source("https://x.org/a.tgz", (f"sha256={'a' * 64}", f"md5={MD5}"), ("http://y.org/a",))
    assert file.extra_sources == (("b", Source("https://x.org/b", (f"md5={MD5}",))),)


def test_files_and_patches() -> None:
    file = opam(f'extra-files: [["a" "{MD5}"] ["b" "md5={MD5}"]] patches: ["a" "b" {{os = "win32"}}] substs: "c"')
    assert file.extra_files == (("a", f"md5={MD5}"), ("b", f"md5={MD5}"))
    assert file.values("patches") == ("a", ("option", "b", (("relop", "=", ("ident", "os"), "win32"),)))
    assert file.values("substs") == ("c",)
    assert opam("extra-files: 3").extra_files is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["b" "a" "a"] {os = "debian"}', [("a", "b")]),
        ('[["a"] {os = "debian"} ["c"] {os = "macos"}]', [("a",)]),
        ('[["c"]]', [("c",)]),
        ('[[["debian"] ["a" "b"]]]', []),
        ("[[a]]", []),
        ("3", []),
    ],
)
def test_system_packages(text: str, found: list[tuple[str, ...]]) -> None:
    lookup = {"os": "debian"}.get
    assert [names for names, condition in opam(f"depexts: {text}").depexts if satisfied(condition, lookup)] == found


def test_system_packages_of_the_old_format_have_tags() -> None:
    ((names, condition),) = opam('depexts: [[["debian" "x"] ["a" "b"]]]').depexts
    assert names == ("a", "b")
    assert condition == ("logop", "&", "debian", "x")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("make", [("make",)]),
        ('[["dune" "build" "-p" name "-j" jobs]]', [("dune", "build", "-p", "p", "-j", "4")]),
        ('[make "all" {with-test} "install" {!with-test}]', [("make", "install")]),
        ('[["a"] {os = "win32"} ["b"] {os = "linux"} ["c"]]', [("b",), ("c",)]),
        ('["cc" flags yes unknown "%{os}%/%{unknown}%"]', [("cc", "-a", "-b", "true", "", "linux/")]),
        ('[["a" {with-test}] ["b"]]', [("b",)]),
        ("[percent]", [("%{os}%",)]),
        ("[[]]", []),
        ("3", []),
    ],
)
def test_command_lines(text: str, lines: list[tuple[str, ...]]) -> None:
    assert commands(opam(f"build: {text}").values("build"), VARIABLES.get) == tuple(lines)


def test_the_first_field_counts_but_the_last_extension() -> None:
    file = opam('build: ["a"] build: ["b"] x-a: 1 x-a: 2')
    assert file.values("build") == (("list", ("a",)),)
    assert file.fields["x-a"] == 2


def test_what_is_wrong_is_told_with_its_value() -> None:
    file = opam('build: [["a" 3]] depends: "1"')
    assert (file.values("build"), file.depends) == ((), None)
    assert file.dropped["build"].value == 3
    assert "package name" in file.dropped["depends"].message


def test_long_lists_are_no_deep_ones() -> None:
    many = " ".join([f'"t{number}"' for number in range(5000)])
    file = opam(f'depends: [{many}] depexts: [[[{many}] ["x"]]] os: [{many}]')
    assert len(list(atoms(file.depends))) == 5000
    ((names, condition),) = file.depexts
    assert names == ("x",)
    assert satisfied(condition, VARIABLES.get) is False
    # What opam makes of these is as deep as they are long: better no answer than another one.
    assert file.refusal("2.5") == 'the field "os" has more than 200 elements'
    assert opam(f"ocaml-version: [{'>= 1 ' * 201}]".replace("1", '"1"')).refusal("2.1")
    assert not opam('os: ["linux" "macos"] ocaml-version: >= "4"').refusal("2.5")
