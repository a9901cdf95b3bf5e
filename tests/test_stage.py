"""One stage: what operations leave for later ones, nested builds, caches, networks, secrets, limits, ids."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import alive, refused, soon
from house import Gate, House, Log, Party, sh, stage

from obuild.errors import ObuildError, StepFailed
from obuild.sandbox import Limits


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


def said(house: House, *ops: str, builds: str = "", **given: object) -> str:
    """What the last run of a stage says."""
    layer, _ = house.build(stage(*ops, builds=builds), **given)
    return Path(layer.log).read_text()


# What operations leave for later ones.


def test_a_run_has_the_environment_of_the_image_and_nothing_else(house: House) -> None:
    words = said(house, sh("env")).split()
    assert [word for word in words if word[:4] not in ("PWD=", "HOME", "SHLV")] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ]


def test_environment(house: House) -> None:
    ops = ["(env A 1)", "(env B 2)", "(env A 3)", '(env C "x y")', "(env PATH /bin)", "(shell /bin/busybox env)"]
    text = said(house, *ops, "(run (shell env))")
    assert [line for line in text.splitlines() if line[:4] != "HOME"] == ["PATH=/bin", "C=x y", "A=3", "B=2"]


def test_the_environment_of_an_image_is_known_again_when_its_layer_is_found(house: House) -> None:
    house.build(stage())
    _, log = house.build(stage(sh("echo $PATH")))
    assert log.cached("from") == [True]
    assert "/usr/local/sbin:" in log.text


def test_working_directory(house: House) -> None:
    assert said(house, "(workdir /a/b)", "(workdir c)", sh("pwd; stat -c '%a %u:%g' . /a")).split() == [
        "/a/b/c", "755", "0:0", "755", "0:0"
    ]  # fmt: skip
    assert said(house, "(workdir rel)", sh("pwd")) == "/rel\n"


def test_user_and_shell(house: House) -> None:
    ops = ["(user (uid 1000) (gid 1001))", '(shell /bin/sh -e -c "echo $0-$1")', "(run (shell zero))"]
    assert said(house, *ops) == "zero-\n"
    assert said(house, "(user (uid 1000) (gid 1001))", sh("id -u; id -g; id -G")) == "1000\n1001\n1001\n"
    assert said(house, "(shell /bin/echo)", "(run (shell hi))") == "hi\n"
    assert said(house, "(shell)", "(run (shell /bin/hostname))") == "builder\n"


def test_a_user_by_name_is_refused(house: House) -> None:
    with refused(ObuildError, 'test.spec:1:31: the user "ContainerAdministrator" has no number here'):
        house.build(stage('(user (name "ContainerAdministrator"))', sh("true")))


def test_a_comment_is_a_heading_and_changes_nothing(house: House) -> None:
    one, _ = house.build(stage(sh("echo hi")))
    two, log = house.build(stage('(comment "what this does")', sh("echo hi")))
    assert one == two
    assert '/: (comment "what this does")\n' in log.text


def test_standard_input_is_empty_and_output_keeps_its_order(house: House) -> None:
    text = said(house, sh("cat; for i in 1 2 3; do echo o$i; echo e$i >&2; done; printf end"))
    assert text == "o1\ne1\no2\ne2\no3\ne3\nend"


def test_output_that_does_not_end_its_line(house: House) -> None:
    layer, log = house.build(stage(sh("printf end")))
    assert log.text.endswith(f'\nend\n---> saved as "{layer.id}"\n')
    _, again = house.build(stage(sh("printf end")))
    assert again.text.endswith(f'\nend\n---> using "{layer.id}" from cache\n')


# Nested builds.

DEV = f"(build dev {stage(sh('echo dev > /out'))})"


def test_a_nested_build_says_where_it_begins_and_ends(house: House) -> None:
    _, log = house.build(stage("(copy (from (build dev)) (src out) (dst /))", sh("cat /out"), builds=DEV))
    lines = log.text.splitlines()
    assert lines[0] == '(build "dev" ...)'
    assert lines[1] == "(from b)"
    end = lines.index('--> finished "dev"')
    assert lines[end - 1].startswith("---> saved as")
    assert lines[end + 1] == "(from b)"
    assert lines[-2] == "dev"


def test_nested_builds_see_nothing_of_what_the_stage_changes_and_leave_nothing(house: House) -> None:
    inner = '((from b) (shell /bin/sh -c) (env IN 1) (workdir /in) (run (shell "pwd; env > /env")))'
    ops = ["(env OUT 1)", "(workdir /w)", "(copy (from (build n)) (src env) (dst /))", sh("pwd; env; cat /env")]
    text = said(house, *ops, builds=f"(build n {inner})")
    own, nested = text.split("PATH=")[0], text
    assert own.splitlines()[0] == "/w"
    assert "OUT=1" in text
    assert nested.count("OUT=1") == 1
    assert nested.count("IN=1") == 1


def test_scope(house: House) -> None:
    inner = f"(build inner {stage(sh('echo inner > /out'))})"
    outer = stage("(copy (from (build inner)) (src out) (dst /inner))",
                  "(copy (from (build first)) (src out) (dst /first))", builds=inner)  # fmt: skip
    first = f"(build first {stage(sh('echo first > /out'))})"
    copies = ["(copy (from (build outer)) (src first inner) (dst /))", sh("cat /first /inner")]
    assert said(house, *copies, builds=f"{first} (build outer {outer})") == "first\ninner\n"


def test_a_later_build_hides_an_earlier_one_of_its_name(house: House) -> None:
    builds = [f"(build x {stage(sh(f'echo {word} > /out'))})" for word in ("one", "two")]
    between = f"(build y {stage('(copy (from (build x)) (src out) (dst /y))')})"
    ops = [
        "(copy (from (build x)) (src out) (dst /))",
        "(copy (from (build y)) (src y) (dst /))",
        sh("cat /out /y"),
    ]
    assert said(house, *ops, builds=f"{builds[0]} {between} {builds[1]}") == "two\none\n"


def test_independent_builds_run_at_the_same_time_and_are_shown_in_order(house: House, gate: Gate) -> None:
    names = ("a", "b", "c")
    builds = " ".join(f"(build {name} {stage(gate.run(f'echo {name}'))})" for name in names)
    copies = [f"(copy (from (build {name})) (src bin/sh) (dst /{name}))" for name in names]
    party = Party(house, stage(*copies, builds=builds), jobs=3)
    for _ in names:
        gate.wait()  # all three are here before any of them may go on
    gate.open()
    party.result()
    shown = [line for line in party.log.text.splitlines() if line in names or line.startswith("--> finished")]
    assert shown == ["a", '--> finished "a"', "b", '--> finished "b"', "c", '--> finished "c"']


def test_jobs_bound_what_runs_at_once(house: House, gate: Gate) -> None:
    builds = " ".join(f"(build {name} {stage(gate.run(f'echo {name}'))})" for name in "ab")
    party = Party(house, stage(builds=builds), jobs=1)
    for _ in "ab":
        gate.wait()
        assert gate.nobody()
        gate.open()
    party.result()


def test_one_that_nothing_copies_from_runs_unless_it_is_to_be_skipped(house: House) -> None:
    text = stage(sh("echo main"), builds=DEV)
    _, log = house.build(text, skip_unused=True)
    assert log.cached() == [False]
    assert "dev" not in log.text
    _, log = house.build(text)
    assert sorted(log.cached()) == [False, True]


def test_when_one_fails_the_others_end_and_its_error_is_the_one(house: House, gate: Gate) -> None:
    builds = f"(build bad {stage(gate.run('true', 'exit 9'))}) (build slow {stage(sh('sleep 987661'))})"
    party = Party(house, stage(sh("sleep 987662"), builds=builds), jobs=3)
    gate.wait()
    assert soon(lambda: len(alive("987661") + alive("987662")) >= 2)
    gate.open()
    party.end()
    assert isinstance(party.error, StepFailed)
    assert party.error.status == 9
    assert alive("987661") + alive("987662") == []


def test_more_nested_builds_than_threads(house: House) -> None:
    builds = " ".join(f"(build n{number} {stage(sh('echo one > /out'))})" for number in range(100))
    copies = " ".join(f"(copy (from (build n{number})) (src out) (dst /{number}))" for number in (0, 99))
    layer, log = house.build(stage(copies, builds=builds), jobs=4)
    assert log.text.count("--> finished") == 100
    assert house.read(layer, "/0", "/99") == "one\none\n"


# Caches, networks, secrets.

CACHED = '(run (cache (c1 (target /cache))) (shell "{}"))'


def test_a_cache_outlives_the_build_and_is_no_part_of_the_layer(house: House) -> None:
    assert said(house, CACHED.format("ls -A /cache; echo 1 > /cache/file")) == ""
    layer, _ = house.build(stage(CACHED.format("cat /cache/file")))
    assert Path(layer.log).read_text() == "1\n"
    with house.open().view(layer) as tree:
        assert not Path(tree, "cache").exists()


def test_a_cache_belongs_to_the_user_of_the_step(house: House) -> None:
    ask = CACHED.format("stat -c %u:%g /cache; touch /cache/file")
    assert said(house, "(user (uid 123) (gid 456))", ask) == "123:456\n"
    assert said(house, "(user (uid 7) (gid 8))", CACHED.format("stat -c %u:%g /cache /cache/file")) == "7:8\n123:456\n"


def test_a_cache_is_kept_when_the_step_fails(house: House) -> None:
    with pytest.raises(StepFailed):
        house.build(stage(CACHED.format("echo kept > /cache/file; exit 1")))
    assert said(house, CACHED.format("cat /cache/file")) == "kept\n"


def test_of_two_that_use_a_cache_at_once_the_first_to_end_wins(house: House, gate: Gate) -> None:
    other = Gate()
    slow = f'(run (cache (c1 (target /cache))) (network host) (shell "{gate.enter}; echo slow > /cache/file"))'
    quick = f'(run (cache (c1 (target /cache))) (network host) (shell "{other.enter}; echo quick > /cache/file"))'
    parties = [Party(house, stage(op)) for op in (slow, quick)]
    gate.wait(), other.wait()
    other.open()
    parties[1].result()
    gate.open()
    parties[0].result()
    other.close()
    assert said(house, CACHED.format("cat /cache/file")) == "quick\n"


def test_a_cache_does_not_count(house: House) -> None:
    one, _ = house.build(stage(sh("echo hi")))
    two, log = house.build(stage(CACHED.format("echo hi")))
    assert one == two
    assert log.cached() == [True]


def test_networks(house: House, gate: Gate) -> None:
    own = said(house, sh("ip -o link | cut -d: -f2; ip -o -4 addr show lo; ping -c1 -W1 127.0.0.1 >/dev/null; echo $?"))
    assert own.split()[0] == "lo"
    assert "127.0.0.1/8" in own
    assert own.endswith("\n0\n") or "permission" in own
    host = said(house, '(run (network host) (shell "cat /etc/resolv.conf; ls /sys/class/net | wc -l"))')
    assert host.startswith(Path("/etc/resolv.conf").read_text())


def test_parallel_builds_on_one_network_reach_each_other_by_name(house: House) -> None:
    listen = '(run (network lab) (shell "hostname; nc -l -p 7000 -e /bin/cat"))'
    ask = '(run (network lab) (shell "hostname; until echo ping | nc server 7000; do sleep 0.05; done"))'
    builds = f"(build server {stage(listen)}) (build client {stage(ask)})"
    _, log = house.build(stage(builds=builds), jobs=2)
    heard = [line for line in log.text.splitlines() if line in ("server", "client", "ping")]
    assert heard == ["server", "client", "ping"]


SECRETS = '(run (secrets (key (target /run/secrets/k)) (other (target /etc/o))) (shell "{}"))'


def test_secrets(house: House) -> None:
    values = {"key": b"top secret", "other": b""}
    ask = SECRETS.format("cat /run/secrets/k; stat -c %a:%u /run/secrets/k; wc -c < /etc/o; rev /run/secrets/k")
    layer, log = house.build(stage("(user (uid 9) (gid 9))", ask), secrets=values)
    assert Path(layer.log).read_text() == "***400:9\n0\nterces pot"
    assert "top secret" not in log.text
    with house.open().view(layer) as tree:
        assert not Path(tree, "run").exists()
        assert not Path(tree, "etc/o").exists()


def test_the_value_of_a_secret_does_not_count_and_is_nowhere(house: House) -> None:
    text = stage(SECRETS.format("true"))
    one, _ = house.build(text, secrets={"key": b"one-secret-value", "other": b"x"})
    two, log = house.build(text, secrets={"key": b"two-secret-value", "other": b"y"})
    assert (one, log.cached()) == (two, [True])
    other = text.replace("/run/secrets/k", "/run/secrets/l")
    assert house.build(other, secrets={"key": b"one-secret-value", "other": b"x"})[0] != one
    found = subprocess.run(["grep", "-rl", "secret-value", house.store.partition(":")[2]], capture_output=True)
    assert found.stdout == b""


def test_no_secret(house: House) -> None:
    with pytest.raises(ObuildError, match=r'^test\.spec:1:31: no value for the secret "other"$') as error:
        house.build(stage(SECRETS.format("true")), secrets={"key": b"x"})
    assert error.value.hint == "give it with --secret other:FILE"


# Limits.


def test_out_of_memory_is_named(house: House) -> None:
    with refused(StepFailed, "test.spec:1:31: out of memory: the step used more than 16 MiB"):
        house.build(stage(sh("dd if=/dev/zero of=/dev/null bs=64M count=1")), limits=Limits(memory=16 << 20))


def test_too_many_processes(house: House) -> None:
    with pytest.raises(StepFailed):
        house.build(
            stage(sh("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait; test $(ps | wc -l) -gt 999")),
            limits=Limits(pids=5),
        )


def test_a_log_that_never_ends(house: House) -> None:
    with refused(StepFailed, "test.spec:1:31: log limit: the step wrote more than 100000 bytes"):
        house.build(stage(sh("yes")), limits=Limits(log=100_000))
    (kept,) = house.open().failed()
    assert Path(kept.log).stat().st_size == 100_000


def test_limits_do_not_count(house: House) -> None:
    one, _ = house.build(stage(sh("echo hi")))
    two, log = house.build(stage(sh("echo hi")), limits=Limits(memory=64 << 20, cpus=0.5, pids=20, seconds=60))
    assert (one, log.cached()) == (two, [True])


# Ids.


GOLDEN = Path(__file__).parent / "golden" / "ids.json"


class Still:
    """A sandbox in which nothing happens: an id depends on nothing that a program does."""

    def available(self) -> None:
        return None

    def run(self, *_: object, **__: object) -> int:
        return 0


def golden_ids(house: House, text: str) -> list[str]:
    """The ids of all steps of a spec on a base that is the same everywhere."""
    image = house.folder / "base.tar"
    with tarfile.open(image, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("file"), io.BytesIO())
    (house.context / "folder").mkdir(exist_ok=True)
    for path, mode in (("file", 0o644), ("folder/program", 0o755)):
        (house.context / path).write_text(f"{path}\n")
        (house.context / path).chmod(mode)
    log, secrets = Log(), {"key": b"value"}
    house.build(text, sandbox=Still, images={"b": f"tar:{image}"}, log=log, secrets=secrets, jobs=1)
    return log.ids


def test_ids_are_the_golden_ones(house: House) -> None:
    """A changed id throws away what every user has built: accepting it has to be a visible line in the diff."""
    expected = json.loads(GOLDEN.read_text())
    actual = {text: golden_ids(house, text) for text in expected}
    assert actual == expected, f"{GOLDEN.name} has other ids; if they may change:\n{json.dumps(actual, indent=2)}"
