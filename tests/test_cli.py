"""The installed program: every command, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import alive, soon
from house import PROGRAM, Gate, House, sh, stage, stop

from obuild import __version__, cli
from obuild.cli.option import Command
from obuild.docker_engine import open_engine
from obuild.export import export
from obuild.image import Image, parse_config
from obuild.value import replace


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


def obuild(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The program without a store."""
    whole = {**os.environ, **env}
    return subprocess.run([PROGRAM, *words], input=stdin, capture_output=True, text=True, env=whole, timeout=60)


HELLO = stage("(workdir /w)", "(user (uid 5) (gid 6))", "(env K v)", sh("echo hello; printf end"))


def built(house: House, text: str = HELLO, *words: str) -> str:
    """Build a spec; the id of its last layer."""
    done = house.run("build", *words, "-f", house.file(text))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return re.findall(r'^Got: "([0-9a-f]{64})"$', done.stdout, re.M)[0]


# build.


@pytest.mark.parametrize("words", [[], ["-j2"]], ids=["quick reader", "click"])
def test_build(house: House, words: list[str]) -> None:
    file = house.file(HELLO)
    done = house.run("build", *words, "-f", file)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-4:-2] == ["hello", "end"]
    assert re.fullmatch(r'---> saved as "[0-9a-f]{64}"', lines[-2])
    assert lines[-1] == lines[-2].replace("---> saved as", "Got:")
    again = house.run("build", *words, "-f", file)
    assert again.stdout.splitlines() == [
        line.replace("saved as", "using") + " from cache" if line.startswith("--->") else line for line in lines
    ]


def test_a_spec_from_standard_input(house: House) -> None:
    done = house.run("build", "-f", "-", stdin=HELLO)
    assert done.stdout.endswith(f'Got: "{built(house)}"\n')
    done = house.run("build", "-f", "-", stdin="((from b) (rum x))")
    assert done.returncode == 2
    assert done.stderr.startswith('obuild: standard input:1:11: unknown operation "rum"; did you mean "run"?\n')


def test_colours(house: House) -> None:
    file = house.file(HELLO)
    done = house.run("build", "--color", "always", "-f", file)
    assert "\x1b[94m(from b)\x1b[0m\n\x1b[33m---> saved as" in done.stdout
    assert "\x1b" not in house.run("build", "--color", "auto", "-f", file).stdout
    assert "\x1b" not in house.run("build", "--color", "never", "-f", file).stdout


def test_options_that_reach_the_step(house: House) -> None:
    ask = sh("cat /sys/fs/cgroup/x 2>/dev/null; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; touch /f; sync -f /f")
    words = ["--no-new-privs", "--fast-sync", "--memory", "64M", "--cpus", "1.5", "--pids", "20"]
    words += ["--step-timeout", "1m", "--timeout", "2m", "--log-limit", "1M", "--sandbox", "crun", "--pull"]
    done = house.run("build", *words, "--platform", "linux/amd64", "-f", house.file(stage(ask)))
    assert "NoNewPrivs:\t1\nSeccomp:\t2\n" in done.stdout, done.stderr


def test_secrets(house: House) -> None:
    value = house.folder / "value"
    value.write_text("open sesame")
    text = stage('(run (secrets (key (target /key))) (shell "cat /key"))')
    done = house.run("build", "--secret", f"key:{value}", "-f", house.file(text))
    assert "\n***\n" in done.stdout
    done = house.run("build", "-f", house.file(text))
    assert done.returncode == 1
    assert done.stderr.endswith(':1:31: no value for the secret "key"\nhint: give it with --secret key:FILE\n')
    done = house.run("build", "--secret", "key:/nonexistent", "-f", house.file(text))
    assert (done.returncode, done.stderr) == (
        2,
        'obuild: can not read the secret "/nonexistent": no such file or directory\n',
    )


# How a build fails.


