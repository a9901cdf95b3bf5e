"""Specs of packages: those of the examples to the letter, and what each part of a definition comes to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from planning import EXAMPLES, base, commands, compiled, example, ops, planned, target

from obuild import spec as language
from obuild.errors import OpamError, UsageError
from obuild.opam.package import Package
from obuild.opam.repo import open_repository
from obuild.opam.solver import Pin
from obuild.plan import PREFIX, Patch, compile
from obuild.spec import Copy, Env, FromOpam, FromPackage, FromText, FromUrl, Run, Spec, User, Workdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.filter import Contents

GOLDEN = Path(__file__).parent / "golden" / "plan"
SETTINGS: Mapping[str, Contents] = {
    "loud": True,
    "words": ("good", "morning"),
    "home": f"{PREFIX}/share/greet-settings",
}
RECORDED = {"greet-settings": SETTINGS}
BUILT = {
    "ocaml": {},
    "conf-cc": {},
    "greet": {},
    "greet-tested": {"with_test": True, "with_doc": True},
    "greet-settings": {},
    "greet-shout": {"with_doc": True},
    "greet-sections": {},
    "wrong-patch": {},
}


def built(asked: str, **options: object) -> Spec:
    found = example(asked, **options)  # type: ignore[arg-type]
    return compile(target(found), found, lambda build: RECORDED.get(build.package.name, {}))


@pytest.mark.parametrize("name", BUILT)
def test_the_specs_of_the_examples(name: str) -> None:
    """To accept a change, write the text that is shown into the file: it throws nobody's layers away, but is seen."""
    expected = language.parse((GOLDEN / f"{name}.spec").read_bytes(), name)
    assert language.format(built(name.removesuffix("-tested"), **BUILT[name])) == language.format(expected)


def test_every_spec_of_the_examples_reads_back() -> None:
    seen = set()
    repository = open_repository(str(EXAMPLES), "")
    for name in repository.packages():
        if name in ("nowhere", "stuck", "greet-next"):
            continue
        found = example(name)
        for build in found.builds:
            made = compile(build, found, lambda build: RECORDED.get(build.package.name, {}))
            assert language.parse(language.format(made), "spec") == made
            seen.add(build.package.name)
    assert len(seen) > 20


def test_the_order_of_the_steps() -> None:
    text = """
        build: [["one"] ["two"]]
        run-test: ["test"]
        build-doc: ["doc"]
        install: [["three"]]
        depends: "dep"
        depexts: ["libx"]
        patches: ["a.patch" "b.patch"]
        substs: ["b.patch" "c"]
        extra-source "x" { src: "https://obuild.example/x" checksum: "md5=11111111111111111111111111111111" }
        url { src: "https://obuild.example/x.tar" checksum: "md5=00000000000000000000000000000000" }
    """
    made = compiled({"a.1": text, "dep.1": ""}, "a", with_test=True, with_doc=True)
    shown = []
    for op in made.ops:
        match op:
            case Run(command):
                shown.append("system packages" if "apt-get" in command else command.replace("\n", " ; "))
            case Copy(src, _, FromOpam(action)):
                shown.append(f"{action} {' '.join(src)}")
            case Copy(_, _, FromPackage(package)):
                shown.append(package)
            case Copy(_, target, FromText()):
                shown.append(target.rpartition("/")[2])
            case Copy(_, _, FromUrl(url)):
                shown.append(url)
    assert shown == [
        "system packages",
        "dep.1",
        "switch .",
        "opam",
        "https://obuild.example/x.tar",
        "https://obuild.example/x",
        "substs b.patch",
        "status=0 ; patch -p1 -i a.patch || status=1 ; patch -p1 -i b.patch || status=1 ; exit $status",
        "substs c",
        "one",
        "two",
        "exec test",
        "doc",
        "three",
        "install .",
    ]


