"""What is being built now: one file in `RUNS/locks/` for each package or tool, locked as long as somebody works on it.

The names are `build-PKG.VER[-UNIVERSE].lock`, `doc-PKG.VER[-UNIVERSE].lock` and `tool-NAME[-OCAML VERSION].lock`;
inside is JSON that says who has it. The lock is a flock, so it ends with its process however that ends, a reader in the
same process does not break it (as POSIX locks would), and only who holds a lock ever removes its file.
"""

from __future__ import annotations

import json
import os
import time

from obuild.disk import Lock
from obuild.errors import UsageError
from obuild.kernel import boot_id
from obuild.runs.moment import format_time, parse_time
from obuild.value import fields, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Claim", "Held", "Hold", "clean_stale", "hold", "list_locks", "lock_name", "parse_lock_name"]

STAGES = ("build", "doc", "tool")
_SUFFIX = ".lock"
_HEX = frozenset("0123456789abcdef")
_PATIENCE = 3600.0
"""Seconds after which a lock that nobody holds is stale, even if a process with its owner's number exists."""


@value
class Claim:
    """What is worked on: `stage` is "build", "doc" or "tool"; a tool's `version` is that of its compiler, if any."""

    stage: str
    package: str
    version: str = ""
    universe: str = ""
    layer: str = ""
    log: str = ""


@value
class Held:
    """A lock file: its claim, who wrote it and when, whether somebody holds it now."""

    path: str
    claim: Claim
    pid: int
    host: str
    start: str
    boot_id: str
    active: bool

    @property
    def dead(self) -> bool:
        """Whether the process that wrote it is certainly gone."""
        if self.host != os.uname().nodename or not self.pid:
            return False
        return self.boot_id != boot_id() or not os.path.exists(f"/proc/{self.pid}")


def lock_name(claim: Claim) -> str:
    """The name of a claim's file. Raises `UsageError` for a claim that can have none."""
    if claim.stage not in STAGES:
        raise UsageError(f'"{claim.stage}" is not a stage', hint=f"one of {', '.join(STAGES)}")
    if claim.stage == "tool":
        text = "-".join(filter(None, ("tool", claim.package, claim.version)))
    else:
        text = f"{claim.stage}-{claim.package}.{claim.version}" + (f"-{claim.universe}" if claim.universe else "")
    if "/" in text or "\0" in text or len(text.encode()) > 250:
        raise UsageError(f'"{claim.package}.{claim.version}" is not a package')
    return text + _SUFFIX


def parse_lock_name(name: str) -> Claim | None:
    """The claim that a file's name tells of. A package's name ends at its first dot, a universe is 32 hex digits."""
    stage, dash, text = name.removesuffix(_SUFFIX).partition("-")
    if not dash or stage not in STAGES or not text or not name.endswith(_SUFFIX):
        return None
    head, dash, tail = text.rpartition("-")
    if stage == "tool":
        return Claim(stage, head, tail) if dash and "." in tail else Claim(stage, text)
    universe = tail if dash and len(tail) == 32 and _HEX.issuperset(tail) else ""
    package, _, version = (head if universe else text).partition(".")
    return Claim(stage, package, version, universe)


class Hold:
    """A lock that is held until the end of a `with`, or `release`; then its file goes too."""

    def __init__(self, path: str, lock: Lock) -> None:
        self.path, self._lock = path, lock

    def release(self) -> None:
        """Let the next one have it; safe to call again."""
        if self._lock.fd >= 0:
            try:
                os.unlink(self.path)  # before the lock is given up: who waits for it notices, and makes a new file
            except OSError:
                pass
            self._lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(root: str, claim: Claim, *, wait: bool = True) -> Hold | None:
    """Take the lock of a claim; None when others hold it and `wait` is false. Raises `OSError`."""
    folder = f"{root}/locks"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/{lock_name(claim)}"
    lock = Lock.make(path) if wait else _try(path)
    if lock is None:
        return None
    try:
        _sign(path, claim)
    except OSError:
        pass  # a full disk: the lock is held all the same, only nobody sees by whom
    return Hold(path, lock)


def _try(path: str) -> Lock | None:
    # Whoever lists locks has a shared lock on each for a moment, so one refusal is not the last word.
    for _ in range(20):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            lock = Lock.attempt(path)
        except FileNotFoundError:
            continue  # removed between the two calls
        if lock:
            return lock
        time.sleep(0.005)
    return None


def _sign(path: str, claim: Claim) -> None:
    facts: dict[str, Any] = {"pid": os.getpid(), "host": os.uname().nodename, "start": format_time(time.time())}
    facts |= {name: getattr(claim, name) for name in fields(claim)} | {"boot_id": boot_id()}
    with open(path, "wb", buffering=0) as file:  # in place: another file would be another lock
        file.write(json.dumps(facts).encode() + b"\n")


def list_locks(root: str, *, active: bool = True) -> list[Held]:
    """The locks that are held now, or with `active` false all files that are locks; asking disturbs nobody."""
    found = (_look(path) for path in _files(root))
    return [item for item in found if item and (item.active or not active)]


def _files(root: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(f"{root}/locks"))
    except FileNotFoundError:
        return
    yield from (f"{root}/locks/{name}" for name in names if parse_lock_name(name))


def _look(path: str) -> Held | None:
    try:
        lock = Lock.attempt(path, shared=True)
        if lock:
            lock.release()
        return _read(path, active=lock is None)
    except OSError:
        return None  # gone meanwhile, or not a file of ours


def _read(path: str, *, active: bool) -> Held:
    """What a lock file says; its name and times say the least."""
    with open(path, "rb") as file:
        text = file.read(1 << 16)
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = {}
    facts = facts if isinstance(facts, dict) else {}
    named = parse_lock_name(os.path.basename(path)) or Claim("build", "")
    words = {name: facts[name] for name in fields(Claim) if isinstance(facts.get(name), str)}
    claim = Claim(**{name: getattr(named, name) for name in fields(Claim)} | words)
    pid = facts.get("pid")
    start = facts.get("start") if parse_time(facts.get("start")) is not None else None
    return Held(
        path=path,
        claim=claim,
        pid=pid if type(pid) is int and pid > 0 else 0,
        host=str(facts.get("host", "")),
        start=str(start or format_time(os.stat(path).st_mtime)),
        boot_id=str(facts.get("boot_id", "")),
        active=active,
    )


def clean_stale(root: str, *, max_age: float = _PATIENCE, now: float | None = None) -> list[str]:
    """Remove the files of locks that nobody holds and whose owner is dead, or that are older than `max_age` seconds."""
    now = time.time() if now is None else now
    removed = []
    for path in _files(root):
        try:
            lock = Lock.attempt(path)  # held while the file goes, so that nobody can be in between
            if lock is None:
                continue
            with lock:
                held = _read(path, active=False)
                start = parse_time(held.start)
                if held.dead or start is None or now - start > max_age:
                    os.unlink(path)
                    removed.append(path)
        except OSError:
            continue
    return removed