def test_a_failing_step_says_where_its_log_is_and_how_to_look_inside(house: House) -> None:
    file = house.file(stage("(workdir /w)", "(env K v)", sh("echo oh no; touch left; exit 3")))
    done = house.run("build", "-f", file)
    assert done.returncode == 1
    assert done.stdout.endswith("\noh no\n")
    error, log, look = done.stderr.splitlines()  # its output was the last thing shown
    assert error == (f'obuild: {file}:1:54: "/bin/sh" "-c" "echo oh no; touch left; exit 3" failed with exit status 3')
    assert Path(log.removeprefix("log: ")).read_text() == "oh no\n"
    words = shlex.split(look.removeprefix("look inside: "))
    assert words[:2] == ["obuild", "shell"]
    inside = subprocess.run(
        [PROGRAM, *words[1:], "--", "/bin/sh", "-c", "ls; pwd; echo $K; exit 9"], capture_output=True, text=True
    )
    assert (inside.returncode, inside.stdout) == (9, "left\n/w\nv\n")
    last = house.run("shell", "--failed", "--", "/bin/ls")
    assert (last.returncode, last.stdout) == (0, "left\n")


def test_the_last_lines_are_shown_again_when_others_came_after_them(house: House, gate: Gate) -> None:
    other = Gate()
    nested = stage(other.run("true", "echo oh no; exit 3"))
    process = house.start(stage(gate.run("echo main", "echo more"), builds=f"(build n {nested})"), "-j2")
    gate.wait()
    other.wait()
    other.close()
    out, err = process.communicate(timeout=60)
    assert b"\nmain\n" in out
    assert err.startswith(b"oh no\nobuild: ")


def test_advice_for_beginners(house: House) -> None:
    done = house.run("build", "-f", house.file(stage(sh("wget http://example.com/"))))
    assert "hint: a step has no network unless it asks for one: (run (network host) …)\n" in done.stderr
    named = house.run("build", "-f", house.file(stage(f"(comment {'x' * 200})", sh("ls " + "nonesuch " * 100))))
    assert len(named.stderr.splitlines()[0]) < 400


def test_failed_trees_and_caches_can_be_deleted(house: House) -> None:
    text = stage('(run (cache (c1 (target /c))) (shell "touch /c/x; exit 3"))')
    house.run("build", "-f", house.file(text))
    failed = house.run("ls", "--failed").stdout.split()[0]
    assert house.run("delete", failed).stdout.startswith(f"deleted {failed}")
    assert house.run("ls", "--failed").stdout == ""
    assert house.run("delete", "--cache", "c1").stdout == "deleted cache c1\n"
    done = house.run("delete", "--cache", "c1")
    assert (done.returncode, done.stderr) == (4, 'obuild: no cache "c1" in the store\n')
    assert house.run("delete").returncode == 2


def test_a_failed_tree_can_be_thrown_away(house: House) -> None:
    done = house.run("build", "--discard-failed", "-f", house.file(stage(sh("exit 3"))))
    assert done.returncode == 1
    assert "look inside" not in done.stderr
    assert house.run("ls", "--failed").stderr == "no failed steps are kept\n"
    assert house.run("shell", "--failed").returncode == 2


def test_out_of_memory(house: House) -> None:
    ask = stage(sh("dd if=/dev/zero of=/dev/null bs=64M count=1"))
    done = house.run("build", "--memory", "16M", "-f", house.file(ask))
    assert done.returncode == 1
    first, hint, *rest = done.stderr.splitlines()
    assert first.endswith(":1:31: out of memory: the step used more than 16 MiB")
    assert hint == "hint: allow it more memory"
    assert [line.split(":")[0] for line in rest] == ["log", "look inside"]


def test_exit_status_of_every_kind_of_error(house: House) -> None:
    file = house.file(HELLO)
    assert house.run("build", "-f", house.file("((from b) (rum x))")).returncode == 2
    assert house.run("build", "-f", "/nonexistent").returncode == 2
    assert house.run("build", "--sandbox", "cru", "-f", file).returncode == 2
    assert house.run("build", "--image", "b=dir:/nonexistent", "-f", file).returncode == 4
    assert obuild("ls", "--store", "overlay:/proc/store").returncode == 4
    assert house.run("build", "-f", house.file(stage("(copy (src nonesuch) (dst /))"))).returncode == 1


def test_a_sandbox_or_destination_that_can_not_be_is_refused_before_anything_is_built(house: House) -> None:
    done = house.run("build", "--sandbox", "cru", "-f", house.file(HELLO))
    assert (done.returncode, done.stdout) == (2, "")
    (house.folder / "there").mkdir()
    (house.folder / "there/file").touch()
    done = house.run("build", "-o", house.folder / "there", "-f", house.file(HELLO))
    assert (done.returncode, done.stdout) == (2, "")
    assert "exists already" in done.stderr


