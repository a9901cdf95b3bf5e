"""Specs that build a package as other programs do it: opam itself, or a CI system, in a container.

Nothing in them is obuild's own: OBuilder runs them too. Each style is a module with a function `spec` of a `Task`. The
steps and their order are those that the programs were seen to send in 2026; the scripts are written anew.
"""

from __future__ import annotations

from obuild.errors import UsageError, nearest
from obuild.plan.system import system_name
from obuild.spec import Cache
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.package import Package
    from obuild.opam.platform import Platform
    from obuild.spec import Spec

__all__ = ["ARCHIVES", "PUBLIC", "STYLES", "Origin", "Task", "style_spec"]

STYLES = {"opam": "opam", "opam-repo-ci": "repo_ci", "opam-health-check": "health_check"}
"""The styles and the modules that have them."""

ARCHIVES = Cache("opam-archives", "/home/opam/.opam/download-cache")
"""Where opam keeps what it has fetched, shared by all builds."""


PUBLIC = "https://github.com/ocaml/opam-repository.git"
"""The opam repository."""


@value
class Origin:
    """A repository: what it is called, the address from which it is cloned ("" for one that has none), its commit."""

    name: str
    address: str
    commit: str


@value
class Task:
    """A package to build in a style.

    `solution` is all that is installed with it. `compiler` is OCaml's package for the switch, "" when there is none.
    `commit` is that of the opam repository at the address `repository`; `others` are more of them, which have priority
    over it and each other in this order. `image` stands for the style's own base. `opam` is a release with an own
    program in opam's images, such as "2.3", or "dev".
    """

    package: Package
    platform: Platform
    solution: tuple[Package, ...] = ()
    compiler: str = ""
    repository: str = PUBLIC
    commit: str = ""
    others: tuple[Origin, ...] = ()
    image: str = ""
    opam: str = "dev"
    with_test: bool = False
    lower_bounds: bool = False

    @property
    def system(self) -> str:
        """The distribution as opam's images and `x-ci-accept-failures` call it: `debian-13`."""
        return system_name(self.platform)

    @property
    def is_narrow(self) -> bool:
        """Whether programs are to believe that the processor has 32 bits only."""
        return self.platform.arch in ("x86_32", "arm32")


def style_spec(style: str, task: Task) -> Spec:
    """The spec of a task in a style. Raises `UsageError` for a style that there is not."""
    from importlib import import_module

    if style not in STYLES:
        known = f"one of native, {', '.join(STYLES)}"
        raise UsageError(f'no style "{style}"', hint=nearest(style, STYLES) or known)
    found: Spec = import_module(f"obuild.plan.style.{STYLES[style]}").spec(task)
    return found
