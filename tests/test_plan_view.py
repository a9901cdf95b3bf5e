"""A plan as people and programs read it."""

from __future__ import annotations

import json

from planning import base, example, planned, target

from obuild.plan.view import format_dot, format_plan, shown_plan, system_packages


def test_a_line_a_build() -> None:
    found = example("greet", with_test=True)
    lines = format_plan(found, {build.key for build in found.builds[:2]}).splitlines()
    assert [line.split()[:2] for line in lines[:6]] == [
        ["there", "conf-cc.1"],
        ["there", "greet-check.1"],
        ["build", "libgreet.1.1"],
        ["build", "ocaml-base-compiler.5.3.0"],
        ["build", "ocaml.5.3.0"],
        ["build", "greet.2.0"],
    ]
    key = target(found).key
    assert lines[5].split()[2:] == [key[:12] + key[64:], "conf-cc", "greet-check", "libgreet", "ocaml"]
    assert lines[6:] == ["system packages: gcc libc6-dev", "6 packages on debian-13-x86_64: 4 to build, 2 there"]


def test_little_to_build() -> None:
    found = planned({"a.1": 'url { src: "git+file:///x" }'}, "a", content=lambda *_: "x")
    (line, count) = format_plan(found).splitlines()
    assert line == f"build  a.1  {target(found).key[:16]}"
    assert count == "1 package on debian-13-x86_64: 1 to build, 0 there"


def test_the_json_has_all_facts() -> None:
    found = example("greet")
    shown = json.loads(json.dumps(shown_plan(found, {found.builds[0].key})))
    assert (shown["platform"], shown["base"], shown["targets"]) == ("debian-13-x86_64", "b" * 64, list(found.targets))
    assert shown["system_packages"] == ["gcc", "libc6-dev"]
    assert [build["there"] for build in shown["builds"]] == [True, False, False, False, False]
    last = shown["builds"][-1]
    assert (last["package"], last["key"], last["build_id"]) == ("greet.2.0", found.targets[0], found.targets[0])
    assert last["needs"] == ["ocaml.5.3.0", "libgreet.1.1", "conf-cc.1"]
    assert last["parents"] == [build["key"] for build in shown["builds"][:-1]]
    assert last["source"] == "https://obuild.example/archives/greet-2.0.tar.gz"
    assert "no_build_id" not in last


def test_why_there_is_no_build_id() -> None:
    found = planned({"a.1": 'url { src: "git+file:///x" }'}, "a", content=lambda *_: "x")
    (shown,) = shown_plan(found)["builds"]
    assert (shown["build_id"], shown["no_build_id"]) == (None, '"a.1" has a url without a checksum')


def test_the_graph() -> None:
    texts = {"a.1": 'depends: ["b" "c" "d" {with-test}]', "b.1": 'depends: "c"', "c.1": "", "d.1": ""}
    assert format_dot(planned(texts, "a", with_test=True)).splitlines() == [
        "digraph opam {",
        '  "c.1";',
        '  "b.1" -> "c.1";',
        '  "d.1";',
        '  "a.1 with tests" -> {"b.1" "c.1" "d.1"};',
        "}",
    ]


def test_system_packages_of_all_builds() -> None:
    texts = {"a.1": 'depends: "b" depexts: ["x"]', "b.1": 'depexts: ["y" "z"]'}
    assert system_packages(planned(texts, "a", base(packages=("y",)))) == ("x", "z")
