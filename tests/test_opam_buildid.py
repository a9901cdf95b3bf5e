"""Build-ids: which dependencies count, what has none, and that opam's are ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository

from obuild.errors import OpamError, Problem, UsageError
from obuild.opam.buildid import BuildIds, Rules, build_ids
from obuild.opam.cache import Cache
from obuild.opam.effective import effective_hash, parse_level
from obuild.opam.explain import (
    differences,
    explain,
    format_difference,
    format_explanation,
    format_ids,
    listing,
)
from obuild.opam.memory import HashMemory
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package, parse_package
from obuild.opam.repo import Overlay, open_repositories, open_repository
from obuild.opam.syntax import parse

EXAMPLES = Path(__file__).parents[1] / "examples" / "opam-repository"
VARIABLES = {"os": "linux", "arch": "x86_64", "opam-version": "2.5.2"}


def opam(package: str, text: str, blob: str = "") -> OpamFile:
    return OpamFile(parse_package(package), parse(f'opam-version: "2.0"\n{text}'.encode(), package), blob=blob)


def ids(texts: Mapping[str, str], rules: Rules | None = None, **options) -> BuildIds:
    """The build-ids of packages given by the texts of their opam files."""
    files = {parse_package(package): opam(package, text) for package, text in texts.items()}
    return build_ids(files, files.get, rules or Rules(variables=VARIABLES), **options)


def needed(text: str, rules: Rules | None = None, installed: str = "a.1.0 b.1.0 c.1.0", package: str = "p.1.0") -> str:
    """The installed packages that count for a package with this text, in the order in which they are hashed."""
    found = ids({**dict.fromkeys(installed.split(), ""), package: text}, rules)
    return " ".join([dependency.name for dependency in found.dependencies[parse_package(package)]])


def sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_an_id_is_made_of_the_text_and_of_the_dependencies_ids() -> None:
    found = ids({"a.1": "", "b.1": 'depends: "a"', "c.1": 'depends: ["a" "b"]'})
    a, b, c = (found.ids[parse_package(name)] for name in ("a.1", "b.1", "c.1"))
    own = [effective_hash(found.files[package], level="2.5", width="scalars") for package in found.ids]
    assert a == sha(own[0])
    assert b == sha(f"{own[1]} {a}")
    assert c == sha(f"{own[2]} {b} {a}")


def test_dependencies_are_hashed_from_the_last_name() -> None:
    assert needed('depends: ["b" "C" "a" "c-d" "c1"]', installed="a.1 b.1 C.1 c-d.1 c1.1") == "c1 c-d C b a"


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        ("build", True),
        ("post", False),
        ("with-test", False),
        ("with-doc", False),
        ("with-dev-setup", False),
        ("dev", False),
        ("!with-test", True),
        ("unknown", False),
        ("!unknown", False),
        ("unknown | true", True),
        ("?unknown", False),
        ("?with-test", False),
        ("?os", True),
        ('os = "linux" & !post', True),
        ('os = "win32"', False),
        ("a:installed", False),
        ("?_:name", True),
        ('_:name = "p" & p:version = version', True),
        ('"%{os}%" = "linux"', True),
        ('"%{unknown}%" = ""', True),
        ('"%{with-test}%" = "false"', True),
        ('>= "1"', True),
        ('> "1.0"', False),
        ('>= "0.5" & < "0.9"', True),
        ('< "0.5" | > "5"', False),
        ('< "0.9" & != "7"', True),
        ('(with-test | build) & >= "0.1"', True),
        ('with-test & >= "0.1"', False),
        ('!(>= "2") & !post', True),
        ("= version", True),
        ("!= version", False),
        ("= unknown", True),
        ('>= "%{unknown}%"', True),
        ("< unknown & > unknown", False),
        ('> "9" | = unknown', False),
    ],
)
def test_conditions_decide_what_counts(condition: str, counts: bool) -> None:
    assert needed(f'depends: ["a" {{{condition}}}]') == ("a" if counts else "")
    assert needed(f'depopts: ["a" {{{condition}}}]') == ("a" if counts else "")


def test_all_alternatives_count_that_are_installed() -> None:
    assert needed('depends: [("a" | "x") "y" | "b" & "c" {post}]') == "b a"
    assert needed('depends: "a" depopts: ["x" "b"] conflicts: "c"') == "b a"


def test_options_make_more_dependencies_count() -> None:
    text = 'depends: ["a" {with-test} "b" {with-doc & !with-test} "c" {with-dev-setup}]'
    assert needed(text) == ""
    assert needed(text, Rules(with_test=True)) == "a"
    assert needed(text, Rules(with_doc=True)) == "b"
    assert needed(text, Rules(with_dev_setup=True)) == "c"
    assert needed(text, Rules(with_doc=True, with_test=True, with_dev_setup=True)) == "c a"
    assert needed(text, Rules(level="2.1", with_dev_setup=True)) == ""


def test_nothing_else_changes_an_id() -> None:
    texts = {"a.1": "", "b.1": 'depends: "a"'}
    found = ids(texts).ids
    assert found == ids(texts, Rules(with_test=True, variables={"os": "win32"})).ids
    assert found.items() <= ids({**texts, "z.1": 'depends: "b"'}).ids.items()
    assert found.items() <= ids({"z.1": "", **texts}).ids.items()


def test_levels_change_ids() -> None:
    texts = {"a.1": "flags: plugin", "b.1": 'depends: "a"', "c.1": ""}
    old, new = ids(texts, Rules(level="2.1")).ids, ids(texts).ids
    assert [old[package] == new[package] for package in old] == [False, False, True]


MD5 = "0" * 32


def test_what_has_no_id_leaves_its_dependants_without_one() -> None:
    found = ids(
        {
            "a.1": 'url { src: "git+https://x.org/a" }',
            "b.1": 'depends: "a"',
            "c.1": 'depends: "b" depopts: "d"',
            "d.1": f'url {{ src: "https://x" checksum: "{MD5}" }}',
            "e.1": "url { }",
        }
    )
    assert [str(package) for package, text in found.ids.items() if text] == ["d.1", "e.1"]
    assert {str(package): str(why) for package, why in found.undefined.items()} == dict.fromkeys(
        ("a.1", "b.1", "c.1"), '"a.1" has a url without a checksum'
    )


def test_pins_have_no_id() -> None:
    found = ids({"a.1": "", "b.1": 'depends: "a"', "c.1": ""}, pinned=["a"])
    assert [bool(text) for text in found.ids.values()] == [False, False, True]
    assert str(found.undefined[parse_package("b.1")]) == '"a.1" is pinned to a source without a checksum'


def test_unknown_packages_have_no_id() -> None:
    unknown, known = Package("x", "1"), Package("a", "1")
    found = build_ids([unknown, known], {known: opam("a.1", 'depends: "x"')}.get, Rules())
    assert found.ids == {unknown: None, known: None}
    assert str(found.undefined[known]) == '"x.1" is in none of the repositories'


def test_unreadable_packages_have_no_id() -> None:
    def lookup(package: Package) -> OpamFile:
        if package.name == "x":
            raise OpamError([Problem("not an opam file", "x/opam", 1, 1)])
        return opam(str(package), "x-locked: 3" if package.name == "y" else "")

    packages = [Package(name, "1") for name in "xyz"]
    found = build_ids(packages, lookup, Rules())
    assert [bool(found.ids[package]) for package in packages] == [False, False, True]
    assert str(found.undefined[packages[0]]) == '"x.1" can not be read by opam 2.5: not an opam file'
    assert "x-locked" in str(found.undefined[packages[1]])
    assert all(build_ids(packages[1:], lookup, Rules(level="2.1")).ids.values())


def test_cycles_are_named() -> None:
    found = ids(
        {
            "top.1": 'depends: "a"',
            "a.1": 'depends: ["free" "b"]',
            "b.1": 'depends: "c"',
            "c.1": 'depends: "a" {build} depopts: "free"',
            "free.1": "",
            "self.1": 'depopts: "self"',
        }
    )
    assert [str(package) for package, text in found.ids.items() if text] == ["free.1"]
    cycle = '"a.1" → "b.1" → "c.1" → "a.1"'
    for name in ("top.1", "a.1", "b.1", "c.1"):
        assert str(found.undefined[parse_package(name)]).endswith(cycle)
    assert '"self.1" → "self.1"' in str(found.undefined[parse_package("self.1")])


def test_a_cycle_behind_a_condition_is_none() -> None:
    texts = {"a.1": 'depends: "b"', "b.1": 'depends: "a" {post}'}
    assert all(ids(texts).ids.values())
    assert not any(ids({**texts, "b.1": 'depends: "a" {with-doc}'}, Rules(with_doc=True)).ids.values())


def test_depth_is_no_limit() -> None:
    texts = {f"p{number}.1": f'depends: "p{number + 1}"' for number in range(3000)}
    found = ids({**texts, "p3000.1": ""})
    assert all(found.ids.values())
    assert not found.undefined


def test_two_versions_of_a_name() -> None:
    with pytest.raises(UsageError, match=r'"a\.2" and "a\.1"'):
        ids({"a.1": "", "a.2": ""})


def test_hashes_are_remembered(tmp_path: Path) -> None:
    file = opam("a.1", 'depends: "b"', blob="00ff")
    wanted = effective_hash(file, level="2.1", width="bytes")
    memory = HashMemory(Cache(str(tmp_path)), level="2.1", width="bytes")
    assert [memory(file), memory(file)] == [wanted, wanted]
    memory.save()
    again = HashMemory(Cache(str(tmp_path)), level="2.1", width="bytes")
    # What is remembered goes by the blob: this file is not read at all.
    assert again(OpamFile(parse_package("a.1"), (), blob="00ff")) == wanted
    with pytest.raises(OpamError):
        again(OpamFile(parse_package("a.2"), (), blob="00ff"))
    with pytest.raises(OpamError):
        again(OpamFile(parse_package("a.1"), (), blob="00ff", files=lambda: {"f": b""}))
    with pytest.raises(OpamError):
        again(OpamFile(parse_package("a.1"), ()))
    with pytest.raises(OpamError):
        HashMemory(Cache(str(tmp_path)), level="2.5", width="bytes")(OpamFile(parse_package("a.1"), (), blob="00ff"))


def test_an_explanation() -> None:
    found = ids({"a.1": "", "b.1": 'depends: "a"', "c.1": 'url { src: "https://x" }'})
    explanation = explain(found, "b")
    a = found.ids[parse_package("a.1")]
    assert explanation.dependencies == ((parse_package("a.1"), a),)
    assert sha(f"{sha(explanation.text)} {a}") == explanation.id
    text = format_explanation(explanation)
    assert text.startswith(f"b.1: {explanation.id}\n")
    assert 'depends: ["a"]' in text
    assert f"{a}  a.1" in text
    assert format_explanation(explain(found, "c.1")).startswith('c.1: no build-id: "c.1" has a url without a checksum')
    with pytest.raises(UsageError, match='"d" is not among the packages'):
        explain(found, "d")


def test_listings() -> None:
    found = ids({"a.1": "", "long.1": 'url { src: "https://x" }'})
    assert listing(found) == {"a.1": found.ids[parse_package("a.1")], "long.1": None}
    assert format_ids(found).splitlines() == [
        f"a.1     {found.ids[parse_package('a.1')]}",
        'long.1  - ("long.1" has a url without a checksum)',
    ]


def test_what_made_ids_change() -> None:
    old = ids({"a.1": 'build: "make"', "b.1": 'depends: "a"', "c.1": 'depends: "b"', "d.1": "", "gone.1": ""})
    new = ids(
        {
            "a.1": f'build: ["make" "all"] extra-source "f" {{ src: "https://x" checksum: "{MD5}" }}',
            "b.1": 'depends: "a"',
            "c.2": 'depends: ["d"]',
            "d.1": 'synopsis: "new"',
            "new.1": "",
        }
    )
    found = differences(old, new)
    assert [format_difference(difference).splitlines() for difference in found] == [
        [
            "a.1: another build-id",
            "  build",
            '    - build: "make"',
            '    + build: ["make" "all"]',
            "  extra-source f",
            '    + extra-source "f" {',
            '    +   src: "https://"',
            f'    +   checksum: "md5={MD5}"',
            "    + }",
        ],
        ["b.1: another build-id", "  depends on a.1: another build-id"],
        [
            "c.1 → c.2",
            "  version",
            '    - version: "1"',
            '    + version: "2"',
            "  depends",
            '    - depends: ["b"]',
            '    + depends: ["d"]',
            "  depends on b.1: removed",
            "  depends on d.1: added",
        ],
        ["gone.1: removed"],
        ["new.1: added"],
    ]
    assert differences(old, old) == ()


# Recordings of real switches, and the machine's own opam


def recordings(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "build-ids").glob("opam-*--*.json"))


def rules_of(recording: Mapping) -> Rules:
    version, environment = recording["opam_version"], recording["env"]
    return Rules(
        parse_level(version),
        "scalars" if version >= "2.6" else "bytes",
        recording["variables"],
        with_test="OPAMWITHTEST" in environment,
        with_doc="OPAMWITHDOC" in environment,
        with_dev_setup="OPAMWITHDEVSETUP" in environment,
    )


def torture(shared_data: Path) -> dict[Package, dict[str, bytes]]:
    """The files of each package of the hand-made repository."""
    found: dict[Package, dict[str, bytes]] = {}
    for path, text in json.loads((shared_data / "build-ids" / "torture-repo.json").read_text()).items():
        _, _, package, rest = path.split("/", 3)
        found.setdefault(parse_package(package), {})[rest] = text.encode("latin-1")
    return found


def test_recorded_switches(shared_data: Path, recorded_repositories: Path, tmp_path: Path) -> None:
    write_repository(tmp_path / "torture", torture(shared_data))
    places = {"torture": str(tmp_path / "torture")}
    for name, path in (("default", "opam-repository.git"), ("oxcaml", "oxcaml.git")):
        places[name] = f"{recorded_repositories}/{path}"
    overlays: dict[tuple[str, ...], Overlay] = {}
    compared = 0
    for path in recordings(shared_data):
        recording = json.loads(path.read_text())
        names = tuple([places[each["name"]] for each in recording["repositories"]])
        overlay = overlays.setdefault(names, open_repositories(names, str(tmp_path / "cache")))
        packages = [parse_package(text) for text in recording["installed"]]
        found = build_ids(packages, overlay.opam, rules_of(recording), pinned=recording["pins"])
        assert listing(found) == recording["build_ids"], path.name
        compared += len(packages)
    assert compared > 5000


@needs("opam")
def test_the_machines_opam_has_the_same_ids(tmp_path: Path) -> None:
    machine = MachineOpam(tmp_path, EXAMPLES)
    repository = open_repository(str(EXAMPLES), "")
    available = machine.run("list", "--available", "--short", "--columns=name").split()
    machine.run("install", "--fake", "--best-effort", *sorted(set(available)))
    installed = [parse_package(text) for text in machine.run("list", "--short", "--columns=package").split()]
    assert len(installed) >= 5
    rules = Rules(parse_level(machine.version), "bytes", machine.variables())
    found = build_ids(installed, repository.opam, rules)
    answers = {package: machine.run("var", f"{package.name}:build-id", check=False).strip() for package in installed}
    assert {package: answer or None for package, answer in answers.items()} == found.ids


@needs("opam")
def test_the_machines_opam_counts_the_same_dependencies(tmp_path: Path) -> None:
    conditions = [
        "build", "post", "with-test", "!with-test & with-doc", "unknown | os = \"linux\"", "?os & ?with-test", "dev",
        '>= "1" & < "0.9"', '< "0.9"', "= version", "= unknown", "< unknown & > unknown", '"%{os}%" = "linux"',
        '"%{unknown}%" = ""', "a:installed", '_:version = "1.0"', '(post | build) & > "0"', '!(>= "2" | post)',
    ]  # fmt: skip
    texts = {parse_package(package): 'opam-version: "2.0"\n' for package in ("a.1.0", "b.1.0~rc1")}
    for number, condition in enumerate(conditions):
        texts[Package(f"p{number}", "1.0")] = (
            f'opam-version: "2.0"\ndepends: ["a" {{{condition}}} "b" {{{condition}}}]\n'
        )
    repository = tmp_path / "repository"
    write_repository(repository, {})
    machine = MachineOpam(tmp_path, repository, OPAMWITHTEST="1")
    write_repository(repository, {package: {"opam": text.encode()} for package, text in texts.items()})
    machine.run("update")
    machine.pretend(texts)
    rules = Rules(parse_level(machine.version), "bytes", machine.variables(), with_test=True)
    found = build_ids(texts, open_repository(str(repository), "").opam, rules)
    assert machine.build_ids(texts) == found.ids
    assert len(set(map(len, found.dependencies.values()))) == 3
