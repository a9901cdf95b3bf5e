"""Sources in git: commits, branches, tags, short names; kept by commit; with their repository; offline."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs, refused

from obuild import retry
from obuild.download import Sources, extract
from obuild.errors import FetchError

pytestmark = [needs("git"), pytest.mark.usefixtures("can_own")]

OWNER = (1234, 4321)


class Repository:
    """A git repository to fetch from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q", "--initial-branch=main")

    def git(self, *words: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1"}
        who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always"]
        line = ["git", "-C", str(self.path), *who, *words]
        return subprocess.run(line, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def commit(self, **files: str) -> str:
        """A commit with these files; its name."""
        for name, text in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "m")
        return self.git("rev-parse", "HEAD")

    @property
    def url(self) -> str:
        return f"git+file://{self.path}"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.0)
    return Repository(tmp_path / "repository")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(str(tmp_path / "sources"))


def test_what_there_is_to_ask_for(repository: Repository, sources: Sources) -> None:
    first = repository.commit(f="1")
    repository.git("tag", "light")
    repository.git("tag", "-a", "-m", "m", "annotated")
    second = repository.commit(f="2")
    repository.git("branch", "side/branch", first)
    wanted = {
        "": second,
        "#main": second,
        "#side/branch": first,
        "#light": first,
        "#annotated": first,
        f"#{first}": first,
        f"#{first[:9]}": first,
    }
    for place, commit in wanted.items():
        path = sources.obtain(repository.url + place)
        assert os.path.basename(path) == commit, place
        assert Path(path, "f").read_text() == ("1" if commit == first else "2")
        assert sources.content_key(repository.url + place) == f"git={commit}"


def test_a_branch_is_asked_for_by_each_command_and_a_commit_is_not(repository: Repository, sources: Sources) -> None:
    first = repository.commit(f="1")
    assert os.path.basename(sources.obtain(f"{repository.url}#main")) == first
    second = repository.commit(f="2")
    again = Sources(sources.path)
    assert os.path.basename(again.obtain(f"{repository.url}#main")) == first, "a plan and its builds mean the same"
    again.forget()
    assert os.path.basename(again.obtain(f"{repository.url}#main")) == second
    repository.path.rename(repository.path.with_name("gone"))
    assert os.path.basename(sources.obtain(f"{repository.url}#{first}")) == first


def test_a_commit_on_no_branch(repository: Repository, sources: Sources) -> None:
    first = repository.commit(f="1")
    repository.git("checkout", "-q", "--detach")
    lost = repository.commit(f="lost")
    repository.git("checkout", "-q", "main")
    assert repository.git("rev-parse", "main") == first
    assert Path(sources.obtain(f"{repository.url}#{lost}"), "f").read_text() == "lost"
    missing = "0" * 40
    with refused(FetchError, f'no commit {missing} in any branch of "{repository.url}"'):
        sources.obtain(f"{repository.url}#{missing}")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("#nothing", 'no branch or tag "nothing" in "{url}"'),
        ("#--upload-pack=true", 'can not get "{url}#--upload-pack=true": it begins with "-"'),
    ],
)
def test_what_is_not_there(repository: Repository, sources: Sources, place: str, message: str) -> None:
    repository.commit(f="1")
    with refused(FetchError, message.format(url=repository.url)):
        sources.obtain(repository.url + place)


def test_an_empty_repository_and_none_at_all(repository: Repository, sources: Sources) -> None:
    with refused(FetchError, f'can not get "{repository.url}": the repository has no commit'):
        sources.obtain(repository.url)
    with pytest.raises(FetchError, match=r"^can not get .*does not (appear to be a git repository|exist)"):
        sources.obtain(f"{repository.url}-not")


