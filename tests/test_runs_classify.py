"""Why builds fail: the category and the line that says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.runs.classify import CATEGORIES, RULES, Verdict, classify, classify_log, transient

OCAML = """\
- (cd _build/default && ocamlfind ocamlopt -c src/a.ml)
- File "src/a.ml", line 3, characters 8-11:
- 3 | let x = foo + "1"
-             ^^^
- Error: This expression has type
-          string
-        but an expression was expected of type int
- make: *** [Makefile:3: all] Error 2
"""

LOGS = [
    ("tar: x: Cannot write: No space left on device", "disk_full", "tar: x: Cannot write: No space left on device"),
    ("cp: Disk quota exceeded", "disk_full", "cp: Disk quota exceeded"),
    ("ssh: connect to host a port 22: Connection timed out", "transient_failure", "ssh: connect to host a"),
    ("curl: (6) Could not resolve host: github.com", "transient_failure", "curl: (6) Could"),
    ("W: Temporary failure resolving 'deb.debian.org'", "transient_failure", "W: Temporary failure"),
    ("Temporary failure in name resolution", "transient_failure", "Temporary failure"),
    ("connect: Network is unreachable", "transient_failure", "connect: Network"),
    ("read: Connection reset by peer", "transient_failure", "read: Connection"),
    ("error: 429 Too Many Requests", "transient_failure", "error: 429"),
    ("curl: (35) TLS connect error", "transient_failure", "curl: (35)"),
    ("HTTP/1.1 503 Service Unavailable", "transient_failure", "HTTP/1.1 503"),
    ("E: Unable to locate package libfoo-dev", "depext_unavailable", "E: Unable to locate package libfoo-dev"),
    ("E: Package 'libfoo' has no installation candidate", "depext_unavailable", "E: Package 'libfoo'"),
    ("Package libfoo is not available, but is referred to by", "depext_unavailable", "Package libfoo"),
    ("The following packages have unmet dependencies:", "depext_unavailable", "The following packages"),
    ("dpkg: dependency problems prevent configuration of x", "depext_unavailable", "dpkg: dependency"),
    ("ERROR: unable to select packages:", "depext_unavailable", "ERROR: unable"),
    ("[ERROR] The sources of a.1: Checksum mismatch for x", "checksum_failure", "[ERROR] The sources"),
    ("#=== ERROR while fetching sources for a.1 ====#", "fetch_failure", "#=== ERROR while fetching"),
    ("curl: (22) The requested URL returned error: 404", "fetch_failure", "curl: (22)"),
    ("1 out of 2 hunks FAILED -- saving rejects to a.rej", "patch_failure", "1 out of 2 hunks"),
    ("Hunk #1 FAILED at 3.", "patch_failure", "Hunk #1"),
    ("Package conflict!", "no_solution", "Package conflict!"),
    ("Fatal error: exception Out_of_memory", "out_of_memory", "Fatal error: exception Out"),
    ("sh: line 3: 77 Killed   make", "out_of_memory", "sh: line 3: 77 Killed"),
    ("gcc: fatal error: Killed signal terminated program cc1", "out_of_memory", "gcc: fatal error"),
    ("virtual memory exhausted: Cannot allocate memory", "out_of_memory", "virtual memory"),
]


@pytest.mark.parametrize(("line", "category", "begin"), LOGS)
@pytest.mark.parametrize("prefix", ["", "- ", "# "])
def test_lines_that_decide(line: str, category: str, begin: str, prefix: str) -> None:
    log = f"+ make\n{prefix}checking\n{prefix}{line}\n{prefix}make: *** [all] Error 1\n"
    verdict = classify(log.encode())
    assert verdict.category == category
    assert verdict.line.startswith(begin)


@pytest.mark.parametrize(
    "line",
    [
        "Error: This type is not available here",
        "checking whether memory is not available... no",
        "(* Killed by the garbage collector *)",
        'let timeout = 429 and text = "Too Many"',
        "test FAILED",
        "the package is not available",
        "Temporary failures are retried",
        'File "out of memory: .ml"',
    ],
)
def test_words_inside_other_messages_decide_nothing(line: str) -> None:
    assert classify(f"{line}\nmake: *** Error\n".encode()).category == "build_failure"


def test_only_what_may_pass_is_transient() -> None:
    assert [name for name in CATEGORIES if transient(name)] == ["disk_full", "transient_failure"]
    assert not transient("something new")
    assert {name for name, _, _ in RULES} <= CATEGORIES.keys()


def test_without_a_network_nothing_is_transient() -> None:
    log = b"curl: (6) Could not resolve host: github.com\n"
    assert classify(log, network=False).category == "needs_network"
    assert not transient("needs_network")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (OCAML, 'File "src/a.ml", line 3, characters 8-11: Error: This expression has type string but an expression'),
        ('File "dune", line 1, characters 2-9:\nError: Library "zarith" not found.\n', 'File "dune", line 1'),
        ('File "a.ml", line 1, characters 0-3:\n1 | let\nWarning 8: bad\na.c:3:1: error: no\n', "a.c:3:1: error: no"),
        ("a.c:1:10: fatal error: gmp.h: No such file or directory\n", "a.c:1:10: fatal error: gmp.h"),
        ("conftest.c:3: error: no\nconfigure: error: gmp not found\n", "configure: error: gmp not found"),
        ("cc\n/usr/bin/ld: cannot find -lgmp\ncollect2: error: ld returned 1\n", "/usr/bin/ld: cannot find -lgmp"),
        ("x.o: undefined reference to `foo'\ncollect2: error: ld returned 1\n", "x.o: undefined reference"),
        ("ocamlfind: Package `foo' not found\nmake: *** [x] Error 2\n", "ocamlfind: Package `foo' not found"),
        ("sh: 1: foo: not found\nmake: *** [x] Error 127\n", "sh: 1: foo: not found"),
        ("error[E0432]: unresolved import\nerror: aborting due to 1\n", "error[E0432]: unresolved import"),
        ("Traceback (most recent call last):\n  x\nKeyError: 'a'\n", "KeyError: 'a'"),
        ("Fatal error: exception Failure(\"x\")\n", "Fatal error: exception Failure"),
        ("CMake Error at CMakeLists.txt:3 (find):\n", "CMake Error at"),
        ("make: *** No rule to make target 'x'.  Stop.\n", "make: *** No rule to make target"),
        ("touch: x: Permission denied\n", "touch: x: Permission denied"),
        ("fine\nmake: *** [all] Error 2\n", "make: *** [all] Error 2"),
        ("one\ntwo\n\n  \n", "two"),
        ("a.ml:1: Error: first\nb.ml:2: Error: second\n", "a.ml:1: Error: first"),
        ("\x1b[1mFile \"a.ml\", line 1\x1b[0m:\r\n\x1b[31mError\x1b[0m: no\r\n", 'File "a.ml", line 1: Error: no'),
        ("", ""),
    ],
)  # fmt: skip
def test_the_line_that_says_most(log: str, line: str) -> None:
    verdict = classify(log.encode())
    assert verdict.category == "build_failure"
    assert verdict.line.startswith(line)
    assert bool(verdict.line) == bool(line)


def test_a_compiler_error_is_whole() -> None:
    assert classify(OCAML.encode()).line == (
        'File "src/a.ml", line 3, characters 8-11: Error: This expression has type string '
        "but an expression was expected of type int"
    )


def test_tests() -> None:
    assert classify(b"ok 1\n[FAIL]  parse  3  bad input.\nError: x\n", test=True) == Verdict(
        "test_failure", "[FAIL]  parse  3  bad input."
    )
    opam = b"#=== ERROR while compiling a.1 ===#\n# command     ~/.opam/bin/dune runtest -p a\n# not ok 3 - sums\n"
    assert classify(opam) == Verdict("test_failure", "not ok 3 - sums")
    assert classify(OCAML.encode(), test=True).line.startswith('File "src/a.ml"')


def test_what_obuild_says_counts_first() -> None:
    said = "time limit: the step took more than 3600 seconds"
    assert classify(b"E: Unable to locate package x\n", said=said) == Verdict("timeout", said)
    assert classify(b"", said="out of memory: the step used more than 1 GB").category == "out_of_memory"
    assert classify(b"", said="log limit: the step wrote more than 5 bytes").category == "log_limit"
    assert classify(b"", said="something else") == Verdict("build_failure", "something else")
    assert classify(b"fine\n", status=137) == Verdict("out_of_memory", "fine")
    assert classify(b"", status=124).category == "timeout"


def test_any_bytes_do() -> None:
    line = classify(b"\xff\xfe\0\0 \x1b]0;title\x07 Error: \xe2\x82").line
    assert line.isprintable()
    assert "Error: " in line
    assert len(classify(b"Error: " + b"x" * 10_000).line) == 300


C = "printf '%s\\n' '{}' > a.c; cc a.c {}"
MAKE = "printf 'all:\\n\\t{}\\n' > Makefile; make"
PATCH = "echo a > f; printf -- '--- f\\n+++ f\\n@@ -1 +1 @@\\n-b\\n+c\\n' | patch f"
REAL = [
    ("cc", C.format("int main(void) { return x; }", ""), "build_failure", "a.c:1:25: error: "),
    ("cc", C.format("#include <no/such.h>", ""), "build_failure", "a.c:1:10: fatal error: no/such.h: No such"),
    ("cc", C.format("int f(void); int main(void) { return f(); }", ""), "build_failure", "a.c:(.text+"),
    ("cc", C.format("int main(void) { return 0; }", "-lnosuchlib"), "build_failure", "/usr/bin/ld: cannot find"),
    ("make", MAKE.format("no-such-program -x"), "build_failure", "make: no-such-program: No such"),
    ("make", MAKE.format("echo fine; false"), "build_failure", "make: *** [Makefile:2: all] Error 1"),
    ("make", "make", "build_failure", "make: *** No targets specified"),
    ("sh", "no-such-program", "build_failure", "sh: "),
    ("touch", "touch /proc/nothing/file", "build_failure", "touch: cannot touch"),
    ("patch", PATCH, "patch_failure", "Hunk #1 FAILED"),
    ("dd", "dd if=/dev/zero of=/dev/full count=1", "disk_full", "dd: "),
    ("python3", "python3 -c 'import no_such_module'", "build_failure", "ModuleNotFoundError: "),
    ("curl", "curl -sS http://127.0.0.1:1/", "transient_failure", "curl: (7)"),
    ("apt-get", "apt-get install -qy no-such-package-at-all", "depext_unavailable", "E: Unable to locate package"),
    ("git", "git apply no-such.patch", "build_failure", "error: can't open patch"),
]


@pytest.mark.parametrize(("program", "script", "category", "line"), REAL, ids=[row[3] for row in REAL])
def test_what_real_programs_say(tmp_path: Path, program: str, script: str, category: str, line: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"not installed: {program}")
    outer = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}  # the tests run under one
    environment = {**outer, "LC_ALL": "C", "http_proxy": ""}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, env=environment)
    assert done.returncode
    verdict = classify(done.stdout + done.stderr, status=done.returncode)
    assert (verdict.category, verdict.line[: len(line)]) == (category, line)


@given(st.binary(max_size=400), st.text(max_size=100), st.booleans())
def test_any_log_has_a_verdict(log: bytes, said: str, test: bool) -> None:
    verdict = classify(log, said=said, test=test)
    assert verdict.category in CATEGORIES
    assert verdict.line == "" or verdict.line.isprintable()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    path.write_bytes(b"Error: early\n" + b"x" * (1 << 20) + b"\nError: late\n")
    assert classify_log(str(path)).line == "Error: late"
    assert classify_log(str(tmp_path / "none")) == Verdict("build_failure", "")
    assert classify_log(str(tmp_path)) == Verdict("build_failure", "")


@pytest.mark.parametrize(
    "piece",
    [b"x", b" ", b"a: ", b"Error: \n", b'File "a.ml", line 3:\n', b"a:1: ", b"Killed ", b"\n", b"\r", b"\x1b]", b"***"],
)
def test_long_lines_and_many_of_them_come_to_an_end(piece: bytes) -> None:
    verdict = classify(piece * ((1 << 20) // len(piece)), test=True)
    assert verdict.category == ("out_of_memory" if b"Killed" in piece else "test_failure")
    assert len(verdict.line) <= 300
