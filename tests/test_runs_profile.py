"""Profiles: what they mean, and every mistake in them at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from obuild.errors import ProfileError
from obuild.runs.moment import DAY
from obuild.runs.profile import Keep, Recipient, load_profile, parse_profile
from obuild.runs.timer import Timer

FULL = """
name = "nightly"
repositories = ["https://example.org/a.git", "here", "/there@main", "git+file:///x#main"]
compilers = ["ocaml.5.3.0", "ocaml.5.4.1"]
platforms = ["debian-13-x86_64"]
packages = ["dune", "lwt.5.7.0"]
with-test = true
store = "overlay:store"
runs = "runs"
total-memory = "8G"
timeout = "30m"
archive-mirrors = ["https://example.org/cache", "mirror"]
schedule = "Mon 04:05"

[[notify]]
channel = "slack"
on = "failures"
env = { SLACK_WEBHOOK_URL = "NIGHTLY_SLACK" }

[[notify]]
channel = "https://example.org/hook"
secret-in-file = true

[keep]
runs = 3
grace = "2d"
size = "10G"
"""


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "daily.toml").write_text(FULL)
    found = load_profile(f"{tmp_path}/daily.toml")
    assert (found.name, found.path) == ("nightly", f"{tmp_path}/daily.toml")
    urls = ("https://example.org/a.git", f"{tmp_path}/here", "/there@main", "git+file:///x#main")
    assert found.repositories == urls
    assert found.store == f"overlay:{tmp_path}/store"
    assert found.runs == f"{tmp_path}/runs"
    assert found.archive_mirrors == ("https://example.org/cache", f"{tmp_path}/mirror")
    assert (found.total_memory, found.timeout, found.with_test, found.with_doc) == (8 << 30, 1800, True, False)
    assert found.schedule == Timer(5, 4, 1)
    assert found.packages == ("dune", "lwt.5.7.0")
    assert found.notify == (
        Recipient("slack", "failures", (("SLACK_WEBHOOK_URL", "NIGHTLY_SLACK"),)),
        Recipient("https://example.org/hook"),
    )
    assert found.keep == Keep(runs=3, grace=2 * DAY, size=10 << 30)


def test_little_is_enough() -> None:
    found = parse_profile('repositories = ["a"]', "/x/daily.toml")
    assert (found.name, found.packages, found.repositories) == ("daily", "newest", ("/x/a",))
    assert found.keep == Keep()


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ('compiler = ["ocaml.5"]', "2:1", 'unknown key "compiler"; did you mean "compilers"?'),
        ('compilers = "ocaml.5"', "2:1", '"compilers" must be a list of texts'),
        ('packages = "newes"', "2:1", '"newes" is not "newest", "all-versions" or a list of packages'),
        ("jobs = 0", "2:1", '"jobs" must be a whole number above 0'),
        ("jobs = true", "2:1", '"jobs" must be a whole number above 0'),
        ("with-test = 1", "2:1", '"with-test" must be true or false'),
        ('total-memory = "lots"', "2:1", '"lots" is not a size such as 512M'),
        ('timeout = "soon"', "2:1", '"soon" is not a duration such as 90s, 10m, 2h or 7d'),
        ('sandbox = "docker"', "2:1", '"docker" is none of crun, runc'),
        ('name = "../x"', "2:1", '"../x" must be made of letters, digits, ".", "_" and "-"'),
        ('schedule = "25:00"', "2:1", '"25:00" is not hourly, daily, weekly, a time such as 03:23, or Mon 03:23'),
        ('notify = "slack"', "2:1", '"notify" must be tables: [[notify]]'),
        ('[[notify]]\nchannel = "slak"', "3:1", 'no channel "slak"; did you mean "slack"?'),
        ('[[notify]]\non = "always"', "2:1", '"channel" is missing'),
        ('[[notify]]\nchannel = "env:"', "3:1", 'no channel "env:"'),
        ('[[notify]]\nchannel = "https://x/secret"', "3:1", "an address may hold a secret"),
        ('[[notify]]\nchannel = "stdout"\non = "never"', "4:1", '"never" is none of failures, changes, always'),
        ("[[notify]]\nchannel = 1", "3:1", '"channel" must be a text'),
        (
            '[[notify]]\nchannel = "stdout"\n[[notify]]\nchannel = "slack"\nenv = { SLACK = "A" }',
            "6:1",
            '"slack" has no setting "SLACK"',
        ),
        ("[keep]\nrun = 3", "3:1", 'unknown key "run"; did you mean "runs"?'),
        ("keep = 3", "2:1", '"keep" must be a table: [keep]'),
        ("a = [", "2:6", "invalid value"),
    ],
)
def test_mistakes(line: str, place: str, message: str) -> None:
    with pytest.raises(ProfileError) as error:
        parse_profile(f'repositories = ["a"]\n{line}', "daily.toml")
    assert f"daily.toml:{place}: {message}" in str(error.value)
    assert error.value.exit_code == 2


def test_all_mistakes_are_told_and_no_secret() -> None:
    with pytest.raises(ProfileError) as error:
        parse_profile('jobs = 0\nstor = "x"\n[keep]\nruns = "many"', "daily.toml")
    assert len(error.value.problems) == 4
    assert '"repositories" is missing' in str(error.value)


@pytest.mark.parametrize("data", [None, b"\xff"])
def test_a_file_that_can_not_be_read(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(ProfileError, match=r"can not read|is not UTF-8"):
        load_profile(f"{tmp_path}/x.toml")