def test_the_work_tree_is_a_repository(repository: Repository, sources: Sources, tmp_path: Path) -> None:
    repository.commit(f="1", d__run="#!/bin/sh")
    (repository.path / "d" / "run").chmod(0o755)
    (repository.path / "link").symlink_to("f")
    commit = repository.commit()
    repository.git("tag", "-a", "-m", "m", "v1")
    root = tmp_path / "root"
    root.mkdir()
    extract(sources.obtain(f"{repository.url}#main"), str(root), "/build/a.1", user=OWNER)
    tree = root / "build" / "a.1"
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in tree.rglob("*")}
    assert owners == {OWNER}
    assert os.readlink(tree / "link") == "f"
    assert (tree / "d" / "run").stat().st_mode & 0o777 == 0o755

    def git(*words: str) -> str:
        line = ["git", "-c", "safe.directory=*", "-C", str(tree), *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    assert git("rev-parse", "HEAD") == commit
    assert git("describe", "--always", "--dirty") == "v1"
    assert git("status", "--porcelain") == ""
    assert git("remote", "get-url", "origin") == str(repository.path)


def test_a_part_of_it(repository: Repository, sources: Sources, tmp_path: Path) -> None:
    repository.commit(f="1", d__g="g")
    (tmp_path / "root").mkdir()
    extract(sources.obtain(repository.url), str(tmp_path / "root"), "/b", src="./d", user=OWNER)
    assert [path.name for path in (tmp_path / "root" / "b").iterdir()] == ["g"]


def test_a_repository_of_somebody_else(repository: Repository, sources: Sources) -> None:
    commit = repository.commit(f="1")
    subprocess.run(["chown", "-R", "1234", repository.path], check=True)
    assert os.path.basename(sources.obtain(repository.url)) == commit


def test_no_program_is_run_for_a_repository(repository: Repository, sources: Sources, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    repository.commit(f="1", **{".gitattributes": "* filter=x"})
    hook = repository.path / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    repository.git("config", "uploadpack.packObjectsHook", f"touch {mark}; false")
    repository.git("config", "filter.x.smudge", f"touch {mark}")
    assert Path(sources.obtain(repository.url), "f").read_text() == "1"
    assert not mark.exists()
    with pytest.raises(FetchError):
        sources.obtain(f"git+ext::sh -c touch%{mark}")
    assert not mark.exists()


def test_submodules_that_would_run_a_program(repository: Repository, sources: Sources, tmp_path: Path) -> None:
    modules = f'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch {tmp_path}/mark"\n'
    repository.commit(f="1", **{".gitmodules": modules})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
    repository.git("commit", "-q", "-m", "m")
    with pytest.raises(FetchError, match=r"'ext' not allowed|transport"):
        sources.obtain(repository.url)
    assert not (tmp_path / "mark").exists()
    assert list((tmp_path / "sources" / "git").glob("*/*")) == []


def test_offline(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository.commit(f="1")
    place = str(tmp_path / "sources")
    url = f"{repository.url}#main"
    assert os.path.basename(Sources(place, offline=True).obtain(url)) == commit, "it is on this machine"
    far = "git+https://nowhere.invalid/a.git"
    for text in (far, f"{far}#main", f"{far}#{'1' * 40}"):
        with refused(FetchError, f'"{text}" is not on this machine, and nothing is fetched offline'):
            Sources(place, offline=True).obtain(text)
    assert os.path.basename(Sources(place, offline=True).obtain(f"{far}#{commit}")) == commit


def test_what_a_dead_process_left_is_removed(repository: Repository, sources: Sources, tmp_path: Path) -> None:
    commit = repository.commit(f="1")
    folder = tmp_path / "sources" / "git" / commit[:2]
    (folder / f"{commit}.draft" / ".git").mkdir(parents=True)
    (folder / f"{commit}.lock").touch()
    path = sources.obtain(repository.url)
    assert Path(path, "f").read_text() == "1"
    assert os.listdir(folder) == [commit]


def test_many_ask_at_once(repository: Repository, sources: Sources) -> None:
    commit = repository.commit(f="1")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(sources.obtain(repository.url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [os.path.basename(path) for path in found] == [commit] * 6
    left = sorted(path.name for path in Path(found[0]).parent.iterdir())
    assert left == [commit]


@pytest.fixture
def blind(repository: Repository) -> Iterator[str]:
    """The address of the repository behind a server that gives no commit by its name."""
    import functools
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(repository.path.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"git+http://127.0.0.1:{server.server_address[1]}/repository/.git"
        server.shutdown()
        thread.join()


def test_over_http(repository: Repository, sources: Sources, blind: str) -> None:
    first = repository.commit(f="1")
    second = repository.commit(f="2")
    repository.git("gc", "-q")
    repository.git("update-server-info")
    assert os.path.basename(sources.obtain(blind)) == second
    assert os.path.basename(sources.obtain(f"{blind}#{first}")) == first
    with refused(FetchError, f'no branch or tag "nothing" in "{blind}"'):
        sources.obtain(f"{blind}#nothing")
