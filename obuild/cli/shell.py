"""`obuild shell` and `obuild healthcheck`."""

from __future__ import annotations

import sys
import time

from obuild import spec as language
from obuild.build import Builder, Context, Options
from obuild.cli.build import named_sandbox, on_signals
from obuild.cli.option import Argument, Command, Option, duration
from obuild.cli.show import write
from obuild.cli.where import SANDBOX, STORE, find_layer, open_named_store
from obuild.errors import ObuildError, UsageError
from obuild.sandbox import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.store import Layer, Store

__all__ = ["COMMANDS"]


def shell(*, layer: str | None, failed: bool, command: tuple[str, ...], network: str | None, **given: Any) -> int:
    """Open a shell, or run a command, in a throw-away copy of a layer; its exit status."""
    store = open_named_store(given["store"])
    if failed and layer and set(layer) - set("0123456789abcdef"):
        command, layer = (layer, *command), None  # `shell --failed -- COMMAND`
    found = _failed_layer(store, layer) if failed else find_layer(store, _wanted(layer))
    place = found.meta().get("context", {})
    terminal = sys.stdin.isatty()
    process = Process(
        argv=command or _interactive(place),
        cwd=place.get("workdir", "/"),
        user=tuple(place.get("user", (0, 0))),
        env=tuple((name, text) for name, text in place.get("env", found.env())),
        network=(network,) if network else (),
        terminal=terminal,
    )
    print(f"in {found.id[:12]}: what is changed here is thrown away at the end", file=sys.stderr)
    with store.writable(found) as root:
        return named_sandbox(given["sandbox"], store).run(process, root, lambda data: write(1, data), stdin=0)


def _wanted(layer: str | None) -> str:
    if layer is None:
        raise UsageError("a shell in which layer?", hint="give its id, or --failed for the step that failed last")
    return layer


def _failed_layer(store: Store, text: str | None) -> Layer:
    """The tree kept of the failed step whose id begins with `text`, or of the one that failed last."""
    kept = sorted(store.failed(), key=lambda layer: float(layer.meta()["created"]))
    found = [layer for layer in kept if layer.id.startswith(text or "")]
    if not found:
        what = f'no failed step "{text}" is kept' if text else "no failed step is kept"
        raise UsageError(what, hint="obuild ls --failed lists them")
    return found[-1]


def _interactive(place: dict[str, Any]) -> tuple[str, ...]:
    """The step's own shell without its -c, for a person to type into."""
    words = tuple(place.get("shell", ()))
    return tuple(word for word in words if word != "-c") or ("/bin/sh",)


HEALTHCHECK = '((from healthcheck) (shell /bin/sh -c) (run (shell "echo healthcheck")))'


def healthcheck(*, image: str, **given: Any) -> int:
    """Fetch a base, run one command in it, and say whether that works; 1 when it does not."""
    store = open_named_store(given["store"])
    options = Options(images={"healthcheck": image}, timeout=given["timeout"], keep_failed=False)
    builder = Builder(store, lambda: named_sandbox(given["sandbox"], store), options)
    spec = language.parse(HEALTHCHECK.replace("echo healthcheck", f"echo healthcheck {time.time_ns()}"), "healthcheck")
    try:
        layer = builder.build(spec, Context(source="/"), cancel=on_signals())
    except ObuildError as error:
        print(f"Healthcheck failed: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    store.delete(layer.id)
    print("Healthcheck passed")
    return 0


COMMANDS = {
    "shell": Command(
        shell,
        "Open a shell in a throw-away copy of a layer, with its environment, user and directory.",
        (
            STORE,
            SANDBOX,
            Option(("--failed",), "In the tree of a failed step: the last one when no id is given.", None),
            Option(("--network",), "Which network it has: host, or the name of a private one.", metavar="NAME"),
        ),
        (Argument("layer", "?"), Argument("command", "*")),
    ),
    "healthcheck": Command(
        healthcheck,
        "Check that a base can be fetched and a step run.",
        (
            STORE,
            SANDBOX,
            Option(("--image",), "The base to try.", default="busybox", metavar="SOURCE"),
            Option(("--timeout",), "Time that it may take.", duration, default=300.0, metavar="TIME"),
        ),
    ),
}
