"""Mount points in a root file system that leave no trace in it.

A runtime makes what it mounts over and leaves it behind: an empty `/run/secrets/key` in every layer. Here each missing
directory and file is made beforehand, remembered, and removed afterwards. The tree may be hostile: its symbolic links
are resolved by hand as if it were `/`, so nothing outside is ever looked at, made or removed.
"""

from __future__ import annotations

import os
import stat

from obuild.errors import SandboxError
from obuild.kernel import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Points", "prepare"]

SYSTEM = ("/proc", "/sys", "/dev")
FILES = ("/etc/hosts", "/etc/resolv.conf")

_LINKS = 40
"""How many symbolic links the kernel follows in one path."""


class Points:
    """The mount points of one run in `root`; leaving the block removes those that were made and are still empty."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._covered: set[tuple[str, ...]] = set()
        self._made: list[_Made] = []

    def __enter__(self) -> Points:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._made:
            self._made.pop().remove()

    def keep(self) -> None:
        """Let everything that was made stay."""
        while self._made:
            self._made.pop().close()

    def directory(self, target: str) -> str:
        """Where to mount a directory at `target`: its path inside the root, free of symbolic links."""
        return self._point(target, directory=True)

    def file(self, target: str) -> str:
        """Where to mount a file at `target`."""
        return self._point(target, directory=False)

    def system(self, target: str) -> str:
        """Where to mount `/proc`, `/sys` or `/dev`, which must be directories themselves.

        crun fills `/dev` after opening it by name: were it a link to `/etc`, that would be the host's.
        """
        point = self._point(target, directory=True)
        if point != target:
            raise SandboxError(f'"{target}" is a symbolic link in the image', hint="it has to be a directory")
        return point

    def workdir(self, target: str) -> None:
        """Make the working directory `target` when it is missing; it stays, as in a Dockerfile.

        The runtimes would make it too, with whatever mode the caller's umask leaves.
        """
        names, present = self._locate(target)
        if self._below_mount(names):
            return
        if present < len(names):
            made = self._make(names, present, directory=True)
            for one in made:
                one.close()
        elif names and not stat.S_ISDIR(os.lstat(self._path(names)).st_mode):
            raise SandboxError(f'the working directory "{target}" is not a directory in the image')

    def _point(self, target: str, *, directory: bool) -> str:
        names, present = self._locate(target)
        if not names:
            raise SandboxError(f'can not mount at "{target}": that is the root of the image')
        if not self._below_mount(names):
            if present < len(names):
                self._made += self._make(names, present, directory=directory)
            elif stat.S_ISDIR(os.lstat(self._path(names)).st_mode) != directory:
                raise SandboxError(f'can not mount at "{target}": it is {"not " if directory else ""}a directory')
        self._covered.add(tuple(names))
        return "/" + "/".join(names)

    def _below_mount(self, names: list[str]) -> bool:
        return any(tuple(names[:size]) in self._covered for size in range(1, len(names) + 1))

    def _path(self, names: list[str]) -> str:
        return "/".join((self._root, *names))

    def _locate(self, target: str) -> tuple[list[str], int]:
        """The names that lead to `target` without a symbolic link, and how many of them are there.

        What is below an earlier mount is not looked at: it will be hidden.
        """
        names: list[str] = []
        present = links = 0
        todo = target.split("/")[::-1]
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del names[-1:]
                present = min(present, len(names))
                continue
            names.append(name)
            if present < len(names) - 1 or self._below_mount(names):
                continue
            mode = self._mode(names)
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS:
                    raise SandboxError(f'"{target}" leads through too many symbolic links in the image')
                link = os.readlink(self._path(names))
                del names[0 if link.startswith("/") else -1 :]
                todo += link.split("/")[::-1]
            present = len(names) if mode else present
        return names, present

    def _mode(self, names: list[str]) -> int:
        try:
            return os.lstat(self._path(names)).st_mode
        except FileNotFoundError:
            return 0
        except NotADirectoryError:
            raise SandboxError(f'"/{"/".join(names[:-1])}" is not a directory in the image') from None

    def _make(self, names: list[str], present: int, *, directory: bool) -> list[_Made]:
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            parent = open_in_root(root, "/".join(names[:present]) or ".", os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(root)
        made = [_Made(parent, names[present], directory=directory or present < len(names) - 1)]
        for number in range(present + 1, len(names)):
            parent = os.open(names[number - 1], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            made.append(_Made(parent, names[number], directory=directory or number < len(names) - 1))
        return made


def prepare(root: str) -> None:
    """Make in a base, for good, the mount points that every container needs.

    Where a step had to make and remove `/etc/hosts`, each layer would have a copy of `/etc`, and every lookup in it
    would go through all of them. A base that can not have one is left as it is: a step in it says what is wrong.
    """
    points = Points(root)
    for make, targets in ((points.system, SYSTEM), (points.file, FILES)):
        for target in targets:
            try:
                make(target)
            except SandboxError:
                continue
    points.keep()


class _Made:
    """A directory or file made in the directory `parent`, a descriptor: the step may rename what leads there."""

    def __init__(self, parent: int, name: str, *, directory: bool) -> None:
        self._parent, self._name, self._directory = parent, name, directory
        self._before = os.fstat(parent)
        if directory:
            os.mkdir(name, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, dir_fd=parent))
        os.chmod(name, 0o755 if directory else 0o644, dir_fd=parent)  # whatever the umask is
        self._after = os.fstat(parent).st_mtime_ns

    def close(self) -> None:
        """Let it stay."""
        os.close(self._parent)

    def remove(self) -> None:
        """Remove it unless the step has put something there; then its directory has its old time again."""
        try:
            untouched = os.fstat(self._parent).st_mtime_ns == self._after
            if self._directory:
                os.rmdir(self._name, dir_fd=self._parent)
            elif self._is_empty_file():
                os.unlink(self._name, dir_fd=self._parent)
            if untouched:
                os.utime(".", ns=(self._before.st_atime_ns, self._before.st_mtime_ns), dir_fd=self._parent)
        except OSError:
            pass  # the step removed it or filled it: it is the step's now
        finally:
            os.close(self._parent)

    def _is_empty_file(self) -> bool:
        info = os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        return stat.S_ISREG(info.st_mode) and info.st_size == 0
