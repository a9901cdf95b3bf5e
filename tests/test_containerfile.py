"""A Dockerfile as a spec: every instruction, its counterpart, its note or its problem."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild import spec
from obuild.dockerfile import reading
from obuild.errors import SpecError
from obuild.spec import Cache, Comment, Copy, Env, FromBuild, Op, Run, Secret, Shell, Spec, User, Workdir

SH = Shell(("/bin/sh", "-c"))
HOST = ("host",)


def ops(text: str, **options: object) -> tuple[Op, ...]:
    return reading.parse(f"FROM base\n{text}\n", "Dockerfile", **options)[0].ops  # type: ignore[arg-type]


def problems(text: str, **options: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        reading.parse(text, "Dockerfile", **options)  # type: ignore[arg-type]
    return [f"{problem.line} {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a && \\\n    b", (SH, Run("a && b", network=HOST))),
        ("run a", (SH, Run("a", network=HOST))),
        ("RUN a && \\\n  # why\n\n  b 'c \\\n  d'", (SH, Run("a && b 'c   d'", network=HOST))),
        ('RUN "$(echo "a \\\n  b")"', (SH, Run('"$(echo "a   b")"', network=HOST))),
        ('RUN ["a", "b c"]', (Shell(("a",)), Run("b c", network=HOST))),
        ('RUN ["a"]\nRUN b', (Shell(()), Run("a", network=HOST), SH, Run("b", network=HOST))),
        ("RUN <<EOF\na\n b $x\nEOF\nRUN c", (SH, Run("a\n b $x\n", network=HOST), Run("c", network=HOST))),
        ("RUN <<-'E' # x\n\ta\n\tE", (SH, Run("<<-'E' # x\n\ta\n\tE", network=HOST))),
        ("RUN <<-E\n\ta\n\tE", (SH, Run("a\n", network=HOST))),
        ("RUN cat <<A >b <<B\na\nA\nb\nB", (SH, Run("cat <<A >b <<B\na\nA\nb\nB", network=HOST))),
        ("RUN echo '<<E' $((1<<2)) <<<x", (SH, Run("echo '<<E' $((1<<2)) <<<x", network=HOST))),
        ("RUN --network=none a", (SH, Run("a"))),
        (
            "WORKDIR /w\nRUN --mount=type=cache,target=c --mount=type=cache,id=i,dst=/d,sharing=locked,uid=0 a",
            (Workdir("/w"), SH, Run("a", (Cache("c", "/w/c"), Cache("i", "/d", (("sharing", "locked"),))), HOST)),
        ),
        (
            "RUN --mount=type=secret,id=a --mount=type=secret,target=/x/b,required=true a",
            (SH, Run("a", (), HOST, (Secret("a", "/run/secrets/a"), Secret("b", "/x/b", (("required", "true"),))))),
        ),
        ('SHELL ["/bin/bash", "-c"]\nRUN a', (Shell(("/bin/bash", "-c")), Run("a", network=HOST))),
        ('RUN ["/usr/bin/env", "bash", "-c", "a"]', (Run("a", network=HOST),)),
        (
            "ENV A=1 B='2 $A'\nENV C=\"3 $A\"\nENV D $A  4 ",
            (Env("A", "1"), Env("B", "2 $A"), Env("C", "3 1"), Env("D", "1  4")),
        ),
        ("ENV A=\\$x B=a\\ b C='\\n'", (Env("A", "$x"), Env("B", "a b"), Env("C", "\\n"))),
        ("ARG A=1 B\nENV C=$A$B${B:-x}${A:+y}${B-z}", (Env("A", "1"), Env("C", "1xyz"))),
        ("ENV A=1\nARG A=2\nWORKDIR /$A", (Env("A", "1"), Workdir("/1"))),
        ("USER 1000:1001", (User(1000, 1001),)),
        ("USER root\nRUN a", (SH, Run("a", network=HOST))),
        ("USER 7\nUSER root", (User(7, 0), User(0, 0))),
        ("COPY a b", (Copy(("a",), "b"),)),
        ("COPY a b c/", (Copy(("a", "b"), "c/"),)),
        ("COPY . .", (Copy((".",), "."),)),
        ("COPY a .", (Copy(("a",), "./"),)),
        ("COPY a/ b c/", (Copy(("b",), "c/"), Copy(("a",), "c"))),
        ("COPY a/ /", (Copy(("a",), "/."),)),
        ('COPY ["a b", "c d"]', (Copy(("a b",), "c d"),)),
        ("COPY c[*]d[[]x \\$y", (Copy(("c*d[x",), "$y"),)),
        ("ADD a b", (Copy(("a",), "b"),)),
        (
            "USER 1:2\nCOPY a b\nRUN c",
            (User(1, 2), User(0, 0), Copy(("a",), "b"), User(1, 2), SH, Run("c", network=HOST)),
        ),
        ("USER 1:2\nCOPY --chown=1:2 a b", (User(1, 2), Copy(("a",), "b"))),
        ("COPY --chown=3 a b", (User(3, 3), Copy(("a",), "b"))),
        ("COPY --link --exclude=**/.git --exclude=*.o . .", (Copy((".",), ".", exclude=(".git", "/*.o")),)),
        ("COPY --exclude=b/c a d", (Copy(("a",), "d", exclude=("/a/b/c",)),)),
        (
            "# one\n#two\nRUN a\n# three\n\n#  four",
            (Comment("one\ntwo"), SH, Run("a", network=HOST), Comment("three"), Comment("four")),
        ),
    ],
)
def test_counterparts(text: str, expected: tuple[Op, ...]) -> None:
    assert ops(text) == expected


def test_stages_are_builds() -> None:
    text = """
