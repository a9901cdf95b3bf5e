"""System packages: which ones packages ask for on a platform, and the command that installs them."""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.filter import satisfied
from obuild.plan.quote import quote
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from obuild.opam.filter import Lookup
    from obuild.opam.opamfile import OpamFile

__all__ = ["depexts", "install_command"]

_EPEL = "epel-release"
"""The package that only adds a repository, from which the others may come."""


@value
class _System:
    """How a family of distributions installs packages: after `before`, with `install` in front of their names."""

    before: str
    install: str
    after: str = ""


# Mirrors drop connections: each program is told to try again, which it can do for one file and a whole step can not.
_APT = _System(
    "export DEBIAN_FRONTEND=noninteractive\napt-get -o Acquire::Retries=5 -qq update",
    "apt-get -o Acquire::Retries=5 -qq -y install",
    "apt-get clean\nrm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache",
)
_APK = _System("", "apk add --no-cache --no-progress")
_DNF = _System("", "dnf -y --setopt=retries=10 install", "dnf clean all")
_YUM = _System("", "yum -y --setopt=retries=10 install", "yum clean all")
_PACMAN = _System("", "pacman -Syu --noconfirm --needed --noprogressbar", "rm -rf /var/cache/pacman/pkg/*")
_ZYPPER = _System(
    "zypper --non-interactive refresh", "zypper --non-interactive install --auto-agree-with-licenses", "zypper clean -a"
)
_FAMILIES = {
    **dict.fromkeys(("debian", "ubuntu"), _APT),
    "alpine": _APK,
    **dict.fromkeys(("fedora", "rhel", "centos", "mageia"), _DNF),
    **dict.fromkeys(("arch", "archlinux", "manjaro"), _PACMAN),
    **dict.fromkeys(("suse", "opensuse"), _ZYPPER),
}
_OLD = {("centos", "6"), ("centos", "7"), ("ol", "7"), ("amzn", "2")}
"""Distributions of the family of Fedora that have no dnf yet."""


def depexts(files: Iterable[OpamFile], lookup: Lookup, present: Collection[str] = ()) -> tuple[str, ...]:
    """The system packages that the packages need, sorted, without those that are `present`."""
    found = {
        name for file in files for names, condition in file.depexts if satisfied(condition, lookup) for name in names
    }
    return tuple(sorted(found.difference(present)))


def install_command(packages: Iterable[str], lookup: Lookup) -> str:
    """The shell command that installs system packages. Raises `OpamError` for a distribution without a known way."""
    names = list(packages)
    family, distribution = str(lookup("os-family") or ""), str(lookup("os-distribution") or "")
    system = _FAMILIES.get(family) or _FAMILIES.get(distribution)
    if not system:
        raise OpamError(
            f'no way to install system packages ({", ".join(names)}) on "{distribution}"',
            hint="put them into the spec of the platform",
        )
    if (distribution, str(lookup("os-version") or "").partition(".")[0]) in _OLD:
        system = _YUM
    first = [[_EPEL]] if _EPEL in names and system in (_DNF, _YUM) else []
    groups = [*first, [name for name in names if [name] not in first]]
    installs = [f"{system.install} {' '.join(map(quote, group))}" for group in groups if group]
    return "set -e\n" + "\n".join(filter(None, [system.before, *installs, system.after]))
