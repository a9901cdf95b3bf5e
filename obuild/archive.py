"""Tar archives as streams: reading any compression, hashing what passes, making one of a tree.

Programs do the heavy work, on the other core: a decompressor feeds the reader, and GNU tar reads a tree eight times
faster than `tarfile` (39 against 330 ms for 5,000 files). What is unpacked goes through `unpack` instead, because no
tar program keeps the entries of several layers inside a root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select

from obuild import system
from obuild.errors import FetchError, ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from typing import Any

    from obuild.cancel import Cancel

__all__ = ["Stream", "decompressor", "open_archive", "pack", "read_chunks"]

CHUNK = 1 << 20

MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x5d\x00\x00", "xz"),
    (b"LZIP", "xz"),
    (b"\x1f\x9d", "gzip"),
)
"""How compressed data begins, and the program that reads it; the last are LZMA of before xz, lzip and compress."""

PACK = (
    "tar",
    "--create",
    "--sort=name",
    "--format=posix",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--xattrs-exclude=trusted.overlay.*",
    "--xattrs-exclude=user.overlay.*",
    # Without these a header would hold the process id of tar and the time of reading.
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    "--warning=no-file-ignored",
)
"""The same tree gives the same bytes: names sorted, owners as numbers, times to the nanosecond. No sockets."""


class Stream:
    """Bytes that can only be read forwards: the three methods `tarfile` needs, and `pieces` for big contents.

    With `digest`, everything is hashed with SHA-256 as it arrives, so `hexdigest` is final after `drain`.
    """

    def __init__(self, chunks: Iterator[bytes], *, digest: bool = False) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256() if digest else None
        self._chunk = b""
        self._at = 0  # of the next byte in the chunk
        self._before = 0  # bytes of earlier chunks

    def _next(self) -> bool:
        """Take the next chunk, the present one being used up; whether there was one."""
        chunk = next(filter(None, self._chunks), b"")
        if self._hash:
            self._hash.update(chunk)
        self._before += len(self._chunk)
        self._chunk, self._at = chunk, 0
        return bool(chunk)

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        end = self._at + size
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in parts that are not copied; fewer only at the end."""
        while size:
            if self._at == len(self._chunk) and not self._next():
                return
            part = memoryview(self._chunk)[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            yield part

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._before + self._at

    def seek(self, offset: int) -> None:
        """Skip forward to `offset`, or to the end if that comes first. Raises `ValueError` for one that has passed."""
        if offset < self.tell():
            raise ValueError("a stream does not go backwards")
        for _ in self.pieces(offset - self.tell()):
            pass

    def drain(self) -> None:
        """Read to the end, so that the writer is not cut off and the digest covers everything."""
        while self._next():
            pass
        self._at = len(self._chunk)

    @property
    def hexdigest(self) -> str:
        """The SHA-256 of what has arrived."""
        assert self._hash is not None
        return self._hash.hexdigest()


def read_chunks(fd: int, cancel: Cancel | None = None) -> Iterator[bytes]:
    """What can be read from a file or pipe, until its end. Raises `Cancelled` when `cancel` is set meanwhile."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, CHUNK)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if cancel is not None:
        poll.register(cancel.fd, select.POLLIN)
    while True:
        if cancel is not None:
            poll.poll()
            cancel.check()
        data = os.read(fd, CHUNK)
        if not data:
            return
        yield data


def decompressor(head: bytes) -> str:
    """The program that reads data that begins so, or "" when it is not compressed."""
    return next((program for magic, program in MAGIC if head.startswith(magic)), "")


@contextlib.contextmanager
def open_archive(fd: int, name: str, *, cancel: Cancel | None = None, digest: bool = False) -> Iterator[Stream]:
    """The content of the file open at `fd`, decompressed by whatever it begins with; `name` is for errors.

    Raises `FetchError` at the end of the block when the compressed data was damaged or cut off.
    """
    program = decompressor(os.pread(fd, 8, 0))
    os.lseek(fd, 0, os.SEEK_SET)
    if not program:
        yield Stream(read_chunks(fd, cancel), digest=digest)
        return
    if not system.find(program):
        raise FetchError(f'"{name}" is compressed with {program}', hint=f'install "{program}"')
    with _program([program, "-dc"], stdin=fd) as (out, finish):
        stream = Stream(read_chunks(out, cancel), digest=digest)
        yield stream
        stream.drain()
        problem = finish()
    if problem:
        raise FetchError(f'"{name}" is damaged: {problem}')


@contextlib.contextmanager
def pack(tree: str, *, cancel: Cancel | None = None) -> Iterator[Iterator[bytes]]:
    """The directory `tree` as an uncompressed tar, in chunks; the same tree gives the same bytes.

    Raises `ObuildError` at the end of the block when something in the tree could not be read.
    """
    with _program([*PACK, "--directory", tree, "."]) as (out, finish):
        yield read_chunks(out, cancel)
        problem = finish()
    if problem:
        raise ObuildError(f'can not read all of "{tree}": {problem}')


@contextlib.contextmanager
def _program(argv: list[str], stdin: int | None = None) -> Iterator[tuple[int, Callable[[], str]]]:
    """A running program: the pipe of its output, and a call that waits for it and says what went wrong, if anything.

    It is ended when the block is left before it is finished.
    """
    process = system.spawn(argv, stdin=stdin, stdout=-1, stderr=-1)
    assert process.stdout is not None
    try:
        yield process.stdout.fileno(), lambda: _problem(process)
    finally:
        process.kill()
        process.communicate()


def _problem(process: subprocess.Popen[Any]) -> str:
    _, stderr = process.communicate()
    if not process.returncode:
        return ""
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"
