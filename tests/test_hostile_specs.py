"""Ten thousand specs that nobody would write: whatever they are, there is a result or one clear error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from house import House, stage
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obuild import dockerfile
from obuild import spec as language
from obuild.build import Builder, Context
from obuild.errors import ObuildError, SandboxError
from obuild.sandbox import Sandbox
from obuild.spec import sexp

ROOT = Path(__file__).parent.parent
SPECS = [path.read_bytes() for path in sorted([*ROOT.glob("specs/*.spec"), *ROOT.glob("examples/*.spec")])]


class Anywhere(dict[str, str]):
    """Every base is the same one."""

    def get(self, key: str, default: Any = None) -> Any:
        return self["b"]

    def __contains__(self, key: object) -> bool:
        return True


def no_sandbox() -> Sandbox:
    raise SandboxError("nothing runs here")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, can_mount: None) -> Builder:
    """One that does everything but run commands."""
    house = House(tmp_path_factory.mktemp("hostile"), tiny_base)
    (house.context / "a").mkdir()
    (house.context / "a/b").write_text("b")
    (house.context / "f").write_text("f")
    images = Anywhere(b=f"dir:{tiny_base}")
    made = house.builder(no_sandbox, images=images, keep_failed=False, jobs=2)
    made.build(language.parse("((from b))", ""), Context(source=str(house.context)))
    return made


def survives(data: bytes, builder: Builder) -> None:
    """Do all that `check`, `fmt`, `dockerfile` and `build` do with a spec; anything but an `ObuildError` is a bug."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        spec = language.parse(text, "hostile.spec")
    except ObuildError as error:
        shown(error)
        return
    assert language.parse(language.format(spec), "hostile.spec") == spec
    language.extensions(text, "hostile.spec")
    list(map(str, language.doubts(spec)))
    tidy = language.tidy(text, "hostile.spec")
    assert language.tidy(tidy, "hostile.spec") == tidy
    for buildkit in (False, True):
        try:
            dockerfile.format(spec, buildkit=buildkit)
        except ObuildError as error:
            shown(error)
    context = os.path.dirname(builder.store.path) + "/context"
    try:
        builder.build(spec, Context(source=context, secrets={"s": b"value"}))
    except ObuildError as error:
        shown(error)


def shown(error: ObuildError) -> None:
    """An error can be printed, and says something."""
    assert str(error).encode("utf-8", "surrogateescape")
    assert error.exit_code in (1, 2, 4)


WORDS = """from run copy build env user uid gid name workdir shell comment network cache secrets target src dst exclude
    context host package url buildkit_options b s a f n a/b / . .. ./ /x/ /etc/passwd /bin/sh 0 -1 0x10 * [ a=b
    99999999999999999999 4294967295 4294967294 http://h/x.tgz sha256=00 long deep""".split()
ODD = ["", "x y", "\0", "a\0b", "a\nb", "\udce9", "é"]
LONG = {"long": "a" * 300, "deep": "/" + "d/" * 3000}
ATOMS = st.one_of(
    st.sampled_from(WORDS).map(lambda word: LONG.get(word, word)), st.sampled_from(ODD), st.text(max_size=4)
)
GOOD = st.sampled_from(["a", "f", "a/b", "/x", "/x/", "/etc/", "./", ".", "b", "é", "x y", "sh", "*.c", "/bin/sh"])
WORD = st.builds(lambda choice, good, odd: odd if choice == 13 else good, st.integers(0, 20), GOOD, ATOMS)
TREES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)
MOUNTS = st.lists(st.tuples(WORD, st.tuples(st.just("target"), WORD)), max_size=2)


def _run(cache: Any, network: list[str], secrets: Any, command: str) -> tuple[Any, ...]:
    fields = [("cache", *cache)] if cache else []
    fields += [("network", *network)] if network else []
    fields += [("secrets", *secrets)] if secrets else []
    return ("run", *fields, ("shell", command))


def _copy(origin: list[Any], src: list[str], dst: str, exclude: list[str]) -> tuple[Any, ...]:
    return ("copy", *origin, ("src", *src), ("dst", dst), *([("exclude", *exclude)] if exclude else []))


