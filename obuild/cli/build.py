"""`obuild build`, `obuild shell` and `obuild healthcheck`."""

from __future__ import annotations

import os
import signal
import sys

from obuild import spec as language
from obuild.build import Builder, Context, Options
from obuild.cancel import Cancel
from obuild.cli.option import Option, duration, jobs, positive, size
from obuild.cli.show import Json, Plain, write
from obuild.cli.where import SANDBOX, STORE, default_store
from obuild.errors import ObuildError, StepFailed, UsageError
from obuild.sandbox import Limits, open_sandbox
from obuild.store import open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.log import Reporter
    from obuild.sandbox import Sandbox
    from obuild.store import Store

__all__ = ["COMMANDS"]


def _pair(separator: str, form: str) -> Any:
    def convert(text: str) -> tuple[str, str]:
        name, found, rest = text.partition(separator)
        if not found or not name or not rest:
            raise ValueError(f'"{text}" is not {form}')
        return name, rest

    return convert


LIMITS = (
    Option(("--memory",), "Memory of a step, such as 512M; more ends it as out of memory.", size, metavar="SIZE"),
    Option(("--cpus",), "Share of the CPUs that a step may use, such as 1.5.", positive, metavar="NUMBER"),
    Option(("--pids",), "Number of processes that a step may have.", jobs, metavar="NUMBER"),
    Option(("--step-timeout",), "Time that one step may take, such as 90s, 10m or 2h.", duration, metavar="TIME"),
    Option(("--log-limit",), "Bytes of output after which a step is ended.", size, default=1 << 30, metavar="SIZE"),
    Option(("--fast-sync",), "Let fsync and its kin succeed at once: a killed build is run again anyway.", None),
    Option(("--no-new-privs",), "Setuid programs such as sudo gain nothing in a step.", None),
)

BUILD = (
    STORE,
    Option(("-f", "--file"), "The spec; - reads standard input.", required=True, metavar="FILE"),
    Option(
        ("--image",),
        "Take the spec's base NAME from SOURCE.",
        _pair("=", "NAME=SOURCE"),
        many=True,
        metavar="NAME=SOURCE",
    ),
    Option(("--pull",), "Ask again what a moving tag stands for.", None),
    Option(("--secret",), "The value of secret ID.", _pair(":", "ID:FILE"), many=True, metavar="ID:FILE"),
    Option(("-j", "--jobs"), "Steps that may run at once.", jobs, default=os.cpu_count() or 1, metavar="NUMBER"),
    Option(("--timeout",), "Time that the whole build may take.", duration, metavar="TIME"),
    *LIMITS,
    SANDBOX,
    Option(("--skip-unused",), "Leave out nested builds that nothing copies from.", None),
    Option(("--discard-failed",), "Do not keep the file system of a step that fails.", None),
    Option(("-o", "--output"), "Also write the result to DEST.", metavar="DEST"),
    Option(("--format",), "How to write it.", default="dir", choices=("dir", "tar", "oci", "docker")),
    Option(("--progress",), "How to show it.", default="auto", choices=("auto", "plain", "live", "json")),
    Option(("--color",), "Whether to use colours.", default="auto", choices=("auto", "always", "never")),
)


def build(*, directory: str, file: str, output: str | None, format: str, **given: Any) -> int:
    """Build a spec and print the id of its last layer."""
    text = sys.stdin.read() if file == "-" else _read(file)
    spec = language.parse(text, "standard input" if file == "-" else file)
    if not os.path.isdir(directory):
        raise UsageError(f'"{directory}" is not a directory', hint="the last argument is what (copy …) reads from")
    secrets = {id: _secret(path) for id, path in given["secret"]}
    store = open_store(given["store"] or default_store())
    reporter, cancel = _reporter(given["progress"], given["color"]), _signals()
    builder = Builder(store, lambda: _sandbox(given["sandbox"], store), _options(given))
    try:
        layer = builder.build(spec, Context(source=directory, secrets=secrets), reporter=reporter, cancel=cancel)
    except ObuildError as error:
        return _failed(error, reporter, store)
    if output:
        from obuild.cli.layers import write_layer

        write_layer(store, layer, format, output)
    if isinstance(reporter, Json):
        reporter.event("result", id=layer.id)
    else:
        reporter.close()
        write(1, f'Got: "{layer.id}"\n'.encode())
    return 0


def _options(given: dict[str, Any]) -> Options:
    limits = Limits(
        memory=given["memory"],
        cpus=given["cpus"],
        pids=given["pids"],
        seconds=given["step_timeout"],
        log=given["log_limit"],
    )
    return Options(
        images=dict(given["image"]),
        pull=given["pull"],
        jobs=given["jobs"],
        limits=limits,
        timeout=given["timeout"],
        keep_failed=not given["discard_failed"],
        skip_unused=given["skip_unused"],
        fast_sync=given["fast_sync"],
        no_new_privs=given["no_new_privs"],
    )


def _sandbox(name: str, store: Store) -> Sandbox:
    return open_sandbox(name, state=f"{store.path}/run")


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f'can not read "{file}": {(error.strerror or "").lower()}') from None


def _secret(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f'can not read the secret "{path}": {(error.strerror or "").lower()}') from None


def _signals() -> Cancel:
    """A token that Ctrl-C, SIGTERM and SIGHUP set: the build then ends in order and leaves nothing behind."""
    cancel = Cancel()

    def stop(number: int, _: object) -> None:
        cancel.set(f"cancelled by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return cancel


def _reporter(progress: str, color: str) -> Reporter:
    terminal = sys.stdout.isatty()
    if progress == "json":
        return Json()
    colored = color == "always" or (color == "auto" and terminal and "NO_COLOR" not in os.environ)
    if progress == "live" or (progress == "auto" and terminal and os.environ.get("TERM") != "dumb"):
        from obuild.cli.live import Live

        return Live(color=colored)
    return Plain(color=colored)


def _failed(error: ObuildError, reporter: Reporter, store: Store) -> int:
    reporter.close()
    if isinstance(error, StepFailed):
        log, kept = _kept(error, store)
        error.hint = f"log: {log}" + (f"\nhint: look inside: obuild shell --failed{kept}" if kept else "")
        if not isinstance(reporter, Plain):
            error.tail = _tail(log)
    if isinstance(reporter, Json):
        reporter.event("error", message=str(error), hint=error.hint, tail=getattr(error, "tail", ""))
        return error.exit_code
    raise error
