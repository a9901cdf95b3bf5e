"""Putting a source into a layer as opam does: an archive unpacked, its single top directory left out, or one file.

opam unpacks with `tar xf` or `unzip` as the user who builds, and then looks at what lies at the top of the archive. If
that is directories alone, apart from a file `pax_global_header`, there must be exactly one, and its content is the
source. If there is anything else, a symlink too, the source is the archive as it is.
"""

from __future__ import annotations

import os
import posixpath
import stat

from obuild import disk, kernel
from obuild.archive import Stream, open_archive
from obuild.errors import FetchError, ObuildError
from obuild.unpack import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.cancel import Cancel

__all__ = ["extract"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip begins; the second is an empty one."""

HEADER = "pax_global_header"
"""What a tar program makes of git's comment in an archive when it does not know such headers."""


def extract(
    path: str,
    root: str,
    target: str,
    *,
    src: str = ".",
    user: tuple[int, int] = (0, 0),
    name: str = "",
    cancel: Cancel | None = None,
) -> None:
    """Put the source at `path` (a file or a directory, see `Sources.obtain`) below the directory `root`.

    `src` is "." or "./SUB" for the content, or that of a directory in it, put into the directory `target`; anything
    else names a single file, which goes to `target`, or into it with a slash at its end. All belongs to `user`; missing
    directories are made, what is in the way is replaced. No symlink in `root` or in the source leads out of it. `name`
    is what errors call the source. Raises `FetchError`, leaving in `root` what was put there before it.
    """
    name = name or path
    inside = src == "." or src.startswith("./")
    below = posixpath.normpath(src) if inside else ""
    if below.startswith(("..", "/")):
        raise FetchError(f'"{src}" leads out of the source "{name}"')
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not inside:
            _put_file(path, top, f"{target}{src}" if target.endswith("/") else target, user, name)
        elif os.path.isdir(path):
            from obuild.download.folder import put_folder

            put_folder(path, root, target, below=below, user=user)
        else:
            _put_archive(path, top, target, below, user, name, cancel)
    finally:
        os.close(top)


def _put_archive(
    path: str, top: int, target: str, below: str, user: tuple[int, int], name: str, cancel: Cancel | None
) -> None:
    """Unpack beside everything else in the root, and move the right part to its place: a rename for each top entry."""
    staging = f".obuild-{os.urandom(8).hex()}"
    os.mkdir(staging, 0o700, dir_fd=top)
    place = f"/proc/self/fd/{top}/{staging}"
    try:
        _unpack(path, place, user, name, cancel)
        source = _top(place, below, name)
        try:
            folder = _make_folder(top, target, user)
            try:
                _move(source, folder)
            finally:
                os.close(folder)
        finally:
            os.close(source)
    finally:
        disk.remove_tree(place)


def _unpack(path: str, place: str, user: tuple[int, int], name: str, cancel: Cancel | None) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(fd, 512, 0)
        if head.startswith(ZIP):
            from obuild.download.zip import tar_of_zip

            return unpack(Stream(tar_of_zip(f"/proc/self/fd/{fd}", name)), place, name, user=user)
        with open_archive(fd, name, cancel=cancel) as stream:
            # tar itself is content with an archive that just ends: opam takes it, if the checksum is right.
            unpack(stream, place, name, user=user, checked=True)
            stream.drain()
    finally:
        os.close(fd)


def _top(place: str, below: str, name: str) -> int:
    """The directory that is the source, or that is `below` in it, opened."""
    with os.scandir(place) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name != HEADER]
    folders = [entry for entry, is_folder in found if is_folder]
    path = "."
    if len(folders) == len(found):
        if len(found) != 1:
            what = f"has several directories at its top: {', '.join(sorted(folders)[:4])}" if found else "is empty"
            raise FetchError(f'can not unpack "{name}": it {what}')
        path = folders[0]
    above = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = kernel.open_in_root(above, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return kernel.open_in_root(source, below, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise FetchError(f'no directory "{below}" in "{name}": {error.strerror}') from None
        finally:
            os.close(source)
    finally:
        os.close(above)


def _make_folder(top: int, target: str, user: tuple[int, int]) -> int:
    """Open a directory of the root, with what is missing of it made."""
    try:
        return kernel.open_in_root(top, target, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ObuildError(f'"{target}" is no directory in the image: {error.strerror}') from None
    above, leaf = posixpath.split(target.rstrip("/"))
    if leaf == ".":
        return _make_folder(top, above, user)
    if not leaf:
        raise ObuildError(f'"{target}" is a symlink that leads nowhere in the image')
    folder = _make_folder(top, above, user)
    try:
        os.mkdir(leaf, 0o755, dir_fd=folder)
        os.chown(leaf, *user, dir_fd=folder, follow_symlinks=False)
        os.chmod(leaf, 0o755, dir_fd=folder)
    except FileExistsError:
        raise ObuildError(f'"{target}" is a symlink that leads nowhere in the image') from None
    finally:
        os.close(folder)
    return kernel.open_in_root(top, target, os.O_RDONLY | os.O_DIRECTORY)


def _move(source: int, target: int) -> None:
    """Move what is in one directory into another; what is in the way is replaced, but directories are merged."""
    for entry in os.listdir(source):
        if _is_folder(entry, source) and _is_folder(entry, target):
            here = os.open(entry, FOLDER, dir_fd=source)
            there = os.open(entry, FOLDER, dir_fd=target)
            try:
                _move(here, there)
                disk.copy_metadata(here, there)
            finally:
                os.close(here)
                os.close(there)
            continue
        if _is_folder(entry, target):
            disk.remove_tree(f"/proc/self/fd/{target}/{entry}")
        elif _is_folder(entry, source):
            _remove(entry, target)
        os.rename(entry, entry, src_dir_fd=source, dst_dir_fd=target)


def _is_folder(entry: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(entry: str, folder: int) -> None:
    try:
        os.unlink(entry, dir_fd=folder)
    except FileNotFoundError:
        pass


def _put_file(path: str, top: int, target: str, user: tuple[int, int], name: str) -> None:
    """Copy a file as it is, with the mode of a downloaded one."""
    if os.path.isdir(path):
        raise FetchError(f'"{name}" is a directory, not a file')
    above, leaf = posixpath.split(target)
    if leaf in ("", ".", ".."):
        raise FetchError(f'"{target}" can not be the name of a file')
    folder = _make_folder(top, above or "/", user)
    try:
        if _is_folder(leaf, folder):
            raise FetchError(f'can not put "{name}" at "{target}": there is a directory')
        _remove(leaf, folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(path, "rb") as source:
            fd = os.open(leaf, flags, 0o600, dir_fd=folder)
            try:
                if not kernel.reflink(source.fileno(), fd):
                    while os.sendfile(fd, source.fileno(), None, 1 << 30):
                        pass
                os.fchown(fd, *user)
                os.fchmod(fd, 0o644)
            finally:
                os.close(fd)
    finally:
        os.close(folder)
