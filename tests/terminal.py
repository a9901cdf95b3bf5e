"""A program on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence

__all__ = ["Terminal", "screen"]

# A session of its own whose controlling terminal is standard input, without code between fork and exec.
TAKE = "import fcntl,os,sys,termios;fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execv(sys.argv[1],sys.argv[1:])"


class Terminal:
    """A command with a terminal as its standard input, output and error."""

    def __init__(self, command: Sequence[str], *, columns: int = 80, env: dict[str, str] | None = None) -> None:
        self._own, other = pty.openpty()
        self.size(columns)
        # A worker of pytest-xdist has COLUMNS set, which would count for more than the terminal's own width.
        outer = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
        whole = {**outer, "TERM": "xterm-256color", **(env or {})}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE, *command], stdin=other, stdout=other, stderr=other, start_new_session=True,
            env=whole,
        )  # fmt: skip
        os.close(other)
        self.seen = b""

    def size(self, columns: int) -> None:
        """Change the width."""
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Type something."""
        os.write(self._own, keys)

    def until(self, text: bytes, seconds: float = 30) -> bytes:
        """All that was seen, once `text` is part of what came since the last call."""
        start, end = len(self.seen), time.monotonic() + seconds
        while text not in self.seen[start:]:
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{text!r} was not seen in {self.seen[start:]!r}")
        return self.seen

    def end(self, seconds: float = 30) -> tuple[int, bytes]:
        """Wait for the end; the exit status and all that was seen."""
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass
        status = self.process.wait(max(0.1, end - time.monotonic()))
        os.close(self._own)
        return status, self.seen

    def _read(self, seconds: float) -> bool:
        if not select.select([self._own], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._own, 65536)
        except OSError:  # EIO: the last one has closed the other end
            return False
        self.seen += data
        return bool(data)


def screen(data: bytes) -> list[str]:
    """The lines that are on a terminal, without colours, once it has got `data`."""
    import re

    lines, row, column = [""], 0, 0
    for sequence, text in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|(\r|\n|[^\x1b\r\n]+)", data.decode(errors="replace")):
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif sequence == "2K":
            lines[row] = ""
        elif sequence.endswith("A"):
            row -= int(sequence[:-1])
    return lines
