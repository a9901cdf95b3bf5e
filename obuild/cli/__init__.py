"""The command line: the only reader of arguments and environment, the only printer, the only exit code."""

from __future__ import annotations

import os
import sys

from obuild import system
from obuild.cli.option import read
from obuild.errors import ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.cli.option import Command

__all__ = ["COMMANDS", "GROUPS", "find_command", "main"]

COMMANDS = {
    "build": "build",
    "shell": "shell",
    "healthcheck": "shell",
    "check": "language",
    "fmt": "language",
    "dockerfile": "language",
    "import-dockerfile": "language",
    "ls": "layers",
    "show": "layers",
    "log": "layers",
    "df": "layers",
    "prune": "layers",
    "delete": "layers",
    "clean": "layers",
    "fsck": "layers",
    "export": "layers",
    "health-check": "health",
    "replay": "replay",
    "install": "install",
    "ci": "project",
    "exec": "project",
    "track": "track",
    "gc": "collect",
    "locks": "collect",
    "runs": "runs",
    "status": "runs",
    "history": "runs",
    "failures": "runs",
    "cascade": "runs",
    "diff": "runs",
    "rdeps": "runs",
    "disk": "runs",
    "platform build": "platform",
    "platform list": "platform",
    "platform show": "platform",
    "platform delete": "platform",
    "opam list": "opam",
    "opam show": "opam",
    "opam lint": "opam",
    "opam diff": "opam",
    "opam build-id": "opam",
    "opam solve": "solve",
    "opam rdeps": "solve",
    "opam why": "solve",
    "opam spec": "spec",
}
"""Every command and the module of this package that has it: only that one is imported."""

PASSED = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"]
PASSED += ["SSL_CERT_DIR", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"]
"""Variables of the caller that the programs which obuild starts on the host get too, and no step ever does."""

GROUPS = {
    "platform": "Build and show the bases on which packages are built.",
    "opam": "Read opam repositories: list, show, compare and solve packages, compute build-ids.",
}
"""Words that come before a command's own name."""


def find_command(name: str) -> Command:
    """The command called `name`."""
    # importlib's own function imports `warnings`, which takes as long as a small module of ours.
    module = __import__(f"obuild.cli.{COMMANDS[name]}", fromlist=["COMMANDS"])
    commands: dict[str, Command] = module.COMMANDS
    return commands[name]


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status (design: 0, 1, 2, 3, 4, 130, and 70 for a bug)."""
    words = sys.argv[1:] if words is None else words
    os.umask(0o022)  # what obuild makes in a layer must not depend on the caller
    system.ENVIRONMENT.update((name, os.environ[name]) for name in PASSED if name in os.environ)
    try:
        depth = 2 if words and words[0] in GROUPS else 1
        name = " ".join(words[:depth])
        command = find_command(name) if name in COMMANDS else None
        given = read(command, words[depth:], os.environ) if command else None
        if command is None or given is None:
            from obuild.cli.parser import parse

            return parse(words)
        return command.function(**given)
    except ObuildError as error:
        return _fail(error)
    except BrokenPipeError:
        # Whoever read our output has gone, as in `obuild log ID | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _fail(_as_error(error))
    except Exception:  # noqa: BLE001 (whatever it is, it is shown and ends with the status of a bug)
        import traceback

        traceback.print_exc()
        print("obuild: this is a bug in obuild, please report it with the lines above", file=sys.stderr)
        return 70


def _fail(error: ObuildError) -> int:
    print(f"obuild: {error}", file=sys.stderr)
    for name in ("hint", "log", "look"):
        text = getattr(error, name, "")
        if text:
            print(f"{name if name != 'look' else 'look inside'}: {text}", file=sys.stderr)
    return error.exit_code


def _as_error(error: OSError) -> ObuildError:
    """What the system refused, as one line: a full disk or a missing right is no bug of obuild."""
    from obuild.errors import StoreError

    place = f' "{error.filename}"' if error.filename else ""
    return StoreError(f"{(error.strerror or str(error)).lower()}{place}")