def test_tests_and_documentation_only_where_asked_for() -> None:
    text = 'build: ["make"] build-test: ["old"] run-test: ["test"] build-doc: ["doc"] install: ["install"]'
    assert commands(compiled({"a.1": text}, "a")) == ["make", "install"]
    assert commands(compiled({"a.1": text}, "a", with_test=True)) == ["make", "old", "exec test", "install"]
    assert commands(compiled({"a.1": text}, "a", with_doc=True)) == ["make", "doc", "install"]
    above = compiled({"a.1": text, "b.1": 'depends: "a" build: ["b"]'}, "a b", with_test=True)
    assert commands(above) == ["b"]


def test_filters_of_commands_and_arguments() -> None:
    text = """build: [
        ["always" "x" {os = "linux"} "y" {os = "win32"} "z" {with-test}]
        ["never"] {os = "win32"}
        ["tested"] {with-test}
        ["plain"] {!with-test}
        ["there"] {dep:installed}
        ["absent"] {!other:installed}
        ["choice" "%{dep?with:without}%" "%{other?with:without}%" "--%{dep:enable}%" "--%{other:enable}%"]
        []
        ["debian"] {os-distribution = "debian" & os-version >= "13"}
    ] depends: ["dep"]"""
    text = text.replace("dep?with:without", "dep:installed?with:without")
    text = text.replace("other?with:without", "other:installed?with:without")
    made = compiled({"a.1": text, "dep.1": ""}, "a")
    assert commands(made) == [
        "always x",
        "plain",
        "there",
        "absent",
        "choice with without --enable --disable",
        "debian",
    ]


def test_variables_of_the_package_and_of_the_switch() -> None:
    words = 'name version _:name "%{_:version}%" prefix lib "%{_:lib}%" "%{dep:share}%" _:build-id build jobs make'
    texts = {"a.1.2": f'build: ["x" {words}] depends: "dep"', "dep.3": ""}
    made, key = compiled(texts, "a"), target(planned(texts, "a")).key
    folder = f"{PREFIX}/.opam-switch/build/a.1.2"
    found = ["x", "a", "1.2", "a", "1.2", PREFIX, f"{PREFIX}/lib", f"{PREFIX}/lib/a", f"{PREFIX}/share/dep", key]
    assert commands(made) == [" ".join([*found, folder, "${OBUILD_JOBS:-1}", "make"])]


def test_lists_spread_and_what_is_undefined_is_empty() -> None:
    text = 'depends: "dep" build: [["x" dep:words] ["x" "%{dep:words}%"] ["x" nothing "%{nothing}%"] [dep:words]]'
    words: Mapping[str, Contents] = {"words": ("good day", "it's")}
    made = compiled({"a.1": text, "dep.1": ""}, "a", {"dep": words})
    assert commands(made) == ["x 'good day' \"it's\"", 'x "good day it\'s"', "x '' ''", "'good day' \"it's\""]


def test_bytes_that_are_no_text_survive() -> None:
    made = compiled({"a.1": 'build: ["x" "é" "\\200"]'}, "a")
    assert commands(made) == ["x 'é' '\udcc8'"]
    assert language.parse(language.format(made), "spec") == made


def test_patches_with_filters() -> None:
    text = 'patches: ["a.patch" {os = "win32"} "b.patch" {os = "linux"} "-c.patch" "d.patch" {with-test}]'
    assert commands(compiled({"a.1": text}, "a", with_test=True)) == [
        "status=0\npatch -p1 -i b.patch || status=1\npatch -p1 -i ./-c.patch || status=1\nexit $status"
    ]
    assert commands(compiled({"a.1": 'patches: "a b.patch"'}, "a")) == ["patch -p1 -i 'a b.patch'"]


def test_patches_of_the_user_come_last() -> None:
    found = planned({"a.1": 'patches: "own.patch" substs: "x"'}, "a", patches={"a": [Patch("mine.patch", b"text")]})
    made = compile(target(found), found, lambda _: {})
    assert commands(made) == [
        "status=0\npatch -p1 -i own.patch || status=1\npatch -p1 -i mine.patch || status=1\nexit $status"
    ]
    assert Copy(("mine.patch",), "./mine.patch", FromText("text")) in made.ops


