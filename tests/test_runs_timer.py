"""Timers as cron and systemd know them."""

from __future__ import annotations

import subprocess

import pytest
from conftest import needs

from obuild.runs.timer import Timer, format_cron, format_service, format_timer, parse_timer


@pytest.mark.parametrize(
    ("text", "cron", "calendar"),
    [
        ("hourly", "23 * * * *", "*-*-* *:23:00"),
        ("daily", "23 3 * * *", "*-*-* 03:23:00"),
        ("weekly", "23 3 * * 0", "Sun *-*-* 03:23:00"),
        ("4:05", "5 4 * * *", "*-*-* 04:05:00"),
        ("monday 14:00", "0 14 * * 1", "Mon *-*-* 14:00:00"),
    ],
)
def test_both_mean_the_same(text: str, cron: str, calendar: str) -> None:
    timer = parse_timer(text)
    assert format_cron(timer, "obuild track x") == f"{cron}  obuild track x\n"
    assert f"OnCalendar={calendar}\n" in format_timer(timer, "x")


@pytest.mark.parametrize("text", ["", "24:00", "1:60", "Xyz 1:00", "1", "every day", "* * * * *"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not hourly, daily, weekly"):
        parse_timer(text)


def test_percent_signs_are_no_commands() -> None:
    assert format_cron(Timer(0), "a%b") == "0 * * * *  a\\%b\n"
    assert "ExecStart=a%%b\n" in format_service("a%b", "x")


@needs("systemd-analyze")
@pytest.mark.parametrize("text", ["hourly", "weekly", "4:05"])
def test_systemd_takes_it(text: str) -> None:
    unit = format_timer(parse_timer(text), "x")
    calendar = next(line for line in unit.splitlines() if line.startswith("OnCalendar=")).partition("=")[2]
    done = subprocess.run(["systemd-analyze", "calendar", calendar], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
