"""Packages that do all that opam allows, and trees in which obuild does what opam does to them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from obuild.opam.opamfile import OpamFile
from obuild.opam.package import parse_package
from obuild.opam.syntax import parse
from obuild.switch import act

__all__ = ["PACKAGES", "Switch", "blank_times", "definition", "files_of", "listing", "opam_file", "recipe"]

_DEP = r"""
echo hi > a.h
cat > dep.config <<'EOF'
opam-version: "2.0"
variables { t: true s: "str%ing" l: ["a" "b c"] e: [] one: ["q"] q: "a\"b\\c" nl: "a
b" long: "%{prefix}%/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" f: false z: "" t: false }
EOF
echo 'lib: ["a.h"]' > dep.install
"""
_SECTIONS = r"""
for f in b sb l le lr ler tl sl m.1 m.3x.gz m2 sh shr e d opt; do echo $f > $f; done
mkdir man.5; echo x > man.5/p.8; chmod 600 l; chmod 755 d
ln -s b link; echo "a b" > "sp ace"; ln -s nowhere broken; echo x > w.exe
cat > sections.install <<EOF
bin: ["b" "?opt" {"sub/opt"} "link" "?nope" "?broken" "b" {"b2"} "w"]
sbin: "sb"
lib: ["l" "l" {"deep/er/l"} "l" {"../escape.h"} "sp ace" "le" "l" {"../../new/x"}]
libexec: ["le"]
lib_root: ["lr"]
libexec_root: ["ler"]
toplevel: ["tl"]
stublibs: ["sl"]
man: ["m.1" "m2" {"foo.3"} "m.3x.gz" "m.1" {"man9/x.3"} "man.5/p.8"]
share: ["sh"]
share_root: ["shr"]
etc: ["e"]
doc: ["d" "?man.5"]
EOF
"""
_SCRIPT = r"""
umask 0077; P=$1
mkdir -p $P/lib/script $P/made/er; echo hi > $P/lib/script/f; ln -s f $P/lib/script/ln; ln -s ../made $P/lib/script/dl
echo more >> $P/lib/sections/l; rm $P/doc/sections/d; rm $P/etc/sections/e; mkdir $P/etc/sections/e
mkfifo $P/made/fifo; echo x > $P/made/$(printf 'caf\351'); echo x > "$P/made/a\\\"b"
touch -d @1000000000.5 $P/made/half; touch -d @1000000000 $P/made/whole; touch -d @0.00001 $P/made/early
truncate -s 3000000000 $P/made/big
echo 'lib: ["c"]' > script.install; echo c > c; printf 'opam-version: "2.0" variables { x: "y" }' > script.config
"""
_LINKS = r"""
P=$1; mkdir -p $P/lib/links $P/share/real; echo old > $P/lib/links/t; chmod 600 $P/lib/links/t
ln -s t $P/lib/links/l; echo old > $P/lib/links/h; ln $P/lib/links/h $P/lib/links/h2
ln -s ../../share/real $P/lib/links/d; ln -s nowhere $P/lib/links/dangling
echo a > a; echo b > b; echo 'lib: ["a" {"l"} "b" {"h"} "a" {"d/f"} "a" {"dangling"}]' > links.install
"""

PACKAGES: dict[str, tuple[str, str, str]] = {
    "dep.1.2": (
        'setenv: [[DEP = "%{_:lib}% %{_:installed}% %{nosuch}% %{version}%"] [A += "a1"] [W =+ "w1"]]',
        _DEP,
        "",
    ),
    "dep2.1": (
        'setenv: [[A += "a2"] [W =+ "w2"] [PATH += "/two"] [DEP = "two"] [ESC = " a\tb\\\\\nc#"] [N = ""]]',
        "",
        "",
    ),
    "sections.1": ('depends: ["dep"]', _SECTIONS, ""),
    "script.2": ('depends: ["sections"]', "", _SCRIPT),
    "links.1": ("", _LINKS, ""),
    "empty.1": ("", "", ""),
    "base.3": ("flags: compiler", "", ""),
    "unread.1": ("", 'echo a > a; echo \'lib: ["a" "x\' > unread.install', ""),
    "partly.1": (
        "",
        'echo a > a; echo \'lib: ["a"] zork: "a" bin: 3 share: ["a" {b}] etc: ["a" {"/a"}]\' > partly.install',
        "",
    ),
    "old.1": ("", "echo 'foo: true bar: \"x\"' > old.config", ""),
    "oddconf.1": ("", "printf 'opam-version: \"2.0\"\\nfoo: 1 variables { a: true b: 3 }' > oddconf.config", ""),
    "nothing.1": ("", ": > nothing.config; : > nothing.install", ""),
    "conf.1": (
        "flags: conf",
        """printf 'opam-version: "2.0" file-depends: ["/nosuch" "md5=%032d"] variables { a: true }' 0 > conf.config""",
        "",
    ),
    "plug.1": ("flags: plugin", "echo a > opam-plug; echo 'bin: \"opam-plug\"' > plug.install", ""),
}
"""Definitions, build scripts and install scripts, in an order in which they can be installed."""


def recipe(name: str) -> str:
    """The text of a package's opam file; its scripts are files of it."""
    text, build, install = PACKAGES[name]
    text = f'opam-version: "2.0"\n{text}\n'
    for script, field, contents in (("b.sh", "build", build), ("i.sh", "install", install)):
        text += f'{field}: ["sh" "{script}" prefix]\n' if contents else ""
    pairs = [(path, hashlib.md5(data).hexdigest()) for path, data in files_of(name).items()]
    listed = " ".join(f'["{path}" "md5={digest}"]' for path, digest in pairs)
    return text + (f"extra-files: [{listed}]\n" if listed else "")


def files_of(name: str) -> dict[str, bytes]:
    """The files that belong to a package."""
    _, build, install = PACKAGES[name]
    return {path: text.encode() for path, text in (("b.sh", build), ("i.sh", install)) if text}


def definition(name: str) -> dict[str, bytes]:
    """A package for `write_repository`."""
    return {"opam": recipe(name).encode(), **{f"files/{path}": data for path, data in files_of(name).items()}}


def opam_file(name: str, text: str) -> OpamFile:
    """A definition of `NAME.VERSION` with this text."""
    return OpamFile(parse_package(name), parse(text.encode("latin-1"), name))


class Switch:
    """A tree below `root` with a switch whose prefix is `prefix` within it."""

    def __init__(self, root: Path, prefix: str = "/home/opam/.opam/default") -> None:
        self.root, self.prefix, self.said = root, prefix, b""
        self.place = root / prefix[1:]
        self.meta = self.place / ".opam-switch"
        (root / "etc").mkdir(parents=True, exist_ok=True)
        (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
        (root / "etc/passwd").write_text("root:x:0:0::/:\nopam:x:1000:1000::/home/opam:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nfolk:x:1000:\n")

    def act(self, action: str, name: str = "", *, id: str = "", src: tuple[str, ...] = (".",), **more: Any) -> Any:
        """Do an action as the engine would."""

        def write(data: bytes) -> None:
            self.said += data

        given = {"ids": {}, "user": (os.getuid(), os.getgid()), "write": write, **more}
        workdir = f"{self.prefix}/.opam-switch/build/{name}"
        return act(action, str(self.root), self.prefix, src=src, workdir=workdir, package=name, id=id, **given)

    def define(self, name: str, text: str) -> None:
        """Put the opam file of a package where the engine puts it."""
        folder = self.meta / "packages" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "opam").write_bytes(text.encode("latin-1"))

    def build(self, name: str, files: Mapping[str, str | bytes] | None = None) -> Path:
        """The build directory of a package, with these files in it."""
        folder = self.meta / "build" / name
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in (files or {}).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data if isinstance(data, bytes) else data.encode("latin-1"))
        return folder

    def install(self, name: str, files: Mapping[str, str | bytes] | None = None, text: str = "", **more: Any) -> Any:
        """Install a package whose build left these files."""
        self.define(name, text or 'opam-version: "2.0"\n')
        self.build(name, files)
        return self.act("install", name, **more)

    def run_recipe(self, name: str) -> Any:
        """Build and install one of `PACKAGES`, with the umask that opam has there."""
        self.define(name, recipe(name))
        folder = self.build(name, files_of(name))
        for script in files_of(name):
            subprocess.run(["sh", script, str(self.place)], cwd=folder, check=True, umask=0o022)
        return self.act("install", name)

    def kept(self, path: str) -> str:
        """A file among opam's own."""
        return (self.meta / path).read_bytes().decode("latin-1")


