"""Plans: what is built upon what, in which order, under which keys."""

from __future__ import annotations

import pytest
from planning import EXAMPLES, base, example, id_rules, names, planned, target

from obuild.errors import OpamError, UsageError
from obuild.opam.buildid import build_ids
from obuild.opam.key import is_dev
from obuild.opam.package import parse_package
from obuild.opam.repo import open_repository
from obuild.plan import PREFIX, Patch, facts, meta

WEB = 'url { src: "https://obuild.example/x.tar" checksum: "md5=%s" }' % ("0" * 32)
UNCHECKED = 'url { src: "git+https://obuild.example/x.git" }'


def order(texts: dict[str, str], asked: str, **options: object) -> str:
    return " ".join([build.package.name for build in planned(texts, asked, **options).builds])


def test_a_package_is_built_upon_what_its_build_id_counts() -> None:
    texts = {
        "app.1": 'depends: ["lib" "tool" {build} "later" {post} "check" {with-test}] depopts: ["extra" "absent"]',
        "lib.1": 'depends: ["core" | "other"]',
        "core.1": "",
        "other.1": "",
        "tool.1": "",
        "later.1": 'depends: "app"',
        "check.1": "",
        "extra.1": "",
    }
    found = planned(texts, "app")
    assert names(found, target(found)) == "core extra other lib tool"
    assert order(texts, "app") == "core extra other lib tool app"
    assert [found.by_key[key].package.name for key in target(found).needs] == ["tool", "lib", "extra"]
    assert order(texts, "app", whole=True) == "check core extra other lib tool app later"


def test_keys_are_opams_build_ids() -> None:
    found = example("greet-all")
    repository = open_repository(str(EXAMPLES), "")
    packages = [build.package for build in found.builds]
    ids = build_ids(packages, repository.opam, id_rules(base()))
    assert {build.package: build.key for build in found.builds} == ids.ids
    assert {build.package: build.build_id for build in found.builds} == ids.ids
    assert all(build.shown_id == build.key for build in found.builds)


def test_the_order_below_a_package_is_the_same_in_every_plan() -> None:
    texts = {"z.1": "", "a.1": 'depends: "z"', "m.1": "", "top.1": 'depends: ["a" "m"]', "b.1": 'depends: ["top" "c"]'}
    texts["c.1"] = ""
    small, large = planned(texts, "top"), planned(texts, "b c top")
    assert names(small, target(small)) == names(large, target(large)) == "m z a"
    assert target(small).key == target(large).key
    assert order(texts, "b c top") == "c m z a top b"


def test_a_cycle_is_named() -> None:
    texts = {"a.1": 'depends: "b"', "b.1": 'depends: "c"', "c.1": 'depends: "a"', "d.1": 'depends: "a"'}
    with pytest.raises(OpamError, match=r'no order to build in: "a.1" needs "b.1" needs "c.1" needs "a.1"') as caught:
        planned(texts, "d")
    assert "{post}" in caught.value.hint


def test_a_cycle_through_post_is_none() -> None:
    texts = {"a.1": 'depends: "b" {post}', "b.1": 'depends: "a"'}
    assert order(texts, "a") == "a"
    assert order(texts, "a", whole=True) == "a b"


def test_a_variant_has_the_dependencies_of_its_tests_and_nothing_is_built_upon_it() -> None:
    texts = {"a.1": 'depends: "check" {with-test}', "check.1": "", "b.1": 'depends: "a"'}
    plain, tested = planned(texts, "a b"), planned(texts, "a b", with_test=True)
    shown = [(build.package.name, build.with_test, names(tested, build)) for build in tested.builds]
    assert shown == [("a", False, ""), ("check", False, ""), ("a", True, "check"), ("b", True, "a")]
    assert tested.builds[0].key == plain.builds[0].key
    assert tested.builds[2].key.startswith(f"{plain.builds[0].key}+test+")
    assert tested.builds[3].key == f"{plain.builds[1].key}+test"
    assert tested.builds[3].parents == (plain.builds[0].key,)
    assert tested.targets == (tested.builds[2].key, tested.builds[3].key)


def test_tests_and_documentation_are_different_variants() -> None:
    texts = {"a.1": ""}
    keys = {
        target(planned(texts, "a", with_test=test, with_doc=doc)).key for test in (False, True) for doc in (False, True)
    }
    assert len(keys) == 4


def test_another_dependency_of_tests_is_another_variant() -> None:
    one = planned({"a.1": 'depends: "check" {with-test}', "check.1": ""}, "a", with_test=True)
    other = planned({"a.1": 'depends: "check" {with-test}', "check.2": ""}, "a", with_test=True)
    assert target(one).build_id == target(other).build_id
    assert target(one).key != target(other).key


