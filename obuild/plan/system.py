"""Distributions as opam's images and the field `x-ci-accept-failures` call them: `debian-13`, `oraclelinux-9`."""

from __future__ import annotations

from obuild.opam.shape import WrongShape, elements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.platform import Platform

__all__ = ["accepts_failure", "system_name"]

# What opam's images call a distribution, and how many numbers of its version they have.
_NAMES = {
    "alpine": ("alpine", 2),
    "centos": ("centos", 1),
    "fedora": ("fedora", 1),
    "ol": ("oraclelinux", 1),
    "opensuse-leap": ("opensuse", 2),
    "debian": ("debian", 1),
}
_ROLLING = {"arch": "archlinux", "opensuse-tumbleweed": "opensuse-tumbleweed"}


def system_name(platform: Platform) -> str:
    """The name of a platform's distribution and version in opam's images."""
    if platform.distribution in _ROLLING:
        return _ROLLING[platform.distribution]
    name, numbers = _NAMES.get(platform.distribution, (platform.distribution, 9))
    release = ".".join(platform.release.split(".")[:numbers])
    if platform.distribution == "debian" and not release[:1].isdigit():
        release = "unstable" if release in ("sid", "unstable") else "testing"
    return f"{name}-{release}"


def accepts_failure(file: OpamFile, platform: Platform) -> bool:
    """Whether a package's maintainers know that it does not build on a platform."""
    try:
        names = elements(file.fields.get("x-ci-accept-failures", ("list", ())), 1)
    except WrongShape:
        return False
    return system_name(platform) in names or platform.arch in names
