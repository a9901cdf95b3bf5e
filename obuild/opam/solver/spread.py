"""One function over many items on all processors, in processes that share what is in memory.

Threads of Python take turns on one processor, and a new process would have to read and encode the repository again. A
fork has all of it at once and copies only the pages that it changes: on two processors, opam-repository is solved in
1.6 s in place of 2.6 s. Its price is that it takes only one thread along: in a process with several, of which any may
hold a lock, nothing is forked and all items are done here.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeAlias

    Function: TypeAlias = Callable[[int], Any]

__all__ = ["spread"]

_CHUNK = 32
"""Items done in a row: neighbours in a list are alike and learn from each other."""
_MOST = 8192
"""Chunks there may be: the numbers of all of them must fit into a pipe."""
_NUMBER = 4


def spread(
    function: Function, count: int, *, processes: int, progress: Callable[[int, int], None] | None = None
) -> Iterator[Any]:
    """`function(i)` for each `i` below `count`, in this order; results are of what `marshal` can write.

    `progress` hears how many items are done, of how many.
    """
    size = max(_CHUNK, count // _MOST + 1)
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    arriving = _from_processes(function, chunks, min(processes, len(chunks)))
    waiting: dict[int, list[Any]] = {}
    done = 0
    for place, chunk in enumerate(chunks):
        while place not in waiting:
            # What a process that died has left undone is done here; and if it was an exception, it happens again here.
            arrived, results = next(arriving, None) or (place, [function(index) for index in chunk])
            waiting[arrived] = results
            done += len(results)
            if progress:
                progress(done, count)
        yield from waiting.pop(place)


def _from_processes(function: Function, chunks: Sequence[range], processes: int) -> Iterator[tuple[int, list[Any]]]:
    """Places of chunks with their results, as they arrive from processes that take one chunk after the other."""
    if processes < 2 or _has_threads():
        return
    queue, feed = os.pipe()
    os.write(feed, b"".join([place.to_bytes(_NUMBER, "little") for place in range(len(chunks))]))
    os.close(feed)
    gc.freeze()
    workers: dict[int, int] = {}
    try:
        for _ in range(processes):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                _work(function, chunks, queue, writer)
            os.close(writer)
            workers[reader] = pid
        os.close(queue)
        yield from _receive(workers)
    finally:
        for reader, pid in workers.items():
            os.close(reader)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def _has_threads() -> bool:
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


def _work(function: Function, chunks: Sequence[range], queue: int, writer: int) -> None:
    """Do chunks until there are no more, and end the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()
    status = 1
    try:
        # Reads of a pipe do not mix, so that every number goes to one process as a whole.
        while number := os.read(queue, _NUMBER):
            body = marshal.dumps([function(index) for index in chunks[int.from_bytes(number, "little")]])
            with open(writer, "wb", closefd=False) as pipe:
                pipe.write(number + len(body).to_bytes(_NUMBER, "little") + body)
        status = 0
    finally:
        # No exit handler and no buffer of the first process may run twice. The kernel closes the pipe.
        os._exit(status)


def _receive(workers: dict[int, int]) -> Iterator[tuple[int, list[Any]]]:
    """Results from the pipes until all have ended."""
    poll = select.poll()
    buffers = {reader: bytearray() for reader in workers}
    for reader in workers:
        poll.register(reader, select.POLLIN)
    while buffers:
        for reader, _ in poll.poll():
            data = os.read(reader, 1 << 20)
            if not data:
                poll.unregister(reader)
                del buffers[reader]
                continue
            buffers[reader] += data
            yield from _whole(buffers[reader])


def _whole(buffer: bytearray) -> Iterator[tuple[int, list[Any]]]:
    """Take what has arrived as a whole from the front of a buffer."""
    head = 2 * _NUMBER
    while len(buffer) >= head:
        size = int.from_bytes(buffer[_NUMBER:head], "little")
        if len(buffer) < head + size:
            return
        yield int.from_bytes(buffer[:_NUMBER], "little"), marshal.loads(bytes(buffer[head : head + size]))
        del buffer[: head + size]
