"""System packages: which ones packages ask for on a platform, and the step that installs them."""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.filter import satisfied
from obuild.plan.quote import quote
from obuild.spec import Cache, Run
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from obuild.opam.filter import Lookup
    from obuild.opam.opamfile import OpamFile

__all__ = ["depexts", "install_step"]

_EPEL = "epel-release"
"""The package that only adds a repository, from which the others may come."""


@value
class _System:
    """How a family of distributions installs packages: after `before`, with `install` in front of their names.

    `kept`: the directories, by a word for each, whose contents the next installation takes instead of a download.
    """

    before: str
    install: str
    after: str = ""
    kept: tuple[tuple[str, str], ...] = ()


# Mirrors drop connections: each program is told to try again, which it can do for one file and a whole step can not.
# Lists younger than an hour do: what they lead to is in the cache, or still there; if not, the next try has new ones.
# Images for containers throw away what is in `archives`, so it is kept elsewhere.
_APT = _System(
    """\
export DEBIAN_FRONTEND=noninteractive
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/kept/partial
apt() {
  apt-get -qq -y -o Acquire::Retries=5 -o Dir::Cache::archives=kept "$@" || { rm -f /var/cache/apt/fresh; exit 100; }
}
[ "$(find /var/cache/apt/fresh -mmin -60 2>/dev/null)" ] || { apt update; touch /var/cache/apt/fresh; }""",
    "apt install",
    "rm -rf /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache",
    (("apt", "/var/cache/apt"), ("apt-lists", "/var/lib/apt/lists")),
)
_APK = _System("", "apk --cache-dir /var/cache/apk --no-progress add", kept=(("apk", "/var/cache/apk"),))
_DNF = _System(
    "",
    "dnf -y --setopt=retries=10 --setopt=keepcache=1 install",
    kept=(("dnf", "/var/cache/dnf"), ("libdnf5", "/var/cache/libdnf5")),
)
_YUM = _System("", "yum -y --setopt=retries=10 --setopt=keepcache=1 install", kept=(("yum", "/var/cache/yum"),))
_PACMAN = _System("", "pacman -Syu --noconfirm --needed --noprogressbar", kept=(("pacman", "/var/cache/pacman/pkg"),))
_ZYPPER = _System(
    "zypper --non-interactive refresh",
    "zypper --non-interactive install --auto-agree-with-licenses",
    kept=(("zypp", "/var/cache/zypp"),),
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


def install_step(packages: Iterable[str], lookup: Lookup, key: str) -> Run:
    """The step that installs system packages on the platform `key`, with what it downloads kept for the next one.

    Raises `OpamError` for a distribution without a known way.
    """
    names = list(packages)
    system = _system(names, lookup)
    first = [[_EPEL]] if _EPEL in names and system in (_DNF, _YUM) else []
    groups = [*first, [name for name in names if [name] not in first]]
    installs = [f"{system.install} {' '.join(map(quote, group))}" for group in groups if group]
    command = "set -e\n" + "\n".join(filter(None, [system.before, *installs, system.after]))
    caches = tuple([Cache(f"{word}-{key}", target) for word, target in system.kept])
    return Run(command, caches, network=("host",))


def _system(names: Iterable[str], lookup: Lookup) -> _System:
    family, distribution = str(lookup("os-family") or ""), str(lookup("os-distribution") or "")
    system = _FAMILIES.get(family) or _FAMILIES.get(distribution)
    if not system:
        raise OpamError(
            f'no way to install system packages ({", ".join(names)}) on "{distribution}"',
            hint="put them into the spec of the platform",
        )
    old = (distribution, str(lookup("os-version") or "").partition(".")[0]) in _OLD
    return _YUM if old else system
