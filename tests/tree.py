"""A tree with one of everything a file system can hold, and what there is to compare of one."""

from __future__ import annotations

import os
from pathlib import Path


def make_tree(root: Path) -> Path:
    """Fill the new directory `root`: links, holes, devices, attributes, owners, odd times, a name that is no UTF-8."""
    (root / "d" / "deep").mkdir(parents=True)
    (root / "d" / "file").write_bytes(b"content" * 100)
    os.link(root / "d" / "file", root / "linked")
    (root / "d" / "su").write_bytes(b"x")
    os.chown(root / "d" / "su", 1000, 50)
    os.chmod(root / "d" / "su", 0o4755)
    (root / "l").symlink_to("/d/file")
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.setxattr(root / "d" / "file", "user.colour", b"blue\xff")
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    with open(root / "holes", "wb") as file:
        file.truncate(1 << 20)
    for path, time in ((root / "d" / "file", 1234567890123456789), (root / "d", 10**18 + 7)):
        os.utime(path, ns=(time, time))
    return root


def details(root: Path) -> list[tuple[object, ...]]:
    """Everything about every entry, the root among them."""
    found = []
    for path in sorted([root, *root.rglob("*")]):
        info = path.lstat()
        attributes = [
            (name, os.getxattr(path, name, follow_symlinks=False)) for name in os.listxattr(path, follow_symlinks=False)
        ]
        kind = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, 0 if path.is_dir() else info.st_nlink)
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found.append((os.fsencode(path.relative_to(root)), *kind, info.st_mtime_ns, attributes, content))
    return found