def test_sources() -> None:
    md5, sha = "md5=" + "0" * 32, "sha256=" + "1" * 64
    text = f"""
        url {{ src: "https://obuild.example/x.tar" checksum: ["{md5}" "{sha}"] mirrors: ["https://m.example/x"] }}
        extra-source "sub/y" {{ src: "https://obuild.example/y" checksum: "{sha}" }}
    """
    main, extra = (op for op in ops(compiled({"a.1": text}, "a"), Copy) if isinstance(op.source, FromUrl))
    assert main == Copy((".",), "./", FromUrl("https://obuild.example/x.tar", (md5, sha), ("https://m.example/x",)))
    assert extra == Copy(("y",), "./sub/y", FromUrl("https://obuild.example/y", (sha,)))


def test_a_part_of_a_source() -> None:
    text = 'x-subpath: "src/a" url { src: "git+https://obuild.example/x.git" }'
    made = compiled({"a.1": text}, "a", content=lambda *_: "git=1")
    assert Copy(("./src/a",), "./", FromUrl("git+https://obuild.example/x.git", ())) in made.ops


def test_a_pinned_directory(tmp_path: Path) -> None:
    from solving import opam_file

    (tmp_path / "a.opam").write_text('opam-version: "2.0"\nbuild: ["x"]\n')
    pin = Pin(str(tmp_path / "a.opam"), opam_file("a.dev", 'build: ["x" "%{version}%" "%{dev}%" "%{pinned}%"]'))
    found = planned({"a.dev": ""}, "a", pins={"a": pin}, content=lambda _, source: source.url)
    made = compile(target(found), found, lambda _: {})
    assert Copy((".",), "./", FromUrl(f"file://{tmp_path}", ())) in made.ops
    kept = FromText('opam-version: "2.0"\nbuild: ["x" "%{version}%" "%{dev}%" "%{pinned}%"]\n')
    assert kept in [op.source for op in ops(made, Copy)]
    assert target(found).why == '"a.dev" is pinned to a source without a checksum'
    assert commands(made)[0].startswith("x dev ")


def test_only_files_that_are_listed_are_added() -> None:
    repository = open_repository(str(EXAMPLES), "")
    file = repository.opam(Package("greet-settings", "1.0"))
    assert file.extra_files is not None
    targets = [op.dst for op in ops(built("greet-settings"), Copy) if isinstance(op.source, FromText)]
    kept = [
        f"{PREFIX}/.opam-switch/packages/greet-settings.1.0/files/{name}" for name in sorted(dict(file.extra_files))
    ]
    added = [f"./{name}" for name, _ in file.extra_files]
    assert targets == [f"{PREFIX}/.opam-switch/packages/greet-settings.1.0/opam", *kept, *added]


def test_a_wrong_file_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "packages/a/a.1"
    (folder / "files").mkdir(parents=True)
    (tmp_path / "repo").write_text('opam-version: "2.0"\n')
    (folder / "opam").write_text(f'opam-version: "2.0"\nextra-files: ["x" "sha256={"0" * 64}"]\n')
    (folder / "files" / "x").write_text("other")
    from planning import id_rules

    from obuild.opam.solver import Request, Solution
    from obuild.plan import plan

    answer = Solution(Request((("a", "1"),)), (Package("a", "1"),))
    found = plan(answer, open_repository(str(tmp_path), ""), base(), rules=id_rules(base()))
    with pytest.raises(OpamError, match=r'"files/x" does not have the checksum'):
        compile(target(found), found, lambda _: {})