ORIGINS = st.sampled_from([[], [], [("from", "context")], [("from", ("build", "b"))]])
IDS = st.sampled_from(["0", "1000", "0x10", "77", "4294967294", "4294967295", "9" * 20])
PLAIN_OPS = st.one_of(
    st.tuples(st.sampled_from(["workdir", "comment"]), WORD),
    st.tuples(st.just("env"), WORD, WORD),
    st.lists(WORD, max_size=3).map(lambda words: ("shell", *words)),
    st.builds(lambda uid, gid: ("user", ("uid", uid), ("gid", gid)), IDS, IDS),
    st.builds(_copy, ORIGINS, st.lists(WORD, min_size=1, max_size=2), WORD, st.lists(WORD, max_size=2)),
)
OPS = st.one_of(PLAIN_OPS, PLAIN_OPS, PLAIN_OPS, st.builds(_run, MOUNTS, st.lists(WORD, max_size=2), MOUNTS, WORD))
STAGES = st.recursive(
    st.builds(lambda base, ops: [("from", base), *ops], WORD, st.lists(OPS, max_size=5)),
    lambda inner: st.builds(lambda name, nested, rest: [("build", name, nested), *rest], WORD, inner, inner),
    max_leaves=3,
)


def printed(tree: Any) -> bytes:
    return str(sexp.format(tree)).encode("utf-8", "surrogateescape")


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(st.one_of(STAGES, STAGES, STAGES, TREES).map(printed))
@settings(max_examples=6000)
@example(b"(" * 100_000)
@example(b"((from b)" + b"(comment x)" * 20_000 + b")")
@example(b"((build n " * 95 + b"((from b))" + b") (from b))" * 95)
@example(b"(" + b"(build n ((from b)))" * 2000 + b"(from b))")
@example(b"\xff\xfe\x00")
def test_specs_made_of_words(builder: Builder, data: bytes) -> None:
    survives(data, builder)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A shipped spec with a few bytes or pieces lost, doubled, moved or replaced."""
    data = draw(st.sampled_from(SPECS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 5, 20, 100])))
        piece = data[start:end]
        other = draw(
            st.one_of(
                st.just(b""),
                st.just(piece * 2),
                st.sampled_from(
                    [b"(", b")", b'"', b"\\", b";", b"#|", b"|#", b"#;", b"\0", b"\xff", b"\n", b"-", b"9" * 30]
                ),
                st.binary(max_size=3),
            )
        )
        data = data[:start] + other + data[end:]
    return data


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(mutated())
@settings(max_examples=4000)
def test_shipped_specs_with_mistakes(builder: Builder, data: bytes) -> None:
    survives(data, builder)


NASTY = ["/", "//", "relative", "..", "/../..", "/a/../../etc", "/proc/1/root", "/proc/self/fd/0", "/dev", "/dev/null"]
NASTY += ["/sys", "/etc/hosts", "/bin/sh", "/a:b,c=d\\040", "/\udce9", "/a\nb", "", "\0", *LONG.values()]


@pytest.mark.parametrize("target", NASTY)
@pytest.mark.parametrize("form", ["cache", "secret", "workdir", "both"])
def test_targets_that_nobody_would_write(house: House, form: str, target: str) -> None:
    atom = sexp.format(target)
    op = {
        "cache": f"(run (cache (c (target {atom}))) (shell true))",
        "secret": f"(run (secrets (s (target {atom}))) (shell true))",
        "workdir": f"(workdir {atom}) (run (shell true))",
        "both": f"(run (cache (c (target {atom}))) (secrets (s (target {atom}))) (shell true))",
    }[form]
    before, refusal = sorted(os.listdir("/")), "test.spec:1: none"
    try:
        house.build(stage(op), secrets={"s": b"value"})
    except ObuildError as error:
        refusal = str(error)
    assert sorted(os.listdir("/")) == before
    assert refusal.startswith("test.spec:1:")


@pytest.mark.parametrize(
    "atom", ["", "\0", "a\0b", "A=B", "é", "\udce9", "a" * 200_000, "a\nb", "=", "PATH", "LD_PRELOAD"]
)
@pytest.mark.parametrize("place", ["name", "value", "command", "shell", "network", "cache"])
def test_words_that_nobody_would_write(house: House, place: str, atom: str) -> None:
    word = sexp.format(atom)
    op = {
        "name": f"(env {word} x) (run (shell true))",
        "value": f"(env X {word}) (run (shell true))",
        "command": f"(run (shell {word}))",
        "shell": f"(shell {word}) (run (shell true))",
        "network": f"(run (network {word}) (shell true))",
        "cache": f"(run (cache ({word} (target /c))) (shell true))",
    }[place]
    refusal = "test.spec:1: none"
    try:
        house.build(stage(op))
    except ObuildError as error:
        refusal = str(error)
    assert "test.spec:1:" in refusal
