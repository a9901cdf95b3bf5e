"""Timing that can be compared on a noisy machine: all variants take turns, and ratios are of medians."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Row", "Table", "run", "turns"]


@dataclass
class Row:
    """The seconds that one variant took."""

    name: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)


def run(argv: list[str], *, status: int = 0, env: dict[str, str] | None = None, cwd: str | None = None) -> float:
    """Seconds that a program takes, which must end with `status`."""
    start = time.perf_counter()
    pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(argv, env=env, cwd=cwd, check=False, **pipe)
    seconds = time.perf_counter() - start
    if done.returncode != status:
        raise SystemExit(f"{argv} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-2000:]}")
    return seconds


def turns(rounds: int, variants: dict[str, Callable[[], float]]) -> dict[str, Row]:
    """Let every variant run once a round, after one round that does not count."""
    rows = {name: Row(name) for name in variants}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            seconds = variant()
            if number:
                rows[name].seconds.append(seconds)
    return rows


class Table:
    """Lines of `what | n | min | median | ratio`, printed as they come."""

    def __init__(self, title: str) -> None:
        print(f"\n### {title}\n\n| what | n | min | median | ratio | bar |\n|---|---|---|---|---|---|")

    def add(self, row: Row, beside: Row | None = None, bar: str = "") -> None:
        """One line; the ratio is of medians, `row` over `beside`."""
        ratio = f"{row.median / beside.median:.2f}x {beside.name}" if beside else ""
        least, middle = _show(min(row.seconds)), _show(row.median)
        print(f"| {row.name} | {len(row.seconds)} | {least} | {middle} | {ratio} | {bar} |", flush=True)


def _show(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