def test_the_environment() -> None:
    text = 'build-env: [[A = "%{name}%"] [P =+ "own"]] depends: "dep" build: ["x"]'
    dep = 'setenv: [[B = "%{_:share}%"] [P += "%{dep:place}%"]]'
    made = compiled({"a.1": text, "dep.1": dep}, "a", {"dep": {"place": "there"}})
    env = {op.name: op.value for op in ops(made, Env)}
    assert (env["A"], env["B"], env["P"]) == ("a", f"{PREFIX}/share/dep", "there:own")
    assert env["HOME"] == "/home/opam"
    assert env["PATH"].startswith(f"{PREFIX}/bin:/usr/local/sbin:")
    assert (env["OPAMSWITCH"], env["OPAM_SWITCH_PREFIX"], env["MAKEFLAGS"]) == ("default", PREFIX, "")
    assert ops(made, Workdir) == [Workdir(f"{PREFIX}/.opam-switch/build/a.1")]
    assert len({op.name for op in ops(made, Env)}) == len(ops(made, Env))


def test_the_prefix_is_everywhere() -> None:
    texts = {"a.1": 'conflicts: "relocatable" build: ["x" lib]'}
    made = compiled(texts, "a", prefix="/opt/switch/main")
    assert PREFIX not in language.format(made)
    env = {op.name: op.value for op in ops(made, Env)}
    assert (env["OPAMROOT"], env["OPAMSWITCH"]) == ("/opt/switch", "main")


def test_system_packages_of_the_closure_in_one_step() -> None:
    texts = {
        "a.1": 'depends: "b" depexts: [["z" "a"] {os-family = "debian"} ["other"] {os-distribution = "alpine"}]',
        "b.1": 'depends: "c" depexts: ["there"] {os = "linux"}',
        "c.1": 'depexts: ["m"]',
        "unrelated.1": 'depexts: ["never"]',
    }
    made = compiled(texts, "a", on=base(packages=("there",)))
    (step,) = [op for op in ops(made, Run) if op.network]
    assert step.network == ("host",)
    assert " install a m z\n" in step.shell
    assert [(op.uid, op.gid) for op in ops(made, User)] == [(0, 0), (1000, 1000)]
    assert not [op for op in ops(compiled(texts, "unrelated", on=base(packages=("never",))), Run) if op.network]


def test_a_virtual_package_is_a_layer_too() -> None:
    made = compiled({"a.1": 'depends: "b"', "b.1": ""}, "a")
    assert commands(made) == []
    assert isinstance(made.ops[-1], Copy)
    assert made.ops[-1].source == FromOpam(
        "install", "a.1", target(planned({"a.1": 'depends: "b"', "b.1": ""}, "a")).key
    )


def test_a_value_of_a_package_that_is_not_built_yet() -> None:
    texts = {
        "a.1": 'depends: "b" build: ["x" "%{b:level}%"]',
        "b.1": 'build: ["make"]',
        "c.1": 'depends: "b" build: ["x" b:lib b:installed b:version]',
    }
    found = planned(texts, "c a")
    with pytest.raises(UsageError, match=r'"a.1" needs the variable "level" of "b.1"') as caught:
        compile(target(found), found, lambda _: None)
    assert caught.value.hint == "obuild health-check b.1"
    other = found.by_key[found.targets[0]]
    assert commands(compile(other, found, lambda _: None)) == [f"x {PREFIX}/lib/b true 1"]


def test_what_can_have_no_variables_need_not_be_built() -> None:
    texts = {"a.1": 'depends: "b" build: ["x" "%{b:level}%"]', "b.1": 'depends: "c"', "c.1": ""}
    found = planned(texts, "a")
    assert commands(compile(target(found), found, lambda _: None)) == ["x ''"]


def test_a_setenv_that_needs_a_value() -> None:
    texts = {"a.1": 'depends: "b"', "b.1": 'build: ["make"] setenv: [X = "%{_:place}%"]'}
    found = planned(texts, "a")
    with pytest.raises(UsageError, match=r'"a.1" needs the variable "place" of "b.1"'):
        compile(target(found), found, lambda _: None)
