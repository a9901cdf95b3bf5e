"""What a `copy` would copy: a walk over its sources, and one digest over names, kinds, modes and content.

Reading gigabytes again to learn that nothing changed would be most of a cached build, so two things are remembered
in the store's `index/`, with git's care for racy timestamps: the digest of every file by its
`lstat`, and the digest of the whole set by all of them, which makes a re-check as cheap as listing the tree.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import time
from operator import attrgetter

from obuild import disk
from obuild.digest import blake2, sha256
from obuild.errors import ObuildError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NamedTuple

    from obuild.cancel import Cancel

    class _Fields(NamedTuple):
        path: str
        kind: str
        mode: int
        size: int
        mtime: int
        ctime: int
        inode: int
        source: str
else:
    # `typing` compiles every annotation, which takes ten times as long.
    from collections import namedtuple

    _Fields = namedtuple("_Fields", "path kind mode size mtime ctime inode source")

__all__ = ["Entry", "Index", "Scan", "check_unchanged", "fingerprint", "of_text", "scan"]

CHUNK = 4 << 20
"""Bytes up to which a file is read whole."""

PIECE = 256 << 10
"""Bytes of a larger file that are read at once."""

KEEP = 64 << 20
"""Bytes of file content that are kept between hashing and copying."""

_NAME = attrgetter("name")
_new = tuple.__new__  # a third of the time of the call of a class

RACY = 20_000_000
"""Nanoseconds: a file changed so shortly before the scan may change again without a new timestamp."""


class Entry(_Fields):
    """A file, directory or symlink ("f", "d", "l"); a plain tuple, because a tree has thousands of them.

    `path` is below the target, `source` on the host; times are in nanoseconds.
    """

    __slots__ = ()

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """What changes whenever the file does."""
        return (self.size, self.mtime, self.ctime, self.inode)


@value
class Scan:
    """Sources as found on disk.

    `started` is the wall clock in nanoseconds before the first `lstat`. `contents` is filled while files are read for
    their digest: what a copy then writes is what was hashed, and small files are opened once.
    """

    entries: tuple[Entry, ...]
    started: int
    contents: dict[str, bytes]


def scan(root: str, sources: Sequence[str], *, into: bool, exclude: Sequence[str] = ()) -> Scan:
    """List what `(copy (src SOURCES) …)` names below the directory `root`, in a fixed order.

    `into`: each source goes into the target under its own name (`.` gives its content); otherwise the single source
    becomes the target. Symlinks are copied, never followed. `exclude` drops entries inside directories, never a named
    source itself. Modes are 0755 and 0644, by the executable bits, so that a checkout's umask does not count.
    Raises `ObuildError` for a missing source, a path through a symlink or a file, a device, a fifo or a socket.
    """
    if not sources:
        raise ObuildError("a copy needs at least one source")
    if not into and len(sources) > 1:
        raise ObuildError('to copy several sources the destination must end with "/"')
    excluded = _matcher(exclude)
    started = time.time_ns()
    entries: list[Entry] = []
    for source in sources:
        parts = [part for part in source.split("/") if part not in ("", ".")]
        path = _locate(root, parts, source)
        _walk(entries, path, parts[-1] if into and parts else "", "/".join(parts), excluded)
    return Scan(tuple(entries), started, {})


def of_text(name: str, data: bytes) -> Scan:
    """A scan of one file that is nowhere on disk."""
    now = time.time_ns()
    entry = Entry(name, "f", 0o644, len(data), now, now, 0, name)
    return Scan((entry,), now, {name: data})


def _locate(root: str, parts: Sequence[str], source: str) -> str:
    path = root
    for number, part in enumerate(parts):
        if part == "..":
            raise ObuildError(f'".." can not be used in a source path, as in "{source}"')
        path = f"{path}/{part}"
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise ObuildError(f'source path "{source}" not found', hint=_hint(root, parts[:number], part)) from None
        if number < len(parts) - 1 and not stat.S_ISDIR(mode):
            kind = "a symlink" if stat.S_ISLNK(mode) else "not a directory"
            raise ObuildError(f'"{part}" is {kind} in source path "{source}"')
    return path


def _hint(root: str, parts: Sequence[str], missing: str) -> str:
    from obuild.errors import nearest

    try:
        return nearest(missing, os.listdir("/".join((root, *parts))))
    except OSError:
        return ""


def _walk(entries: list[Entry], path: str, name: str, inside: str, excluded: Callable[[str, str], bool] | None) -> None:
    """Append the entries of one source; `name` is its path below the target, `inside` its path below the root."""
    info = os.lstat(path)
    entries.append(_entry(name, info, path))
    pending = [(path, name, inside)] if stat.S_ISDIR(info.st_mode) else []
    while pending:
        folder, prefix, below = pending.pop()
        prefix, below = prefix and f"{prefix}/", below and f"{below}/"
        children = []
        with os.scandir(folder) as listing:
            for item in _sorted(listing):
                name = item.name
                if excluded and excluded(name, below + name):
                    continue
                entry = _entry(prefix + name, item.stat(follow_symlinks=False), item.path)
                entries.append(entry)
                if entry.kind == "d":
                    children.append((item.path, prefix + name, below + name))
        pending += children[::-1]


def _sorted(listing: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """By the bytes of their names. The order of UTF-8 is that of its characters, but for bytes that are not UTF-8."""
    items = sorted(listing, key=_NAME)
    if not "".join([item.name for item in items]).isascii():
        items.sort(key=lambda item: os.fsencode(item.name))
    return items


def _entry(name: str, info: os.stat_result, path: str) -> Entry:
    mode = info.st_mode
    kind = mode & 0o170000
    if kind == stat.S_IFREG:
        row = (name, "f", 0o755 if mode & 0o111 else 0o644)
    elif kind == stat.S_IFDIR:
        row = (name, "d", 0o755)
    elif kind == stat.S_IFLNK:
        row = (name, "l", 0o777)
    else:
        raise ObuildError(f'"{path}" is a device, a fifo or a socket and can not be copied', hint="exclude it")
    return _new(Entry, (*row, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, path))


def _matcher(patterns: Sequence[str]) -> Callable[[str, str], bool] | None:
    """Whether an entry is excluded, by its name or its path below the source root; None when none ever is.

    A plain word is a name at any depth, as in OBuilder. One with `*`, `?` or `[` is a glob over names or, when it has
    a `/`, over paths; `**` also matches across directories.
    """
    if not patterns:
        return None
    names = {pattern for pattern in patterns if not set(pattern) & set("*?[/")}
    if len(names) == len(set(patterns)):
        return lambda name, _: name in names
    import re

    globs = [pattern for pattern in patterns if pattern not in names]
    by_name = re.compile("|".join(_regex(g) for g in globs if "/" not in g) or r"(?!)")
    by_path = re.compile("|".join(_regex(g.strip("/")) for g in globs if "/" in g) or r"(?!)")
    return lambda name, path: bool(name in names or by_name.fullmatch(name) or by_path.fullmatch(path))


def _regex(glob: str) -> str:
    import re

    out, rest = "", glob
    while rest:
        for start, regex in (("**/", "(?:.*/)?"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]")):
            if rest.startswith(start):
                out, rest = out + regex, rest[len(start) :]
                break
        else:
            end = rest.find("]", 2)
            if rest[0] == "[" and end > 0:
                negated = rest[1] in "!^"
                inside = rest[2 if negated else 1 : end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
                out, rest = out + ("[^" if negated else "[") + inside + "]", rest[end + 1 :]
            else:
                out, rest = out + re.escape(rest[0]), rest[1:]
    return out


class Index:
    """Digests remembered between builds for the sources below `root`, in the store directory `folder`.

    Lost or torn files of it cost time, never a wrong digest. With a `folder` of "" nothing is remembered.
    """

    def __init__(self, folder: str, root: str) -> None:
        name = sha256(os.path.realpath(root).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        # marshal's form may change between versions of Python.
        self._path = f"{folder}/{name}-{sys.implementation.cache_tag}" if folder else ""

    def known(self, key: str) -> str:
        """The digest of the scan with this fingerprint, "" when it is not remembered."""
        return str(self._load("sets").get(key, ""))

    def unread(self, found: Scan) -> int:
        """Bytes of files that `digest` would have to read."""
        known = self._load("files")
        files = (entry for entry in found.entries if entry.kind == "f")
        return sum(entry.size for entry in files if known.get(entry.source, ((), b""))[0] != entry.stamp)

    def digest(self, found: Scan, key: str, *, cancel: Cancel | None = None) -> str:
        """The digest of everything that counts in a scan; reads only files that changed since they were last read.

        It is remembered under the scan's fingerprint `key`, unless a file is so new that it may still change unseen.
        """
        digest = self._read(found, cancel)
        newest = max((entry.ctime for entry in found.entries), default=0)
        if newest < found.started - RACY:
            kept = dict(list(self._load("sets").items())[-63:])
            self._save("sets", {**kept, key: digest})
        return digest

    def _read(self, found: Scan, cancel: Cancel | None) -> str:
        known: dict[str, tuple[tuple[int, int, int, int], bytes]] = self._load("files")
        import hashlib  # only when a file has to be read

        total, changed, keep = hashlib.sha256(), False, _Keep(found.contents)
        for entry in found.entries:
            path, kind, mode = entry.path, entry.kind, entry.mode
            content = b""
            if kind == "l":
                content = os.readlink(entry.source).encode("utf-8", "surrogateescape")
            elif kind == "f":
                stamp = entry.stamp
                old = known.get(entry.source)
                if old and old[0] == stamp:
                    content = old[1]
                else:
                    content, changed = _content(entry, keep, cancel), True
                    if entry.ctime < found.started - RACY:
                        known[entry.source] = (stamp, content)
            total.update(b"%s%o %d " % (kind.encode(), mode, len(content)) + content)
            total.update(path.encode("utf-8", "surrogateescape") + b"\0")
        if changed:
            if len(known) > 2 * len(found.entries) + 100_000:
                current = {entry.source for entry in found.entries}
                known = {source: seen for source, seen in known.items() if source in current}
            self._save("files", known)
        return total.hexdigest()

    def _load(self, part: str) -> dict[str, Any]:
        if not self._path:
            return {}
        try:
            with open(f"{self._path}.{part}", "rb") as file:
                check, data = file.read(64), file.read()
        except OSError:
            return {}
        loaded: dict[str, Any] = marshal.loads(data) if blake2(data).digest() == check else {}
        return loaded

    def _save(self, part: str, data: dict[str, Any]) -> None:
        if not self._path:
            return
        packed = marshal.dumps(data)
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            disk.write_atomic(f"{self._path}.{part}", blake2(packed).digest() + packed)
        except OSError:
            pass  # a full disk, or a store that may only be read: the files are read again next time


def fingerprint(found: Scan) -> str:
    """A digest of what `lstat` says of a scan: equal as long as nothing was touched, on this machine only."""
    # Version 2 of the form looks for no object that comes twice.
    return blake2(marshal.dumps([entry[:-1] for entry in found.entries], 2)).hexdigest()


class _Keep:
    """Contents worth keeping until they are copied: small files, up to a bound of memory."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._contents, self._left = contents, KEEP

    def __call__(self, source: str, data: bytes) -> None:
        if len(data) <= self._left:
            self._left -= len(data)
            self._contents[source] = data