# the header
ARG TAG=13
FROM debian:${TAG} AS Build
RUN a
# of the next one
FROM scratch
COPY --from=build /a /b
COPY --from=0 /c /d
COPY --from=nginx:1 /e /f
COPY --from=nginx:1 /g /h
FROM build
WORKDIR /x
"""
    found, notes = reading.parse(text, "Dockerfile")
    run = (Comment("the header"), SH, Run("a", network=HOST))
    copies = [
        (("/a",), "/b", "Build"),
        (("/c",), "/d", "Build"),
        (("/e",), "/f", "nginx:1"),
        (("/g",), "/h", "nginx:1"),
    ]
    stage = Spec(
        "scratch", (Comment("of the next one"), *[Copy(src, dst, FromBuild(name)) for src, dst, name in copies])
    )
    builds = (("Build", Spec("debian:13", run)), ("nginx:1", Spec("nginx:1")), ("stage-1", stage))
    assert found == Spec("debian:13", (*run, Workdir("/x")), builds)
    assert notes == ()
    assert spec.parse(spec.format(found), "t") == found


def test_arguments_and_variables_of_the_image_can_be_given() -> None:
    text = "ARG TAG\nFROM a:${TAG:-1}\nARG TAG=2\nARG OTHER\nENV PATH=/x:$PATH T=$TAG O=$OTHER"
    given = {"TAG": "9", "PATH": "/bin"}
    found, notes = reading.parse(text, "t", arguments=given)
    assert found == Spec("a:9", (Env("TAG", "9"), Env("PATH", "/x:/bin"), Env("T", "9"), Env("O", "")))
    assert [note.line for note in notes] == [3]


def test_the_context_says_what_is_a_directory_and_what_a_pattern_stands_for() -> None:
    files = ["a.json", "b.json", "src/"]
    found = ops(
        "COPY *.json src /app/\nCOPY src x/",
        find=lambda name: [f for f in files if fnmatch.fnmatch(f.rstrip("/"), name)],
    )
    assert found == (Copy(("a.json", "b.json"), "/app/"), Copy(("src",), "/app"), Copy(("src",), "x"))
    assert problems("FROM a\nCOPY nothing /", find=lambda _: []) == ['2 there is no "nothing" in the context']


def test_notes() -> None:
    text = "FROM a\nLABEL x=y\nEXPOSE 80\nCMD x\nUSER 5\nCOPY a b/\nENV X=${Y:-1}\nVOLUME /x"
    found, notes = reading.parse(text, "t")
    assert [str(note) for note in notes] == [
        't:2:1: "LABEL" changes no file and is left out',
        't:3:1: "EXPOSE" changes no file and is left out',
        't:4:1: "CMD" changes no file and is left out',
        "t:5:1: the group of user 5 is taken to be 0, as it is if the image does not know the user",
        't:6:1: "a" is taken to be a file; if it is a directory, write (src a) (dst b)',
        't:7:1: "$Y" is taken to be unset, as "a" may leave it',
        't:8:1: "VOLUME" changes no file and is left out',
    ]
    assert found.ops[-1] == Env("X", "1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ['0 there is no "FROM"']),
        ("FROM a\n# \0", ["2 there is a NUL byte in it"]),
        ("FROM a\nENV =x", ["2 a variable has no name"]),
        ("FROM a\nARG =x", ["2 an argument has no name"]),
        ("FROM a\nCOPY --from= a b", ["2 the files are copied from nowhere"]),
        ("FROM a\nUSER 9999999999", ['2 "9999999999" is beyond 4294967294']),
        ("RUN x\nFROM a", ['1 "RUN" comes before the first "FROM"']),
        ("FROM", ["1 a base and perhaps a name are needed"]),
        ("FROM $X", ["1 a base and perhaps a name are needed"]),
        ("FROM a b", ["1 a base and perhaps a name are needed"]),
        ("FROM --platform=linux/arm64 a", ['1 "--platform" has no counterpart']),
        ("FROM a\nFRM b", ['2 unknown instruction "FRM"']),
        ("FROM a\nONBUILD RUN x", ['2 "ONBUILD" has no counterpart']),
        ("FROM a\nENV A", []),
        ("FROM a\nENV", ["2 a variable and its value are needed"]),
        ("FROM a\nENV PATH=/x:$PATH\nWORKDIR $PATH", ['2 "$PATH" is not set here, and what "a" sets is not known']),
        ("FROM a\nWORKDIR ${X#y}", ['2 "${X#y}" is more than a variable and a default']),
        ("FROM a\nWORKDIR ${X:?no}", ['2 "X" is not set: no']),
        ("FROM a\nWORKDIR ${X:-", ['2 "}" is missing in "${X:-"']),
        ("FROM a\nWORKDIR " + "${X:-" * 60, ["2 variables are nested too deep"]),
        ("FROM a\nWORKDIR 'x", ["2 a quote is never closed in 'x"]),
        ("FROM a\nUSER bob", ['2 the numbers of "bob" are not known here']),
        ("FROM a\nUSER 1:staff", ['2 the numbers of "1:staff" are not known here']),
        ("FROM a\nCOPY --chown=bob a b", ['2 the numbers of "bob" are not known here']),
        ("FROM a\nCOPY --chmod=755 a b", ['2 "--chmod" has no counterpart']),
        ("FROM a\nCOPY a", ["2 something to copy and where to are needed"]),
        ("FROM a\nCOPY *.c /", ['2 the files that "*.c" stands for are not known here']),
        ("FROM a\nCOPY ../x /", ['2 "../x" leads out of the context']),
        (
            "FROM a\nCOPY <<E /x\ny\nE\nFOO",
            ["2 a file written in the Dockerfile has no counterpart", '5 unknown instruction "FOO"'],
        ),
        ("FROM a AS b\nCOPY --from=b x y", ['2 "b" is this stage itself']),
        ("FROM a\nADD https://x/y /z", ["2 a download has no counterpart"]),
        ("FROM a\nADD x.tar.gz /z", ['2 "x.tar.gz" would be unpacked, and a copy does not']),
        ("FROM a\nRUN", ["2 there is no command"]),
        ("FROM a\nRUN []", ["2 there is no command"]),
        ("FROM a\nRUN <<E\n#!/bin/awk\nE", ["2 a script with a first line of its own has no counterpart"]),
        ("FROM a\nRUN --mount=type=bind,target=/x y", ['2 "--mount=type=bind,target=/x" has no counterpart']),
        ("FROM a\nRUN --security=insecure y", ['2 "--security=insecure" has no counterpart']),
        ("FROM a\nSHELL /bin/sh", ["2 the words of a shell are a list"]),
        ("FROM a\nRUN <<E\nx", ['2 the here-document "<<E" is never closed']),
    ],
)
def test_problems(text: str, expected: list[str]) -> None:
    if expected:
        assert problems(text) == expected
    else:
        assert reading.parse(text, "t")[0].ops == (Env("A", ""),)


def test_directives_set_the_escape_character_and_are_no_comments() -> None:
    text = "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN b `\n  c\nENV X=`$y\nWORKDIR C:\\x\n# escape=\\\n"
    found, _ = reading.parse(text, "t", network=())
    assert found.ops == (SH, Run("b c"), Env("X", "$y"), Workdir("C:\\x"), Comment("escape=\\"))


def test_lines_that_end_as_on_windows() -> None:
    assert reading.parse("FROM a\r\nRUN b \\\r\n  c\r\n", "t", network=())[0].ops == (SH, Run("b c"))


WORDS = [
    "FROM",
    "RUN",
    "COPY",
    "ENV",
    "ARG",
    "USER",
    "AS",
    "a",
    "${",
    "}",
    "$A",
    '"',
    "'",
    "\\",
    "\n",
    "<<E",
    "E",
    "[",
    '["a"]',
    "--from=0",
]


@given(
    st.lists(st.sampled_from([*WORDS, " ", " ", "\n", "=", ":-", "*"]), max_size=30).map("".join) | st.text(max_size=30)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found, _ = reading.parse(f"FROM a\n{text}", "t")
    except SpecError as error:
        found = None
        told = [problem.message for problem in error.problems]
    assert told if found is None else spec.parse(spec.format(found), "t") == found
