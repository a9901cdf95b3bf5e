"""Lint: each complaint with its number and place, and the machine's opam beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import needs

from obuild.opam.lint import Finding, lint
from obuild.opam.package import Package, parse_package
from obuild.opam.repo import open_repository

EXAMPLES = Path(__file__).parent.parent / "examples" / "opam-repository"
HEAD = """opam-version: "2.0"
synopsis: "S"
maintainer: "m"
authors: "a"
license: "ISC"
homepage: "h"
bug-reports: "b"
dev-repo: "git+https://x"
"""
HASH = "sha256=" + "0" * 64


def findings(
    text: str, package: str = "p.1", files: Mapping[str, bytes] | None = None, level: str = "2.5"
) -> list[str]:
    found = lint((HEAD + text).encode("latin-1"), "f", parse_package(package), files, level=level)
    return [f"{each.severity[0]}{each.code} {each.problem}".split("\n")[0] for each in found]


def test_nothing_is_wrong() -> None:
    everything = f"""name: "p"
version: "1"
description: "D"
author: "x"
doc: "d"
tags: ["t" "flags:plugin-not"]
depends: ["a" {{>= "1" & with-test}} ("b" | "c")]
depopts: ["d" "e"]
conflicts: ["f"]
conflict-class: "g"
available: os = "linux"
flags: [conf avoid-version]
build: [[make "-j" jobs]]
run-test: [make "test"]
install: [make "install"]
remove: ["rm" "x"]
patches: ["x.patch" {{os = "linux"}}]
substs: "y"
setenv: [[A = "b"]]
build-env: [[C += "d"]]
depexts: [["x" "y"] {{os = "linux"}}]
messages: ["m" {{success}}]
post-messages: ["n"]
pin-depends: [["a.1" "git+https://x"]]
extra-files: ["x.patch" "{HASH}"]
x-anything: [1 2 {{x}}]
url {{
  src: "https://x/y.tar.gz"
  checksum: ["{HASH}" "md5={"0" * 32}"]
  mirrors: "https://z/y.tar.gz"
}}
extra-source "z" {{
  src: "https://x/z"
  checksum: "{HASH}"
}}
"""
    assert findings(everything) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("build: [", "e2 f:9:9: the file ends too early; expected"),
        ('url { src: "https://x" subpath: "y" ' + f'checksum: "{HASH}" }}', "e2 f:1:1: "),
        ("biuld: []", 'e3 f:9:1: unknown field "biuld"; did you mean "build"?'),
        ("source { }", 'e3 f:9:1: unknown section "source"'),
        ("substs: []\nsubsts: []", 'e3 f:10:1: the field "substs" is there twice, and only the first counts'),
        ("substs: [true]", 'e3 f:9:1: the field "substs" is ignored: expected a string'),
        ('build: [["a"] [["b"]]]', 'e3 f:9:16: the field "build" is ignored: expected an argument'),
        ("homepage: [MIT]", 'e3 f:9:1: the field "homepage" is there twice, and only the first counts'),
        ("doc: [MIT]", 'e3 f:9:7: the field "doc" is ignored: expected a string'),
        ('depends: ["a" "b c"]', 'e3 f:9:15: the field "depends" is ignored: "b c" is not a package name'),
        ('depends: ["a" {= "b c"}]', "e3 f:9:"),
        ('available: [os = "a" os = "b"]', 'e3 f:9:22: the field "available" is ignored: expected a single filter'),
        ('setenv: [A "="]', "e3 f:9:"),
        ('pin-depends: [["a"]]', 'e3 f:9:15: the field "pin-depends" is ignored: expected a package and its address'),
        (f'url "u" {{ src: "https://x" checksum: "{HASH}" }}', 'e3 f:9:1: the section "url" is ignored: it can not'),
        (
            f'extra-source {{ src: "https://x" checksum: "{HASH}" }}',
            'e3 f:9:1: all sections "extra-source" are ignored',
        ),
        ("url { }", 'e3 f:9:1: the section "url" is ignored: it has no address; add "src"'),
        (
            f'url {{ scr: "x" src: "https://x" checksum: "{HASH}" }}',
            'e3 f:9:7: unknown field "scr" in "url"; did you mean "src"?',
        ),
        (f'url {{ src: "https://x" git: "y" checksum: "{HASH}" }}', 'e3 f:9:24: "git" is ignored beside "src"'),
        (
            f'url {{ src: "https://x" checksum: ["{HASH}" "sha1=00"] }}',
            'e3 f:9:109: the field "checksum" of "url" is ignored: expected a checksum',
        ),
        ('name: "q"', 'w4 f:9:1: the field "name" says "q", the directory "p", which counts'),
        ('version: "1.0"', 'w4 f:9:1: the field "version" says "1.0", the directory "1", which counts'),
        ("flags: [conf plugni]", 'w28 f:9:14: unknown flag "plugni"; did you mean "plugin"?'),
        ("flags: plugin", 'w44 f:9:1: the name of a plugin should begin with "opam-"'),
        ('tags: "flags:plugin"', 'w44 f:9:1: the name of a plugin should begin with "opam-"'),
        ('depends: ["a" {build}]\ndepopts: ["b" "a"]', 'e31 f:10:15: "a" is in "depopts" and in "depends"'),
        ('url { src: "https://x" }', 'w59 f:9:1: the section "url" has no checksum: the package has no build-id'),
    ],
)
def test_one_thing_is_wrong(text: str, expected: str) -> None:
    (found,) = findings(text)
    assert found.startswith(expected)


def test_a_second_version_of_the_format() -> None:
    assert findings('opam-version: "2.0"') == [
        'e2 f:1:1: the field "opam-version" must be there once, with a string',
        'e3 f:9:1: the field "opam-version" is there twice, and only the first counts',
    ]


def test_what_is_missing() -> None:
    found = lint(
        b'opam-version: "2.0"\nurl { src: "https://x" checksum: "md5=' + b"0" * 32 + b'" }', "f", Package("p", "1")
    )
    assert [(each.severity, each.code, str(each.problem)) for each in found] == [
        ("error", 23, 'f: no field "maintainer"'),
        ("warning", 25, 'f: no field "authors"'),
        ("warning", 35, 'f: no field "homepage"'),
        ("warning", 36, 'f: no field "bug-reports"'),
        ("warning", 68, 'f: no field "license"'),
        ("warning", 37, 'f: no field "dev-repo"'),
        ("error", 57, 'f: neither "synopsis" nor "description"'),
    ]


def test_files_beside_the_file() -> None:
    good = "md5=" + "7ac66c0f148de9519b8bd264312c4d64"  # of "abcdefg"
    text = f'extra-files: [["x" "{good}"] ["y" "{good}"] ["z" "{good}"]]'
    assert findings(text, files={"x": b"abcdefg", "y": b"other", "a": b""}) == [
        'e53 f:9:1: "files/a" is not in the field "extra-files"',
        f'e53 f:9:61: "files/y" does not have the checksum {good}',
        'e53 f:9:106: "files/z" is missing',
    ]
    assert findings(text) == []
    unused = ['w53 f: "files/x" is not used: there is no field "extra-files"']
    assert (findings("", files={"x": b""}, level="2.2"), findings("", files={"x": b""})) == ([], unused)


def test_a_line_is_quoted() -> None:
    (found,) = lint((HEAD + 'tags: ["é" é2 1]').replace("é2", "x").encode(), "f", Package("p", "1"))
    assert str(found.problem).split("\n")[1:] == ['  | tags: ["é" x 1]', "  |            ^"]


def test_the_examples_are_clean() -> None:
    repository = open_repository(str(EXAMPLES), "")
    for name, versions in repository.packages().items():
        for version in versions:
            package = Package(name, version)
            assert lint(repository.text(package), "f", package, repository.files(package)) == ()


COMPARED = {2, 3, 4, 23, 25, 31, 35, 36, 37, 44, 53, 57}
"""What opam 2.1 complains of with the same number."""


def complaints(path: Path) -> set[int]:
    """The numbers that the machine's opam gives for a file."""
    env = {**os.environ, "OPAMROOT": str(path.parent / "root"), "OPAMCOLOR": "never"}
    done = subprocess.run(["opam", "lint", path], env=env, capture_output=True, check=False)
    found = {int(number) for number in re.findall(rb"^ +(?:error|warning) +(\d+):? ", done.stdout, re.MULTILINE)}
    return {2} if 2 in found else found & COMPARED


def ours(found: tuple[Finding, ...]) -> set[int]:
    codes = {each.code for each in found}
    return {2} if 2 in codes else codes & COMPARED


@needs("opam")
def test_opam_complains_of_the_same(shared_data: Path, tmp_path: Path) -> None:
    files = json.loads((shared_data / "build-ids" / "torture-repo.json").read_text())
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("latin-1"))
    kinds = set()
    for name in files:
        folder = tmp_path / Path(name).parent
        # The files of one letter and a number differ only in the lengths of strings.
        if name.endswith("/opam") and not re.match(r"t-[s-y]\d", folder.name):
            beside = {
                str(path.relative_to(folder / "files")): path.read_bytes() for path in folder.glob("files/**/*.*")
            }
            beside.update((path.name, path.read_bytes()) for path in folder.glob("files/*") if path.is_file())
            found = ours(lint((folder / "opam").read_bytes(), "f", parse_package(folder.name), beside, level="2.1"))
            assert found == complaints(folder / "opam"), name
            kinds |= found
    assert kinds == COMPARED
