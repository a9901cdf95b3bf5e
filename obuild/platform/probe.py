"""What a root file system is: one shell script run in it, and its answers read as opam would have found them."""

from __future__ import annotations

from obuild.opam.platform import parse_os_release, platform_of
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from obuild.opam.platform import Platform

__all__ = ["SCRIPT", "Found", "parse_answers"]

MARK = "=== obuild asks: "

# Each command may be missing. opam asks for the system's OCaml in just these ways (its `eval-variables`).
_QUESTIONS = {
    "machine": "uname -m",
    "bits": "getconf LONG_BIT",
    "os-release": "cat /etc/os-release || cat /usr/lib/os-release",
    "ocaml-version": "ocamlc -vnum",
    "ocaml-config": "ocamlc -config",
    "dpkg": "dpkg-query --show --showformat='${db:Status-Abbrev}|${Package}|${Provides}\\n'",
    "apk": "apk info",
    "rpm": "rpm --query --all --queryformat '%{NAME}\\n'",
    "pacman": "pacman --query --quiet",
}

SCRIPT = "exec 2>/dev/null\n" + "".join(f"echo; echo '{MARK}{name}'; {ask}\n" for name, ask in _QUESTIONS.items())
"""Asks everything, for any POSIX shell."""

_NARROW = {"x86_64": "i686", "aarch64": "armv8l", "arm64": "armv8l"}
"""What a machine counts as for a system of 32 bits on it."""


@value
class Found:
    """What the script found: the platform, its name for people, opam's variables, installed system packages."""

    platform: Platform
    name: str
    variables: Mapping[str, str]
    packages: frozenset[str]


def parse_answers(text: str) -> Found:
    """What the output of `SCRIPT` says."""
    answers = {name: body.strip("\n") for name, _, body in (part.partition("\n") for part in text.split(MARK)[1:])}
    machine = answers.get("machine", "").strip()
    if answers.get("bits", "").strip() == "32":
        machine = _NARROW.get(machine, machine)
    os_release = answers.get("os-release", "")
    platform = platform_of(os_release, machine)
    return Found(
        platform=platform,
        name=parse_os_release(os_release).get("PRETTY_NAME", ""),
        variables={**platform.variables, **_ocaml(answers)},
        packages=_dpkg(answers.get("dpkg", "")) | _lines(answers, "apk", "rpm", "pacman"),
    )


def _ocaml(answers: Mapping[str, str]) -> dict[str, str]:
    """The `sys-ocaml-*` variables: without an OCaml there is no version, and the others are empty, as in opam."""
    rows = [line.partition(": ") for line in answers.get("ocaml-config", "").splitlines()]
    config = {name: text for name, _, text in rows}
    arch = config.get("architecture", "").replace("i386", "i686").replace("amd64", "x86_64")
    os_type = config.get("os_type", "")
    found = {
        "sys-ocaml-arch": arch,
        "sys-ocaml-cc": config.get("ccomp_type", ""),
        "sys-ocaml-libc": "msvc" if os_type == "Win32" else "libc" if os_type else "",
        "sys-ocaml-system": config.get("system", ""),
    }
    version = answers.get("ocaml-version", "").strip()
    return {**found, **({"sys-ocaml-version": version} if version else {})}


def _dpkg(text: str) -> frozenset[str]:
    """The installed packages, and the virtual ones that they provide, without versions."""
    found = set[str]()
    for line in text.splitlines():
        status, _, rest = line.partition("|")
        name, _, provides = rest.partition("|")
        if status[1:2] == "i" and name:
            found.add(name)
            found.update(word.split()[0].partition(":")[0] for word in provides.split(",") if word.strip())
    return frozenset(found)


def _lines(answers: Mapping[str, str], *names: str) -> frozenset[str]:
    return frozenset(line.strip() for name in names for line in answers.get(name, "").splitlines() if line.strip())
