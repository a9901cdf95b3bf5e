"""The variables of a package build: where each comes from, and what the real opam says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from switches import opam_file

from obuild.opam.filter import expand, resolve
from obuild.opam.opamfile import commands
from obuild.opam.package import Package, parse_package
from obuild.opam.variable import (
    Installed,
    directories,
    package_lookup,
    seen_from,
    switch_lookup,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.filter import Contents

PREFIX = "/home/opam/.opam/default"
GLOBALS: dict[str, Contents] = {"os": "linux", "arch": "x86_64", "sys-ocaml-version": "5.3.0"}


def installed(name: str, text: str = "", build_id: str = "", **variables: Contents) -> Installed:
    return Installed(parse_package(name), opam_file(name, text), build_id, variables)


THERE = {
    found.package.name: found
    for found in (
        installed("dep.1.2", build_id="d" * 64, t=True, s="text", l=("a", "b c"), one=("q",)),
        installed("zlib.3", 'depends: ["dep" {< "1"} "nosuch"] depopts: ["two"]'),
        installed("two.2~beta", 'depends: ["dep" "zlib"] url { src: "git+https://example.org/a.git" }'),
        installed("web.1", 'url { src: "https://example.org/a.tgz" }'),
        installed("sure.1", 'url { src: "git+https://example.org/a.git" checksum: "md5=' + "0" * 32 + '" }'),
    )
}
OWN = 'depends: ["zlib" "dep" {>= "1"} "absent"] depopts: ["two" {with-test}]'


def lookup(**more: object):
    package = Package("pkg", "3.4")
    given = {"prefix": PREFIX, "globals": GLOBALS, "installed": THERE, "build_id": "e" * 64, **more}
    return package_lookup(package, opam_file("pkg.3.4", OWN), **given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lib", f"{PREFIX}/lib"),
        ("share", f"{PREFIX}/share"),
        ("doc", f"{PREFIX}/doc"),
        ("etc", f"{PREFIX}/etc"),
        ("_:lib", f"{PREFIX}/lib/pkg"),
        ("pkg:doc", f"{PREFIX}/doc/pkg"),
        ("dep:lib", f"{PREFIX}/lib/dep"),
        ("dep:etc", f"{PREFIX}/etc/dep"),
        *[(f"{scope}{name}", f"{PREFIX}/{name}") for scope in ("", "_:", "dep:") for name in ("bin", "sbin", "man")],
        ("stublibs", f"{PREFIX}/lib/stublibs"),
        ("toplevel", f"{PREFIX}/lib/toplevel"),
        ("prefix", PREFIX),
        ("root", "/home/opam/.opam"),
        ("switch", "default"),
        *[(name, None) for name in ("libexec", "share_root", "lib_root", "post", "enable", "with-test", "nosuch")],
        *[(f"dep:{name}", None) for name in ("libexec", "toplevel", "stublibs", "nosuch", "prefix")],
        ("exe", ""),
        ("make", "make"),
        ("jobs", "1"),
        ("os", "linux"),
        ("sys-ocaml-version", "5.3.0"),
        ("name", "pkg"),
        ("_:name", "pkg"),
        ("version", "3.4"),
        ("dep:version", "1.2"),
        ("build", f"{PREFIX}/.opam-switch/build/pkg.3.4"),
        ("dep:build", f"{PREFIX}/.opam-switch/build/dep.1.2"),
        ("opamfile", f"{PREFIX}/.opam-switch/packages/pkg.3.4/opam"),
        *[(name, False) for name in ("installed", "_:installed", "pkg:installed", "nosuch:installed")],
        ("dep:installed", True),
        *[
            (name, False)
            for name in ("dev", "pinned", "dep:pinned", "nosuch:pinned", "web:dev", "sure:dev", "zlib:dev")
        ],
        ("two:dev", True),
        *[(name, "") for name in ("hash", "_:hash", "dep:hash")],
        ("zlib:depends", "two.2~beta"),
        *[(f"nosuch:{name}", None) for name in ("name", "version", "lib", "bin", "hash", "depends", "build-id", "t")],
        ("build-id", "e" * 64),
        ("_:build-id", "e" * 64),
        ("dep:build-id", "d" * 64),
        ("zlib:build-id", None),
        ("_:depends", "dep.1.2 zlib.3"),
        ("depends", "dep.1.2 zlib.3"),
        ("two:depends", "dep.1.2 zlib.3"),
        ("dep:t", True),
        ("dep:s", "text"),
        ("dep:l", ("a", "b c")),
    ],
)
def test_where_a_variable_comes_from(name: str, value: Contents | None) -> None:
    assert lookup()(name) == value


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("%{dep:l}%", "a b c"),
        ("%{dep:installed}% %{dep:enable}% %{absent:enable}%", "true enable disable"),
        ("%{dep+zlib:installed}% %{dep+absent:installed}%", "true false"),
        ("%{dep:t?yes:no}% %{absent:t?yes:no}%", "yes no"),
        ("%{with-test}%-%{_:libexec}%", "-"),
        ("%{?dep:t:}%", "true"),
    ],
)
def test_variables_in_texts(text: str, expanded: str) -> None:
    assert expand(text, lookup()) == expanded


def test_what_is_known_in_commands_alone() -> None:
    local = {"with-test": True, "with-doc": False}
    assert lookup(local=local)("with-test") is True
    assert lookup(local=local)("_:with-test") is None
    assert lookup()("with-doc") is None


def test_what_is_pinned_is_in_development() -> None:
    found = lookup(pinned=("web", "dep", "pkg"))
    assert [found(f"{name}:dev") for name in ("web", "dep", "pkg", "sure", "zlib")] == [True, True, True, False, False]
    assert found("pinned") is True


def test_a_package_that_is_installed_already_does_not_see_itself() -> None:
    there = {**THERE, "pkg": installed("pkg.3.3", t=True)}
    found = lookup(installed=there)
    assert (found("pkg:installed"), found("_:t"), found("pkg:version"), found("dep:installed")) == (
        False,
        None,
        "3.4",
        True,
    )


def test_only_what_is_asked_for_is_looked_up() -> None:
    class Careful(Mapping[str, Installed]):
        def __getitem__(self, name: str) -> Installed:
            assert name in ("dep", "pkg"), name
            return THERE[name]

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("all are looked at")

        def __contains__(self, name: object) -> bool:
            return name in THERE

        def __len__(self) -> int:
            return len(THERE)

    found = lookup(installed=Careful())
    assert [found(name) for name in ("dep:t", "lib", "dep:installed")] == [True, f"{PREFIX}/lib", True]


def test_what_the_definition_of_another_package_sees() -> None:
    switch = switch_lookup(PREFIX, globals=GLOBALS, installed=THERE)
    inside = seen_from("dep", switch)
    seen = [inside(name) for name in ("_:lib", "version", "name", "lib", "installed", "t", "web:lib", "nosuch")]
    web = f"{PREFIX}/lib/web"
    assert seen == [f"{PREFIX}/lib/dep", "1.2", "dep", f"{PREFIX}/lib", True, True, web, None]
    assert [seen_from("dep", lookup())(name) for name in ("version", "_:installed", "t")] == ["1.2", True, True]
    assert [switch(name) for name in ("version", "_:lib", "os")] == [None, None, "linux"]


def test_the_directories_of_a_switch() -> None:
    assert directories("/p")["stublibs"] == "/p/lib/stublibs"
    assert len(directories("/p")) == 10


DEP = r"""opam-version: "2.0"
build: ["sh" "-c" "printf 'opam-version: \"2.0\" variables { l: [\"a\" \"b c\"] t: true q: \"x y\" }' > dep.config"]
"""
WORDS = (
    'depends "%{depends}%" dep:l "%{dep:l}%" nosuch "%{nosuch:pinned}%" dep:t "%{with-test}%" exe "%{exe}%" '
    'nosuch:name "%{hash}%" "%{dep:hash}%" "%{dep:dev}%" "%{pinned}%" "%{switch}%" "%{root}%" "%{make}%" "%{jobs}%" '
    '"%{name}%" "%{version}%" "%{build}%" "%{dep:build}%" "%{build-id}%" "%{dep:build-id}%" "%{dep:bin}%" "%{t}%" '
    '"%{dep:stublibs}%" "%{installed}%" "%{_:installed}%" "%{dep:q}%" _:name _:version dep:q zed:depends "%{lib}%" '
    '"%{_:lib}%" "%{libexec}%" "%{dep:toplevel}%" "%{dep:sbin}%" "%{post}%" "%{enable}%" "%{dep:enable}%" '
    '"%{nosuch:enable}%" "%{dep+zed:installed}%" "%{dep+nosuch:installed}%" "%{prefix}%" "%{man}%" "%{toplevel}%" '
    '"%{nosuch?yes:no}%" "%{dep:t?yes:no}%" "a" {with-test} "b" {!with-test} "c" {nosuch} "d" {?dep:t} "%%{lib}%"'
)


@needs("opam")
def test_the_same_arguments_as_from_opam(tmp_path: Path) -> None:
    script = f'for word in \\"$@\\"; do echo \\"[$word]\\"; done > {tmp_path}/words'
    own = f'opam-version: "2.0"\ndepends: ["zed" "dep"]\nbuild: ["sh" "-c" "{script}" "sh" {WORDS}]\n'
    texts = {"dep.1.2": DEP, "zed.1": 'opam-version: "2.0"\ndepends: "dep"\n', "own.3": own}
    packages = {parse_package(name): {"opam": text.encode()} for name, text in texts.items()}
    write_repository(tmp_path / "repository", packages)
    opam = MachineOpam(tmp_path, tmp_path / "repository", OPAMNODEPEXTS="1", OPAMJOBS="1")
    opam.run("install", "own")
    ids = {package.name: key or "" for package, key in opam.build_ids(packages).items()}
    left: dict[str, dict[str, Contents]] = {"dep": {"l": ("a", "b c"), "t": True, "q": "x y"}}
    there = {name: installed(f"{name}.{version}", texts[f"{name}.{version}"], ids[name], **left.get(name, {}))
             for name, version in (("dep", "1.2"), ("zed", "1"))}  # fmt: skip
    file = opam_file("own.3", own)
    prefix = str(tmp_path / "root/test")
    local = dict.fromkeys(("with-test", "with-doc", "with-dev-setup"), False)
    found = package_lookup(
        file.package, file, prefix=prefix, globals={}, installed=there, build_id=ids["own"], local=local
    )
    (words,) = commands(file.values("build"), found)
    assert (tmp_path / "words").read_text().splitlines() == [f"[{word}]" for word in words[4:]]
    assert resolve("dep:l", found) == ("a", "b c")
