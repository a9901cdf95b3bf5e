"""Files made from `.in` files, as opam 2.1.2 and 2.3.0 were seen to make them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from conftest import needs
from hypothesis import given
from hypothesis import strategies as st
from machine_opam import MachineOpam, write_repository

from obuild.opam.package import parse_package
from obuild.opam.substitute import substitute

VALUES = {"name": "own", "version": "1", "_:version": "1", "dep:q": 'a"b\\c', "dep:l": ("x", 'y"'), "dep:t": True}
VALUES["dep:nl"] = "a\nb"

CASES = {
    "values": ("%{name}% %{_:version}% %{nosuch}%|%{dep:l}%|%{dep:t}%\n", 'own 1 |x y"|true\n'),
    "last-line": ("x", "x\n"),
    "percents": ("%% 100% %%{x}% %%{literal}%\n", "% 100% %{x}% %{literal}%\n"),
    "adjoining": ("%{name}%%{version}% %{name}%%%{version}%\n", "own1 own%{version}%\n"),
    "turned": ("}%%{ % %{ }% %{}%\n", "}%{ %  \n"),
    "open": ("%{a%{name}%|%{name\n}%", "|%{name\n}%\n"),
    "carriage": ("a %{name}%\r\nb\r\n", "a own\r\nb\r\n"),
    "bytes": ("\xe9 %{name}% \xff\0 z\n", "\xe9 own \xff\0 z\n"),
    # what follows are opam files
    "quoted": ('x: "%{dep:q}% %{name}%"\n', 'x: "a\\"b\\\\c own"\n'),
    "comments": (
        'x: "a" # %{dep:q}% c "%{dep:q}%" \ny: z (* c %{dep:q}% *)\n',
        'x: "a" # a"b\\c c "a\\"b\\\\c" \ny: z (* c a"b\\c *)\n',
    ),
    "long": ('z: """%{dep:q}%"""\n', 'z: """a\\"b\\\\c"""\n'),
    "lists": ('w: ["%{dep:l}%" "%{dep:nl}%"] {os = "%{dep:q}%"}\n', 'w: ["x y\\"" "a\nb"] {os = "a\\"b\\\\c"}\n'),
    "unfinished": ('x: "%%"\ny: "a" # it\'s "%{dep:q}% \n', 'x: "%"\ny: "a" # it\'s "a\\"b\\\\c \n'),
    "no-line-end": ('version: "%{version}%"\nesc: "a\\"b%%c\\\\"', 'version: "1"\nesc: "a\\"b%c\\\\"'),
    "comment": ('# %{dep:q}% "%{dep:q}%"', '# a"b\\c "a\\"b\\\\c"'),
    # and this is none
    "not-opam": ('x: "%{dep:q}%"\ny: %{name}%\n', 'x: "a"b\\c"\ny: own\n'),
}


@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of_a_file(name: str) -> None:
    text, made = CASES[name]
    assert substitute(text, VALUES.get) == made


def test_an_empty_file_stays_empty() -> None:
    assert substitute("", VALUES.get) == ""


@given(st.text(st.characters(max_codepoint=255, exclude_characters="%")))
def test_without_variables_only_a_line_end_is_added(text: str) -> None:
    assert substitute(text, VALUES.get) in (text, text + "\n")


def test_a_large_file_is_quick() -> None:
    line = 'let v = "%{version}%" (* "quoted" *)\n'
    assert substitute(line * 100_000, VALUES.get) == line.replace("%{version}%", "1") * 100_000


DEP = r"""
cat > dep.config <<'EOF'
opam-version: "2.0"
variables { q: "a\"b\\c" l: ["x" "y\""] t: true nl: "a
b" }
EOF
"""


@needs("opam")
def test_the_same_files_as_from_opam(tmp_path: Path) -> None:
    files = {f"files/{name}.in": text.encode("latin-1") for name, (text, _) in CASES.items()}
    names = " ".join(f'"{name}"' for name in CASES)
    sums = " ".join(f'["{path[6:]}" "md5={hashlib.md5(data).hexdigest()}"]' for path, data in files.items())
    own = f'opam-version: "2.0"\ndepends: "dep"\nsubsts: [{names}]\nextra-files: [{sums}]\n'
    own += f'build: ["cp" "-r" "." "{tmp_path}/made"]\n'
    dep = 'opam-version: "2.0"\nbuild: ["sh" "b.sh"]\nextra-files: ["b.sh" "md5=%s"]\n'
    packages = {
        parse_package("own.1"): {"opam": own.encode(), **files},
        parse_package("dep.1"): {
            "opam": (dep % hashlib.md5(DEP.encode()).hexdigest()).encode(),
            "files/b.sh": DEP.encode(),
        },
    }
    write_repository(tmp_path / "repository", packages)
    MachineOpam(tmp_path, tmp_path / "repository", OPAMNODEPEXTS="1").run("install", "own")
    made = {name: (tmp_path / "made" / name).read_bytes().decode("latin-1") for name in CASES}
    assert made == {name: text for name, (_, text) in CASES.items()}
