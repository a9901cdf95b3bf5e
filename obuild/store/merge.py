"""Overlay layers put together without mounting them, by the rules that overlayfs itself reads them with.

In a layer a character device 0:0 says that a name of the layers below is gone (a whiteout); the attribute `opaque` of
a directory that nothing below shows through it; `redirect` that below it goes by another name, relative to its
directory or, beginning with "/", to the root (kernel documentation, filesystems/overlayfs).
"""

from __future__ import annotations

import os
import stat

from obuild.disk import Copier, copy_metadata, remove_tree, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Place = tuple[int, str]
    """A directory: the number of its layer and its path there, "" for the root, otherwise beginning with "/"."""

__all__ = ["Layers", "apply", "has_redirects", "is_whiteout", "keeps", "squash", "strip"]

_PREFIX = "trusted.overlay."
_OPAQUE, _REDIRECT = _PREFIX + "opaque", _PREFIX + "redirect"
_INTERNAL = frozenset(_PREFIX + name for name in ("opaque", "redirect", "origin", "impure", "nlink", "upper", "uuid"))


def squash(layers: Sequence[str], target: str, *, whole: bool = False, link: bool = False) -> None:
    """Fill the empty directory `target` with one layer that means what `layers` do, the uppermost first.

    With `whole` there is nothing below them and the result is a plain tree. With `link` files are hard links to those
    of the layers instead of copies. Paths longer than the kernel takes (4095 bytes) raise `OSError`.
    """
    out = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        squashing = _Squash(layers, Copier(out, keep=keeps), None if whole else "", link=link)
        squashing.fill(out, [(number, "") for number in range(len(layers))], squashing.below, "")
    except RecursionError:
        raise OSError(f'directories nested too deeply below "{target}"') from None
    finally:
        os.close(out)


