"""The solver: the packages that a request needs, chosen exactly as opam-0install chooses them."""

from __future__ import annotations

__all__: list[str] = []
