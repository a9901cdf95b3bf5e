"""`tar:FILE`: a root file system in a tar archive, compressed or not."""

from __future__ import annotations

import os
import stat
import time

from obuild.errors import FetchError
from obuild.fetch.record import RACY, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from obuild.cancel import Cancel
    from obuild.image import Image

__all__ = ["TarFetcher"]


class TarFetcher:
    """A tar archive. Its key is the file's digest, which is not taken again while `stat` says it is the same file."""

    def __init__(self, path: str, *, images: str) -> None:
        self._path = os.path.abspath(os.path.expanduser(path))
        self._record = Record(images, f"tar {self._path}")
        self._found: tuple[list[int], str] | None = None

    def key(
        self, log: Callable[[bytes], None] | None = None, *, pull: bool = False, cancel: Cancel | None = None
    ) -> str:
        """The SHA-256 of the file as it is, compressed."""
        del log, pull, cancel
        if self._found is None:
            self._found = self._look()
        return f"tar sha256:{self._found[1]}"

    def fetch(self, root: str, log: Callable[[bytes], None], *, cancel: Cancel | None = None) -> Image:
        """Unpack the file. Raises `FetchError` when it is not the one that `key` saw."""
        from obuild.archive import open_archive
        from obuild.image import PLAIN, Image, host_platform
        from obuild.unpack import unpack

        self.key()
        assert self._found is not None
        identity, digest = self._found
        fd = self._open()
        try:
            with open_archive(fd, self._path, cancel=cancel) as stream:
                unpack(stream, root, self._path, note=lambda text: log(f"{text}\n".encode()))
                stream.drain()
            _check_root(root, self._path)
            if _identity(os.fstat(fd)) != identity:
                raise FetchError(f'"{self._path}" changed while it was read', hint="start again", temporary=True)
        finally:
            os.close(fd)
        return Image(env=PLAIN, digest=f"sha256:{digest}", platform=host_platform())

    def _look(self) -> tuple[list[int], str]:
        """What tells the file from a later one, and its digest."""
        fd = self._open()
        with open(fd, "rb") as file:
            started, info = time.time_ns(), os.fstat(fd)
            identity = _identity(info)
            known = self._record.load()
            if known.get("file") == identity and "sha256" in known:
                return identity, known["sha256"]
            import hashlib  # a cached build does without

            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if info.st_ctime_ns < started - RACY:
            self._record.save({"path": self._path, "file": identity, "sha256": digest})
        return identity, digest

    def _open(self) -> int:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
        except OSError as error:
            raise FetchError(f'can not read "{self._path}": {error.strerror}') from None
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        hint = f'write "dir:{self._path}"' if os.path.isdir(self._path) else ""
        os.close(fd)
        raise FetchError(f'"{self._path}" is not a file', hint=hint)


def _check_root(root: str, path: str) -> None:
    """Refuse an image in a tar, which holds layers and descriptions where a root file system has directories."""
    names = set(os.listdir(root))
    if "etc" in names or "usr" in names or "bin" in names:
        return
    for sign, transport in (("oci-layout", "oci-archive"), ("manifest.json", "docker-archive")):
        if sign in names:
            hint = f'unpack it with "skopeo copy {transport}:{path} oci:DIR" and take oci:DIR'
            raise FetchError(f'"{path}" is an image, not a root file system', hint=hint)


def _identity(info: os.stat_result) -> list[int]:
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
