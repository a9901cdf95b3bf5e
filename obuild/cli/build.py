"""`obuild build`, `obuild shell` and `obuild healthcheck`."""

from __future__ import annotations

import os
import signal
import sys

from obuild import spec as language
from obuild.build import Builder, Context, Options
from obuild.cancel import Cancel
from obuild.cli.option import Argument, Command, Option, duration, jobs, positive, size
from obuild.cli.show import NOBODY, Json, Plain, write
from obuild.cli.where import SANDBOX, STORE, default_store, open_named_store, read_text, shown
from obuild.errors import ObuildError, StepFailed, UsageError
from obuild.sandbox import Limits, open_sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.log import Reporter
    from obuild.sandbox import Sandbox
    from obuild.store import Layer, Store

__all__ = ["COMMANDS", "LIMITS", "explain", "named_sandbox", "on_signals"]


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

TAIL = 20
"""Lines of a failed step's log that are shown again where its output was not."""

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
    Option(("--platform",), "Of images for several, take that of PLATFORM.", default="", metavar="PLATFORM"),
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
    Option(("--load",), "Also give the result to the Docker engine, as an image.", None),
    Option(("-t", "--tag"), "What the image is called: NAME or NAME:TAG.", default="", metavar="NAME"),
    Option(("--progress",), "How to show it.", default="auto", choices=("auto", "plain", "live", "json")),
    Option(("--color",), "Whether to use colours.", default="auto", choices=("auto", "always", "never")),
)


def build(*, directory: str, file: str, **given: Any) -> int:
    """Build a spec and print the id of its last layer."""
    cancel = on_signals()
    reporter = _reporter(given["progress"], given["color"], cancel)
    try:
        store, layer = _build(directory, file, given, reporter, cancel)
        _hand_over(store, layer, given, reporter, cancel)
    except ObuildError as error:
        reporter.close()
        if cancel.reason == NOBODY:
            raise BrokenPipeError from None
        if not isinstance(reporter, Json):
            if isinstance(reporter, Plain) and isinstance(error, StepFailed) and not reporter.shows(error.tail):
                print(error.tail, file=sys.stderr)
            raise
        facts = {name: getattr(error, name, "") for name in ("hint", "tail", "log", "look")}
        reporter.event("error", message=str(error), **facts)
        return error.exit_code
    if cancel.reason == NOBODY:
        raise BrokenPipeError
    if isinstance(reporter, Json):
        reporter.event("result", id=layer.id)
    else:
        reporter.close()
        write(1, f'Got: "{layer.id}"\n'.encode())
    return 0


def _build(
    directory: str,
    file: str,
    given: dict[str, Any],
    reporter: Reporter,
    cancel: Cancel,
) -> tuple[Store, Layer]:
    """The store and the layer; what can be refused without building is refused first."""
    spec = language.parse(read_text(file), shown(file))
    if not os.path.isdir(directory):
        raise UsageError(f'"{directory}" is not a directory', hint="the last argument is what (copy …) reads from")
    if given["output"]:
        from obuild.export import check

        check(given["output"], given["format"])
    if given["tag"]:
        from obuild.cli.layers import check_tag

        check_tag(given["tag"])
    secrets = {name: _secret(path) for name, path in given["secret"]}
    store = open_named_store(given["store"])
    builder = Builder(store, lambda: named_sandbox(given["sandbox"], store), _options(given))
    try:
        context = Context(source=directory, secrets=secrets)
        asked = _package_request(spec, store)
        return store, builder.build(spec, context, **asked, reporter=reporter, cancel=cancel)
    except StepFailed as error:
        explain(error, store)
        raise


def _package_request(spec: language.Spec, store: Store) -> dict[str, Any]:
    """How the layer of a package is asked for by the text of its spec; {} for other specs."""
    if not spec.ops or not isinstance(spec.ops[-1], language.Copy):
        return {}
    from obuild.build.package import request

    return request(spec, store)


def _hand_over(store: Store, layer: Layer, given: dict[str, Any], reporter: Reporter, cancel: Cancel) -> None:
    """Write the result where it was asked for, and load it into an engine."""
    if given["output"]:
        from obuild.cli.layers import write_layer

        write_layer(store, layer, given["format"], given["output"], cancel, tag=given["tag"])
    if given["load"]:
        from obuild.cli.layers import load_layer

        digest = load_layer(store, layer, given["tag"], cancel)
        reporter.note(f'---> loaded as "{given["tag"] or digest}"')


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
        engine=os.environ.get("DOCKER_HOST", ""),
        platform=given["platform"],
        keep_failed=not given["discard_failed"],
        skip_unused=given["skip_unused"],
        fast_sync=given["fast_sync"],
        no_new_privs=given["no_new_privs"],
    )


def named_sandbox(name: str | None, store: Store) -> Sandbox:
    """The sandbox called `name`, whose private networks are those of the store."""
    return open_sandbox(name or "", state=f"{store.path}/run")


def _secret(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f'can not read the secret "{path}": {(error.strerror or "").lower()}') from None


def on_signals() -> Cancel:
    """A token that Ctrl-C, SIGTERM and SIGHUP set: the build then ends in order and leaves nothing behind."""
    cancel = Cancel()

    def stop(number: int, _: object) -> None:
        cancel.set(f"cancelled by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return cancel


def _reporter(progress: str, color: str, cancel: Cancel) -> Reporter:
    terminal = sys.stdout.isatty()
    if progress == "json":
        return Json(cancel=cancel)
    colored = color == "always" or (color == "auto" and terminal and "NO_COLOR" not in os.environ)
    if progress == "live" or (progress == "auto" and terminal and os.environ.get("TERM") != "dumb"):
        from obuild.cli.live import Live

        return Live(color=colored, cancel=cancel)
    return Plain(color=colored, cancel=cancel)


def explain(error: StepFailed, store: Store) -> None:
    """Add to a failure what is known of it here: the end of its log, and how to look at what it left."""
    error.tail, error.look = _tail(error.log), _look(error, store)
    error.log = error.log if os.path.exists(error.log) else ""


def _look(error: StepFailed, store: Store) -> str:
    """The command that shows what the step left; "" when that is not kept."""
    if not store.failed_layer(error.id):
        return ""
    where = "" if f"{store.kind}:{store.path}" == default_store() else f" --store {store.kind}:{store.path}"
    return f"obuild shell{where} --failed {error.id[:12]}"


def _tail(path: str) -> str:
    """The last lines of a log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL:])
    except OSError:
        return ""


COMMANDS = {"build": Command(build, "Build a spec.", BUILD, (Argument("directory"),))}