def _content(entry: Entry, keep: _Keep, cancel: Cancel | None) -> bytes:
    """The digest of a regular file's content, which must still be the file that was listed.

    BLAKE3 takes a tenth of SHA-256's time on processors without instructions for that, and nobody but obuild reads it.
    """
    from blake3 import blake3  # only when a file has to be read

    if cancel is not None:
        cancel.check()
    fd = os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if entry.size <= CHUNK:
            data = os.read(fd, entry.size + 1)
            check_unchanged(fd, entry)
            keep(entry.source, data)
            return blake3(data).digest()
        # One thread: the file is most often copied meanwhile. Pieces that stay in a processor's own cache.
        hasher, buffer = blake3(), bytearray(PIECE)
        # Read, not mapped: a file that is cut short while it is mapped would kill us.
        while size := os.readv(fd, [buffer]):
            hasher.update(memoryview(buffer)[:size])
            if cancel is not None:
                cancel.check()
        check_unchanged(fd, entry)
        return hasher.digest()
    finally:
        os.close(fd)


def check_unchanged(fd: int, entry: Entry) -> None:
    """Raise `ObuildError` when an open file is no longer what the scan saw: half of an edit must not become a layer."""
    info = os.fstat(fd)
    if (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino) != entry.stamp:
        raise ObuildError(f'"{entry.source}" changed while it was being copied', temporary=True)
