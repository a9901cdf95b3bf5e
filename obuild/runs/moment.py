"""Points in time as text: ISO 8601, always UTC, always with milliseconds and `Z`, so that texts sort as times do."""

from __future__ import annotations

import time

__all__ = ["DAY", "format_time", "parse_time"]

DAY = 86400.0
"""Seconds."""


def format_time(seconds: float) -> str:
    """`2026-03-06T12:34:56.789Z` for seconds since 1970."""
    milliseconds = round(seconds * 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{stamp}.{milliseconds % 1000:03}Z"


def parse_time(text: object) -> float | None:
    """Seconds since 1970 of an ISO 8601 text, or of a number, which is that already; None for anything else.

    A text without a zone is UTC: that is what every writer of these files meant.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    if not isinstance(text, str):
        return None
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
