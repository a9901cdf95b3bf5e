"""The recipes that platforms are made from: those that obuild ships, and files of the user."""

from __future__ import annotations

import os

from obuild import spec as language
from obuild.errors import UsageError, nearest
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.spec import Spec

__all__ = ["SUITES", "Recipe", "find_recipe", "list_recipes", "suite_of"]

SUITES = {
    "debian:11": "bullseye",
    "debian:12": "bookworm",
    "debian:13": "trixie",
    "debian:testing": "testing",
    "debian:unstable": "sid",
    "ubuntu:20.04": "focal",
    "ubuntu:22.04": "jammy",
    "ubuntu:24.04": "noble",
    "ubuntu:25.04": "plucky",
    "ubuntu:25.10": "questing",
    "ubuntu:26.04": "resolute",
}
"""Images that can also be made from packages, and the suites that have those."""


@value
class Recipe:
    """A spec whose result is the base of a platform: its name, and the file that it is in."""

    name: str
    path: str

    def spec(self) -> Spec:
        """The spec, parsed. Raises `SpecError`, and `UsageError` when it can not be read."""
        try:
            with open(self.path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                return language.parse(file.read(), self.path)
        except OSError as error:
            raise UsageError(f'can not read "{self.path}": {(error.strerror or "").lower()}') from None


def list_recipes() -> list[Recipe]:
    """The recipes that obuild ships, by name."""
    folder = _folder()
    names = sorted(name.removesuffix(".spec") for name in os.listdir(folder) if name.endswith(".spec"))
    return [Recipe(name, f"{folder}/{name}.spec") for name in names]


def find_recipe(text: str) -> Recipe:
    """The recipe called `text` (`debian-13`), for the platform with that key, or in the file `text`.

    Raises `UsageError` for none.
    """
    if "/" in text or text.endswith(".spec"):
        return Recipe(os.path.basename(text).removesuffix(".spec"), os.path.abspath(text))
    known = {recipe.name: recipe for recipe in list_recipes()}
    found = known.get(text) or known.get(text.rpartition("-")[0])
    if found is None:
        hint = nearest(text, known) or f"one of {', '.join(known)}, or a file: ./{text}.spec"
        raise UsageError(f'no recipe for a platform "{text}"', hint=hint)
    return found


def suite_of(base: str) -> str:
    """The source that makes the image `base` from packages. Raises `UsageError` for one of which that is not known."""
    suite = SUITES.get(base)
    if suite is None:
        raise UsageError(f'"{base}" can not be made from packages', hint=f"only {', '.join(SUITES)} can")
    # Half of what opam's packages ask for is in Ubuntu's universe, which its images know too.
    return f"debootstrap:{suite}" + ("?components=main,universe" if base.startswith("ubuntu:") else "")


def _folder() -> str:
    """Where the recipes are: inside the package when it was installed from a wheel, beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(__file__))
    inside = f"{package}/specs"
    return inside if os.path.isdir(inside) else f"{os.path.dirname(package)}/specs"
