"""The platforms that packages are built on, and the variables that opam has for them."""

from __future__ import annotations

import re

from obuild.errors import UsageError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Platform", "parse_os_release", "parse_platform", "parse_variables", "platform_of"]

_ARCHITECTURES = {
    **dict.fromkeys(("x86_64", "amd64", "x64"), "x86_64"),
    **dict.fromkeys(("arm64", "aarch64"), "arm64"),
    **dict.fromkeys(("x86_32", "x86", "i386", "i486", "i586", "i686"), "x86_32"),
    **dict.fromkeys(("arm32", "armv5", "armv6l", "armv7l", "armv8l", "armhf"), "arm32"),
    **dict.fromkeys(("ppc64", "ppc64le", "ppc64el"), "ppc64"),
    **dict.fromkeys(("s390x",), "s390x"),
    **dict.fromkeys(("riscv64",), "riscv64"),
}
# What ID_LIKE of a distribution's os-release begins with, where it has one: opam calls it the family.
_FAMILIES = {
    **dict.fromkeys(("kali", "raspbian", "ubuntu"), "debian"),
    **dict.fromkeys(("linuxmint", "pop", "elementary"), "ubuntu"),
    **dict.fromkeys(("almalinux", "centos", "rocky"), "rhel"),
    **dict.fromkeys(("amzn", "ol", "rhel"), "fedora"),
    **dict.fromkeys(("endeavouros", "manjaro"), "arch"),
    "opensuse-leap": "suse",
    "opensuse-tumbleweed": "opensuse",
}
_UNKNOWN = "unknown"
_KEY = re.compile(r"([a-z0-9][a-z0-9_-]*)-([A-Za-z0-9][A-Za-z0-9_.~]*)-([a-z0-9_]+)").fullmatch
_VARIABLE = re.compile(r"[A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*").fullmatch
_ASSIGNMENT = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S*))\s*""").fullmatch


@value
class Platform:
    """A distribution, its version and an architecture, in opam's words.

    `release` is the version in the key, which a rolling release (debian-sid) has though its os-release says none.
    """

    distribution: str
    release: str
    arch: str
    family: str
    version: str

    @property
    def key(self) -> str:
        """The name of the platform and of its directory: `debian-13-x86_64`."""
        return f"{self.distribution}-{self.release}-{self.arch}"

    @property
    def variables(self) -> dict[str, str]:
        """Opam's global variables for it."""
        return {
            "arch": self.arch,
            "os": "linux",
            "os-distribution": self.distribution,
            "os-family": self.family,
            "os-version": self.version,
        }


def parse_platform(key: str) -> Platform:
    """The platform of a key like `debian-13-x86_64`. Raises `UsageError`."""
    match = _KEY(key)
    if not match:
        raise UsageError(f'"{key}" is not a platform', hint='write DISTRIBUTION-VERSION-ARCH, like "debian-13-x86_64"')
    distribution, release, arch = match.groups()
    if arch not in _ARCHITECTURES:
        known = ", ".join(dict.fromkeys(_ARCHITECTURES.values()))
        raise UsageError(f'"{arch}" in "{key}" is not an architecture', hint=f"one of {known}")
    version = release if any(map(str.isdigit, release)) else _UNKNOWN
    return Platform(distribution, release, _ARCHITECTURES[arch], _FAMILIES.get(distribution, distribution), version)


def platform_of(os_release: str, machine: str) -> Platform:
    """The platform of a root file system by the text of its `etc/os-release`, and of `machine` (`uname -m`).

    A rolling release, which has no VERSION_ID, is called by its code name.
    """
    fields = parse_os_release(os_release)
    distribution = fields.get("ID", "linux").lower()
    family = (fields.get("ID_LIKE", "").lower().split() or [distribution])[0]
    version = fields.get("VERSION_ID", "").lower() or _UNKNOWN
    release = version if version != _UNKNOWN else fields.get("VERSION_CODENAME", "").lower() or _UNKNOWN
    return Platform(distribution, release, _ARCHITECTURES.get(machine.lower(), machine.lower()), family, version)


def parse_variables(texts: Iterable[str]) -> dict[str, str]:
    """The variables given as `NAME=VALUE`, the last one of a name. Raises `UsageError` for a text that is none."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, contents = text.partition("=")
        if not equals or not _VARIABLE(name):
            raise UsageError(f'"{text}" does not set a variable', hint='write NAME=VALUE, like "os-version=13"')
        found[name] = contents
    return found


def parse_os_release(text: str) -> Mapping[str, str]:
    """The assignments of an os-release file (`man 5 os-release`); lines that are none are skipped."""
    matches = [_ASSIGNMENT(line.strip()) for line in text.splitlines()]
    return {match[1]: _unquoted(match) for match in matches if match}


def _unquoted(match: re.Match[str]) -> str:
    if match[2] is not None:
        return re.sub(r"\\(.)", r"\1", match[2])
    return match[3] if match[3] is not None else match[4]