def test_a_base_that_can_not_be_had_says_how_to_take_another(house: House) -> None:
    done = house.run("build", "-f", house.file("((from dir:/nonexistent))"))
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "hint: to take it from elsewhere: --image dir:/nonexistent=SOURCE"


def test_a_bug_is_shown_with_its_traceback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> int:
        raise ZeroDivisionError("no reason")

    monkeypatch.setattr(cli, "find_command", lambda name: Command(broken, "Break."))
    assert cli.main(["df"]) == 70
    assert capfd.readouterr().err.endswith(
        "ZeroDivisionError: no reason\nobuild: this is a bug in obuild, please report it with the lines above\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_build_and_leaves_nothing(house: House, gate: Gate, number: int) -> None:
    text = stage(
        "(run (secrets (key (target /key))) (cache (c (target /c))) (network host)"
        f'(shell "sleep 987671 & {gate.enter}"))',
        builds=f"(build n {stage(sh('sleep 987671'), '(run (network lab) (shell true))')})",
    )
    value = house.folder / "value"
    value.write_text("open sesame")
    process = house.start(text, "--secret", f"key:{value}", "--pids", "50", "-j2")
    gate.wait()
    assert soon(lambda: len(alive("987671")) >= 2)
    status, _, err = stop(process, number)
    assert (status, err.decode()) == (130, f"obuild: cancelled by {signal.Signals(number).name}\n")
    assert alive("987671") == []
    assert house.residue() == []
    assert house.open().failed() == []


def test_time_limits(house: House) -> None:
    file = house.file(stage(sh("sleep 987672")))
    done = house.run("build", "--timeout", "0.7", "-f", file)
    assert (done.returncode, done.stderr) == (1, "obuild: time limit: the build took more than 0.7 seconds\n")
    done = house.run("build", "--step-timeout", "0.7", "-f", file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"obuild: {file}:1:31: time limit: the step took more than 0.7 seconds\n")
    assert alive("987672") == []


def test_whoever_reads_the_output_may_go(house: House) -> None:
    layer = built(house, stage(sh("yes | head -n 200000")))
    for words in (["log", layer], ["build", "-f", str(house.file(stage(sh("yes | head -n 200000"))))]):
        process = subprocess.Popen(house.words(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
        process.stderr.close()


def test_whoever_reads_the_output_may_go_while_a_step_runs(house: House) -> None:
    process = house.start(stage(sh("while echo x; do sleep 0.01; done")))
    assert process.stdout
    assert process.stderr
    while not process.stdout.readline().startswith(b"x"):
        pass
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()
    assert house.open().failed() == []


# Events.


def test_events(house: House) -> None:
    text = stage(sh("echo héllo; printf end"), "(comment x)", builds=f"(build n {stage()})")
    events = house.events(text)
    steps = [event for event in events if event["event"] == "step"]
    own = [event for event in steps if "build" not in event]
    assert [(event["op"], event["status"]) for event in own] == [("from", 0), ("run", 0)]
    assert own[1]["cached"] is False  # who of the two made the base is for them to say
    assert all(set(event) - {"build"} == {"event", "op", "id", "cached", "status", "seconds"} for event in steps)
    assert {event["build"] for event in events if "build" in event} == {"n"}
    assert "".join(event["text"] for event in events if event["event"] == "output") == "héllo\nend"
    assert events[-1] == {"event": "result", "id": own[-1]["id"]}
    again = house.events(text)
    assert all(event["cached"] for event in again if event["event"] == "step")
    assert {event["event"] for event in again} == {"heading", "note", "output", "step", "result"}


def test_a_letter_is_not_cut_between_two_events(house: House) -> None:
    events = house.events(stage(sh("printf '\\303'; sleep 0.3; printf '\\251\\n\\377'")))
    assert "".join(event["text"] for event in events if event["event"] == "output") == "é\n\N{REPLACEMENT CHARACTER}"


def test_the_last_event_of_a_failure(house: House) -> None:
    events = house.events(stage(sh("echo oh no; exit 3")))
    assert events[-2]["status"] == 3
    last = events[-1]
    assert set(last) == {"event", "message", "hint", "tail", "log", "look"}
    assert (last["event"], last["tail"]) == ("error", "oh no")
    assert last["message"].endswith("failed with exit status 3")
    assert Path(last["log"]).read_text() == "oh no\n"
    assert last["look"].startswith("obuild shell ")


@pytest.mark.parametrize("text", ["((from b) (rum))", "((from nonesuch:))", "("])
def test_an_early_error_is_an_event_too(house: House, text: str) -> None:
    assert [event["event"] for event in house.events(text)][-1:] == ["error"]


# What is in a store.


def test_ls_show_log_df(house: House) -> None:
    assert house.run("ls").stderr == "nothing here yet\n"
    layer = built(house)
    lines = house.run("ls").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{layer[:12]}  ")
    assert lines[1].endswith("  run  echo hello; printf end")
    objects = [json.loads(line) for line in house.run("ls", "--json").stdout.splitlines()]
    assert [item["op"] for item in objects] == ["from", "run"]
    shown = json.loads(house.run("show", layer[:10]).stdout)
    assert shown["id"] == layer
    assert shown["parents"] == [objects[0]["id"]]
    assert shown["context"]["user"] == [5, 6]
    assert house.run("log", layer[:10]).stdout == "hello\nend"
    facts = json.loads(house.run("df", "--json").stdout)
    assert set(facts) == {"layers", "failed", "caches", "images", "sources", "other", "free", "total"}
    assert facts["layers"] > 1_000_000
    assert [line.split()[0] for line in house.run("df").stdout.splitlines()] == list(facts)


def test_an_id_that_nothing_has(house: House) -> None:
    layer = built(house)
    done = house.run("show", layer[:9] + "x")
    assert done.returncode == 4
    assert done.stderr.startswith(f'obuild: no layer "{layer[:9]}x" in the store\n')
    for command in ("log", "delete", "shell"):
        assert house.run(command, "0" * 64).returncode == 4
    assert house.run("show", "").returncode == 2  # the beginning of all ids


def test_prune_delete_clean_fsck(house: House) -> None:
    layer = built(house)
    dry = house.run("prune", "--max-count", "1", "--dry-run")
    assert dry.stdout.splitlines()[0].startswith(f"would delete layer {layer} (")
    pruned = house.run("prune", "--max-size", "1k", "--json")
    assert [json.loads(line)["kind"] for line in pruned.stdout.splitlines()] == ["layer", "layer"]
    assert house.run("prune", "--max-age", "1s").stdout.endswith("0 items, 0 B\n")
    assert built(house) == layer
    base = json.loads(house.run("show", layer).stdout)["parents"][0]
    done = house.run("delete", base)
    assert (done.returncode, done.stdout) == (4, "")
    assert sorted(house.run("delete", "--children", base[:9]).stdout.split()[1::2]) == sorted([layer, base])
    built(house)
    assert house.run("fsck").stdout == "nothing is wrong\n"
    Path(house.store.partition(":")[2], "steps", layer, "build.log").unlink()
    found = house.run("fsck", "--json")
    assert (found.returncode, json.loads(found.stdout)["repaired"]) == (1, False)
    assert house.run("fsck", "--repair").returncode == 0
    assert house.run("clean").stdout.startswith("1 item, ")
    assert house.run("ls").stdout == ""


@pytest.mark.parametrize("format", ["dir", "tar", "oci", "docker"])
def test_a_result_in_every_format(house: House, format: str) -> None:
    (out := house.folder / "out").mkdir()
    layer = built(house, HELLO, "-o", str(out / "a"), "--format", format)
    done = house.run("export", layer[:12], "--format", format, "-o", out / "b")
    assert (done.returncode, done.stderr) == (0, "")
    for path in (out / "a", out / "b"):
        match format:
            case "dir":
                assert (path / "w").is_dir()
            case "oci":
                assert json.loads((path / "oci-layout").read_text())["imageLayoutVersion"]
            case _:
                with tarfile.open(path) as archive:
                    assert {"tar": "./w", "docker": "manifest.json"}[format] in archive.getnames()


def test_an_exported_image_keeps_environment_user_and_directory(house: House) -> None:
    built(house, HELLO, "-o", str(house.folder / "image"), "--format", "oci")
    ask = f'((from oci:{house.folder}/image) (shell /bin/sh -c) (run (shell "echo $K $PATH")))'
    done = house.run("build", "-f", house.file(ask))
    assert "\nv /usr/local/sbin:" in done.stdout, done.stderr


def test_an_exported_image_keeps_what_its_base_says_of_itself(house: House) -> None:
    said = Image(
        env=(("A", "1"),),
        cmd=("serve", "--all"),
        entrypoint=("/bin/sh",),
        labels=(("team", "x"), ("version", "3")),
        user="7",
        workdir="/srv",
        platform="linux/arm64",
    )
    export(str(house.base), said, f"{house.folder}/image", "oci")
    name = f"oci:{house.folder}/image"
    (out := house.folder / "out").mkdir()
    words = ["--platform", "arm64", "--format", "oci", "-o"]
    first = house.run("build", "-f", house.file(f"((from {name}))"), *words, out / "1")
    assert first.returncode == 0, first.stderr
    assert replace(image_in(out / "1"), digest="") == said
    text = f"((from {name}) (shell /bin/sh -c) (user (uid 5) (gid 6)) (env B 2) {sh('true')} {sh('true')})"
    second = house.run("build", "-f", house.file(text), *words, out / "2")
    assert second.returncode == 0, second.stderr
    kept = replace(said, env=(("B", "2"), ("A", "1")), user="5:6", workdir="/")
    assert replace(image_in(out / "2"), digest="") == kept


def image_in(layout: Path) -> Image:
    """What the only image of a layout says of itself."""

    def blob(found: dict[str, Any]) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((layout / "blobs/sha256" / found["digest"][7:]).read_text())
        return content

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return parse_config(blob(blob(entry)["config"]), "")


def test_results_go_into_an_engine(house: House, docker_engine: str) -> None:
    env = {"DOCKER_HOST": docker_engine}
    done = house.run("build", "-f", house.file(HELLO), "--load", "-t", "team/built:v1", env=env)
    assert done.returncode == 0, done.stderr
    assert '---> loaded as "team/built:v1"\n' in done.stdout
    layer = done.stdout.split('"')[-2]
    again = house.run("export", layer, "--load", "--tag", "team/exported", env=env)
    assert (again.returncode, again.stderr) == (0, "")
    engine = open_engine(docker_engine)
    assert engine is not None
    for name in ("team/built:v1", "team/exported:latest"):
        image = engine.image(name)
        assert image is not None
        assert f"{image.digest}\n" == again.stdout
        assert (dict(image.env)["K"], image.user, image.workdir) == ("v", "5:6", "/w")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "export to where?"),
        (("--load", "-o", "x"), "export to where?"),
        (("--load", "-t", "UPPER"), "UPPER"),
        (("--load", "-t", f"a@sha256:{'0' * 64}"), "an image can not be given the digest"),
    ],
)
def test_an_export_to_nowhere(house: House, words: tuple[str, ...], message: str) -> None:
    done = house.run("export", built(house), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_loading_without_an_engine(house: House) -> None:
    done = house.run("export", built(house), "--load", env={"DOCKER_HOST": "none"})
    assert (done.returncode, done.stdout) == (4, "")
    assert "no Docker engine answers" in done.stderr


def test_healthcheck(house: House) -> None:
    done = house.run("healthcheck", "--image", f"dir:{house.base}", "--timeout", "60s")
    assert (done.returncode, done.stdout) == (0, "Healthcheck passed\n")
    assert len(house.open().layers()) == 1
    done = house.run("healthcheck", "--image", "dir:/nonexistent", "--timeout", "60s")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Healthcheck failed: ")


def test_shell_in_a_layer(house: House) -> None:
    layer = built(house)
    ask = "id -u; pwd; echo $K; touch /tmp/new; hostname; ls /sys/class/net; exit 7"
    done = house.run("shell", layer, "--", "/bin/sh", "-c", ask)
    assert (done.returncode, done.stdout) == (7, "5\n/w\nv\nbuilder\nlo\n")
    assert house.run("shell", layer, "/bin/ls", "/tmp").stdout == ""
    assert house.run("shell", layer, stdin="echo typed; exit 4\n").stdout == "typed\n"
    more = house.run("shell", "--network", "host", layer, "--", "/bin/ls", "/sys/class/net")
    assert set(more.stdout.split()) == set(os.listdir("/sys/class/net"))


# The command line itself.


def test_help() -> None:
    done = obuild("--help")
    assert done.returncode == 0
    for name in cli.COMMANDS:
        if " " not in name:
            assert f"\n  {name} " in done.stdout
    assert "--memory SIZE" in obuild("build", "-h").stdout
    assert obuild().returncode == 2
    assert obuild("--version").stdout == f"obuild, version {__version__}\n"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("bild", 'unknown command "bild"', 'did you mean "build"?'),
        ("build --fil x", 'no such option "--fil"', 'did you mean "--file"?'),
        ("build -f x", 'missing argument "DIRECTORY"', "obuild build --help"),
        ("build .", 'missing option "-f" / "--file"', "obuild build --help"),
        ("build -f x .", 'can not read "x": no such file or directory', ""),
        ("ls more", "got unexpected extra argument (more)", "obuild ls --help"),
        ("build -f x . --jobs 0", 'option "--jobs": "0" is not a whole number above 0', ""),
        ("build -f x . --secret x", 'option "--secret": "x" is not ID:FILE', ""),
        ("prune --store overlay:/tmp", "nothing to prune by", "give --max-age, --max-count or --max-size"),
        ("ls --store tree:/x", 'unknown kind of store "tree"', "one of overlay, btrfs, copy"),
    ],
)
def test_mistakes(line: str, message: str, hint: str) -> None:
    done = obuild(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"obuild: {message}\n" + (f"hint: {hint}\n" if hint else "")


def test_completion() -> None:
    assert "_obuild_completion" in obuild(_OBUILD_COMPLETE="bash_source").stdout
    words = {"COMP_WORDS": "obuild build --pro", "COMP_CWORD": "2"}
    assert obuild(_OBUILD_COMPLETE="bash_complete", **words).stdout == "plain,--progress\n"
    words = {"COMP_WORDS": "obuild im", "COMP_CWORD": "1"}
    assert obuild(_OBUILD_COMPLETE="bash_complete", **words).stdout == "plain,import-dockerfile\n"
    words = {"COMP_WORDS": "obuild build --color ", "COMP_CWORD": "3"}
    assert obuild(_OBUILD_COMPLETE="bash_complete", **words).stdout.split() == [
        "plain,auto",
        "plain,always",
        "plain,never",
    ]


def test_check_fmt_dockerfile(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.spec", tmp_path / "bad.spec"
    good.write_text("( (from b)(run (shell x)))")
    bad.write_text("((from b) (rum) (user (uid x) (gid 1)))")
    assert obuild("check", str(good)).stdout == "1 file checked\n"
    done = obuild("check", str(good), str(bad))
    assert done.returncode == 2
    assert done.stderr.count(f"{bad}:1:") >= 2  # all problems, not the first
    assert obuild("check", "--obuilder", str(good)).returncode == 0
    assert obuild("fmt", "--check", str(good)).returncode == 1
    assert obuild("fmt", str(good)).stdout == f"changed {good}\n"
    assert obuild("fmt", "--check", str(good)).returncode == 0
    assert obuild("fmt", "-", stdin="((from b))").stdout == "((from b)\n)\n"
    shown = obuild("dockerfile", "-f", str(good), "--buildkit", "--escape", "windows").stdout
    assert "FROM b" in shown
    made = obuild("import-dockerfile", "-f", "-", stdin="FROM b\nRUN x\n").stdout
    assert made.startswith("((from b)")


def test_the_default_store_of_a_user_can_be_named_in_the_environment(house: House) -> None:
    done = obuild("df", "--json", OBUILD_STORE=house.store)
    assert done.returncode == 0
    assert Path(house.store.partition(":")[2], "store.json").exists()


def test_the_umask_of_the_caller_does_not_count(house: House) -> None:
    layer = built(house, stage("(workdir /w)", sh("touch f")))
    house.run("clean")
    old = os.umask(0o077)
    try:
        assert built(house, stage("(workdir /w)", sh("touch f"))) == layer
    finally:
        os.umask(old)
    done = house.run("shell", layer, "--", "/bin/stat", "-c", "%a", "/w", "/w/f", "/")
    assert done.stdout.split() == ["755", "644", "755"]
