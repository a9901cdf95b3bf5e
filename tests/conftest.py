"""Fixtures shared by all tests: abilities of the machine, root file systems that are made once, strictness.

With OBUILD_TESTS_STRICT=1 (in CI) a test that would be skipped for want of something fails instead. A case that a
test is not about (a kind of store, say) is skipped with a reason that begins with "does not apply".
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fetching import images, layout, new_root, opened, registry, sample_tree  # noqa: F401 (fixtures)
from hypothesis import HealthCheck, settings
from stores import file_system, store, store_place  # noqa: F401 (fixtures)

from obuild.cancel import Cancel
from obuild.disk import Lock
from obuild.errors import ObuildError
from obuild.sandbox import Process, Sandbox, open_sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from house import House

# How long an example takes is for the benchmarks to say; what CI finds must not depend on chance.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("here", deadline=None, suppress_health_check=_QUIET)
settings.register_profile("strict", settings.get_profile("here"), derandomize=True)
settings.load_profile("strict" if os.environ.get("OBUILD_TESTS_STRICT") == "1" else "here")

CACHE = Path(os.environ.get("OBUILD_TESTS_CACHE", "/var/tmp/obuild-tests"))
"""Shared by all test runs on this machine."""

SUITE = "bookworm"

APPLETS = (
    "cat chmod chown cp dd echo env false grep hostname id ip kill ln ls mkdir mkfifo mknod mount mv nc nslookup ping "
)
APPLETS += "printf ps readlink rm rmdir sed seq sh sleep stat stty sync test touch true tty umount unshare wc wget yes"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    strict = os.environ.get("OBUILD_TESTS_STRICT") == "1"
    if strict and report.skipped and not hasattr(report, "wasxfail") and "does not apply" not in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def can_mount() -> None:
    """Skip where no private mounts can be made: no root, or a container that forbids it."""
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no private mounts: not root, or inside a container that forbids them")


@pytest.fixture(scope="session")
def can_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where files can not be given to others and devices not be made: no root, or a container that forbids it."""
    folder = tmp_path_factory.mktemp("own")
    try:
        os.chown(folder, 1, 1)
        os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
    except PermissionError as error:
        pytest.skip(f"files can not be given to other users, or devices not be made: {error.strerror}")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[str]:
    """The URL of a Docker engine of our own, without network and iptables; everything it has is gone at the end."""
    if shutil.which("dockerd") is None:
        pytest.skip("not installed: dockerd")
    # A socket's path has at most 107 bytes, so pytest's own long directories do not do.
    folder = Path(tempfile.mkdtemp(prefix="obuild-docker-", dir="/tmp"))
    url = f"unix://{folder}/docker.sock"
    command = ["dockerd", "--bridge=none", "--iptables=false", "--host", url, "--pidfile", folder / "pid"]
    command += ["--data-root", folder / "data", "--exec-root", folder / "exec"]
    with open(folder / "log", "wb") as log:
        engine = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(600):
            if engine.poll() is not None:
                pytest.skip(f"dockerd does not start: {(folder / 'log').read_text().splitlines()[-1]}")
            if _listens(folder / "docker.sock"):
                break
            time.sleep(0.1)
        yield url
    finally:
        engine.terminate()
        engine.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture(scope="session")
def rootfs() -> Path:
    """A minimal Debian, made once for this machine. Nobody may change it: mount something over it, or copy it."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("not installed: mmdebstrap")
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"rootfs-{SUITE}"
    with Lock.make(str(CACHE / "lock")):
        if not target.exists():
            new = CACHE / f"rootfs-{SUITE}.new"
            subprocess.run(["rm", "-rf", new], check=True)
            command = ["mmdebstrap", "--variant=minbase", SUITE, new]
            done = subprocess.run(command, capture_output=True, text=True, timeout=280)
            if done.returncode:
                pytest.skip(f"mmdebstrap: {done.stderr.strip().splitlines()[-1]}")
            new.chmod(0o755)
            new.rename(target)
    return target


def make_tiny(root: Path) -> Path:
    """Make a root file system of one static busybox and little else at `root`."""
    busybox = next((path for path in ("/bin/busybox", "/usr/bin/busybox") if Path(path).exists()), None)
    if busybox is None or b"/ld-linux" in Path(busybox).read_bytes()[:4096]:
        pytest.skip("not installed: busybox-static")
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in APPLETS.split():
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nopam:x:1000:1000::/home/opam:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nopam:x:1000:\n")
    return root


@pytest.fixture
def tiny_rootfs(tmp_path: Path) -> Path:
    """A root file system of one static busybox and little else, which a test may change: 2 MB, no Debian needed."""
    return make_tiny(tmp_path / "rootfs")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, which no test may change."""
    return make_tiny(tmp_path_factory.mktemp("base") / "rootfs")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recordings of the real tools, too large for the repository: beside the checkout, or where the variable says."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("OBUILD_SHARED_DATA") or root.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no recordings of real tools: OBUILD_SHARED_DATA names their directory")
    return folder


@pytest.fixture(scope="session")
def recorded_repositories(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the bare git repositories `opam-repository.git` and `oxcaml.git`."""
    folder = tmp_path_factory.mktemp("repositories")
    with tarfile.open(shared_data / "repositories.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


PATH_ONLY = (("PATH", "/bin:/usr/bin"),)
Run = Callable[..., tuple[int, bytes]]


@pytest.fixture(params=[pytest.param(name, marks=needs(name, "tini-static")) for name in ("crun", "runc")])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory, in which nothing may be left when the test ends."""
    yield tmp_path / "state"
    left = [path.name for path in (tmp_path / "state").iterdir()] if (tmp_path / "state").exists() else []
    assert [name for name in left if name != "networks"] == []


@pytest.fixture
def sandbox(runtime: str, state: Path) -> Sandbox:
    return open_sandbox(runtime, state=str(state))


@pytest.fixture
def run(sandbox: Sandbox, tiny_rootfs: Path) -> Run:
    """Run a shell script, or `argv`, in the tiny root; its status and output."""

    def run(
        script: str = "", *, cancel: Cancel | None = None, stdin: int | None = None, **given: Any
    ) -> tuple[int, bytes]:
        output: list[bytes] = []
        process = Process(**{"argv": ("/bin/sh", "-c", script), "env": PATH_ONLY, **given})
        status = sandbox.run(process, str(tiny_rootfs), output.append, cancel=cancel, stdin=stdin)
        return status, b"".join(output)

    return run


@pytest.fixture
def mark() -> str:
    """A number of seconds to sleep for that nobody else on this machine sleeps for."""
    return str(random.randrange(10**8, 10**9))


def alive(mark: str) -> list[str]:
    """The processes of this machine with `mark` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(path.parent.name)
    return found


def soon(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within ten seconds."""
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `root` with type, mode, owner and times."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (".", *names, *files):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            found[os.path.relpath(path, root)] = (info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns)
    return found


@contextmanager
def refused(kind: type[ObuildError], message: str) -> Iterator[None]:
    """The block raises just this error."""
    with pytest.raises(kind) as error:
        yield
    assert str(error.value) == message


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path, can_mount: None) -> Iterator[House]:
    """A place to build in, after which nothing may be left of any build but its layers.

    A parameter (kind of store, sandbox) gives another one than an overlay store and the preferred sandbox.
    """
    from house import House

    place = House(tmp_path, tiny_base, *getattr(request, "param", ()))
    yield place
    assert soon(lambda: not place.residue()), place.residue()
