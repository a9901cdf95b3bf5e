"""The Docker engine, a real one: found or not, asked, read, filled."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from obuild.docker_engine import Engine, open_engine
from obuild.errors import FetchError, UsageError
from obuild.export import load
from obuild.image import PLAIN, Image, host_platform

IMAGE = Image(env=PLAIN, user="7", platform=host_platform())


@pytest.fixture(scope="module")
def engine(docker_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine that has the image `team/test:one`, of one file and without a command."""
    tree = tmp_path_factory.mktemp("tree")
    (tree / "hello").write_text("hello\n")
    load(str(tree), IMAGE, "team/test:one", engine=docker_engine)
    found = open_engine(docker_engine)
    assert found is not None
    return found


def test_an_image_is_found_by_name_and_id(engine: Engine) -> None:
    found = engine.image("team/test:one")
    assert found is not None
    assert (found.env, found.user, found.platform) == (IMAGE.env, IMAGE.user, IMAGE.platform)
    assert engine.image(found.digest) == found
    assert engine.image("team/test:two") is None
    assert engine.manifest("team/test:one", "team/test") == ""


def test_the_files_of_an_image_without_a_command(engine: Engine) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.files("team/test:one")))) as archive:
        file = archive.extractfile("hello")
        assert file is not None
        assert file.read() == b"hello\n"
    assert engine._api.containers(all=True) == []


def test_reading_only_part_removes_the_container_too(engine: Engine) -> None:
    files = engine.files("team/test:one")
    next(files)
    files.close()
    assert engine._api.containers(all=True) == []


def test_the_files_of_an_image_that_is_not_there(engine: Engine) -> None:
    with pytest.raises(FetchError, match=r'can not read image "team/test:two": .*[Nn]o such image'):
        next(engine.files("team/test:two"))


def test_an_image_that_no_registry_has(engine: Engine) -> None:
    with pytest.raises(FetchError, match=r'can not pull "127\.0\.0\.1:9/none:x"') as caught:
        list(engine.pull("127.0.0.1:9/none:x", host_platform()))
    assert caught.value.temporary  # connection refused


def test_what_is_no_archive_is_not_loaded(engine: Engine) -> None:
    with pytest.raises(FetchError, match="does not take the image"):
        engine.load([b"not a tar" * 100])


@pytest.mark.parametrize("url", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
def test_an_engine_that_does_not_answer(url: str) -> None:
    with pytest.raises(FetchError, match="no Docker engine answers at"):
        open_engine(url)


def test_without_any_engine() -> None:
    assert open_engine("none") is None


@pytest.mark.parametrize("url", ["ssh://host", "docker", "tcp://host:port"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of a Docker engine"):
        open_engine(url)


def test_something_else_that_listens_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def refuse(server: socket.socket) -> None:
        for _ in range(2):
            server.accept()[0].close()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        threading.Thread(target=refuse, args=(server,), daemon=True).start()
        with pytest.raises(FetchError, match="the Docker engine at"):
            open_engine(f"unix://{path}")


def test_the_package_is_imported_only_when_an_engine_answers() -> None:
    code = (
        "import sys; from obuild.docker_engine import open_engine; open_engine('none'); print('docker' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
