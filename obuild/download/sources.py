"""The sources of packages on this machine: each is fetched once, verified, and kept under its checksum for all builds.

SOURCES/sha256/01/01fc…            a file, by the strongest checksum that was promised for it
SOURCES/sha256/01/01fc….part       what has arrived of one so far; locked by who fetches it
SOURCES/git/9f/9f31…/              the work tree of a commit, with its repository
SOURCES/unverified/<name>.json     what a source for which nothing is promised was last found to be
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress

from obuild.download.checksum import parse_checksums
from obuild.errors import FetchError, UsageError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obuild.cancel import Cancel
    from obuild.download.checksum import Checksum, Hasher
    from obuild.download.part import Part
    from obuild.opam.url import Url

    Write = Callable[[bytes], None]

__all__ = ["Sources"]

JOBS = 3
"""Downloads at once, as opam has it."""

_moving: dict[tuple[str, str], str] = {}
"""What was found at an address for which nothing is promised, by the directory of sources and the address.

A plan is made by what a branch is, and the builds of the plan must get just that; each has its own `Sources`.
"""


@value
class Place:
    """One place to have a file from: its address, for messages too, and the path of it when it is on this machine."""

    url: str
    path: str = ""


class Sources:
    """The sources below the directory `path`. Safe to use from several threads, and by several processes at once.

    `mirrors` are archive mirrors in the layout of opam's cache (`DIR/sha256/01/01fc…`): directories, `file:` or
    `http:` addresses. With `offline` nothing is asked for on any network.
    """

    def __init__(self, path: str, *, mirrors: Sequence[str] = (), offline: bool = False, jobs: int = JOBS) -> None:
        self.path, self.offline = os.path.abspath(path), offline
        parsed = [_mirror(text) for text in mirrors]
        self._local = tuple(os.path.abspath(mirror.path) for mirror in parsed if mirror.backend == "rsync")
        self._remote = tuple(_text(mirror).rstrip("/") for mirror in parsed if mirror.backend == "http")
        self._slots = threading.BoundedSemaphore(jobs)

    def obtain(
        self,
        url: str,
        checksums: Sequence[str] = (),
        mirrors: Sequence[str] = (),
        write: Write | None = None,
        cancel: Cancel | None = None,
    ) -> str:
        """The path of the source at `url`: a file that has all the `checksums`, or a directory.

        Looked for here, in archive mirrors that are directories, at `url`, at its own `mirrors`, in the other archive
        mirrors; the first place with the right content wins. `write` hears what happens, in lines. Raises `FetchError`
        that says of each place why it did not do, `Cancelled`, and `StoreError` for a full disk.
        """
        wanted = parse_checksums(checksums)
        addresses = [_parse(text) for text in (url, *mirrors)]
        first = addresses[0]
        if wanted and (first.backend == "git" or (first.backend == "rsync" and os.path.isdir(first.path))):
            what = "a repository" if first.backend == "git" else "a directory"
            raise FetchError(f'"{url}" is {what}, which can not have the checksum {wanted[0]}')
        if first.backend == "rsync" and os.path.isdir(first.path):
            return os.path.realpath(first.path)
        if not wanted:
            return self._unverified(addresses, write, cancel)
        found = self._cached(wanted, write)
        return found or self._fetch(wanted, addresses, write, cancel)

    def forget(self) -> None:
        """Ask again from now on what branches are, and what else may change without notice."""
        for key in [key for key in tuple(_moving) if key[0] == self.path]:
            _moving.pop(key, None)

    def content_key(
        self,
        url: str,
        checksums: Sequence[str] = (),
        mirrors: Sequence[str] = (),
        write: Write | None = None,
        cancel: Cancel | None = None,
        *,
        subpath: str = "",
    ) -> str:
        """The words that stand for a source's content: its strongest checksum if it has one, else found out now.

        `sha512=…`, `sha256=…` or `md5=…` for a file, `git=COMMIT`, `dir=…` for the files of a directory.
        """
        wanted = parse_checksums(checksums)
        if wanted:
            return str(wanted[0])
        path = self.obtain(url, (), mirrors, write, cancel)
        if _parse(url).backend == "git":
            return f"git={os.path.basename(path)}"
        if os.path.isdir(path):
            from obuild.download.folder import folder_digest

            return f"dir={folder_digest(path, subpath, f'{os.path.dirname(self.path)}/index')}"
        return f"sha256={os.path.basename(path)}"

    def _cached(self, wanted: Sequence[Checksum], write: Write | None) -> str:
        """The file that is here already, verified again and stamped as used now; "" when there is none."""
        for checksum in wanted:
            path = f"{self.path}/{checksum.path}"
            if not os.path.exists(path):
                continue
            hasher = _hashed(path, wanted)
            if not hasher.broken:
                with suppress(OSError):  # a store that may only be read
                    os.utime(path)
                return path
            if not hasher.has(checksum):  # otherwise it is good, but not what is wanted here
                _say(write, f'"{path}" is damaged and thrown away: {hasher.broken}')
                os.unlink(path)
        return ""

    def _fetch(
        self, wanted: Sequence[Checksum], addresses: Sequence[Url], write: Write | None, cancel: Cancel | None
    ) -> str:
        from obuild.download.part import Part
        from obuild.retry import retry

        final = f"{self.path}/{wanted[0].path}"
        name = _text(addresses[0])
        places = self._places(wanted, addresses)

        def waiting() -> None:
            _say(write, f'waiting for another obuild that fetches "{name}"')

        with self._slot(cancel), Part(f"{final}.part", wanted, cancel=cancel, waiting=waiting) as part:
            if os.path.exists(final):
                part.drop()
                return final
            if not places:
                part.drop()
                raise _missing(name, wanted[0])
            retry(lambda: _from_any(places, part, write, cancel), note=lambda text: _say(write, text), cancel=cancel)
            part.publish(final)
        return final

    def _places(self, wanted: Sequence[Checksum], addresses: Sequence[Url]) -> list[Place]:
        """Where a file with these checksums may be had, in order."""
        paths = [f"{folder}/{checksum.path}" for folder in self._local for checksum in wanted]
        places = [Place(path, path) for path in paths if os.path.exists(path)]
        for address in addresses:
            if address.backend == "rsync" and address.transport == "file":
                places.append(Place(_text(address), address.path))
            elif address.backend == "http" and not self.offline:
                places.append(Place(_text(address)))
            elif address.backend != "http":
                raise _refused(address)
        if not self.offline:
            places += [Place(f"{mirror}/{checksum.path}") for mirror in self._remote for checksum in wanted]
        return places

    def _unverified(self, addresses: Sequence[Url], write: Write | None, cancel: Cancel | None) -> str:
        """What is there now, or was when it was first asked for in this process."""
        key = self.path, _text(addresses[0])
        known = _moving.get(key, "")
        if known and os.path.exists(known):
            return known
        with self._slot(cancel):
            path = self._unpromised(addresses, write, cancel)
        return _moving.setdefault(key, path)

    def _unpromised(self, addresses: Sequence[Url], write: Write | None, cancel: Cancel | None) -> str:
        if addresses[0].backend == "git":
            from obuild.download import git

            return git.obtain(addresses[0], f"{self.path}/git", offline=self.offline, write=write, cancel=cancel)
        from obuild.download import unverified

        places = self._places((), addresses)
        return unverified.obtain(self.path, _text(addresses[0]), places, write=write, cancel=cancel)

    @contextmanager
    def _slot(self, cancel: Cancel | None) -> Iterator[None]:
        """One of the downloads that may run at once."""
        while not self._slots.acquire(timeout=0.1):
            if cancel is not None:
                cancel.check()
        try:
            yield
        finally:
            self._slots.release()


def _from_any(places: Sequence[Place], part: Part, write: Write | None, cancel: Cancel | None) -> None:
    """Fill the part from the first place that has the right content."""
    problems: list[FetchError] = []
    for place in places:
        try:
            return _from(place, part, write, cancel)
        except FetchError as error:
            problems.append(error)
            if len(problems) < len(places):
                _say(write, f"{error}; trying the next place")
    if len(problems) == 1:
        raise problems[0]
    text = "\n".join(f"  {problem}" for problem in problems)
    temporary = any(problem.temporary for problem in problems)
    raise FetchError(f'no place has "{places[0].url}":\n{text}', temporary=temporary)


def _from(place: Place, part: Part, write: Write | None, cancel: Cancel | None) -> None:
    """Fill the part from one place."""
    if place.path:
        part.copy(place.path)
        return part.check(place.url)
    from obuild.download.web import transfer

    def begun(start: int, total: int | None) -> None:
        size = f" ({total:,} bytes)" if total is not None else ""
        _say(write, f'fetching "{place.url}"{size}{f" from byte {start:,} on" if start else ""}')

    resumed = part.resume()
    if not resumed or part.broken:
        transfer(place.url, part, cancel=cancel, begun=begun)
    if resumed and part.broken:
        _say(write, f'what had arrived of "{place.url}" before does not fit: from the beginning again')
        part.restart()
        transfer(place.url, part, cancel=cancel, begun=begun)
    return part.check(place.url)


def _hashed(path: str, wanted: Sequence[Checksum]) -> Hasher:
    """The wanted digests of a file."""
    from obuild.download.checksum import Hasher
    from obuild.download.part import CHUNK

    hasher = Hasher(wanted)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            hasher.update(data)
    return hasher


def _parse(text: str) -> Url:
    from obuild.opam.shape import WrongShape
    from obuild.opam.url import parse_url

    try:
        return parse_url(text)
    except WrongShape as error:
        raise UsageError(f'"{text}" is not the address of a source: {error}') from None


def _text(address: Url) -> str:
    from obuild.opam.url import format_url

    return format_url(address)


def _mirror(text: str) -> Url:
    """The address of an archive mirror."""
    address = _parse(text)
    if address.backend == "rsync" and address.transport == "file":
        if not os.path.isdir(address.path):
            raise UsageError(f'the archive mirror "{text}" is not a directory')
    elif address.backend != "http":
        raise UsageError(f'"{text}" can not be an archive mirror', hint="give a directory, or http://…")
    return address


def _refused(address: Url) -> FetchError:
    text = _text(address)
    if address.backend in ("hg", "darcs"):
        tool = {"hg": "Mercurial", "darcs": "Darcs"}[address.backend]
        return FetchError(f'can not get "{text}": {tool} is not supported', hint="use an archive of it, or git")
    if address.backend == "git":
        return FetchError(f'"{text}" can not be a mirror of a file', hint="give the address of an archive")
    return FetchError(
        f'can not get "{text}": {address.transport} is not supported', hint="use https, git or a directory"
    )


def _missing(name: str, checksum: Checksum) -> FetchError:
    hint = f"run it once with network, or give --archive-mirror DIR with DIR/{checksum.path}"
    return FetchError(f'"{name}" is not on this machine, and nothing is fetched offline', hint=hint)


def _say(write: Write | None, text: str) -> None:
    if write:
        write(f"{text}\n".encode("utf-8", "surrogateescape"))
