"""When something is done again, for the programs that every machine has for that: cron and systemd."""

from __future__ import annotations

import re

from obuild.value import value

__all__ = ["Timer", "format_cron", "format_service", "format_timer", "parse_timer"]

DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
"""As cron counts them, with the names that both know."""

_TEXT = re.compile(r"(?:(?P<day>[A-Za-z]{3})[a-z]* +)?(?P<hour>\d?\d):(?P<minute>\d\d)").fullmatch


@value
class Timer:
    """Every hour at `minute`, every day at `hour`, or once a week on `day` (0 is Sunday); local time."""

    minute: int
    hour: int | None = None
    day: int | None = None


_WORDS = {"hourly": Timer(23), "daily": Timer(23, 3), "weekly": Timer(23, 3, 0)}
"""Nobody needs these to be at the full hour, when everybody else begins."""


def parse_timer(text: str) -> Timer:
    """The timer of `hourly`, `daily`, `weekly`, `HH:MM` or `Mon HH:MM`. Raises `ValueError`."""
    if text in _WORDS:
        return _WORDS[text]
    match = _TEXT(text.strip())
    day = match["day"].capitalize() if match and match["day"] else None
    if not match or int(match["hour"]) > 23 or int(match["minute"]) > 59 or (day and day not in DAYS):
        raise ValueError(f'"{text}" is not hourly, daily, weekly, a time such as 03:23, or Mon 03:23')
    return Timer(int(match["minute"]), int(match["hour"]), DAYS.index(day) if day else None)


def format_cron(timer: Timer, command: str) -> str:
    """The line of a crontab."""
    hour, day = ("*" if part is None else str(part) for part in (timer.hour, timer.day))
    return f"{timer.minute} {hour} * * {day}  {_percent(command)}\n"


def _percent(command: str) -> str:
    return command.replace("%", "\\%")  # cron takes one for the end of the command


def format_service(command: str, about: str) -> str:
    """The systemd unit that runs a command once; 1 says that packages fail, which is no failure of the service."""
    lines = ["[Unit]", f"Description={about}", "Wants=network-online.target", "After=network-online.target", ""]
    command = command.replace("%", "%%")
    lines += ["[Service]", "Type=oneshot", f"ExecStart={command}", "SuccessExitStatus=1", "Nice=10"]
    return "\n".join(lines) + "\n"


def format_timer(timer: Timer, about: str) -> str:
    """The systemd unit that starts the service of the same name; what was missed is made up for."""
    hour = "*" if timer.hour is None else f"{timer.hour:02}"
    day = "" if timer.day is None else f"{DAYS[timer.day]} "
    lines = ["[Unit]", f"Description={about}", "", "[Timer]", f"OnCalendar={day}*-*-* {hour}:{timer.minute:02}:00"]
    lines += ["Persistent=true", "", "[Install]", "WantedBy=timers.target"]
    return "\n".join(lines) + "\n"
