"""The directory of one container while it lives: configuration, hosts, secrets, and how to get rid of it all.

STATE/obuild-<12 hex digits>/    locked as long as its process lives
  container      one line, "RUNTIME STATE-ROOT ID": how to kill what runs
  config.json  hosts  log  pid
  run/           the runtime's own state (STATE-ROOT)
  secrets/       a tmpfs that only this process and its children see
"""

from __future__ import annotations

import os

from obuild import kernel
from obuild.disk import Lock, remove_tree
from obuild.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from obuild.sandbox import SecretFile

__all__ = ["Bundle", "leftovers"]

_PREFIX = "obuild-"
_SECRETS_SIZE = 1 << 20
"""Bytes of tmpfs beyond the secrets themselves, of which every one takes whole pages."""


class Bundle:
    """A directory for one container under `state`; leaving the block removes it.

    `id` is the container's, unique on this machine: its cgroup has that name too. The file `container` is also put
    into the directory `beside`, for whoever cleans up there.
    """

    def __init__(self, state: str, runtime: str, beside: str | None = None) -> None:
        self.lock: Lock | None = None
        self._secrets = ""
        self._runtime, self._beside = runtime, beside
        while self.lock is None:
            self.id = _PREFIX + os.urandom(6).hex()
            self.path = f"{state}/{self.id}"
            os.makedirs(self.path, mode=0o700)
            try:
                self.lock = Lock.take(self.path)
            except FileNotFoundError:
                continue  # a clean-up took it for a leftover before it was locked

    @property
    def state_root(self) -> str:
        """Where the runtime keeps its own state."""
        return f"{self.path}/run"

    def __enter__(self) -> Bundle:
        line = f"{self._runtime} {self.state_root} {self.id}\n"
        try:
            self.write("container", line.encode())
            if self._beside is not None:
                with open(f"{self._beside}/container", "w", encoding="utf-8") as file:
                    file.write(line)
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._secrets:
            kernel.unmount(self._secrets, detach=True)
        remove_tree(self.path)
        if self._beside is not None:
            remove_tree(f"{self._beside}/container")
        if self.lock is not None:
            self.lock.release()

    def write(self, name: str, data: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None) -> str:
        """A new file of the bundle, whatever the umask is; its path."""
        path = f"{self.path}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
            if owner is not None:
                os.fchown(fd, *owner)
            if mode != 0o600:
                os.fchmod(fd, mode)
        finally:
            os.close(fd)
        return path

    def secrets(self, secrets: tuple[SecretFile, ...], owner: tuple[int, int]) -> list[str]:
        """Files with the contents of `secrets`, in memory only, which `owner` alone may read.

        They are on a tmpfs in obuild's private mount namespace: when the last process in that is gone, so are they.
        """
        if not secrets:
            return []
        path = f"{self.path}/secrets"
        os.mkdir(path, 0o700)
        size = _SECRETS_SIZE + sum(len(secret.content) + 4096 for secret in secrets)
        try:
            kernel.mount_tmpfs(path, size=size)
        except OSError as error:
            raise SandboxError(f"can not keep secrets in memory: {error.strerror}") from None
        self._secrets = path
        return [self.write(f"secrets/{number}", secret.content, 0o400, owner) for number, secret in enumerate(secrets)]


def leftovers(state: str) -> list[tuple[str, Lock]]:
    """The bundles under `state` whose process is gone, locked for whoever removes them."""
    found = []
    try:
        names = os.listdir(state)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        if name.startswith(_PREFIX):
            try:
                lock = Lock.attempt(f"{state}/{name}")
            except FileNotFoundError:
                continue
            if lock is not None:
                found.append((f"{state}/{name}", lock))
    return found
