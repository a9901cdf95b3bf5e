"""`debootstrap:SUITE[?include=a,b&variant=minbase&components=main&mirror=URL]`: a minimal Debian or Ubuntu.

mmdebstrap makes it, from signed packages, in 17 s. The key covers what was asked for and the state of the archive when
it was first asked, as the digests of its Release files; `pull` asks again, which is one small file for each suite.
"""

from __future__ import annotations

from obuild.errors import FetchError, UsageError, nearest
from obuild.fetch.record import Record
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.image import Image

__all__ = ["DebianFetcher", "Wish", "parse_wish"]

ARCHITECTURES = {
    "amd64": "amd64",
    "386": "i386",
    "arm64": "arm64",
    "arm": "armhf",
    "ppc64le": "ppc64el",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""An image's words for machines, and Debian's."""

OPTIONS = ("include", "variant", "components", "mirror")
VARIANTS = ("minbase", "apt", "essential", "required", "important", "standard", "buildd", "custom", "extract")
BARE = ("essential", "custom", "extract")
"""Variants that get no apt, because that is what they are for."""

FORM = "write debootstrap:SUITE[?include=a,b&variant=minbase&components=main,universe&mirror=URL]"

EMPTIED = ("resolv.conf", "hostname")
"""Files in /etc that mmdebstrap copies from the host. No base may depend on it; they stay as places to mount over."""


@value
class Wish:
    """What was asked for: one suite, packages beside the variant's own, components, a mirror ("" for the host's)."""

    suite: str
    include: tuple[str, ...] = ()
    variant: str = "minbase"
    components: tuple[str, ...] = ("main",)
    mirror: str = ""

    def __str__(self) -> str:
        """The shortest text that means the same."""
        given = {"include": self.include, "components": self.components if self.components != ("main",) else ()}
        texts = {name: ",".join(items) for name, items in given.items()}
        texts |= {"variant": self.variant.replace("minbase", ""), "mirror": self.mirror}
        options = "&".join(f"{name}={texts[name]}" for name in OPTIONS if texts[name])
        return f"{self.suite}?{options}" if options else self.suite


def parse_wish(text: str) -> Wish:
    """Read what follows `debootstrap:`. Raises `UsageError` that names the part that is wrong."""
    suite, _, query = text.partition("?")
    if not _is_word(suite):
        raise UsageError(f'"{suite}" is no suite of Debian or Ubuntu', hint=FORM)
    given: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, _, content = item.partition("=")
        if name not in OPTIONS:
            hint = nearest(name, OPTIONS) or FORM
            raise UsageError(f'option "{name}" of "debootstrap:{suite}" is unknown', hint=hint)
        if not content or name in given:
            wrong = "is given twice" if content else "needs a value"
            raise UsageError(f'option "{name}" of "debootstrap:{suite}" {wrong}', hint=FORM)
        given[name] = content
    variant = given.get("variant", "minbase")
    if variant not in VARIANTS:
        hint = nearest(variant, VARIANTS) or f"one of {', '.join(VARIANTS)}"
        raise UsageError(f'"{variant}" is no variant of mmdebstrap', hint=hint)
    mirror = given.get("mirror", "").rstrip("/")
    if mirror and (not mirror.startswith(("http://", "https://", "file:/")) or set(mirror) & set(" []")):
        raise UsageError(f'"{mirror}" is no mirror', hint="write http://HOST/PATH")
    include, components = _words(given.get("include", "")), _words(given.get("components", "main"))
    return Wish(suite, tuple(sorted(set(include))), variant, components, mirror)


def _words(text: str) -> tuple[str, ...]:
    words = tuple(filter(None, text.split(",")))
    for word in words:
        if not _is_word(word):
            raise UsageError(f'"{word}" is no name of a package or component', hint=FORM)
    return words


def _is_word(text: str) -> bool:
    """Whether it can be a name in a sources.list or of a package, and is no option of a program."""
    return bool(text) and text.isascii() and text[0].isalnum() and all(c.isalnum() or c in "+-.:_" for c in text)


class DebianFetcher:
    """A Debian or Ubuntu made of packages."""

    def __init__(self, text: str, *, images: str, platform: str) -> None:
        self._wish, self._platform = parse_wish(text), platform
        machine = platform.split("/")[1]
        self._architecture = ARCHITECTURES.get(machine, machine)
        self._record = Record(images, f"debootstrap {self._wish} {self._architecture}")
        self._found: dict[str, Any] = {}

    def key(
        self, log: Callable[[bytes], None] | None = None, *, pull: bool = False, cancel: Cancel | None = None
    ) -> str:
        """What was asked for, and a digest of the archive's state and address."""
        self._found = self._found or self._record.load()
        if pull or "archive" not in self._found:
            self._found = self._record.save(self._resolve(log, cancel))
        return f"debootstrap {self._wish} {self._architecture} archive={self._found['archive']}"

    def fetch(self, root: str, log: Callable[[bytes], None], *, cancel: Cancel | None = None) -> Image:
        """Install the packages, as they are now: an archive does not keep those that `key` once saw."""
        import hashlib
        import time

        from obuild.fetch import mirror, program
        from obuild.image import PLAIN, Image
        from obuild.retry import passes

        key = self.key(log, cancel=cancel)
        started = time.time_ns()
        epoch = {"SOURCE_DATE_EPOCH": str(self._found["date"])}
        _, said = program.run(self._command(root), log=log, cancel=cancel, env={**epoch, **mirror.proxies()})
        if said:
            errors = [line.removeprefix("E: ") for line in said.splitlines() if line.startswith("E: ")]
            problem = errors[0] if errors else said.rpartition("\n")[2]
            raise FetchError(f'can not make "debootstrap:{self._wish}": {problem}', temporary=passes(problem))
        _empty(root)
        _clamp(root, started, self._found["date"])
        digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return Image(env=PLAIN, digest=digest, platform=self._platform)

    def _command(self, root: str) -> list[str]:
        from obuild.fetch import mirror

        wish, sources = self._wish, self._found["sources"]
        include = set(wish.include)
        if wish.variant not in BARE:  # Ubuntu does not count apt among what is required
            include.update(("apt", mirror.vendor(wish.suite, wish.mirror).keyring_package))
        if any(" https:" in line for line in sources):
            include.add("ca-certificates")  # or apt inside could not use the same mirror
        command = ["mmdebstrap", "--format=directory", f"--variant={wish.variant}"]
        command += [f"--architectures={self._architecture}"]
        command += [f"--include={','.join(sorted(include))}"] if include else []
        return [*command, wish.suite, root, *sources]

    def _resolve(self, log: Callable[[bytes], None] | None, cancel: Cancel | None) -> dict[str, Any]:
        """The lines of sources.list and the archive's state."""
        from obuild import system
        from obuild.fetch import mirror
        from obuild.retry import retry

        wish = self._wish
        if not system.find("mmdebstrap"):
            raise FetchError(f'mmdebstrap is missing: no "debootstrap:{wish}"', hint='install "mmdebstrap"')
        archive = mirror.vendor(wish.suite, wish.mirror)
        lines = mirror.sources(archive, wish.suite, self._architecture, " ".join(wish.components), wish.mirror)

        def note(text: str) -> None:
            if log:
                log(f"{text}\n".encode())

        state, date = retry(
            lambda: mirror.state(lines, wish.components, self._architecture, cancel=cancel), note=note, cancel=cancel
        )
        return {"source": f"debootstrap:{wish}", "sources": list(lines), "archive": state, "date": date}


def _empty(root: str) -> None:
    """Empty the files that were copied from the host."""
    import os

    from obuild import kernel

    top = os.open(root, os.O_PATH)
    folder = kernel.open_in_root(top, "etc", os.O_RDONLY | os.O_DIRECTORY)
    os.close(top)
    for name in set(EMPTIED).intersection(os.listdir(folder)):
        os.unlink(name, dir_fd=folder)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder))
        os.chmod(name, 0o644, dir_fd=folder)
    os.close(folder)


def _clamp(root: str, started: int, date: int) -> None:
    """Give what the installation itself wrote the archive's date: then the same packages make the same base."""
    import os

    from obuild import disk

    for fd, entries in disk.walk(root):
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_mtime_ns >= started:
                os.utime(entry.name, (date, date), dir_fd=fd, follow_symlinks=False)
    os.utime(root, (date, date))
