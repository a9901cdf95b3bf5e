"""The effective part of opam files: what it keeps at which level, and that opam's texts are ours to the byte."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from opam_generator import Generator

from obuild.errors import OpamError, UsageError
from obuild.opam.effective import LEVELS, effective_hash, effective_text, parse_level
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package, parse_package
from obuild.opam.repo import open_repository
from obuild.opam.syntax import parse

HEAD = 'opam-version: "2.0"\nname: "p"\nversion: "1"'
MD5 = "0123456789abcdef0123456789ABCDEF"


def opam(text: str, files: dict[str, bytes] | None = None, package: str = "p.1") -> OpamFile:
    data = f'opam-version: "2.0"\n{text}'.encode("latin-1")
    return OpamFile(parse_package(package), parse(data, package), files=lambda: files or {})


def rest(text: str, level: str = "2.5", files: dict[str, bytes] | None = None) -> str:
    """The effective text below the lines that every package has."""
    whole = effective_text(opam(text, files), level=level, width="bytes")
    assert whole.startswith(HEAD)
    return whole.removeprefix(HEAD).strip("\n")


def test_a_file_that_says_nothing() -> None:
    assert effective_text(opam(""), level="2.5", width="bytes") == HEAD


@pytest.mark.parametrize("level", LEVELS)
def test_what_does_not_matter_is_dropped(level: str) -> None:
    text = """
      name: "other" version: "7"
      synopsis: "s" description: "d" maintainer: "m" authors: "a" license: "l" homepage: "h" doc: "d" bug-reports: "b"
      dev-repo: "git+https://x.org/a.git" pin-depends: ["a.1" "https://x.org"] depexts: ["a" {os = "linux"}]
      messages: "m" post-messages: "m" libraries: "l" syntax: "s" tags: "t" flags: [compiler conf avoid-version]
      x-extension: [1 2] unknown: 3 build: [] install: [[]] available: true conflict-class: []
    """
    assert effective_text(opam(text), level=level, width="bytes") == HEAD


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('depends: "ocaml"', 'depends: ["ocaml"]'),
        ('depopts: ["b" & "a" | "c"]', 'depopts: ["a" "b" "c"]'),
        ('conflicts: ["a" & "b"]', 'conflicts: ["a" "b"]'),
        ('conflict-class: ["a"]', 'conflict-class: "a"'),
        ('available: [(os = "linux")]', 'available: os = "linux"'),
        ('setenv: [[A = "1"]]', 'setenv: A = "1"'),
        ('setenv: [[A = "1"] [B += "2"]]', 'setenv: [\n  [A = "1"]\n  [B += "2"]\n]'),
        ('build: [["make"]]', 'build: "make"'),
        ("build: make", "build: make"),
        ('build: [[make "all"]]', 'build: [make "all"]'),
        ('build: [["make"] ["x" {y}] {z}]', 'build: [\n  ["make"]\n  ["x" {y}] {z}\n]'),
        ('run-test: ["b"] build-test: [["a"]]', 'run-test: [\n  ["a"]\n  ["b"]\n]'),
        ('build-doc: ["a"]', 'build-doc: "a"'),
        ('substs: ["a"]', 'substs: "a"'),
        ('patches: ["a" {os = "x"} "b"]', 'patches: [\n  "a" {os = "x"}\n  "b"\n]'),
        ('features: [f {"a" & "b"} {"doc"}]', 'features: f {"a" "b"} {"doc"}'),
        (f'extra-files: ["f" "{MD5}"]', f'extra-files: ["f" "md5={MD5.lower()}"]'),
        ('build: ["a"] build: ["b"]', 'build: "a"'),
        ('ocaml-version: [>= "4" & < "5"]', 'available: ocaml-version >= "4" & ocaml-version < "5"'),
        ('os: ["linux" | !"win32"]', 'available: os = "linux" | os != "win32"'),
        ('os: ["a" "b"] available: c', 'available: (os = "a" | os = "b") & c'),
        ('ocaml-version: [!(= "4" | = "5")] os: []', 'available: ocaml-version != "4" & ocaml-version != "5"'),
        ("ocaml-version: [] available: a", "available: true & a"),
        ("os: () available: a", "available: true & a"),
    ],
)
@pytest.mark.parametrize("level", ["2.1", "2.5"])
def test_what_matters_is_printed_in_one_form(text: str, printed: str, level: str) -> None:
    assert rest(text, level) == printed


@pytest.mark.parametrize(
    "text",
    [
        "build: 3",
        'build: [["a" 3]]',
        'build: [["a"] "b"]',
        'depends: ["a" 3]',
        'depopts: ["bad name"]',
        "available: [a b]",
        "setenv: [A]",
        'setenv: [A = "1" B = "2"]',
        "patches: [x]",
        "substs: [x]",
        'conflict-class: ["1"]',
        'features: [f {"a"}]',
        f'extra-files: [["f" "sha1={MD5}"]]',
        'url "named" { src: "https://x" }',
        'url { } url "second" { src: "https://x" }',
        f'url {{ checksum: "{MD5}" }}',
        'url { src: "https://" }',
        'url { src: "gopher://x" }',
        'extra-source { src: "https://x" }',
        'extra-source "a" { src: "https://x" } extra-source "b" { }',
        'ocaml-version: "4"',
        "os: [3]",
        "tags: [x]",
    ],
)
def test_fields_of_another_shape_are_dropped(text: str) -> None:
    assert rest(text) == ""


def test_dropped_fields_are_known() -> None:
    file = opam("build: 3 install: [] url {}")
    effective_text(file, level="2.5", width="bytes")
    assert {name: str(error) for name, error in file.dropped.items()} == {
        "build": "expected an argument: a string or a variable",
        "url": "a source without an address",
    }


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (f'src: "https://x" checksum: "sha256={"A" * 64}"', f'"https://"\n  checksum:\n    "sha256={"a" * 64}"'),
        (f'src: "https://x" checksum: ["{MD5}" "sha256={"a" * 64}"]', f'"https://"\n  checksum: "md5={MD5.lower()}"'),
        (f'src: "https://x" mirrors: "https://y" checksum: "sha1={MD5}"', '"https://x"'),
        ('src: "git+https://x/a.git#main"', '"git+https://x/a.git#main"'),
        ('git: "https://x/a"', '"git+https://x/a"'),
        ('git: "git://x/a"', '"git://x/a"'),
        ('src: "git@x.org:a/b.git"', '"ssh://git@x.org/a/b.git"'),
        ('src: "hg+ssh://u@h/p"', '"hg+ssh://u@h/p"'),
        ('src: "ssh://x.org:22/a"', '"ssh://x.org:22/a"'),
        ('http: "https://b" src: "https://a"', '"https://a"'),
        ('archive: "x.org/a"', '"http://x.org/a"'),
        ('src: 3 hg: "http://x"', '"hg+http://x"'),
    ],
)
def test_sources_are_reduced(text: str, printed: str) -> None:
    assert rest(f"url {{ {text} }}", "2.1") == f"url {{\n  src: {printed}\n}}"


def test_sources_are_named_in_order() -> None:
    source = f'src: "https://x" checksum: "{MD5}"'
    text = f'extra-source "b" {{ {source} }} extra-source "a\\"" {{ {source} }} extra-source "b" {{ src: "https://y" }}'
    reduced = f'src: "https://"\n  checksum: "md5={MD5.lower()}"'
    assert rest(text) == f'extra-source "a\\"" {{\n  {reduced}\n}}\nextra-source "b" {{\n  {reduced}\n}}'


def test_level_2_1_keeps_extra_sources_whole() -> None:
    text = f'extra-source "a" {{ mirrors: ["https://y"] checksum: ["{MD5}" "{"0" * 32}"] src: "git@h.org:p" }}'
    assert rest(text, "2.1").splitlines() == [
        'extra-source "a" {',
        '  src: "ssh://git@h.org/p"',
        "  checksum: [",
        f'    "md5={MD5.lower()}"',
        f'    "md5={"0" * 32}"',
        "  ]",
        '  mirrors: "https://y"',
        "}",
    ]
    legacy = f'extra-sources: [["https://x/y/f.tgz" "{MD5}"] ["https://x/" {{"n"}} "{MD5}"]]'
    assert [line for line in rest(legacy).splitlines() if "{" in line] == [
        'extra-source "f.tgz" {',
        'extra-source "n" {',
    ]


def test_flags_after_level_2_1() -> None:
    text = 'flags: [conf plugin plugin] tags: ["flags:plugin" "flags:conf" "org:x"]'
    assert rest(text, "2.1") == ""
    assert rest(text, "2.2") == "flags: [plugin plugin]"
    assert rest("flags: plugin", "2.2") == "flags: plugin"


def test_path_rewriting_after_level_2_1() -> None:
    text = 'x-env-path-rewrite: [[A (";" {os = "win32"} ":" {os != "win32"}) "target"] [B false]]'
    assert rest(text, "2.1") == ""
    assert rest(text, "2.4").splitlines() == [
        "x-env-path-rewrite: [",
        '  [A (";" {os = "win32"} ":" {os != "win32"}) "target"]',
        "  [B false]",
        "]",
    ]


@pytest.mark.parametrize(
    "text", ["[A false]", "3", "[[A true]]", '[[A ":" "other"]]', '[["A" false]]', '[[A ":" "host" {x y}]]']
)
def test_path_rewriting_that_opam_can_not_read(text: str) -> None:
    assert rest(f"x-env-path-rewrite: {text}", "2.1") == ""
    with pytest.raises(OpamError, match="x-env-path-rewrite"):
        rest(f"x-env-path-rewrite: {text}", "2.2")


def test_subpaths_and_locks_ask_for_an_opam_until_level_2_3() -> None:
    constraint = 'available: opam-version >= "2.1"'
    found = {level: (rest('x-subpath: "s"', level), rest('x-locked: "l"', level)) for level in LEVELS}
    assert found == {
        "2.1": (constraint, ""),
        "2.2": (constraint, constraint),
        "2.3": (constraint, constraint),
        "2.4": ("", ""),
        "2.5": ("", ""),
    }
    assert rest('x-subpath: "s" available: a | b', "2.3") == 'available: (a | b) & opam-version >= "2.1"'
    assert rest('x-subpath: "s" available: !("2.2" <= opam-version)', "2.3") == 'available: !("2.2" <= opam-version)'


def test_commands_without_arguments_until_level_2_4() -> None:
    text = 'build: [["a"] [] [] {x}] build-doc: [[] ["b"]]'
    assert rest(text, "2.4") == 'build: [\n  ["a"]\n  []\n  [] {x}\n]\nbuild-doc: [\n  []\n  ["b"]\n]'
    assert rest(text, "2.5") == 'build: "a"\nbuild-doc: [\n  []\n  ["b"]\n]'


def test_found_files_until_level_2_2() -> None:
    files = {"b": b"1", "sub/z": b"2", "B": b"3", "sub/deep/y": b"4", "also/x": b"5"}
    text = rest("", "2.2", files)
    assert [line.split('"')[1] for line in text.splitlines()[1:-1]] == ["b", "B", "also/x", "sub/z", "sub/deep/y"]
    assert '"b" "md5=c4ca4238a0b923820dcc509a6f75849b"' in text
    assert rest("", "2.3", files) == ""
    assert rest(f'extra-files: ["b" "{MD5}"]', "2.1", files) == f'extra-files: ["b" "md5={MD5.lower()}"]'
    assert rest("extra-files: []", "2.1", files) == text


@pytest.mark.parametrize(
    "text",
    [
        'opam-version: "2.1"',
        'opam-version: "2.1~rc"',
        "opam-version: 2",
        'opam-version: "2.0" opam-version: "2.0"',
        "",
        'opam-version: "2.0" x-subpath: 3',
        'opam-version: "2.0" url { src: "https://x" subpath: "s" }',
    ],
)
@pytest.mark.parametrize("level", LEVELS)
def test_files_that_opam_refuses(text: str, level: str) -> None:
    file = OpamFile(Package("p", "1"), parse(text.encode(), "p.1"))
    with pytest.raises(OpamError, match=r"p\.1"):
        effective_text(file, level=level, width="bytes")


def test_older_formats_are_read() -> None:
    for version in ("1.2", "2.0.5", "2.0~beta"):
        file = OpamFile(Package("p", "1"), parse(f'opam-version: "{version}"'.encode(), "p.1"))
        assert effective_text(file, level="2.5", width="bytes") == HEAD


@pytest.mark.parametrize(
    ("version", "level"),
    [("2.1.2", "2.1"), ("2.2.0", "2.2"), ("2.3", "2.3"), ("2.4.1", "2.4"), ("2.5.2", "2.5"), ("2.6.0-beta1", "2.5"),
     ("2.6.1", "2.5"), ("3.0", "2.5"), ("2.2.0~rc1", "2.2")],
)  # fmt: skip
def test_levels_of_releases(version: str, level: str) -> None:
    assert parse_level(version) == level


@pytest.mark.parametrize("version", ["2.0.9", "1.2", "", "newest"])
def test_releases_without_a_level(version: str) -> None:
    with pytest.raises(UsageError, match=f'"{version}"'):
        parse_level(version)


# Recordings of opam's own libraries and programs


def recorded(path: Path) -> Iterator[tuple[Package, dict[tuple[str, str], str]]]:
    """Each package with the first digits of its hash at (level, width), "-" where opam refuses the file."""
    columns = [("2.1", "bytes"), ("2.3", "bytes"), ("2.5", "scalars")]
    with gzip.open(path, "rt") as file:
        for line in list(file)[1:]:
            name, *cells = line.split()
            hashes: list[str] = []
            for cell in cells:
                hashes.append(hashes[-1] if cell == "=" else cell)
            yield parse_package(name), dict(zip(columns, hashes, strict=True))


def differing(file: OpamFile, hashes: dict[tuple[str, str], str]) -> list[str]:
    found = []
    for (level, width), wanted in hashes.items():
        try:
            own = effective_hash(file, level=level, width=width)[:16]
        except OpamError:
            own = "-"
        if own != wanted:
            found.append(f"{file.package} at {level}")
    return found


def torture(shared_data: Path) -> dict[Package, OpamFile]:
    """The readable packages of the hand-made repository of edge cases."""
    texts = {
        path: text.encode("latin-1")
        for path, text in json.loads((shared_data / "build-ids" / "torture-repo.json").read_text()).items()
    }
    found = {}
    for path, data in texts.items():
        folder, _, name = path.rpartition("/")
        if name != "opam":
            continue
        package = parse_package(folder.rpartition("/")[2])
        inside = {p.removeprefix(f"{folder}/files/"): d for p, d in texts.items() if p.startswith(f"{folder}/files/")}
        try:
            found[package] = OpamFile(package, parse(data, path), files=lambda inside=inside: inside)
        except OpamError:
            continue
    return found


def test_the_edge_cases(shared_data: Path) -> None:
    files = torture(shared_data)
    wanted = dict(recorded(shared_data / "build-ids" / "effective-hashes-torture.tsv.gz"))
    assert len(wanted) > 300
    assert [text for package, hashes in wanted.items() for text in differing(files[package], hashes)] == []
    for package in files.keys() - wanted.keys():
        assert all(files[package].refusal(level) for level in LEVELS)


@pytest.mark.slow
def test_the_whole_repository(shared_data: Path, recorded_repositories: Path) -> None:
    commit = "97014be61691efb695da5de8e860cba5d74fa1f5"
    items = open_repository(f"{recorded_repositories}/opam-repository.git@{commit}", "").load()
    wanted = dict(recorded(shared_data / "build-ids" / "effective-hashes-default-97014be6.tsv.gz"))
    assert len(wanted) > 18_000
    # Of two versions that are the same to opam, it keeps the one that it happens to read last.
    for twin in ("5.5.0+introcaml", "5.5.0+introcaml0"):
        del wanted[Package("ocaml-variants", twin)]
    files = (OpamFile(package, items[package.name][package.version]) for package in wanted)
    assert [text for file in files for text in differing(file, wanted[file.package])] == []


def test_the_texts_themselves(shared_data: Path, recorded_repositories: Path) -> None:
    folders = {"default": "opam-repository.git", "oxcaml": "oxcaml.git"}
    repositories = {name: open_repository(f"{recorded_repositories}/{path}", "") for name, path in folders.items()}
    samples = json.loads((shared_data / "build-ids" / "effective-text-samples.json").read_text())
    compared = 0
    for sample in samples:
        repository = repositories.get(sample["repo"])
        if repository:
            file = repository.opam(parse_package(sample["package"]))
            for text in sample["texts"]:
                for version in text["opam"]:
                    width = "bytes" if version < "2.6" else "scalars"
                    own = effective_text(file, level=parse_level(version), width=width)
                    assert own == text["text_latin1"]
                    compared += 1
    assert compared > 150


# Generated files, which the machine's own opam reads as well


@needs("opam")
def test_generated_files_hash_as_the_machines_opam_hashes_them(tmp_path: Path) -> None:
    generator = Generator(4)
    texts = {Package(f"p{number}", "1"): generator.file() for number in range(400)}
    repository = tmp_path / "repository"
    write_repository(repository, {})
    machine = MachineOpam(tmp_path, repository)
    write_repository(repository, {package: {"opam": text} for package, text in texts.items()})
    machine.run("update")
    machine.pretend(texts)
    files = {package: OpamFile(package, parse(text, str(package))) for package, text in texts.items()}
    level = parse_level(machine.version)
    wanted = {package: file for package, file in files.items() if not file.url or file.url.checksums}
    assert len(wanted) > 200
    own = {package: effective_hash(file, level=level, width="bytes") for package, file in wanted.items()}
    # The build-id of a package without installed dependencies is the hash of its effective hash.
    ids = {package: sha256(text.encode()).hexdigest() for package, text in own.items()}
    assert machine.build_ids(wanted) == ids