class Layers:
    """Overlay layers, the uppermost first; `below` is "" when there is something below them all, None otherwise."""

    def __init__(self, layers: Sequence[str], below: str | None) -> None:
        self.layers, self.below = layers, below

    def resolve(self, places: Sequence[Place], name: str, below: str | None) -> tuple[list[Place], str | None]:
        """The directories that `name` in the directory `places` is made of, and what shows through from below."""
        found: list[Place] = []
        for number, folder in places:
            path = f"{folder}/{name}"
            try:
                info = os.lstat(self.layers[number] + path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(info.st_mode):
                return found, None
            found.append((number, path))
            if _attribute(self.layers[number] + path, _OPAQUE) == "y":
                return found, None
            redirect = _attribute(self.layers[number] + path, _REDIRECT)
            if redirect.startswith("/"):
                more, below = self._resolve_path(redirect, number + 1)
                return found + more, below
            name = redirect or name
        return found, None if below is None else f"{below}/{name}"

    def _resolve_path(self, path: str, first: int) -> tuple[list[Place], str | None]:
        """The same for a path from the root, in the layers from the number `first` on."""
        places = [(number, "") for number in range(first, len(self.layers))]
        below = self.below
        for name in path.strip("/").split("/"):
            places, below = self.resolve(places, name, below)
        return places, below


class _Squash(Layers):
    def __init__(self, layers: Sequence[str], copier: Copier, below: str | None, *, link: bool) -> None:
        super().__init__(layers, below)
        self._copier, self._link = copier, link

    def fill(self, out: int, places: Sequence[Place], below: str | None, path: str) -> None:
        """Fill the directory `out` (`path` in the result) with what `places`, the uppermost first, mean together.

        `below` is the path of what shows through it from below all layers, None when nothing does.
        """
        found: dict[str, int] = {}
        for depth, (number, folder) in enumerate(places):
            for name in os.listdir(self.layers[number] + folder):
                found.setdefault(name, depth)
        for name, depth in found.items():
            self._entry(out, name, places[depth:], below, f"{path}/{name}")
        number, folder = places[0]
        source = os.open(self.layers[number] + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            marks = {name: os.getxattr(out, name) for name in os.listxattr(out) if name in (_OPAQUE, _REDIRECT)}
            copy_metadata(source, out, keep=keeps)
        finally:
            os.close(source)
        for name, text in marks.items():
            os.setxattr(out, name, text)

    def _entry(self, out: int, name: str, places: Sequence[Place], below: str | None, path: str) -> None:
        number, folder = places[0]
        info = os.lstat(f"{self.layers[number]}{folder}/{name}")
        if is_whiteout(info):
            if below is not None:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=out)
        elif stat.S_ISDIR(info.st_mode):
            self._directory(out, name, places, below, path)
        else:
            here = os.open(self.layers[number] + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if self._link:
                    os.link(name, name, src_dir_fd=here, dst_dir_fd=out, follow_symlinks=False)
                else:
                    self._copier.copy(here, out, name, path[1:])
            finally:
                os.close(here)

    def _directory(self, out: int, name: str, places: Sequence[Place], below: str | None, path: str) -> None:
        inside, there = self.resolve(places, name, below)
        os.mkdir(name, 0o700, dir_fd=out)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=out)
        try:
            if there is None and below is not None:
                os.setxattr(fd, _OPAQUE, b"y")
            elif there is not None and there != f"{below}/{name}":
                os.setxattr(fd, _REDIRECT, os.fsencode(there))
            self.fill(fd, inside, there, path)
        finally:
            os.close(fd)


def has_redirects(layer: str) -> bool:
    """Whether a directory of the layer goes by another name below."""
    return any(_attribute(f"/proc/self/fd/{folder}", _REDIRECT, follow=True) for folder, _ in walk(layer))


def apply(layer: str, tree: str) -> None:
    """Make in the plain directory `tree` the changes that a layer without redirects stands for, and empty the layer.

    Everything is moved by renaming. When it is cut short, doing it again finishes it.
    """
    upper = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lower = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(upper):
                _apply(layer, tree, upper, lower, name)
            copy_metadata(upper, lower, keep=keeps)
        finally:
            os.close(lower)
    finally:
        os.close(upper)


def _apply(layer: str, tree: str, upper: int, lower: int, name: str) -> None:
    info = os.stat(name, dir_fd=upper, follow_symlinks=False)
    above, below = f"{layer}/{name}", f"{tree}/{name}"
    if is_whiteout(info):
        remove_tree(below)
        os.unlink(name, dir_fd=upper)
        return
    if stat.S_ISDIR(info.st_mode) and _attribute(above, _OPAQUE) != "y" and _is_directory(below):
        apply(above, below)
        os.rmdir(name, dir_fd=upper)
        return
    if stat.S_ISDIR(info.st_mode):
        _clean(above)
    else:
        strip(above)
    if stat.S_ISDIR(info.st_mode) or _is_directory(below):
        remove_tree(below)
    os.rename(name, name, src_dir_fd=upper, dst_dir_fd=lower)


def _clean(folder: str) -> None:
    """Take what is overlayfs's own out of a directory below which there is nothing."""
    for fd, entries in walk(folder):
        strip(f"/proc/self/fd/{fd}/.")
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                if is_whiteout(entry.stat(follow_symlinks=False)):
                    os.unlink(entry.name, dir_fd=fd)
                else:
                    strip(f"/proc/self/fd/{fd}/{entry.name}")


def strip(path: str) -> None:
    """Take the marks of overlayfs off a file or directory."""
    for name in os.listxattr(path, follow_symlinks=False):
        if name in _INTERNAL:
            os.removexattr(path, name, follow_symlinks=False)


def keeps(name: str) -> bool:
    """Whether an extended attribute of that name is no mark of overlayfs."""
    return name not in _INTERNAL


def _attribute(path: str, name: str, *, follow: bool = False) -> str:
    try:
        return os.fsdecode(os.getxattr(path, name, follow_symlinks=follow))
    except OSError:
        return ""


def is_whiteout(info: os.stat_result) -> bool:
    """Whether an entry of a layer says that the name is gone."""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
