"""What killed processes left of their containers: killed and removed at the next start."""

from __future__ import annotations

import os

from obuild.disk import remove_tree
from obuild.errors import ObuildError
from obuild.sandbox.bundle import leftovers

__all__ = ["clean_up"]


def clean_up(state: str) -> list[str]:
    """Kill the containers under `state` whose obuild is gone and remove all that is left of them; their directories.

    Those of living processes are left alone. What can not be removed now (no right to, or a process that the kernel
    does not let go of) stays for the next start.
    """
    removed = []
    for path, lock in leftovers(state):
        with lock:
            try:
                _remove(state, path)
            except (ObuildError, OSError):
                continue
        removed.append(path)
    return removed


def _remove(state: str, path: str) -> None:
    """End one container; its directory goes last, so that it is found again when this is cut short."""
    from obuild import kernel
    from obuild.sandbox import cgroup, network, runtime

    try:
        with open(f"{path}/container", encoding="utf-8") as file:
            name, rest = file.read().split(" ", 1)
    except (FileNotFoundError, ValueError):
        pass  # nothing was started yet
    else:
        kernel.private_mounts()
        state_root, container = rest.rstrip("\n").rsplit(" ", 1)
        runtime.delete(name, state_root, container)
        cgroup.delete(container)
    network.forget(state, os.path.basename(path))
    remove_tree(path)
