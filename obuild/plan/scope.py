"""Variables of packages that are not built yet: whether one is needed before their layers are there."""

from __future__ import annotations

from collections.abc import Mapping

from obuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.opam.filter import Contents
    from obuild.plan.build import PackageBuild

__all__ = ["Unbuilt", "has_variables"]

_KNOWN = frozenset(
    "name version depends installed enable pinned dev build build-id hash opamfile".split()
    + "bin sbin lib man doc share etc".split()
)
"""What opam knows of every package by itself. No `.config` of the public repositories says otherwise."""


class Unbuilt(Mapping["str", "Contents"]):
    """The variables of a package whose layer is not there. Raises `UsageError` when the value of one is needed."""

    def __init__(self, package: PackageBuild, wanted: PackageBuild) -> None:
        self._package, self._wanted = package, wanted

    def __getitem__(self, name: str) -> Contents:
        if name in _KNOWN:
            raise KeyError(name)
        raise self._error(f'the variable "{name}" of "{self._package.package}"')

    def __iter__(self) -> Iterator[str]:
        raise self._error(f'the variables of "{self._package.package}"')

    def __len__(self) -> int:
        raise self._error(f'the variables of "{self._package.package}"')

    def _error(self, what: str) -> UsageError:
        return UsageError(
            f'"{self._wanted.package}" needs {what}, which is known when that is built',
            hint=f"obuild health-check {self._package.package}",
        )


def has_variables(build: PackageBuild, *, added: bool) -> bool:
    """Whether a package could leave a file of variables: not one that has nothing to build; `added` files count."""
    file = build.file
    has_files = build.source or file.extra_sources or added
    return bool(has_files or file.values("build") or file.values("install") or file.values("substs"))
