"""The language: every form, every problem, printing and reading back, OBuilder's own spellings."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild import spec
from obuild.errors import SpecError
from obuild.spec import (
    Cache,
    Comment,
    Copy,
    Env,
    FromBuild,
    FromOpam,
    FromPackage,
    FromText,
    FromUrl,
    Run,
    Secret,
    Shell,
    Spec,
    User,
    Workdir,
)
from obuild.value import replace

WHOLE = """\
; A spec with every form.
((build tools
  ((build inner ((from a)))
   (from base)
   (copy (from (build inner)) (src x) (dst y))
   (run (shell "make tools"))))
 (build docs ((from base) (copy (from (build tools)) (src .) (dst .))))
 (from base)
 (comment "A test comment")
 (workdir /src)
 (shell /bin/sh -c)
 (run (shell "a command"))
 (run (cache (a (target /data)) (b (target /srv) (buildkit_options ((sharing locked))))) (shell "a command"))
 (run (network host) (secrets (s (target /run/secrets/s)) (t (target /t))) (shell "another"))
 (copy (src a b) (dst c))
 (copy (src a b) (dst c/) (exclude .git _build))
 (copy (from (build tools)) (src binary) (dst /usr/local/bin/))
 (copy (from context) (src .) (dst .))
 (env DEBUG 1)
 (user (uid 1) (gid 0x10))
 (user (name Zaphod)))