def test_what_is_dropped_for_tests_counts_too() -> None:
    texts = {"a.1": 'depends: "plain" {!with-test}', "plain.1": ""}
    tested = target(planned(texts, "a", with_test=True))
    assert tested.parents == ()
    assert tested.key.count("+") == 2


def test_tests_that_need_what_needs_the_package() -> None:
    texts = {"a.1": 'depends: "b" {with-test}', "b.1": 'depends: "a"'}
    with pytest.raises(OpamError, match=r'"a.1" needs "b.1" needs "a.1"'):
        planned(texts, "a", with_test=True)


def test_patches_change_the_package_and_all_above() -> None:
    texts = {"a.1": "", "b.1": 'depends: "a"', "c.1": ""}
    plain = planned(texts, "b c")
    patched = planned(texts, "b c", patches={"a": [Patch("x.patch", b"1")]})
    again = planned(texts, "b c", patches={"a.1": [Patch("y.patch", b"1")]})
    other = planned(texts, "b c", patches={"a": [Patch("x.patch", b"2")]})
    assert [build.key == changed.key for build, changed in zip(plain.builds, patched.builds, strict=True)] == [
        build.package.name == "c" for build in plain.builds
    ]
    assert target(patched).build_id == target(plain).build_id
    assert [build.key for build in again.builds] == [build.key for build in patched.builds]
    assert other.builds[0].key != patched.builds[0].key


def test_a_source_without_a_checksum_is_known_by_its_content() -> None:
    texts = {"a.1": UNCHECKED, "b.1": f'depends: "a"\n{WEB}', "c.1": WEB}
    asked = []

    def content(word: str) -> object:
        return lambda package, source: asked.append((str(package), source.url)) or word

    one, same, other = (planned(texts, "b c", content=content(word)) for word in ("dir=1", "dir=1", "dir=2"))
    assert asked == [("a.1", "git+https://obuild.example/x.git")] * 3
    keys = [[build.key for build in found.builds] for found in (one, same, other)]
    assert keys[0] == keys[1]
    dev = {build.package.name: is_dev(build.key) for build in one.builds}
    assert dev == {"a": True, "b": True, "c": False}
    assert [a == b for a, b in zip(keys[0], keys[2], strict=True)] == [not dev[b.package.name] for b in one.builds]
    build = target(planned(texts, "b", content=content("x")))
    assert build.build_id is None
    assert build.why == '"a.1" has a url without a checksum'
    assert build.shown_id.startswith("0b111d")


def test_a_source_whose_content_nobody_knows() -> None:
    with pytest.raises(UsageError, match=r'the source of "a.1" has no checksum'):
        planned({"a.1": UNCHECKED}, "a")


def test_variants_of_packages_without_a_build_id() -> None:
    texts = {"a.1": f'{UNCHECKED}\ndepends: "check" {{with-test}}', "check.1": ""}
    plain = target(planned(texts, "a", content=lambda *_: "x"))
    tested = target(planned(texts, "a", content=lambda *_: "x", with_test=True))
    assert is_dev(tested.key)
    assert "+test" in tested.key
    assert tested.key.partition("+")[0] != plain.key


def test_what_a_layer_says() -> None:
    found = example("greet", with_test=True)
    said = meta(target(found), found)
    assert said["package"] == "greet.2.0"
    assert said["deps"] == ["ocaml.5.3.0", "ocaml-base-compiler.5.3.0", "libgreet.1.1", "greet-check.1", "conf-cc.1"]
    assert said["hashes"] == list(target(found).parents[::-1])
    assert said["base"] == "b" * 64
    assert said["variant"] == {"with-test": True, "with-doc": False, "patches": [], "prefix": PREFIX}
    assert said["relocatable"] is False
    assert "ocaml-base-compiler.5.3.0" in said["relocatable_why"]
    assert facts(target(found), found).items() <= said.items()


def test_a_prefix_counts_where_something_can_not_be_moved() -> None:
    fixed = {"ocaml.5.3.0": "flags: compiler", "a.1": 'depends: "ocaml"', "b.1": ""}
    plain, moved = planned(fixed, "a b"), planned(fixed, "a b", prefix="/opt/x")
    assert (plain.prefix, moved.prefix) == (PREFIX, "/opt/x")
    assert not {build.key for build in plain.builds} & {build.key for build in moved.builds}
    free = {"ocaml.5.5.0": "flags: compiler", "a.1": 'depends: "ocaml"'}
    assert planned(free, "a", prefix="/opt/x").prefix == PREFIX
    assert planned(free, "a", prefix="/opt/x").targets == planned(free, "a").targets


def test_two_requests_in_one_plan() -> None:
    found = example("greet-doc conf-cc")
    assert [found.by_key[key].package for key in found.targets] == list(
        map(parse_package, ["greet-doc.1.0", "conf-cc.1"])
    )
    assert len({build.key for build in found.builds}) == len(found.builds)
