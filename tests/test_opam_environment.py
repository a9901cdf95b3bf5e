"""The environment of builds: operators, order, expansion, and what the real opam makes of the same."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from switches import opam_file

from obuild.opam.environment import apply, build_environment, format_environment, switch_updates
from obuild.opam.package import parse_package
from obuild.opam.variable import Installed, package_lookup

PREFIX = "/home/opam/.opam/default"
OPERATORS = ("=", "+=", "=+", "=+=", ":=", "=:")
OLD = shutil.which("opam") and subprocess.run(["opam", "--version"], capture_output=True, text=True).stdout < "2.2"


def changed(*updates: tuple[str, str], before: str | None = None) -> str | None:
    base = [] if before is None else [("V", before)]
    return dict(apply([("V", op, text, "") for op, text in updates], base)).get("V", before)


# Seen with opam 2.3.0
@pytest.mark.parametrize(
    ("before", "updates", "after"),
    [
        (None, [("+=", "q")], "q"),
        (None, [("=+", "q")], "q"),
        (None, [("=+=", "q")], "q"),
        (None, [(":=", "q")], "q:"),
        (None, [("=:", "q")], ":q"),
        ("", [(":=", "q")], "q:"),
        ("", [("=:", "q")], ":q"),
        ("x:y", [("=", "q")], "q"),
        ("x:y", [("+=", "q")], "q:x:y"),
        ("x:y", [("=+", "q")], "x:y:q"),
        ("x:y", [("=+=", "q")], "q:x:y"),
        ("x:y", [(":=", "q")], "q:x:y"),
        ("x:y", [("=:", "q")], "x:y:q"),
        (":x", [(":=", "q")], "q::x"),
        ("x:", [("=:", "q")], "x::q"),
        (":", [("+=", "q")], "q:"),
        (":", [("=+=", "q")], "q::"),
        (":", [("=:", "q")], ":q"),
        ("x", [("=", ""), ("+=", "q")], "q"),
        ("x", [("=", ""), ("=+=", "q")], "q:"),
        ("x", [("=", "")], ""),
        ("x", [("+=", "")], "x"),
        (None, [("+=", "")], None),
        (None, [("=:", "")], None),
        (None, [("=:", "be"), (":=", "c2"), (":=", "c1")], "c1:c2::be"),
        (None, [("+=", "1"), ("=+", "2"), (":=", "3"), ("=:", "4"), ("=+=", "5")], "5:3:1:2:4"),
        ("x", [("=+", "p"), ("=+=", "q")], "x:q:p"),
        (":", [("=+", "p"), ("=+=", "q")], "q::p"),
        (None, [("+=", "a:b"), ("=+", "c:d")], "a:b:c:d"),
    ],
)
def test_operators(before: str | None, updates: list[tuple[str, str]], after: str | None) -> None:
    assert changed(*updates, before=before) == after


def probe(folder: Path, values: dict[str, str], updates: str, name: str = "probe", extra: str = "") -> dict[str, str]:
    """The environment that the real opam gives to a build, with `values` set and `updates` in `build-env:`."""
    text = f'opam-version: "2.0"\nbuild-env: [{updates}]\nbuild: ["sh" "-c" "env -0 > {folder}/seen"]\n{extra}'
    write_repository(folder / "repository", {parse_package(f"{name}.3.4"): {"opam": text.encode()}})
    opam = MachineOpam(folder, folder / "repository", OPAMNODEPEXTS="1", **values)
    opam.run("install", name)
    pairs = (folder / "seen").read_bytes().decode().split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name}


@needs("opam")
def test_all_operators_side_by_side_with_opam(tmp_path: Path) -> None:
    befores: list[str | None] = [None, "", "x", ":x", "x:", ":x:", "x:y", "x::y", ":"]
    firsts = [None, *itertools.product(OPERATORS, ("p", ""))]
    cases = list(enumerate(itertools.product(befores, firsts, itertools.product(OPERATORS, ("q", "")))))
    values = {f"V{number}": before for number, (before, _, __) in cases if before is not None}
    lines = [
        f'[V{number} {update[0]} "{update[1]}"]' for number, (_, *updates) in cases for update in updates if update
    ]
    seen = probe(tmp_path, values, "\n".join(lines))
    for number, (before, *updates) in cases:
        given = [update for update in updates if update]
        if OLD and (not before or before.strip(":") != before or not all(text for _, text in given)):
            continue  # opam 2.1 puts into other places around empty elements
        if OLD and [op for op, _ in given] == ["=:", "=+="]:
            continue
        assert changed(*given, before=before) == seen.get(f"V{number}"), (before, given)


def installed(name: str, text: str) -> Installed:
    return Installed(parse_package(name), opam_file(name, text), "", {"t": True, "l": ("a", "b")})


DEPS = {
    "dep": installed("dep.1.2", 'setenv: [[DEP = "%{_:lib}% %{_:installed}% %{version}%"] [A += "a1"] [LATE := "x"]]'),
    "dep2": installed("dep2.1", 'setenv: [[DEP = "two"] [A += "a2"] [PATH += "/two/bin"] [MANPATH += "/two/man"]]'),
}
OWN = """build-env: [[DEP =+ "mine"] [OWN = "%{_:version}%-%{dep:t}%-%{dep:l}%"] [A = "be"] [MAKEFLAGS = "-s"]]
setenv: [[MINE = "x"] [A += "never"]]"""


def environment(base: dict[str, str], own: str = OWN, prefix: str = PREFIX) -> dict[str, str]:
    file = opam_file("envprobe.3.4", own)
    lookup = package_lookup(file.package, file, prefix=prefix, globals={}, installed=DEPS)
    root, _, switch = prefix.rpartition("/")
    given = {"prefix": prefix, "root": root, "switch": switch, "base": tuple(base.items()), "lookup": lookup}
    found = build_environment(file.package, file, DEPS, **given)
    assert len(dict(found)) == len(found)
    return dict(found)


def test_the_environment_of_a_build() -> None:
    base = {"PATH": "/usr/bin:/bin", "HOME": "/home/opam", "MAKEFLAGS": "-j9", "CDPATH": "/x", "OCAMLPATH": "/y"}
    assert list(environment(base).items()) == [
        ("CDPATH", ""),
        ("MAKEFLAGS", "-s"),
        ("MAKELEVEL", ""),
        ("OPAM_PACKAGE_NAME", "envprobe"),
        ("OPAM_PACKAGE_VERSION", "3.4"),
        ("OPAMCLI", "2.0"),
        ("DEP", f"{PREFIX}/lib/dep true 1.2"),
        ("OWN", "3.4-true-a b"),
        ("A", "a1:a2:be"),
        ("OPAMROOT", "/home/opam/.opam"),
        ("OPAMSWITCH", "default"),
        ("OPAM_SWITCH_PREFIX", PREFIX),
        ("PATH", f"{PREFIX}/bin:/two/bin:/usr/bin:/bin"),
        ("MANPATH", f"/two/man:{PREFIX}/man"),
        ("LATE", "x:"),
    ]


def test_the_manual_pages_of_the_system_stay_in_reach() -> None:
    file = opam_file("a.1", "")
    lookup = package_lookup(file.package, file, prefix=PREFIX, globals={}, installed={})
    given = {"prefix": PREFIX, "root": "/home/opam/.opam", "switch": "default", "lookup": lookup}
    for before, after in (([], f":{PREFIX}/man"), ([("MANPATH", "/man")], f"/man:{PREFIX}/man")):
        assert dict(build_environment(file.package, file, {}, base=before, **given))["MANPATH"] == after


def test_the_directory_of_programs_is_first_also_when_it_is_there() -> None:
    assert environment({"PATH": f"/bin:{PREFIX}/bin"})["PATH"] == f"{PREFIX}/bin:/two/bin:/bin:{PREFIX}/bin"


def test_nothing_else_is_set() -> None:
    assert not [name for name in environment({}) if re.match("OCAML|DUNE|OPAM_USER", name)]


def test_the_environment_that_a_compiler_makes() -> None:
    """As `ocaml` does it: `=` of what its `.config` says, then `+=`; what it needs for itself others do not get."""
    text = """build-env: [[CAML_LD_LIBRARY_PATH = ""] [LSAN_OPTIONS = "detect_leaks=0"]]
    setenv: [[CAML_LD_LIBRARY_PATH = "%{_:stubsdir}%"] [CAML_LD_LIBRARY_PATH += "%{lib}%/stublibs"]
             [OCAML_TOPLEVEL_PATH = "%{toplevel}%"]]"""
    ocaml = Installed(parse_package("ocaml.5.3.0"), opam_file("ocaml.5.3.0", text), "", {"stubsdir": "/one:/two"})
    file = opam_file("a.1", "")
    lookup = package_lookup(file.package, file, prefix=PREFIX, globals={}, installed={"ocaml": ocaml})
    given = {"prefix": PREFIX, "root": "/home/opam/.opam", "switch": "default", "lookup": lookup}
    base = [("CAML_LD_LIBRARY_PATH", "/host")]
    found = dict(build_environment(file.package, file, {"ocaml": ocaml}, base=base, **given))
    assert found["CAML_LD_LIBRARY_PATH"] == f"{PREFIX}/lib/stublibs:/one:/two"
    assert found["OCAML_TOPLEVEL_PATH"] == f"{PREFIX}/lib/toplevel"
    assert "LSAN_OPTIONS" not in found
    own = package_lookup(ocaml.package, ocaml.file, prefix=PREFIX, globals={}, installed={})
    found = dict(build_environment(ocaml.package, ocaml.file, {}, base=base, **{**given, "lookup": own}))
    assert (found["CAML_LD_LIBRARY_PATH"], found["LSAN_OPTIONS"]) == ("", "detect_leaks=0")
    assert "OCAML_TOPLEVEL_PATH" not in found


def test_what_a_shell_gets() -> None:
    file = opam_file("a.1", "")
    lookup = package_lookup(file.package, file, prefix=PREFIX, globals={}, installed=DEPS)
    updates = switch_updates(DEPS.values(), prefix=PREFIX, switch="default", lookup=lookup)
    assert [update[:3] for update in updates] == [
        ("OPAM_SWITCH_PREFIX", "=", PREFIX),
        ("DEP", "=", "two"),
        ("A", "+=", "a2"),
        ("PATH", "+=", "/two/bin"),
        ("MANPATH", "+=", "/two/man"),
        ("DEP", "=", f"{PREFIX}/lib/dep true 1.2"),
        ("A", "+=", "a1"),
        ("LATE", ":=", "x"),
        ("MANPATH", "=:", f"{PREFIX}/man"),
        ("PATH", "=+=", f"{PREFIX}/bin"),
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [("a\tb", "a\\\tb"), ("a\nb", "a\\\nb"), ("a\\b", "a\\\\b"), ("@", "\\@"), (" x ", "\\ x\\ "), ("", "@"),
     ("\"'$#", "\"'$#"), ("a@", "a@")],
)  # fmt: skip
def test_how_the_environment_of_a_switch_is_written(text: str, written: str) -> None:
    assert format_environment([("V", "=:", text, "Why so")]) == f"V\t=:\t{written}\tWhy\\ so\n"


@needs("opam")
def test_the_environment_side_by_side_with_opam(tmp_path: Path) -> None:
    """Everything that opam sets, and nothing else."""
    texts = {
        str(found.package): 'opam-version: "2.0"\n'
        + ('setenv: [[DEP = "%{_:lib}% %{_:installed}% %{version}%"] [A += "a1"] [LATE := "x"]]\n'
           if name == "dep" else
           'setenv: [[DEP = "two"] [A += "a2"] [PATH += "/two/bin"] [MANPATH += "/two/man"]]\n')
        for name, found in DEPS.items()
    }  # fmt: skip
    write_repository(
        tmp_path / "repository", {parse_package(name): {"opam": text.encode()} for name, text in texts.items()}
    )
    updates = '[DEP =+ "mine"] [OWN = "mine"] [A = "be"] [MAKEFLAGS = "-s"] [N += "n"]'
    values = {"CDPATH": "/x", "MAKELEVEL": "7", "MANPATH": "/man", "OCAMLPATH": "/y"}
    extra = 'depends: ["dep" "dep2"]\nsetenv: [[MINE = "x"] [A += "never"]]'
    seen = probe(tmp_path, values, updates, "envprobe", extra)
    base = {**values, "PATH": os.environ["PATH"]}
    expected = {**base, **environment(base, f"build-env: [{updates}]", str(tmp_path / "root/test"))}
    ignored = {"HOME", "PWD", "OLDPWD", "SHLVL", "_", "OPAMYES", "OPAMROOTISOK", "OPAMCOLOR", "OPAMNODEPEXTS", "HERE"}
    assert {name: value for name, value in seen.items() if name not in ignored} == expected
