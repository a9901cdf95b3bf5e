"""Sources for which no checksum is promised: asked for again each time, and fetched again when they have changed."""

from __future__ import annotations

import hashlib
import json
import os

from obuild import disk
from obuild.download.part import Part
from obuild.errors import FetchError
from obuild.retry import retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.download.sources import Place

__all__ = ["obtain"]


def obtain(
    sources: str,
    name: str,
    places: Sequence[Place],
    *,
    write: Callable[[bytes], None] | None = None,
    cancel: Cancel | None = None,
) -> str:
    """The path of what is at the first of the places that answers; `name` is what it is remembered by.

    Without any place to ask it is what was there the last time. Raises `FetchError`.
    """
    stem = f"{sources}/unverified/{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()}"
    known = _load(f"{stem}.json", sources)
    if not places:
        if known:
            return str(known["path"])
        hint = "run it once with network"
        raise FetchError(f'"{name}" is not on this machine, and nothing is fetched offline', hint=hint)

    def note(text: str) -> None:
        if write:
            write(f"{text}\n".encode("utf-8", "surrogateescape"))

    with Part(f"{stem}.part", (), cancel=cancel) as part:
        return retry(lambda: _first(places, part, known, stem, sources, note), note=note, cancel=cancel)


def _first(
    places: Sequence[Place],
    part: Part,
    known: dict[str, Any],
    stem: str,
    sources: str,
    note: Callable[[str], None],
) -> str:
    problem: FetchError | None = None
    for place in places:
        try:
            return _from(place, part, known if known.get("url") == place.url else {}, stem, sources, note)
        except FetchError as error:
            problem = problem or error
            note(str(error))
    assert problem is not None
    raise problem


def _from(place: Place, part: Part, known: dict[str, Any], stem: str, sources: str, note: Callable[[str], None]) -> str:
    from obuild.download.web import transfer

    part.restart()
    facts = {"url": place.url, "etag": "", "modified": ""}
    if place.path:
        part.copy(place.path)
    else:
        asked = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("modified")}
        headers = {header: str(text) for header, text in asked.items() if text}
        answer = transfer(place.url, part, cancel=part.cancel, headers=headers)
        if answer.status == 304:
            part.drop()
            return str(known["path"])
        facts.update(etag=answer.etag, modified=answer.modified)
        note(f'fetched "{place.url}" ({part.size:,} bytes)')
    checksum = part.checksum
    path = f"{sources}/{checksum.path}"
    part.publish(path)
    disk.write_atomic(f"{stem}.json", json.dumps({**facts, "sha256": checksum.hex}).encode() + b"\n")
    return path


def _load(record: str, sources: str) -> dict[str, Any]:
    """What is remembered, with the path of the file if it is still here; nothing otherwise."""
    try:
        with open(record, "rb") as file:
            found = json.loads(file.read())
        path = f"{sources}/sha256/{found['sha256'][:2]}/{found['sha256']}"
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {**found, "path": path} if os.path.exists(path) else {}
