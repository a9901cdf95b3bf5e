"""Images through a Docker engine: what it has, what it pulls, and their files, all of it cancellable."""

from __future__ import annotations

import contextlib
import os
import threading

from obuild.archive import Stream, read_chunks
from obuild.docker_engine import open_engine
from obuild.errors import FetchError, ObuildError
from obuild.unpack import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from obuild.cancel import Cancel
    from obuild.docker_engine import Engine
    from obuild.image import Image

    Log = Callable[[bytes], None]

__all__ = ["ask", "export", "open_engine", "recall"]

LEFT_BY_ENGINE = ".dockerenv"
PATIENCE = 5.0
"""Seconds for a cancelled transfer to remove the container that it reads."""


def ask(engine: Engine, name: str, platform: str, log: Log, *, pull: bool, cancel: Cancel | None) -> Image:
    """The engine's image for a reference, pulled when it has none for `platform` or when asked to.

    An image that was made here and is in no registry is taken as it is, also with `pull`.
    """
    image = engine.image(name)
    if image is not None and image.platform.split("/")[:2] != platform.split("/")[:2]:
        image = None
    if image is None or pull:
        try:
            _listen(engine.pull(name, platform), log, cancel)
        except FetchError as error:
            if image is None:
                raise
            log(f"{error}; taking the engine's own\n".encode())
        image = engine.image(name)
    if image is None:
        raise FetchError(f'the Docker engine pulled "{name}" and does not have it')
    return image


def recall(engine: Engine, digest: str, pinned: str, platform: str, log: Log, *, cancel: Cancel | None) -> Image | None:
    """The image with the id `digest`, pulled again as `pinned` ("" when no registry has it) if the engine lost it."""
    image = engine.image(digest)
    if image is None and pinned:
        _listen(engine.pull(pinned, platform), log, cancel)
        image = engine.image(pinned)
    return image if image is not None and image.digest == digest else None


def export(engine: Engine, image: Image, name: str, root: str, log: Log, *, cancel: Cancel | None) -> Image:
    """Unpack all files of an image into `root`."""
    with _pumped(engine.files(image.digest), cancel, patience=PATIENCE) as chunks:
        stream = Stream(chunks)
        unpack(stream, root, name, note=lambda text: log(f"{text}\n".encode()))
        stream.drain()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{root}/{LEFT_BY_ENGINE}")
    return image


def _listen(lines: Iterator[str], log: Log, cancel: Cancel | None) -> None:
    with _pumped((f"{line}\n".encode() for line in lines), cancel) as chunks:
        for chunk in chunks:
            log(chunk)


@contextlib.contextmanager
def _pumped(
    source: Generator[bytes, None, None], cancel: Cancel | None, *, patience: float = 0
) -> Iterator[Iterator[bytes]]:
    """The chunks of `source`, read by another thread into a pipe: a silent engine must not delay a cancel.

    `patience` is how many seconds the thread gets to clean up when the chunks are not read to the end.
    """
    out, into = os.pipe()
    failed: list[Exception] = []

    def pump() -> None:
        try:
            with open(into, "wb", buffering=0) as pipe, contextlib.closing(source):
                for chunk in source:
                    while chunk:
                        chunk = chunk[pipe.write(chunk) :]
        except BrokenPipeError:
            pass  # nobody reads any more
        except (ObuildError, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()

    def chunks() -> Iterator[bytes]:
        yield from read_chunks(out, cancel)
        thread.join()
        if failed:
            raise failed[0]

    try:
        yield chunks()
    finally:
        os.close(out)
        thread.join(patience)
