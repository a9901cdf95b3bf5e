"""What a source was found to stand for, remembered in the store's `images/`: one JSON file for each."""

from __future__ import annotations

import json
import os

from obuild import disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RACY", "Record"]

RACY = 20_000_000
"""Nanoseconds: what changed so shortly before it was read may change again within the same timestamp."""

LONGEST = 200
"""Characters of a source's name that fit a file name together with its ending."""


class Record:
    """The memory of one source. Written whole by a rename, so two builds at once both leave a good one."""

    def __init__(self, images: str, name: str) -> None:
        self.path = f"{images}/{_escape(name)}.json"

    def load(self) -> dict[str, Any]:
        """What is remembered; nothing when there is none, or only a damaged one."""
        try:
            with open(self.path, "rb") as file:
                found = json.loads(file.read())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def save(self, found: dict[str, Any]) -> dict[str, Any]:
        """Remember `found` instead; returned for convenience."""
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            disk.write_atomic(self.path, json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")
        except OSError:
            pass  # a full disk, or a store that may only be read: the source is asked again next time
        return found


def _escape(name: str) -> str:
    text = "".join(c if c.isascii() and (c.isalnum() or c in "-._+@:=,") else f"%{ord(c):02x}" for c in name)
    if len(text) <= LONGEST and not text.startswith("."):
        return text
    from obuild.digest import sha256

    return sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
