"""A place to build in: a store, a base of one busybox called "b", a directory to copy from, and the real program."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from conftest import alive, soon

from obuild import spec as language
from obuild.build import Builder, Context, Options
from obuild.cancel import Cancel
from obuild.cli.show import Plain
from obuild.sandbox import Sandbox, open_sandbox
from obuild.store import Layer, Store, open_store

PROGRAM = Path(sys.executable).with_name("obuild")
SHELL = "(shell /bin/sh -c)"

_numbers = itertools.count(1)


class Log(Plain):
    """What a person sees of a build on standard output, and every step with whether it was found."""

    def __init__(self, *, color: bool = False, parent: Plain | None = None) -> None:
        super().__init__(color=color, parent=parent)
        self.shown = b""
        self.steps: list[tuple[str, bool, int]] = parent.steps if isinstance(parent, Log) else []
        self.ids: list[str] = parent.ids if isinstance(parent, Log) else []
        self.heard = threading.Event()

    def _show(self, data: bytes) -> None:
        self.shown += data
        self.heard.set()

    def step(self, op: str, id: str, *, cached: bool, status: int, seconds: float) -> None:
        self.steps.append((op, cached, status))
        self.ids.append(id)

    @property
    def text(self) -> str:
        return self.shown.decode()

    def cached(self, op: str = "run") -> list[bool]:
        """Of every step of one kind, whether it was found in the store."""
        return [cached for name, cached, _ in self.steps if name == op]


class House:
    """One store, with what is needed to build in it."""

    def __init__(self, folder: Path, base: Path, kind: str = "overlay", sandbox: str = "") -> None:
        self.folder, self.base, self.sandbox = folder, base, sandbox
        self.store = f"{kind}:{folder}/store"
        self.context = folder / "context"
        self.context.mkdir(parents=True, exist_ok=True)

    # In this process.

    def open(self) -> Store:
        return open_store(self.store)

    def builder(self, sandbox: Callable[[], Sandbox] | None = None, **options: Any) -> Builder:
        store = self.open()
        options.setdefault("images", {"b": f"dir:{self.base}"})
        opened = sandbox or (lambda: open_sandbox(self.sandbox, state=f"{store.path}/run"))
        return Builder(store, opened, Options(**options))

    def build(
        self,
        text: str,
        *,
        builder: Builder | None = None,
        log: Log | None = None,
        cancel: Cancel | None = None,
        secrets: Mapping[str, bytes] | None = None,
        **options: Any,  # of `builder`
    ) -> tuple[Layer, Log]:
        """Build a spec; its last layer and what was said."""
        log = log or Log()
        context = Context(source=str(self.context), secrets=secrets or {})
        spec = language.parse(text, "test.spec")
        layer = (builder or self.builder(**options)).build(spec, context, reporter=log, cancel=cancel)
        return layer, log

    def read(self, layer: Layer, *paths: str) -> str:
        """The content of files of a layer."""
        with self.open().view(layer) as tree:
            return "".join(Path(tree + path).read_text() for path in paths)

    # The installed program.

    def words(self, *words: str | Path) -> list[str]:
        """A command line: the store is added, and for a build the base and the directory."""
        first, *rest = map(str, words)
        line = [str(PROGRAM), first, "--store", self.store]
        if self.sandbox and first in ("build", "shell"):
            line += ["--sandbox", self.sandbox]
        return [*line, "--image", f"b=dir:{self.base}", *rest, str(self.context)] if first == "build" else line + rest

    def run(
        self, *words: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        whole = {**os.environ, **(env or {})}
        return subprocess.run(
            self.words(*words), input=stdin, capture_output=True, text=True, env=whole, timeout=120, errors="replace"
        )

    def start(self, text: str, *words: str | Path) -> subprocess.Popen[bytes]:
        """Begin to build a spec, in another process; its output comes through a pipe."""
        line = self.words("build", "-f", self.file(text), *words)
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def file(self, text: str) -> Path:
        """A file with this spec."""
        path = self.folder / f"{next(_numbers)}.spec"
        path.write_text(text)
        return path

    def events(self, text: str, *words: str | Path) -> list[dict[str, Any]]:
        """The events of a build with `--progress json`."""
        done = self.run("build", "--progress", "json", *words, "-f", self.file(text))
        return [json.loads(line) for line in done.stdout.splitlines()]

    # What must not be left.

    def residue(self) -> list[str]:
        """What is left of builds besides finished layers: drafts, secrets, containers, mounts, networks, processes."""
        path = self.store.partition(":")[2]
        left = [str(found) for found in Path(path, "tmp").glob("*")]
        left += [str(found) for found in Path(path, "run").glob("*") if found.name != "networks"]
        left += [str(found) for found in Path(path, "run", "networks").glob("*") if found.name != "lock"]
        return left + [f"process {pid}" for pid in users(path)]


def users(path: str) -> list[str]:
    """The processes, besides this one, that have something below `path` mounted or among their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            text = (folder / "mountinfo").read_text(errors="replace") + (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if f"{path}/" in text:
            found.append(folder.name)
    return found


class Gate:
    """Where steps wait for the test: each that runs `enter` is counted, and goes on when `open` is called."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(20)
        self._waiting: list[socket.socket] = []
        self.count = 0
        self.enter = f"nc 127.0.0.1 {self._server.getsockname()[1]}"

    def run(self, before: str = "true", after: str = "true") -> str:
        """A `run` that waits here."""
        return f'(run (network host) (shell "{before}\n{self.enter}\n{after}"))'

    def wait(self) -> None:
        """Wait until one more step is here."""
        self._waiting.append(self._server.accept()[0])
        self.count += 1

    def nobody(self) -> bool:
        """Whether no other step has come."""
        self._server.setblocking(False)
        try:
            self._waiting.append(self._server.accept()[0])
        except BlockingIOError:
            return True
        finally:
            self._server.settimeout(20)
        return False

    def open(self) -> None:
        """Let all go on that are here."""
        while self._waiting:
            self._waiting.pop().close()

    def close(self) -> None:
        self.open()
        self._server.close()


class Party:
    """A build in a thread of its own."""

    def __init__(self, house: House, text: str, **given: Any) -> None:
        self.cancel, self.log = Cancel(), Log()
        self.layer: Layer | None = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.layer, _ = house.build(text, log=self.log, cancel=self.cancel, **given)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def end(self) -> Log:
        """Wait for its end; what was said."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.log

    def result(self) -> Layer:
        """Wait for its end, which is a good one."""
        self.end()
        if self.error:
            raise self.error
        assert self.layer
        return self.layer


def stage(*ops: str, builds: str = "") -> str:
    """A spec on the tiny base, whose shell is /bin/sh."""
    return f"({builds} (from b) {SHELL} {' '.join(ops)})"


def sh(command: str) -> str:
    """A `run` of a shell command."""
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    return f'(run (shell "{quoted}"))'


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, bytes, bytes]:
    """Send a signal and wait for the end; exit status, output, errors."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def gone(mark: str) -> bool:
    """Whether no process has `mark` among its arguments, soon."""
    return soon(lambda: not alive(mark))
