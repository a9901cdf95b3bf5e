"""The key of a package's layer: the name of its directory, and of the package in a spec.

    77aa…e1                  opam's build-id, 64 hexadecimal digits
    77aa…e1+test             the package with its tests run; `+doc` with its documentation made
    77aa…e1+0c5d2f0e9a31     something else that counts: patches of the user's, another prefix, such a dependency
    dev-0c5d2f0e9a31…        opam defines no build-id: a digest of the actual source and of all dependencies' keys

The platform's base is no part of a key; it is the directory around it, and `layer.json` records which one it was.
"""

from __future__ import annotations

from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEV", "dev_key", "is_dev", "layer_key", "shown_id"]

DEV = "dev-"
"""What the keys begin with that are not made of one of opam's build-ids."""

_FAKE = "0b111d0b111d"
"""What a build-id begins with that is none."""


def layer_key(id: str, *, tested: bool = False, documented: bool = False, facts: Iterable[str] = ()) -> str:
    """The key of a variant of the package with the plain key `id`; `facts` are what else makes it another one."""
    key = id + "+test" * tested + "+doc" * documented
    text = "\n".join(sorted(facts))
    return f"{key}+{_digest(text)[:12]}" if text else key


def dev_key(parts: Iterable[str]) -> str:
    """The plain key of a package without a build-id: `parts` are all that counts for it, in an order that is fixed."""
    return DEV + _digest("\n".join(parts))[:32]


def is_dev(key: str) -> bool:
    """Whether opam has no build-id for the package with this key."""
    return key.startswith(DEV)


def shown_id(key: str) -> str:
    """What a package sees as its build-id: opam's own, or where there is none a fake of the same length.

    Compilers look for a switch that has one of the same build-id and take it instead of building, so a fake one must be
    nobody else's.
    """
    return _FAKE + _digest(key)[len(_FAKE) :] if is_dev(key) else key.partition("+")[0]


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
