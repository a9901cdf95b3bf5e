"""A file of JSON objects, one a line, that many threads and processes append to and that a power cut may tear.

Appending is one `write` under a lock (flock) on the file. What a dead writer left half written is ended with a newline
by the next one, so a record is never glued to a wreck; a write that a full disk cuts short is taken back. Reading skips
what is no object and counts it. flock belongs to the open file, so threads exclude each other as processes do; the lock
in memory comes first because a thread that waits for it costs the kernel nothing. Local file systems only: NFS turns
flock into POSIX locks, which know no threads.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from json.scanner import make_scanner
from weakref import WeakValueDictionary

from obuild.disk import same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

__all__ = ["Journal", "backwards", "parse_line"]

_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLANK = b" \t\r\n"
_EDGES = b"\0" + _BLANK

_decode = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # what `raw_decode` calls, without its own work

_guard = threading.Lock()
_locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()


class Journal:
    """The journal at `path`, which need not exist yet; its directory is made by the first append."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        with _guard:
            self._lock = _locks.get(self.path) or _locks.setdefault(self.path, threading.Lock())

    def append(self, record: Mapping[str, Any], *, durable: bool = False) -> None:
        """Add one record; with `durable` it survives a power cut once this returns. Raises `OSError`."""
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            fd = self._open()
            try:
                _append(fd, data)
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """The records in the order they were written, and how many lines are none. No file is no records."""
        try:
            data = _content(self.path)
        except FileNotFoundError:
            return [], 0
        lines = [line for line in data.split(b"\n") if line.strip(_BLANK)]
        records = [record for line in lines if (record := parse_line(line)) is not None]
        return records, len(lines) - len(records)

    def rewrite(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Replace the lines (without their ends) by what `change` makes of them, while nobody can append."""
        from obuild.disk import write_atomic

        with self._lock:
            fd = self._open(create=False)
            try:
                old = [line for line in _content(self.path).split(b"\n") if line.strip(_BLANK)]
                new = change(list(old))
                if new != old:
                    write_atomic(self.path, b"".join(line + b"\n" for line in new), durable=True)
            finally:
                os.close(fd)

    def _open(self, *, create: bool = True) -> int:
        """The file, locked. It is not the one at `path` any more when it was rewritten while we waited."""
        import fcntl

        while True:
            try:
                fd = os.open(self.path, _APPEND if create else _READ, 0o644)
            except FileNotFoundError:
                if not create:
                    raise
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if same_file(fd, self.path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)


def _append(fd: int, data: bytes) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        data = b"\n" + data
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.ftruncate(fd, size)  # nobody else writes while we have the lock
        raise


def _content(path: str) -> bytes:
    fd = os.open(path, _READ)
    try:
        if os.fstat(fd).st_size == 0:
            return b""
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The object that a line is, or None. NULs around it are what a file system left of a write that never came."""
    try:
        text = line.strip(_EDGES).decode()
        record, end = _decode(text, 0)
    except (ValueError, RecursionError, StopIteration):  # not UTF-8 is a ValueError too
        return None
    return record if isinstance(record, dict) and end == len(text) else None


_PIECE = 4096


def backwards(path: str, limit: int) -> Iterator[dict[str, Any]]:
    """The records of a journal from its end, of no more than the last `limit` bytes; only what is asked for is read.

    Raises `FileNotFoundError`.
    """
    fd = os.open(path, _READ)
    try:
        end = os.fstat(fd).st_size
        stop, rest = max(0, end - limit), b""
        while end > stop:
            start = max(stop, end - _PIECE)
            lines = (os.pread(fd, end - start, start) + rest).split(b"\n")
            rest, end = lines[0], start
            for line in reversed(lines[1:]):
                if line and (record := parse_line(line)) is not None:
                    yield record
        if stop == 0 and rest and (record := parse_line(rest)) is not None:
            yield record
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ESTALE):  # a bad sector costs the rest of one history, not the index
            raise
    finally:
        os.close(fd)
