"""`.install` files: what opam takes, what it leaves out, where files go, how it prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.opam.dotinstall import SECTIONS, DotInstall, Entry, destination, folder, format_install, parse_install


def read(text: str) -> tuple[DotInstall, list[str]]:
    found, problems = parse_install(text.encode("latin-1"), "a.install")
    return found, [problem.message for problem in problems]


def test_reading() -> None:
    found, problems = read('opam-version: "2.0"\nlib: ["a" "?b" {"sub/c"}]\nbin: "p"\nmisc: ["m" {"/abs/m"}]\n')
    assert not problems
    assert found.sections == {
        "lib": (Entry("a"), Entry("b", "sub/c", optional=True)),
        "bin": (Entry("p"),),
        "misc": (Entry("m", "/abs/m"),),
    }


@pytest.mark.parametrize("text", ["", "lib: []\n", 'opam-version: "2.0"\n'])
def test_a_file_that_says_nothing(text: str) -> None:
    found, problems = read(text)
    assert (bool(found), problems) == (False, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('lib: ["a" "x\n', "this string does not end"),
        ('lib: "a" man: ["a"]', "man file without destination or recognised suffix"),
        ('lib: "a" man: "a.9"', "man file without destination or recognised suffix"),
        ('lib: "a" man: "1"', "man file without destination or recognised suffix"),
        ('lib: "a" man: "a.1.bz2"', "man file without destination or recognised suffix"),
        ('lib: "a" man: "a.gz"', "man file without destination or recognised suffix"),
        ('opam-version: "2.1" lib: "a"', "the file is for a newer opam"),
    ],
)
def test_what_opam_skips_as_a_whole(text: str, problem: str) -> None:
    assert read(text) == (DotInstall({}), [problem])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('zork: "a"', '"zork" is not a field of a .install file'),
        ('lib { a: "a" }', '"lib" is not a field of a .install file'),
        ("bin: 3", "expected a string"),
        ('share: ["a" {b}]', "expected a string"),
        ('share: ["a" {"b" "c"}]', "expected one name"),
        ('etc: ["a" {"/abs"}]', '"/abs" is an absolute file name'),
        ('misc: ["a" {"rel"}]', "expected an absolute file name"),
        ('misc: ["a"]', "expected an absolute file name"),
    ],
)
def test_what_opam_leaves_out_of_a_file(text: str, problem: str) -> None:
    found, problems = read(f'lib: ["a"]\n{text}\ndoc: "d"\n')
    assert found.sections == {"lib": (Entry("a"),), "doc": (Entry("d"),)}
    assert problems == [problem]


def test_problems_have_places() -> None:
    _, problems = parse_install(b'lib: "a"\nbin: 3\n', "a.install")
    assert [str(problem).splitlines()[0] for problem in problems] == ["a.install:2:1: expected a string"]


@pytest.mark.parametrize(
    ("section", "source", "target", "path"),
    [
        ("bin", "d/p", None, "bin/p"),
        ("sbin", "p", None, "sbin/p"),
        ("lib", "d/a", None, "lib/name/a"),
        ("libexec", "a", None, "lib/name/a"),
        ("lib_root", "a", None, "lib/a"),
        ("libexec_root", "a", None, "lib/a"),
        ("toplevel", "a", None, "lib/toplevel/a"),
        ("stublibs", "a", None, "lib/stublibs/a"),
        ("share", "a", None, "share/name/a"),
        ("share_root", "a", None, "share/a"),
        ("etc", "a", None, "etc/name/a"),
        ("doc", "a", None, "doc/name/a"),
        ("lib", "a", "sub/dir/x", "lib/name/sub/dir/x"),
        ("lib", "a", "../escape.h", "lib/escape.h"),
        ("lib", "a", "../../../../x", "../../x"),
        ("lib", "a", "no/../x", "lib/name/x"),
        ("lib", "a", "", "lib/name"),
        ("man", "d/a.1", None, "man/man1/a.1"),
        ("man", "a.3x.gz", None, "man/man3/a.3x.gz"),
        ("man", "a.1M", None, "man/man1/a.1M"),
        ("man", "a.10", None, "man/man1/a.10"),
        ("man", "d.5/a.8", None, "man/man8/a.8"),
        ("man", "x", "foo.3", "man/foo.3"),
        ("man", "a.1", "man3/x.3", "man/man3/x.3"),
        ("misc", "a", "/abs/../x", "/x"),
    ],
)
def test_where_files_go(section: str, source: str, target: str | None, path: str) -> None:
    assert destination(section, Entry(source, target), "name") == path


def test_modes_are_those_of_sections() -> None:
    executable = {section for section, (_, mode) in SECTIONS.items() if mode == 0o755}
    assert executable == {"bin", "sbin", "libexec", "libexec_root", "stublibs"}
    assert {mode for _, mode in SECTIONS.values()} == {0o644, 0o755}
    # a file named in both has the mode of the later one
    assert list(SECTIONS).index("libexec") > list(SECTIONS).index("lib")
    assert (folder("lib", "a"), folder("misc", "a")) == ("lib/a", "")


def test_printing() -> None:
    order = "lib bin sbin misc toplevel stublibs share share_root etc doc man libexec lib_root libexec_root".split()
    sections = {name: (Entry("x", "/x" if name == "misc" else "x.1"),) for name in sorted(order)}
    sections["lib"] = (Entry("a"), Entry("b", "c", optional=True), Entry("d", ""))
    lines = format_install(DotInstall(sections)).splitlines()
    assert lines[:6] == ['opam-version: "2.0"', "lib: [", '  "a"', '  "?b" {"c"}', '  "d" {""}', "]"]
    assert [line.partition(":")[0] for line in lines[6:]] == order[1:]
    assert lines[6] == 'bin: "x" {"x.1"}'


NAMES = st.text(st.characters(max_codepoint=255, exclude_characters="\r"), min_size=1).filter(
    lambda name: name[0] not in "?/"
)


@given(
    st.dictionaries(
        st.sampled_from([name for name in SECTIONS if name != "man"]),
        st.lists(st.builds(Entry, NAMES, st.none() | NAMES, st.booleans()), min_size=1).map(tuple),
    )
)
def test_what_is_printed_is_read_back(sections: dict[str, tuple[Entry, ...]]) -> None:
    printed = format_install(DotInstall(sections))
    found, problems = parse_install(printed.encode("latin-1"), "a.install")
    assert (found.sections, problems) == (sections, ())
    assert format_install(found) == printed


def test_a_huge_file_is_read_and_a_monstrous_one_is_not() -> None:
    text = "lib: [" + "\n".join(f'"file-{number}"' for number in range(40_000)) + "]"
    found, problems = read(text)
    assert (len(found.sections["lib"]), problems) == (40_000, [])
    assert read(text[:-1]) == (DotInstall({}), ["not in the format of opam files"])
    found, (problem,) = read("#" * (1 << 24) + "\n")
    assert not found
    assert "are never read" in problem
