"""Commands as the machine's own opam runs them: the same programs with the same arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from planning import target

from obuild.opam import buildid
from obuild.opam.effective import parse_level, usual_width
from obuild.opam.package import Package
from obuild.opam.platform import parse_platform
from obuild.opam.repo import open_repository
from obuild.opam.solver import Request, Solution, variable_table
from obuild.plan import compile, plan
from obuild.platform import Base
from obuild.spec import Env, Run

ARGUMENTS = r"""
    "plain" "two words" "" "a'b" "a\"b" "$HOME" "`id`" "back\\slash" "new\nline" "tab\t" "*" "~" "#" "!x" "é" "\200"
    name version _:name _:version dep:name dep:version absent:version nothing "%{nothing}%" "[%{nothing}%]"
    prefix bin sbin lib man doc share etc stublibs toplevel root switch
    "%{lib}%" "%{_:lib}%" "%{dep:lib}%" "%{dep:share}%" "%{dep:etc}%" "%{dep:doc}%" "%{dep:bin}%" "%{dep:man}%"
    _:lib _:share dep:lib dep:stublibs dep:toplevel absent:lib
    installed _:installed dep:installed absent:installed dep:enable absent:enable
    "%{dep:installed}%" "%{absent:installed}%" "%{dep:enable}%" "%{absent:enable}%"
    "%{dep:installed?yes:no}%" "%{absent:installed?yes:no}%" "%{nothing?yes:no}%" "%{dep+absent:installed}%"
    "%{dep+other:installed?both:not both}%" dep+other:installed dep+absent:installed
    dep:words "%{dep:words}%" "a %{dep:words}% b" dep:one dep:none dep:loud dep:level "%{dep:level}%" "%{dep:loud?l:q}%"
    dep:depends _:depends "%{_:depends}%" _:build "%{build}%" dep:build _:dev _:pinned dep:dev dep:pinned dep:hash
    os arch os-family os-distribution opam-version make "%{make}%" jobs "-j%{jobs}%" "%{jobs}%x%{jobs}%"
    "100%%" "%%{name}%%" "%{name" "%name%" "%{}%" "a%{name}%%{version}%b" "%{dep:place}%/x"
    "yes" {os = "linux"} "no" {os != "linux"} "yes" {dep:installed} "no" {absent:installed} "no" {!dep:installed}
    "test" {with-test} "doc" {with-doc} "no test" {!with-test} "build" {build} "post" {post} "dev" {dev}
    "no" {nothing} "no" {!nothing} "yes" {?os} "no" {?nothing} "yes" {dep:level >= "3"} "no" {dep:level < "3"}
    "text" {"true"} "no" {"false"} "no" {"other"} "yes" {dep:loud & dep:level = "3" | nothing} "no" {nothing = "x"}
    "no" {nothing != "x"} "v" {version >= "1.2~beta"} dep:words {dep:loud} "%{dep:words}%" {!dep:loud}
    "yes" {dep:installed & os = "linux" & (arch = "x86_64" | arch != "x86_64")} _:build-id dep:build-id
"""
COMMANDS = """
    ["argv" "first"]
    ["argv" "filtered"] {os = "linux" & dep:loud}
    ["argv" "never"] {os = "win32"}
    ["argv" "never"] {nothing}
    ["argv" "tested"] {with-test}
    ["argv" "untested"] {!with-test}
    ["%{dep:program}%" "by its name"]
    [dep:program "by its name" {dep:loud}]
    ["argv" {os = "linux"} "with a filter on the program"]
"""
CONFIG = """opam-version: "2.0"
variables {
  words: ["good" "two words" ""]
  one: ["single"]
  none: []
  loud: true
  level: "3"
  place: "/some where"
  program: "argv"
}
"""
PROGRAM = """#!/bin/sh
{ printf '%s\\0' "$0" "$@"; printf '\\1\\0'; } >> "$ARGV_LOG"
"""


def definitions() -> dict[Package, dict[str, bytes]]:
    import hashlib

    config = CONFIG.encode()
    dep = f'extra-files: ["dep.config" "sha256={hashlib.sha256(config).hexdigest()}"]\ndepends: "other"'
    text = f"""
        conflicts: "relocatable"
        depends: ["dep" "other"]
        build: [{COMMANDS} ["argv" {ARGUMENTS}]]
        run-test: [["argv" "run-test" "%{{with-test}}%" with-test]]
        install: [["argv" "install" bin] ["argv" "install tested"] {{with-test}}]
    """
    files = {
        "other.2": {"opam": ""},
        "dep.1.2": {"opam": dep, "files/dep.config": config},
        "own.1.2": {"opam": text},
    }
    return {
        Package(*package.split(".", 1)): {
            path: data if isinstance(data, bytes) else f'opam-version: "2.0"\n{data}\n'.encode()
            for path, data in contents.items()
        }
        for package, contents in files.items()
    }


def calls(log: Path) -> list[list[str]]:
    """The arguments of each call; of the program its name, since opam gives its whole path."""
    found = [call.split("\0")[:-1] for call in log.read_bytes().decode("latin-1").split("\1\0")[:-1]]
    log.unlink()
    return [[os.path.basename(program), *rest] for program, *rest in found]


@needs("opam")
@pytest.mark.parametrize("with_test", [False, True])
def test_arguments_are_those_of_opam(tmp_path: Path, with_test: bool) -> None:
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    (programs / "argv").write_text(PROGRAM)
    (programs / "argv").chmod(0o755)
    write_repository(tmp_path / "repository", definitions())
    path = f"{programs}:{os.environ['PATH']}"
    machine = MachineOpam(tmp_path, tmp_path / "repository", PATH=path, ARGV_LOG=str(log), OPAMJOBS="7")
    machine.run("install", *(["-t"] if with_test else []), "own")
    expected = calls(log)

    opam_version = machine.version
    known = machine.variables()
    platform = parse_platform("debian-12-x86_64")
    base = Base(platform, "b" * 64, (("PATH", path),), known, frozenset())
    variables = dict(variable_table(platform, opam_version=opam_version, given=tuple(known.items())))
    level = parse_level(opam_version)
    rules = buildid.Rules(level=level, width=usual_width(level), variables=variables)
    solution = Solution(Request((("own", ""),)), tuple(definitions()))
    prefix = str(tmp_path / "root" / "test")
    repository = open_repository(str(tmp_path / "repository"), "")
    found = plan(solution, repository, base, rules=rules, with_test=with_test, prefix=prefix)
    config = {"words": ("good", "two words", ""), "one": ("single",), "none": (), "loud": True, "level": "3"}
    recorded = {**config, "place": "/some where", "program": "argv"}
    spec = compile(target(found), found, lambda build: recorded if build.package.name == "dep" else {})

    env = {op.name: op.value for op in spec.ops if isinstance(op, Env)} | {"ARGV_LOG": str(log), "OBUILD_JOBS": "7"}
    for op in spec.ops:
        if isinstance(op, Run):
            subprocess.run(["/bin/sh", "-c", op.shell.encode("utf-8", "surrogateescape")], env=env, check=True)
    actual = calls(log)
    assert [call[:2] for call in actual] == [call[:2] for call in expected]
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours == theirs
    assert shutil.which("argv") is None
