"""The whole opam file as opam keeps it, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from opam_generator import Generator

from obuild.opam.effective import parse_level, usual_width
from obuild.opam.full import full_text
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package, parse_package
from obuild.opam.syntax import parse

HEAD = 'opam-version: "2.0"\n'
MD5 = "0123456789abcdef0123456789abcdef"
EVERYTHING = f"""
x-zed: [ "a" ] x-alpha: "b" x-alpha: "c" name: "a" version: "1" # gone
extra-source "z" {{ src: "http://x/y.tgz" mirrors: ["http://m/y.tgz"] checksum: ["{MD5}"] }}
extra-source "b" {{ src: "http://x/y.tgz" checksum: ["md5={MD5}"] }}
url {{ checksum: [ "md5={MD5}" "sha256={MD5}{MD5}" ] src: "http://x/y.tgz" mirrors: "http://m/y.tgz" }}
pin-depends: [["b.1" "git+https://x/y"]] extra-files: ["f" "md5={MD5}"] dev-repo: "git://x/y.git"
syntax: ["q"] libraries: ["q"] build-doc: ["x"] build-test: ["t"] run-test: ["u"]
depexts: [["b" "a"] {{os = "x"}} ["c"]] post-messages: ["x" {{a}} "y"] messages: "m" {{success & false}}
features: f {{os}} {{"d"}} build-env: [A += "b"] patches: ["p" {{os = "x"}} "q"] substs: "s" remove: ["x"]
install: [make] build: [[make "a" {{x & (y | z)}}]] setenv: [A = "b"] flags: [light-uninstall plugin conf odd verbose]
available: [os = "x"] conflict-class: "cc" conflicts: ["x" {{< "1"}} "y"] depopts: ["u" "v" {{>= "2"}}]
depends: ["w" {{build & with-test}} ("x" | "y")] bug-reports: "br" doc: ["d1" "d2"] homepage: "h"
tags: ["t" "flags:plugin" "flags:avoid-version" "org:x"] license: "l" authors: ["av"] maintainer: ["m"]
description: "  d

  e\\"\\"\\" x
" synopsis: "s " subpath: "x" x-env-path-rewrite: [[A false]]
"""
TEXTS = (
    EVERYTHING,
    'synopsis: ""',
    'description: "\\n only this \\n"',
    'description: ""',
    'author: ["a" "b"]',
    'depexts: ["a"] {os = "x"}',
    'depexts: [["a"]]',
    'depexts: [[["debian" "x"] ["b" "a"]]]',
    'depexts: ["b" "A" "a" "B" "ab" "Ab"] messages: " m " {a} post-messages: ["x" {b} "\\n y\\nz \\n"]',
    'flags: [conf] tags: "flags:conf"',
    'tags: [3] homepage: [["x"]] license: x',
    'dev-repo: "https://x/y" pin-depends: ["b.1" "https://x/y.tgz"]',
    'synopsis: "' + 20 * "words and " + '" maintainer: ["' + 9 * "Someone with a name " + '" "x"]',
    'x-long: ["' + 9 * "some words " + '" [a "b" {c}]] x-true: true x-none: []',
)


def shown(text: str, level: str = "2.3") -> str:
    file = OpamFile(parse_package("a.1"), parse((HEAD + text).encode(), "a"))
    return full_text(file, level=level, width=usual_width(level)).removeprefix(HEAD)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ('name: "b" version: "3" nonsense: 3 maintainer: ["m"]', 'maintainer: "m"\n'),
        ('description: "d\\n"', 'synopsis: ""\ndescription: "d"\n'),
        ('build: ["a"] synopsis: "s"', 'synopsis: "s"\nbuild: "a"\n'),
        ('x-b: "1" url { src: "http://x/y" } x-a: [2]', 'url {\n  src: "http://x/y"\n}\nx-a: [2]\nx-b: "1"\n'),
        ('depexts: [["b" "a"]] tags: "flags:conf" flags: conf', 'tags: "flags:conf"\ndepexts: ["a" "b"]\n'),
    ],
)
def test_what_is_kept(text: str, kept: str) -> None:
    assert shown(text) == kept


def test_what_is_kept_stays_as_it_is() -> None:
    for text in TEXTS[:-1]:  # of an empty extension opam keeps an empty line
        once = shown(text)
        assert shown(once) == once


@needs("opam")
def test_as_the_machines_opam(tmp_path: Path) -> None:
    generator = Generator(11)
    texts = {Package(f"g{number}", "1"): generator.file() for number in range(200)}
    texts |= {Package(f"t{number}", "1"): (HEAD + text).encode() for number, text in enumerate(TEXTS)}
    write_repository(tmp_path / "repository", {package: {"opam": text} for package, text in texts.items()})
    machine = MachineOpam(tmp_path, tmp_path / "repository")
    level = parse_level(machine.version)
    said = machine.run("show", "--raw", *map(str, texts))
    found = {}
    for each in re.split(r'^(?=opam-version: "2\.0"\nname: )', said, flags=re.MULTILINE)[1:]:
        name = each.split('"')[3]
        found[name] = re.sub(r"\A(.*\n)name: .*\nversion: .*\n", r"\1", each).rstrip("\n")
    own = {
        package.name: full_text(OpamFile(package, parse(text, "opam")), level=level, width=usual_width(level))
        for package, text in texts.items()
    }
    assert {name: text.rstrip("\n") for name, text in own.items() if name in found} == found
    assert len(found) > 190
