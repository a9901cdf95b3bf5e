"""A spec as a Dockerfile: OBuilder's text where that was right, and real builders that build what the spec says."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from conftest import needs

from obuild import dockerfile, spec
from obuild.dockerfile import reading
from obuild.errors import SpecError, UsageError
from obuild.spec import Comment, Copy, Env, FromBuild, FromPackage, Op, Run, Secret, Shell, Spec, User, Workdir


def lines(*ops: Op, buildkit: bool = False, escape: str = "unix") -> list[str]:
    """The lines of the Dockerfile behind `FROM base`."""
    text = dockerfile.format(Spec("base", ops), buildkit=buildkit, escape=escape)
    head, *found = text.removeprefix("#escape=`\n").splitlines()
    assert head == "FROM base"
    return found


PLAIN = """\
((from base)
 (comment "A test comment")
 (workdir /src)
 (run (shell "command1"))
 (shell /bin/sh -c)
 (run (cache (a (target /data)) (b (target /srv) (buildkit_options ((sharing private)))))
      (secrets (s (target /run/secrets/s)))
      (shell "command2 &&
              command3"))
 (copy (src a b) (dst c))
 (copy (src a b) (dst c) (exclude .git _build))
 (env DEBUG 1)
 (env ESCAPE "foo\\"bar\\\\baz")
 (user (uid 1) (gid 2))
 (copy (src a b) (dst c))
 (run (shell "command4")))
"""


def test_what_obuilder_writes() -> None:
    assert dockerfile.format(spec.parse(PLAIN, "t")).splitlines() == [
        "FROM base",
        "# A test comment",
        "WORKDIR /src",
        "RUN command1",
        'SHELL [ "/bin/sh", "-c" ]',
        "RUN command2 && \\",
        "    command3",
        "COPY a b c",
        "COPY a b c",
        'ENV DEBUG="1"',
        'ENV ESCAPE="foo\\"bar\\\\baz"',
        "USER 1:2",
        "COPY --chown=1:2 a b c",
        "RUN command4",
    ]


def test_buildkit_mounts_secrets_before_caches() -> None:
    found = dockerfile.format(spec.parse(PLAIN, "t"), buildkit=True).splitlines()
    assert found[5] == (
        "RUN --mount=type=secret,id=s,target=/run/secrets/s,uid=0 --mount=type=cache,id=a,target=/data,uid=0"
        " --mount=type=cache,id=b,target=/srv,uid=0,sharing=private command2 && \\"
    )


def test_windows() -> None:
    text = r"""((from base) (workdir C:\src) (shell cmd /S /C) (user (name Zaphod)) (env X "a\"\\`")
        (copy (src a) (dst "C:\\src")) (run (secrets (s (target C:\s))) (shell "command2 &&
        command3")))"""
    assert dockerfile.format(spec.parse(text, "t"), escape="windows").splitlines() == [
        "#escape=`",
        "FROM base",
        "WORKDIR C:\\src",
        'SHELL [ "cmd", "/S", "/C" ]',
        "USER Zaphod",
        'ENV X="a`"\\``"',
        "COPY a C:\\src",
        "RUN command2 && `",
        "    command3",
    ]
    with pytest.raises(SpecError, match="can not have the secret"):
        dockerfile.format(spec.parse(text, "t"), escape="windows", buildkit=True)


def test_builds_become_stages_with_names_that_docker_takes() -> None:
    text = """((build tools ((build in ((from a))) (from base) (copy (from (build in)) (src x) (dst y))))
        (build tools ((from base) (copy (from (build tools)) (src x) (dst y))))
        (build "My Docs" ((from base)))
        (build debian ((from debian)))
        (from debian)
        (copy (from (build tools)) (src binary) (dst /usr/local/bin))
        (copy (from (build "My Docs")) (src .) (dst /doc))
        (copy (from (build debian)) (src .) (dst /debian)))"""
    assert dockerfile.format(spec.parse(text, "t")).splitlines() == [
        "FROM a as in",
        "",
        "FROM base as tools",
        "COPY --from=in x y",
        "",
        "FROM base as tools-2",
        "COPY --from=tools x y",
        "",
        "FROM base as build-my-docs",
        "",
        "FROM debian as debian-2",
        "",
        "FROM debian",
        "COPY --from=tools-2 binary /usr/local/bin",
        "COPY --from=build-my-docs . /doc",
        "COPY --from=debian-2 . /debian",
    ]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (Comment("one\ntwo\n"), ["# one", "# two"]),
        (Comment(""), ["#"]),
        (Workdir("/a b"), ["WORKDIR /a b"]),
        (Workdir("/a$b'"), ['WORKDIR "/a\\$b\'"']),
        (Workdir(""), []),
        (Shell(('a"b', "c\\")), ['SHELL [ "a\\"b", "c\\\\" ]']),
        (Env("A", "$x\\"), ['ENV A="\\$x\\\\"']),
        (Copy(("a b",), "c"), ['COPY [ "a b", "c" ]']),
        (Copy(("d", "e/f/", "."), "/x/"), ["COPY d /x/d", "COPY e/f/ /x/f", "COPY . /x/"]),
        (Copy(("",), ""), ["COPY . ./"]),
        (Copy(("--a", "<<b", "c*[?", "$d"), "e"), ["COPY ./--a ./<<b c[*][[][?] \\$d e"]),
        (Run("a \\\n  b"), ["RUN a \\", "    b"]),
        (Run("a |\n\n  b"), ["RUN a | \\", "    b"]),
        (Run("[ -f x ] && y"), ["RUN [ -f x ] && y"]),
        (Run("  a  "), ["RUN a"]),
    ],
)
def test_quoting(op: Op, expected: list[str]) -> None:
    assert lines(op) == expected


@pytest.mark.parametrize(
    "command",
    [
        "a\nb",
        "",
        "a\\",
        "--a",
        '["a"]',
        "cat <<E",
        "a\\\nb",
        "a # b &&\nc",
        "'a &&\nb'",
        "a \\' &&\nb '",
        "a\rb",
        "a && `b\n`",
    ],
)
def test_commands_that_docker_would_change_are_written_as_words(command: str) -> None:
    words = json.dumps(["/usr/bin/env", "bash", "-c", command])
    assert lines(Run(command)) == [f"RUN [ {words[1:-1]} ]"]


def test_a_command_without_a_shell_is_the_program() -> None:
    assert lines(Shell(()), Run("/bin/a b")) == ['RUN [ "/bin/a b" ]']


def test_networks_that_buildkit_knows() -> None:
    run = Run("x", network=("host", "mine"))
    assert lines(run, buildkit=True) == ["RUN --network=host x"]
    assert lines(run) == ["RUN x"]


def test_losses() -> None:
    text = """((build b ((from a) (run (cache (c (target /c))) (secrets (s)) (shell x))))
      (from a)
      (copy (src a) (dst b) (exclude .git _build))
      (run (network host mine) (shell x)))"""
    found = spec.parse(text, "t")
    assert [str(loss) for loss in dockerfile.losses(found)] == [
        "t:1:21: caches and secrets are left out; BuildKit knows them",
        't:3:7: ".git _build" is not excluded; list it in .dockerignore',
        't:4:7: the network "mine" is left out',
    ]
    assert len(dockerfile.losses(found, buildkit=True)) == 2


def test_all_that_has_no_counterpart_is_told() -> None:
    ops = (
        Env("A", "b\nc"),
        Env("A B", ""),
        Workdir("a\nb"),
        Copy(("a",), "b", FromPackage("a.1", "id")),
        Copy(("a\n",), "b"),
        Run("x", secrets=(Secret("a b", "/c"),)),
        Workdir("\udcff"),
    )
    with pytest.raises(SpecError) as caught:
        dockerfile.format(Spec("a b", ops), buildkit=True)
    assert [problem.message for problem in caught.value.problems] == [
        'a Dockerfile can have no blanks in a base: "a b"',
        'a Dockerfile can have no newline in a variable, and "A" has one',
        'a Dockerfile can have no variable "A B"',
        "a Dockerfile can have no newline there",
        "a Dockerfile can copy from the context and from builds only",
        "a Dockerfile can have no newline in a path",
        'a Dockerfile can not have the secret "a b" at "/c"',
        "a Dockerfile can not have bytes that are not UTF-8",
    ]
    with pytest.raises(UsageError, match="unknown escape style"):
        dockerfile.format(Spec("a"), escape="dos")


COMMANDS = {
    "echo one": "one",
    "echo two &&\n  echo three": "two\nthree",
    "echo a \\\n  b": "a b",
    "echo 'x\ny'": "x\ny",
    "echo \"$X\" '$X'": "v $Y \"q\" 'p' \\ back\\\\ #h `t` $X",
    "[ -n x ] && echo bracket": "bracket",
    "cat <<E\nheredoc $Z\nE": "heredoc tail\\",
    "# only a comment &&\necho after": "after",
    "": "",
    "if true; then\necho if\nfi": "if",
    "echo tail\\\\": "tail\\",
    "echo end # comment": "end",
    '["echo"] || echo json': "json",
    "echo é": "é",
    "printf 'tab\there\\n'": "tab\there",
    "echo 'quote\\'": "quote\\",
    'echo "it\'s" &&\n echo "ok\'s"': "it's\nok's",
    "echo $((1<<2))": "4",
    "echo a |\n\n cat": "a",
    "echo x;\\\necho y": "x\ny",
    "pwd": "/w $X 'd\" \\/sub",
}
ENV = (("X", "v $Y \"q\" 'p' \\ back\\\\ #h `t`"), ("Y", ""), ("Z", "tail\\"), ("W", "a=b"))
NAMES = ("a b", "dollar$X", "quo'te", 'dq"x', "--dash", "<<here", "#hash", "é", "sub/in side")
PATTERNS = ("c*d", "q[x]", "t?t", '["json"]', "a\\*b", "back\\slash")


def built(recipe: Spec, context: Path, builder: str, engine: str, tmp_path: Path) -> dict[str, str]:
    """The text of each file below /out and /dst of what a real builder makes of the Dockerfile."""
    (tmp_path / "Dockerfile").write_text(dockerfile.format(recipe))
    result = tmp_path / "result.tar"
    if builder == "buildah":
        place = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
        subprocess.run(["sh", "-ec", TINY_BUILDAH, "sh", tmp_path / "tiny.tar", *place], check=True, timeout=100)
        options = ["--pull-never", "--format", "docker", "--isolation", "chroot", "-o", f"type=tar,dest={result}"]
        command = ["buildah", *place, "bud", *options, "-f", tmp_path / "Dockerfile", context]
        subprocess.run(command, check=True, timeout=250)
    else:
        docker = ["docker", "-H", engine]
        env = {**os.environ, "DOCKER_BUILDKIT": "0"}
        subprocess.run([*docker, "import", tmp_path / "tiny.tar", "localhost/tiny"], check=True)
        command = [*docker, "build", "-q", "--network", "none", "-f", tmp_path / "Dockerfile", "-t", "made", context]
        subprocess.run(command, check=True, timeout=250, env=env)
        subprocess.run([*docker, "create", "--name", "made", "made", "true"], check=True)
        subprocess.run([*docker, "export", "-o", result, "made"], check=True)
    with tarfile.open(result) as tar:
        files = [member for member in tar if member.isfile() and member.name.lstrip("./").startswith(("out/", "dst/"))]
        return {member.name.removeprefix("./"): tar.extractfile(member).read().decode() for member in files}  # type: ignore[union-attr]


TINY_BUILDAH = """
tar=$1; shift
c=$(buildah "$@" from scratch)
buildah "$@" add -q $c "$tar" / >/dev/null
buildah "$@" commit -q $c localhost/tiny >/dev/null
buildah "$@" rm $c >/dev/null
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "builder",
    [pytest.param("buildah", marks=needs("buildah")), pytest.param("docker", marks=needs("docker", "dockerd"))],
)
def test_real_builders_do_what_the_spec_says(
    builder: str, tmp_path: Path, tiny_rootfs: Path, request: pytest.FixtureRequest
) -> None:
    engine = request.getfixturevalue("docker_engine") if builder == "docker" else ""
    # buildah expands the name that a pattern stood for as a pattern again, so such files can not be copied with it.
    names = (*NAMES, *PATTERNS) if builder == "docker" else NAMES
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    for name in names:
        (context / name).write_text(name)
    with tarfile.open(tmp_path / "tiny.tar", "w") as tar:
        tar.add(tiny_rootfs, "/")
    record = Shell(("/bin/sh", "-c", 'n=$(ls /out | wc -l); exec /bin/sh -c "$1" > /out/$n', "sh"))
    ops = (
        Shell(("/bin/sh", "-c")),
        Run("mkdir /out"),
        Comment("several\nlines \\\n# escape=`"),
        *[Env(name, text) for name, text in ENV],
        Workdir("/w $X 'd\" \\"),
        Workdir("sub"),
        record,
        *[Run(command) for command in COMMANDS],
        Copy(names, "/dst/"),
        *[Copy((name,), f"/dst/as {name.replace('/', ' ')}") for name in names],
        Copy(("sub",), "/dst/"),
        Copy(("sub",), "/dst/content"),
        Copy(("made",), "/dst/", FromBuild("My Tools")),
    )
    tools = Spec("localhost/tiny", (Shell(("/bin/sh", "-c")), Run("echo it > made")))
    found = built(Spec("localhost/tiny", ops, (("My Tools", tools),)), context, builder, engine, tmp_path)
    outputs = [found[f"out/{number}"].rstrip("\n") for number in range(len(COMMANDS))]
    assert dict(zip(COMMANDS, outputs, strict=True)) == COMMANDS
    copied = {f"dst/{os.path.basename(name)}": name for name in names}
    copied |= {f"dst/as {name.replace('/', ' ')}": name for name in names}
    copied |= {"dst/sub/in side": "sub/in side", "dst/content/in side": "sub/in side", "dst/made": "it\n"}
    assert {name: text for name, text in found.items() if name.startswith("dst/")} == copied


def test_what_is_written_is_read_back() -> None:
    ops = (
        Shell(("/bin/sh", "-c")),
        Comment("several\nlines"),
        *[Env(name, text) for name, text in ENV],
        Workdir("/w $X 'd\" \\"),
        *[
            Run(" ".join(command.split()) if "&&" in command else command)
            for command in COMMANDS
            if "\\\n" not in command
        ],
        User(1, 2),
        *[Copy((name,), f"/as {name}") for name in (*NAMES, *PATTERNS)],
        Run("x", (spec.Cache("c", "/c", (("sharing", "locked"),)),), ("host",), (Secret("s", "/s"),)),
        Copy(("a",), "b", FromBuild("tools")),
    )
    tools = Spec("base", (Shell(("/bin/sh", "-c")), Run("make")))
    recipe = Spec("base", ops, (("tools", tools),))
    found, notes = reading.parse(dockerfile.format(recipe, buildkit=True), "t", network=())
    assert notes == ()
    expected = [op for op in ops if not isinstance(op, Run) or op.shell != "echo a |\n\n cat"]
    assert [op for op in found.ops if not isinstance(op, Run) or op.shell != "echo a | cat"] == expected
    assert found.builds == recipe.builds
