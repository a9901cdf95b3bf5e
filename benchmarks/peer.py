"""The builders that obuild is compared with: buildah, Docker's classic builder and BuildKit, if they are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import run

__all__ = ["BASE", "Peer", "peers", "rootfs"]

BASE = "localhost/obuild-bench-base"
CACHE = "/var/tmp/obuild-tests"


def rootfs() -> str:
    """A tar of a minimal Debian, made once a machine."""
    path = f"{CACHE}/bench-bookworm.tar"
    if not os.path.exists(path):
        os.makedirs(CACHE, exist_ok=True)
        subprocess.run(["mmdebstrap", "--variant=minbase", "bookworm", path + ".new.tar"], check=True)
        os.rename(path + ".new.tar", path)
    return path


class Peer:
    """One builder: builds a directory with a Dockerfile in it."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        self.name, self._argv, self._env = name, argv, {**os.environ, **env}

    def build(self, folder: str, *, status: int = 0) -> float:
        """Seconds that a build takes."""
        return run([*self._argv, folder], env=self._env, status=status)


@contextmanager
def peers() -> Iterator[list[Peer]]:
    """Those that are installed, with the base image loaded; Docker's engine runs for the time of the block."""
    found = []
    if shutil.which("buildah"):
        subprocess.run(["buildah", "rmi", BASE], check=False, capture_output=True)
        script = "c=$(buildah from scratch) && buildah add -q $c $1 / && buildah commit -q $c $2 && buildah rm $c"
        subprocess.run(["sh", "-c", script, "sh", rootfs(), BASE], check=True, stdout=subprocess.DEVNULL)
        options = ["--layers", "--network", "none", "--runtime", shutil.which("runc") or "runc"]
        found.append(Peer("buildah", ["buildah", "bud", *options, "-q", "-t", "obuild-bench"], {}))
    if not shutil.which("dockerd"):
        yield found
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        socket = f"unix://{folder}/docker.sock"
        argv = ["dockerd", "-H", socket, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/run"]
        argv += ["-p", f"{folder}/pid", "--bridge=none", "--iptables=false"]
        with open(f"{folder}/log", "wb") as log:
            engine = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            docker = ["/usr/bin/docker", "-H", socket]
            for _ in range(100):
                if not subprocess.run([*docker, "info"], check=False, capture_output=True).returncode:
                    break
                time.sleep(0.3)
            subprocess.run([*docker, "import", rootfs(), BASE], check=True, stdout=subprocess.DEVNULL)
            build = [*docker, "build", "-q", "--network", "none", "-t", "obuild-bench"]
            found.append(Peer("docker classic", build, {"DOCKER_BUILDKIT": "0"}))
            found.append(Peer("BuildKit", build, {"DOCKER_BUILDKIT": "1"}))
            yield found
        finally:
            engine.terminate()
            engine.wait()
