"""The definitions of a solution's packages: those of repositories, and the user's own."""

from __future__ import annotations

import os

from obuild.errors import UsageError
from obuild.opam.effective import usual_width
from obuild.opam.extra import extra_files
from obuild.opam.full import full_text
from obuild.opam.source import Source
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.repo import Overlay, Repository
    from obuild.opam.solver import Pin

__all__ = ["Definitions"]


class Definitions:
    """Where what is known of packages comes from: `pins`, by name, stand before the repositories.

    `level` is that of the opam to agree with: before 2.3 it takes files beside an opam file that does not list them.
    """

    def __init__(self, repository: Overlay | Repository, pins: Mapping[str, Pin], level: str) -> None:
        self._repository, self.pins, self._level = repository, pins, level
        self._files: dict[Package, OpamFile] = {}

    def file(self, package: Package) -> OpamFile:
        """The package's definition. Raises `UsageError` when there is none, `OpamError` when it can not be read."""
        if package not in self._files:
            pin = self.pins.get(package.name)
            self._files[package] = pin.file if pin else self._repository.opam(package, level=self._level)
        return self._files[package]

    def source(self, file: OpamFile) -> Source | None:
        """Where the package's source is; that of a pinned one is the directory with its definition."""
        pin = self.pins.get(file.package.name)
        if pin:
            return Source(f"file://{os.path.dirname(os.path.abspath(pin.path))}")
        part = file.fields.get("x-subpath")  # how a file of opam's format 2.0 says "subpath"
        return replace(file.url, subpath=part) if file.url and isinstance(part, str) else file.url

    def path(self, package: Package) -> str:
        """The package's opam file, as messages name it."""
        pin = self.pins.get(package.name)
        return pin.path if pin else self._repository.path(package)

    def text(self, package: Package) -> bytes:
        """The package's opam file, as it is."""
        pin = self.pins.get(package.name)
        if not pin:
            return self._repository.text(package)
        try:
            with open(pin.path, "rb") as file:
                return file.read()
        except OSError as error:
            raise UsageError(f'can not read "{pin.path}": {(error.strerror or "").lower()}') from None

    def kept(self, file: OpamFile) -> bytes:
        """The package's opam file as opam keeps it in the switch, in its normal form."""
        if str(file.fields.get("opam-version")).startswith("1"):
            return self.text(file.package)  # opam writes it anew in today's fields
        return full_text(file, level=self._level, width=usual_width(self._level)).encode("latin-1")

    def added(self, file: OpamFile) -> dict[str, bytes]:
        """The files that are added to the package's source, by relative path. Raises `OpamError` for wrong ones."""
        if file.extra_files is None and self._level >= "2.3":
            return {}
        return extra_files(file, self.path(file.package))
