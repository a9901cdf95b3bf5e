"""Which closures may be moved to another prefix: three rules, and what is in the way."""

from __future__ import annotations

import pytest
from planning import planned, target

COMPILER = {
    "ocaml-base-compiler.5.3.0": "",
    "ocaml.5.3.0": 'depends: "ocaml-base-compiler"',
    "app.1": 'depends: "ocaml"',
}


def movable(texts: dict[str, str], asked: str = "app") -> tuple[bool, str]:
    found = target(planned(texts, asked)).relocation
    return found.possible, found.why


def test_a_closure_without_a_compiler() -> None:
    assert movable({"app.1": 'depends: "lib"', "lib.1": ""}) == (True, "there is no compiler in it")


def test_a_compiler_knows_where_it_is() -> None:
    assert movable(COMPILER) == (False, '"ocaml-base-compiler.5.3.0" is a compiler that can not be moved')


def test_the_package_that_makes_it_movable_is_below() -> None:
    texts = {
        **COMPILER,
        "ocaml-base-compiler.5.3.0": 'depends: "relocatable-compiler"',
        "relocatable-compiler.5.3.0": "",
    }
    assert movable(texts) == (True, '"relocatable-compiler" is among its dependencies')


def test_the_package_that_makes_it_movable_is_elsewhere() -> None:
    texts = {**COMPILER, "relocatable-compiler.5.3.0": ""}
    assert movable(texts)[0] is False


def test_relocatable_is_in_the_solution() -> None:
    texts = {**COMPILER, "relocatable.packages": ""}
    assert movable(texts) == (True, '"relocatable" is in the solution')


def test_a_conflict_is_in_the_way() -> None:
    texts = {
        **COMPILER,
        "relocatable.packages": "",
        "app.1": 'depends: ["ocaml" "find"]',
        "find.1": 'conflicts: "relocatable"',
    }
    assert movable(texts) == (False, '"find.1" conflicts with "relocatable"')
    assert movable({"app.1": 'conflicts: ["x" "relocatable"]'})[0] is False
    assert movable({"app.1": 'conflicts: "relocatable" {os = "win32"}'})[0] is True


def test_a_conflict_with_another_version() -> None:
    texts = {"app.1": 'conflicts: "relocatable" {< "2"}', "relocatable.packages": "", **COMPILER}
    assert movable({**texts, "app.1": 'conflicts: "relocatable" {= "other"} depends: "ocaml"'})[0] is True


@pytest.mark.parametrize(
    ("version", "possible"),
    [("5.5.0", True), ("5.6.1", True), ("5.5.0+x", True), ("5.5.0~alpha1", False), ("5.4.1", False), ("4.14.2", False)],
)
def test_new_compilers_can_be_moved(version: str, possible: bool) -> None:
    texts = {
        f"ocaml-compiler.{version}": "",
        f"ocaml.{version}": 'depends: "ocaml-compiler"',
        "app.1": 'depends: "ocaml"',
    }
    assert movable(texts)[0] is possible


def test_the_version_of_another_compiler_says_nothing() -> None:
    texts = {"oxcaml-compiler.9.0": "", "app.1": 'depends: "oxcaml-compiler"'}
    assert movable(texts) == (False, '"oxcaml-compiler.9.0" is a compiler that can not be moved')


def test_all_compilers_must_be_movable() -> None:
    texts = {
        "ocaml.5.5.0": "",
        "ocaml-secondary-compiler.4.14.2": "",
        "app.1": 'depends: ["ocaml" "ocaml-secondary-compiler"]',
    }
    assert movable(texts)[0] is False