def listing(prefix: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything in a prefix but opam's own files: kinds, modes, contents, links; hard links by their number."""
    return dict(_listing(os.fsencode(prefix), b""))


def _listing(top: bytes, below: bytes) -> Iterator[tuple[bytes, tuple[object, ...]]]:
    for name in sorted(os.listdir(os.path.join(top, below))):
        path = os.path.join(below, name)
        if path == b".opam-switch":
            continue
        here = os.path.join(top, path)
        info = os.lstat(here)
        kind, mode = stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode)
        if stat.S_ISDIR(info.st_mode):
            yield path, ("directory", mode)
            yield from _listing(top, path)
        elif stat.S_ISLNK(info.st_mode):
            yield path, ("link", os.readlink(here))
        elif stat.S_ISREG(info.st_mode):
            small = info.st_size < 1 << 20
            yield path, ("file", mode, info.st_nlink, Path(os.fsdecode(here)).read_bytes() if small else info.st_size)
        else:
            yield path, (kind, mode)


def blank_times(changes: str, *, now: float) -> str:
    """The text of a `.changes` file without the times that lie in the last hour."""

    def blank(found: re.Match[str]) -> str:
        return "T…" if abs(float(found[1]) - now) < 3600 else found[0]

    return re.sub(r"T(\d+\.\d*)", blank, changes)


def remove(path: Path) -> None:
    """Remove a tree."""
    shutil.rmtree(path, ignore_errors=True)
