"""Amounts as people write them: sizes, durations, counts. A text that is none raises `ValueError`, which says so."""

from __future__ import annotations

__all__ = ["duration", "jobs", "positive", "size"]


def size(text: str) -> int:
    """Bytes from `512M`, `2GiB`, `1000`: units are powers of 1024."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    scale = {"k": 10, "m": 20, "g": 30, "t": 40}.get(number[-1:], 0)
    return int(_number(number[:-1] if scale else number, 2**scale, text, "a size such as 512M", least=1))


def duration(text: str) -> float:
    """Seconds from `90`, `90s`, `10m`, `2h`, `7d`."""
    scale = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text.strip()[-1:], 0)
    digits = text.strip()[:-1] if scale else text
    return _number(digits, scale or 1, text, "a duration such as 90s, 10m, 2h or 7d", most=_CENTURY)


def positive(text: str) -> float:
    """A number above 0."""
    return _number(text, 1, text, "a number above 0")


def jobs(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS and int(text)):
        raise ValueError(f'"{text}" is not a whole number above 0')
    return int(text)


_MOST = 2.0**62
"""More bytes than any machine has; what is larger does not fit where the kernel wants it."""

_CENTURY = 100 * 365 * 86400.0
"""Seconds; poll(2) and timers take no more than a few centuries."""

_DIGITS = 10


def _number(digits: str, scale: float, text: str, wanted: str, *, least: float = 0, most: float = _MOST) -> float:
    try:
        number = float(digits) * scale
    except ValueError:
        number = -1.0
    if not (number > 0 and least <= number < most):
        raise ValueError(f'"{text}" is not {wanted}')
    return number
