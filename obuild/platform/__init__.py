"""Platforms: the bases on which packages are built, each made from a recipe and asked what it is.

    STORE/debian-13-x86_64/base            a link to the step that is the platform's base
    STORE/debian-13-x86_64/platform.json   what the base was found to be: opam's variables, installed packages

The key (`debian-13-x86_64`) and opam's variables come from the finished base, not from the recipe's name.
"""

from __future__ import annotations

from obuild.platform.base import Base, delete_platform, list_platforms, open_platform

__all__ = ["Base", "delete_platform", "list_platforms", "open_platform"]