"""

TOOLS = Spec(
    "base",
    (Copy(("x",), "y", FromBuild("inner")), Run("make tools")),
    (("inner", Spec("a")),),
)
EXPECTED = Spec(
    "base",
    (
        Comment("A test comment"),
        Workdir("/src"),
        Shell(("/bin/sh", "-c")),
        Run("a command"),
        Run("a command", (Cache("a", "/data"), Cache("b", "/srv", (("sharing", "locked"),)))),
        Run("another", (), ("host",), (Secret("s", "/run/secrets/s"), Secret("t", "/t"))),
        Copy(("a", "b"), "c"),
        Copy(("a", "b"), "c/", exclude=(".git", "_build")),
        Copy(("binary",), "/usr/local/bin/", FromBuild("tools")),
        Copy((".",), "."),
        Env("DEBUG", "1"),
        User(1, 16),
        User(name="Zaphod"),
    ),
    (("tools", TOOLS), ("docs", Spec("base", (Copy((".",), ".", FromBuild("tools")),)))),
)


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        spec.parse(text, "t.spec")
    return [f"{p.line}:{p.column} {p.message}" + (f"; {p.hint}" if p.hint else "") for p in caught.value.problems]


def test_every_form_is_read() -> None:
    found = spec.parse(WHOLE, "whole.spec")
    assert found == EXPECTED
    assert str(found.ops[1].place) == "whole.spec:10:2"
    assert str(found.builds[0][1].ops[0].place) == "whole.spec:5:4"


def test_what_is_printed_is_read_back_and_is_already_tidy() -> None:
    text = spec.format(EXPECTED)
    assert spec.parse(text, "t") == EXPECTED
    assert spec.tidy(text, "t") == text
    assert spec.parse(spec.tidy(WHOLE, "t"), "t") == EXPECTED
    assert spec.tidy(WHOLE, "t").startswith(
        "; A spec with every form.\n((build tools\n  ((build inner\n    ((from a)))\n"
    )


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (Comment("two words"), '(comment "two words")'),
        (Shell(()), "(shell)"),
        (User(1, 2), "(user (uid 1) (gid 2))"),
        (User(name="Zaphod"), "(user (name Zaphod))"),
        (Env("A", ""), '(env A "")'),
        (Run("make"), "(run (shell make))"),
        (
            Run("x", (Cache("c", "/c"),), ("host",), (Secret("s", "/s"),)),
            "(run (cache (c (target /c)))\n     (network host)\n     (secrets (s (target /s)))\n     (shell x))",
        ),
        (Copy(("a",), "/b"), "(copy (src a) (dst /b))"),
        (Copy(("a",), "/b", FromPackage("re.1.11.0", "ab")), "(copy (from (package re.1.11.0 ab)) (src a) (dst /b))"),
        (
            Copy(("a",), "/b", FromUrl("u", ("md5=0",), ("v", "w"))),
            "(copy (from (url u md5=0 (mirror v w))) (src a) (dst /b))",
        ),
        (Copy(("a",), "/b", FromText("")), '(copy (from (text "")) (src a) (dst /b))'),
        (Copy((".",), "/b", FromOpam("switch")), "(copy (from (opam switch)) (src .) (dst /b))"),
        (
            Copy(("a", "b"), ".", FromOpam("substs", "re.1", "ID")),
            "(copy (from (opam substs re.1 ID)) (src a b) (dst .))",
        ),
    ],
)
def test_one_op_is_printed_for_a_heading(op: spec.Op, expected: str) -> None:
    assert spec.format_op(op) == expected


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("(Workdir /x)", Workdir("/x")),
        ("(Comment c)", Comment("c")),
        ("(Run ((shell x)))", Run("x")),
        ("(Run ((network host) (shell x)))", Run("x", network=("host",))),
        ("(Copy ((src a b) (dst c)))", Copy(("a", "b"), "c")),
        ("(Env (A B))", Env("A", "B")),
        ("(User ((uid 1) (gid 2)))", User(1, 2)),
        ("(user (uid 0x1f) (gid 0b1_0))", User(31, 2)),
        ("(user (uid 0o17) (gid 0u9))", User(15, 9)),
        ("(user (uid 1_000) (gid 007))", User(1000, 7)),
        ("(user (gid 2) (uid 1))", User(1, 2)),
        ("(run (secrets (a)) (shell x))", Run("x", secrets=(Secret("a", "/run/secrets/a"),))),
        ("(run (shell x) (cache) (network))", Run("x")),
        ('(run (cache ("" (target /x))) (shell ""))', Run("", cache=(Cache("", "/x"),))),
        ('(copy (dst "") (src ""))', Copy(("",), "")),
        ("(shell)", Shell(())),
        (
            f"(copy (from (url u sha256={'a' * 64})) (src .) (dst .))",
            Copy((".",), ".", FromUrl("u", (f"sha256={'a' * 64}",))),
        ),
        (
            "(copy (from (url u (mirror v w) (mirror x))) (src .) (dst .))",
            Copy((".",), ".", FromUrl("u", (), tuple("vwx"))),
        ),
        ("(copy (from (package a-b.1.0~x ID)) (src /) (dst /))", Copy(("/",), "/", FromPackage("a-b.1.0~x", "ID"))),
        ("(copy (from (opam switch)) (src .) (dst /s))", Copy((".",), "/s", FromOpam("switch"))),
    ],
)
def test_other_spellings(text: str, op: spec.Op) -> None:
    assert spec.parse(f"((from a) {text})", "t").ops == (op,)


WHOLE_FORM = "write ((build NAME (...))* (from BASE) OP*)"
OPS = "one of comment, workdir, shell, user, env, run, copy"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base", [f'1:1 "base" is not a spec; {WHOLE_FORM}']),
        ("()", [f'1:1 there is no "(from BASE)"; {WHOLE_FORM}']),
        ("(from base)", ['1:1 a spec is a list of lists; one more pair of parentheses is missing: ' + WHOLE_FORM[6:]]),
        ("((from))", ['1:2 "from" takes 1 argument, not 0; write (from BASE)']),
        ('((from ""))', ["1:8 the base is empty"]),
        ("((from (a)))", ["1:8 the base is one word or a quoted text, not a list"]),
        ("((run (shell x)) (from b))", ['1:18 "from" comes before the ops']),
        ("((from b) (from c))", ['1:11 "from" a second time']),
        ("((from b) (build x ((from c))))", [f'1:11 "build" comes before "from"; {WHOLE_FORM}']),
        ("((build x) (from b))", ['1:2 "build" takes 2 arguments, not 1; write (build NAME ((from BASE) OP*))']),
        ("((from b) foo)", [f"1:11 expected an operation in parentheses; {OPS}"]),
        ("((from b) ())", [f"1:11 expected an operation in parentheses; {OPS}"]),
        ("((from b) ((a) b))", [f"1:11 expected an operation in parentheses; {OPS}"]),
        ("((from b) (cop (src a) (dst b)))", ['1:11 unknown operation "cop"; did you mean "copy"?']),
        ("((from b) (WORKDIR /x))", ['1:11 unknown operation "WORKDIR"; did you mean "workdir"?']),
        ("((from b) (zzz))", [f'1:11 unknown operation "zzz"; {OPS}']),
        ("((from b) (workdir))", ['1:11 "workdir" takes 1 argument, not 0; write (workdir DIR)']),
        ("((from b) (env A))", ['1:11 "env" takes 2 arguments, not 1; write (env NAME VALUE)']),
        ("((from b) (env A=B C))", ['1:16 the name of a variable has a "=" in it; write (env NAME VALUE)']),
        ('((from b) (env "" C))', ["1:16 the name of a variable is empty"]),
        ('((from b) (env A "x\\000"))', ["1:18 the value has a NUL byte in it"]),
        ("((from b) (user (uid 1)))", ['1:11 field "gid" is missing']),
        ("((from b) (user (uid -1) (gid x)))", [
            '1:22 "uid" is from 0 to 4294967294',
            '1:31 "gid" is a whole number; write (user (uid N) (gid N))',
        ]),
        ("((from b) (user root))", ['1:17 expected a field in parentheses; one of "uid", "gid"']),
        ("((from b) (run))", ['1:11 field "shell" is missing']),
        ("((from b) (run (shell a b)))", ['1:16 "shell" takes 1 argument, not 2; write (shell "COMMAND")']),
        ("((from b) (run (shel x)))", ['1:17 unknown field "shel"; did you mean "shell"?']),
        ("((from b) (run (shell x)\n(shell y)))", ['2:1 field "shell" twice; the first one is at line 1']),
        ("((from b) (run (cache a) (shell x)))", ["1:23 expected a cache in parentheses; write (ID (target PATH))"]),
        ("((from b) (run (cache (a)) (shell x)))", ['1:23 field "target" is missing']),
        ("((from b) (run (secrets a) (shell x)))", ["1:25 expected a secret in parentheses; write (ID (target PATH))"]),
        ("((from b) (run (network (a)) (shell x)))", [
            "1:25 the name of a network is one word or a quoted text, not a list",
        ]),
        ("((from b) (run (cache (a (target /x) (buildkit_options (a b)))) (shell x)))", [
            "1:57 expected an option and its value in parentheses; write (buildkit_options ((KEY VALUE)...))",
            "1:59 expected an option and its value in parentheses; write (buildkit_options ((KEY VALUE)...))",
        ]),
        ("((from b) (copy (src) (dst /)))", ['1:17 there is nothing to copy; write (src PATH...); "." is everything']),
        ("((from b) (copy (src a)))", ['1:11 field "dst" is missing']),
        ("((from b) (copy (src a ../b c/../d) (dst /)))", [
            '1:24 "../b" leads out of the source; a path to copy has no ".." in it',
            '1:29 "c/../d" leads out of the source; a path to copy has no ".." in it',
        ]),
        ("((from b) (copy (from other) (src a) (dst b)))", [
            "1:23 a copy is not from there; write (from context) or (from (build NAME))",
        ]),
        ("((from b) (copy (from (url)) (src a) (dst b)))", [
            "1:23 a url is needed; write (from (url URL KIND=DIGITS... (mirror URL...)))",
        ]),
        ("((from b) (copy (from (url u (mirrors v))) (src a b) (dst b) (exclude c)))", [
            "1:30 expected a checksum or a mirror; write (from (url URL KIND=DIGITS... (mirror URL...)))",
            "1:44 there is one source only; write (src NAME)",
            "1:62 nothing can be excluded here; only from the context or from builds",
        ]),
        ("((from b) (copy (from (text)) (src a/b) (dst b)))", [
            '1:23 "text" takes 1 argument, not 0; write (from (text TEXT))',
            '1:31 "a/b" is not the name of a file; write (src NAME)',
        ]),
        ("((from b) (copy (from (opam swich)) (src .) (dst b)))", [
            '1:23 opam does not "swich"; did you mean "switch"?',
        ]),
        ("((from b) (copy (from (opam install re.1)) (src .) (dst b)))", [
            '1:23 "opam" takes 3 arguments, not 2; write (from (opam install NAME.VERSION ID))',
        ]),
        ("((from b) (copy (from (opam switch x)) (src .) (dst b)))", [
            '1:23 "opam" takes 1 argument, not 2; write (from (opam switch))',
        ]),
        ("((from b) (copy (from (package re.1 a/b)) (src a) (dst b)))", ['1:37 "a/b" can not be a build-id']),
        ("((from b) (copy (from (package re id)) (src a) (dst b)))", [
            '1:32 "re" is not a package with its version; write NAME.VERSION',
        ]),
        ("((build dev ((from a))) (from b) (copy (from (build dvv)) (src a) (dst b)))", [
            '1:53 unknown build "dvv"; did you mean "dev"?',
        ]),
        ("((from b) (copy (from (build x)) (src a) (dst b)))", ['1:30 unknown build "x"; no build comes before this']),
    ],
)  # fmt: skip
def test_problems(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_all_problems_are_told_in_the_order_of_the_text() -> None:
    text = "((build b ((frm x)))\n (from a b)\n (env)\n (copy (from (build c)) (src ..) (dst))\n foo)"
    assert [problem.partition(" ")[0] for problem in problems(text)] == [
        "1:11",
        "1:12",
        "2:2",
        "3:2",
        "4:21",
        "4:30",
        "4:34",
        "5:2",
    ]


def test_a_problem_quotes_its_line() -> None:
    with pytest.raises(SpecError) as caught:
        spec.parse("((from a)\n\t(cop x))", "dir/t.spec")
    assert str(caught.value) == (
        'dir/t.spec:2:2: unknown operation "cop"; did you mean "copy"?\n  | \t(cop x))\n  | \t^'
    )


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("((build a ((from x))) (build b ((from x) {})) (from x))", False),
        ("((build a ((from x))) (build b ((build c ((from x) {})) (from x))) (from x))", False),
        ("((build b ((from x) {})) (build a ((from x))) (from x))", True),
        ("((build b ((build a ((from x))) (from x))) (from x) {})", True),
        ("((build a ((from x) {})) (from x))", True),
    ],
)
def test_a_build_is_seen_by_what_comes_after_it_and_what_is_inside_of_that(text: str, hidden: bool) -> None:
    text = text.format("(copy (from (build a)) (src x) (dst y))")
    if hidden:
        assert 'unknown build "a"' in problems(text)[0]
    else:
        assert spec.format(spec.parse(text, "t")).count("(build a)") == 1


def test_a_build_that_is_somewhere_else_is_pointed_at() -> None:
    text = """((build b
  ((build a ((from x))) (from x)))
 (from x) (copy (from (build a)) (src x) (dst y)))"""
    (told,) = problems(text)
    assert told == '3:30 unknown build "a"; the one at line 2 comes later, or is inside of another build'


def test_messages_are_fit_for_a_terminal() -> None:
    with pytest.raises(SpecError) as caught:
        spec.parse('((from a) ("\027[31m" x)(run (shell x) (' + "x" * 10_000 + " y)))", "t")
    text = str(caught.value)
    assert "\x1b" not in text
    assert len(text) < 2000


def test_hostile_sizes_take_no_long_time() -> None:
    copies = "(copy (from (build nowhere)) (src a) (dst b))" * 3000
    builds = "".join([f"(build some-name-{number} ((from a)))" for number in range(3000)])
    assert len(problems(f"({builds} (from a) {copies})")) == 3000
    deep = "(from a)"
    for _ in range(98):
        deep = f"(build b ({deep})) (from a)"
    found = spec.parse(f"({deep})", "t")
    assert spec.parse(spec.format(found), "t") == found
    assert spec.parse(spec.tidy(f"({deep})", "t"), "t") == found


def test_extensions_are_what_obuilder_does_not_read() -> None:
    text = f"""((from a) (user (gid 1) (uid 1)) (Run (shell x)) (run (network net) (secrets (s)) (shell x))
 (copy (src .) (dst .) (exclude .git *.o /x))
 (copy (from (package re.1 id)) (src /) (dst /)) (copy (from (url u md5={"0" * 32})) (src .) (dst .))
 (copy (from (text x)) (src a) (dst b)) (copy (from (opam switch)) (src .) (dst b)))"""
    found = [(problem.line, problem.column) for problem in spec.extensions(text, "t")]
    assert found == [(1, 11), (1, 34), (1, 64), (1, 78), (2, 38), (2, 42), (3, 14), (3, 62), (4, 14), (4, 53)]
    assert spec.extensions(WHOLE, "t") == ()


def test_doubts_are_what_can_not_go_well() -> None:
    text = """((build a ((from x))) (build a ((from x))) (build b ((from x)))
 (from x) (copy (from (build a)) (src p q) (dst r)) (copy (src p q) (dst r/))
 (run (cache (c (target /d)) (e (target /d))) (shell x)))"""
    assert [(p.line, p.column) for p in spec.doubts(spec.parse(text, "t"))] == [(1, 11), (1, 53), (2, 11), (3, 2)]


def test_builds_used_are_those_copied_from_also_through_others() -> None:
    copy = "(copy (from (build {})) (src x) (dst y))"
    text = f"""((build a ((from x))) (build b ((from x) {copy.format("a")})) (build c ((from x)))
 (build d ((build c ((from x))) (from x) {copy.format("c")})) (build e ((from x) {copy.format("c")}))
 (from x) {copy.format("b")} {copy.format("d")})"""
    assert spec.builds_used(spec.parse(text, "t")) == {"a", "b", "d"}


TEXTS = st.binary(max_size=10).map(lambda data: data.replace(b"\0", b"0").decode("utf-8", "surrogateescape"))
NAMES = TEXTS.filter(bool)
PAIRS = st.lists(st.tuples(NAMES, TEXTS), max_size=2).map(tuple)
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
PATHS = TEXTS.filter(lambda text: ".." not in text.split("/"))
CACHES = st.lists(st.builds(Cache, TEXTS, NAMES, PAIRS), max_size=2).map(tuple)
SECRETS = st.lists(st.builds(Secret, NAMES, NAMES, PAIRS), max_size=2).map(tuple)
IDS = NAMES.filter(lambda name: "/" not in name and name[0] != ".")
PACKAGES = st.tuples(NAMES, NAMES).map(lambda two: f"{two[0].replace('.', '')}x.{two[1]}")
ORIGINS = st.one_of(
    st.just(spec.FromContext()),
    st.builds(FromPackage, PACKAGES, IDS),
)
SINGLE = st.one_of(
    st.builds(FromText, TEXTS),
    st.builds(
        FromUrl, NAMES, st.tuples(HEX.map(lambda digits: f"md5={digits}")), st.lists(NAMES, max_size=2).map(tuple)
    ),
    st.just(FromOpam("switch")),
    st.builds(FromOpam, st.sampled_from(("substs", "install")), PACKAGES, IDS),
)
OPERATIONS = st.one_of(
    st.builds(Comment, TEXTS),
    st.builds(Workdir, TEXTS),
    st.builds(Shell, st.lists(TEXTS, max_size=3).map(tuple)),
    st.builds(User, st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
    st.builds(User, name=NAMES),
    st.builds(Env, NAMES.filter(lambda name: "=" not in name), TEXTS),
    st.builds(Run, TEXTS, CACHES, st.lists(NAMES, max_size=2).map(tuple), SECRETS),
    st.builds(
        Copy, st.lists(PATHS, min_size=1, max_size=2).map(tuple), TEXTS, ORIGINS, st.lists(NAMES, max_size=2).map(tuple)
    ),
    st.builds(Copy, st.just(("x",)), TEXTS, SINGLE),
)
OPS_LISTS = st.lists(OPERATIONS, max_size=5).map(tuple)
LEAVES = st.builds(Spec, NAMES, OPS_LISTS)
SPECS = st.recursive(
    LEAVES,
    lambda inner: st.builds(Spec, NAMES, OPS_LISTS, st.lists(st.tuples(NAMES, inner), max_size=2).map(tuple)),
    max_leaves=4,
)


@given(SPECS)
def test_any_spec_is_read_back(item: Spec) -> None:
    for name, _ in item.builds:
        item = replace(item, ops=(*item.ops, Copy(("x",), "y", FromBuild(name))))
    text = spec.format(item)
    assert spec.parse(text, "t") == item
    assert spec.tidy(spec.tidy(text, "t"), "t") == spec.tidy(text, "t")
    assert all("\x1b" not in spec.format_op(op) for op in item.ops)


PIECES = [
    "(",
    ")",
    '"',
    "\\",
    ";",
    "#|",
    "|#",
    "#;",
    "\n",
    "\0",
    "\udcff",
    "from",
    "build",
    "run",
    "shell",
    "-1",
    "..",
    " ",
]


@pytest.mark.slow
@settings(max_examples=100)
@given(st.randoms(use_true_random=False))
def test_a_spoilt_spec_is_read_or_refused_with_places(chance: random.Random) -> None:
    for _ in range(100):
        text = WHOLE
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(text) + 1)
            end = start + chance.choice((0, 0, 1, 5, 40))
            text = text[:start] + chance.choice([*PIECES, text[start : start + 30], ""]) + text[end:]
        problems: list[str] = []
        found = None
        try:
            found = spec.parse(text, "t")
        except SpecError as error:
            problems = [str(problem) for problem in error.problems]
        assert problems if found is None else spec.parse(spec.format(found), "t") == found
        assert found is None or spec.parse(spec.tidy(text, "t"), "t") == found


ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(ROOT.glob("examples/*.spec")) + sorted(ROOT.glob("specs/*.spec"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_specs_that_come_with_obuild_are_tidy_and_without_doubts(path: Path) -> None:
    text = path.read_text()
    found = spec.parse(text, path.name)
    assert spec.tidy(text, path.name) == text
    assert spec.parse(spec.format(found), path.name) == found
    assert spec.doubts(found) == ()


def test_the_manual_begins_with_a_spec() -> None:
    manual = (ROOT / "docs" / "spec-language.md").read_text()
    lines = [line for line in manual.partition("\n\n    ")[2].split("\n\n")[0].splitlines() if line]
    found = spec.parse("\n".join(lines), "manual")
    assert [name for name, _ in found.builds] == ["tools"]
    assert len(found.ops) == 3
