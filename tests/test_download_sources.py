"""Sources: fetched once, verified, from the first place that has them, gone on with, shared, cancelled."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import refused, soon
from webserver import Page, Web, serving, sha256

from obuild import retry, system
from obuild.cancel import Cancel
from obuild.download import Sources
from obuild.download.checksum import Checksum, parse_checksums
from obuild.errors import Cancelled, FetchError, StoreError, UsageError

DATA = random.Random(7).randbytes(300_000)
SUM = sha256(DATA)
HEX = SUM.partition("=")[2]
MD5 = f"md5={hashlib.md5(DATA).hexdigest()}"
SHA512 = f"sha512={hashlib.sha512(DATA).hexdigest()}"
WRONG = sha256(b"something else")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.0)
    with serving() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "sources"


@pytest.fixture
def sources(place: Path) -> Sources:
    return Sources(str(place))


def left(place: Path) -> list[str]:
    """The files below a directory."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def cache(folder: Path, data: bytes, *kinds: str) -> Path:
    """A mirror in the layout of opam's cache."""
    for kind in kinds or ("sha256",):
        digest = hashlib.new(kind, data).hexdigest()
        (folder / kind / digest[:2]).mkdir(parents=True, exist_ok=True)
        (folder / kind / digest[:2] / digest).write_bytes(data)
    return folder


# Checksums.


def test_checksums_are_sorted_and_may_be_bare_md5() -> None:
    assert parse_checksums([MD5.removeprefix("md5="), SUM.upper().replace("SHA256", "sha256"), SHA512, MD5]) == tuple(
        Checksum(*text.split("=")) for text in (SHA512, SUM, MD5)
    )
    assert Checksum("sha256", "ab" * 32).path == f"sha256/ab/{'ab' * 32}"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["sha1=abc"], '"sha1" is no kind of checksum'),
        (["sha256=12"], '"sha256=12" is not a checksum: sha256 has 64 hexadecimal digits'),
        (["md5=" + "g" * 32], f'"md5={"g" * 32}" is not a checksum: md5 has 32 hexadecimal digits'),
        ([SUM, WRONG], f'no file has both checksums "{SUM}" and "{WRONG}"'),
    ],
)
def test_what_is_no_checksum(texts: list[str], message: str) -> None:
    with refused(UsageError, message):
        parse_checksums(texts)


# One place.


def test_a_file_is_fetched_once_and_named_by_its_strongest_checksum(web: Web, sources: Sources, place: Path) -> None:
    url = web.put("/a.tgz", DATA)
    said: list[bytes] = []
    path = sources.obtain(url, (MD5, SUM, SHA512), write=said.append)
    digest = SHA512.partition("=")[2]
    assert path == f"{place}/sha512/{digest[:2]}/{digest}"
    assert Path(path).read_bytes() == DATA
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert left(place) == [os.path.relpath(path, place)]
    assert b"".join(said).decode() == f'fetching "{url}" (300,000 bytes)\n'
    assert sources.obtain(url, (MD5, SUM, SHA512)) == path
    assert web.requests == ["/a.tgz"]


def test_what_is_here_under_another_checksum_is_used(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", DATA)
    path = sources.obtain(url, (MD5,))
    assert sources.obtain(url, (SUM, MD5)) == path
    assert len(web.requests) == 1


def test_every_checksum_is_checked(web: Web, sources: Sources, place: Path) -> None:
    url = web.put("/a.tgz", DATA)
    bad = "md5=" + "0" * 32
    with refused(FetchError, f'bad checksum of "{url}": expected {bad}, got {MD5}'):
        sources.obtain(url, (SUM, bad))
    assert [path for path in left(place) if not path.endswith(".part")] == []
    assert web.requests == ["/a.tgz"], "a wrong content is not asked for again"


def test_a_damaged_file_is_fetched_again(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", DATA)
    path = sources.obtain(url, (SUM,))
    Path(path).write_bytes(DATA[:-1] + b"!")
    said: list[bytes] = []
    assert sources.obtain(url, (SUM,), write=said.append) == path
    assert Path(path).read_bytes() == DATA
    assert b"is damaged and thrown away" in said[0]


def test_a_good_file_stays_when_a_package_promises_something_else(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", DATA)
    path = sources.obtain(url, (MD5,))
    with refused(FetchError, f'bad checksum of "{url}": expected {WRONG}, got {SUM}'):
        sources.obtain(url, (MD5, WRONG))
    assert Path(path).read_bytes() == DATA


def no_such_host(host: str, *_: object, **__: object) -> object:
    """What the library says when there is a network, and it knows no such name."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1/with space", "it is no address"),
        ("ftp://127.0.0.1/a.tgz", "unknown url type: ftp"),
        ("http:///a.tgz", "no host given"),
        ("http://nowhere.invalid/a.tgz", "no such host"),
    ],
)
def test_odd_addresses(sources: Sources, url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    with pytest.raises(FetchError) as error:
        sources.obtain(url, (SUM,))
    assert str(error.value) == f'can not get "{url}": {words}'
    assert not error.value.temporary


def test_temporary_failures_are_tried_again(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, fails=(503, 429, 500)))
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA
    assert len(web.requests) == 4


def test_temporary_failures_end_at_some_time(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, fails=(503,) * 9))
    with refused(FetchError, f'can not get "{url}": 503 Service Unavailable'):
        sources.obtain(url, (SUM,))
    assert len(web.requests) == 4


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")])
def test_other_failures_are_final(web: Web, sources: Sources, status: int, words: str) -> None:
    url = web.put("/a.tgz", Page(fails=(status,) * 2))
    with refused(FetchError, f'can not get "{url}": {words}'):
        sources.obtain(url, (SUM,))
    assert len(web.requests) == 1


def test_redirections_are_followed(web: Web, sources: Sources) -> None:
    web.put("/c.tgz", DATA)
    web.put("/b.tgz", Page(to="/c.tgz"))
    url = web.put("/a.tgz", Page(to=f"{web.url}/b.tgz"))
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA
    assert web.requests == ["/a.tgz", "/b.tgz", "/c.tgz"]


@pytest.mark.parametrize("to", ["/a.tgz", "file:///etc/passwd"])
def test_bad_redirections_are_refused(web: Web, sources: Sources, to: str) -> None:
    url = web.put("/a.tgz", Page(to=to))
    with pytest.raises(FetchError, match=f'^can not get "{url}": ') as error:
        sources.obtain(url, (SUM,))
    assert not error.value.temporary


def test_an_answer_without_length(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, chunked=True))
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA


def test_nobody_listens(web: Web, sources: Sources) -> None:
    with pytest.raises(FetchError) as error:
        sources.obtain("http://127.0.0.1:9/a.tgz", (SUM,))
    assert str(error.value) == 'can not get "http://127.0.0.1:9/a.tgz": connection refused'
    assert error.value.temporary


# Going on.


def test_a_connection_that_breaks_is_gone_on_with(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, cut=100_000, cuts=2))
    said: list[bytes] = []
    assert Path(sources.obtain(url, (SUM,), write=said.append)).read_bytes() == DATA
    assert web.requests == ["/a.tgz", "/a.tgz from 100000", "/a.tgz from 200000"]
    assert f'"{url}" ended after 100,000 of 300,000 bytes' in b"".join(said).decode()


def test_a_server_without_ranges_begins_again(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, cut=100_000, ranges=False))
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA
    assert web.requests == ["/a.tgz", "/a.tgz from 100000"]


def test_what_another_process_left_is_gone_on_with(web: Web, sources: Sources, place: Path) -> None:
    url = web.put("/a.tgz", DATA)
    part = place / "sha256" / HEX[:2] / f"{HEX}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA[:1000])
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA
    assert web.requests == ["/a.tgz from 1000"]


@pytest.mark.parametrize("rest", [b"rubbish", DATA + b"!", b"!" * len(DATA)], ids=["other", "longer", "wrong"])
def test_rubbish_that_was_left_is_thrown_away(web: Web, sources: Sources, place: Path, rest: bytes) -> None:
    url = web.put("/a.tgz", DATA)
    part = place / "sha256" / HEX[:2] / f"{HEX}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(rest)
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA
    assert web.requests[-1] == "/a.tgz"
    assert len(web.requests) == 2


def test_a_file_that_had_arrived_whole_is_not_asked_for(web: Web, sources: Sources, place: Path) -> None:
    part = place / "sha256" / HEX[:2] / f"{HEX}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA)
    assert Path(sources.obtain(f"{web.url}/a.tgz", (SUM,))).read_bytes() == DATA
    assert web.requests == []


# Several places.


def test_the_next_place_is_tried(web: Web, sources: Sources) -> None:
    first, second = web.put("/a.tgz", b"not it"), f"{web.url}/missing.tgz"
    third = web.put("/b.tgz", DATA)
    said: list[bytes] = []
    assert Path(sources.obtain(first, (SUM,), (second, third), write=said.append)).read_bytes() == DATA
    assert web.requests == ["/a.tgz", "/missing.tgz", "/b.tgz"]
    assert f'bad checksum of "{first}": expected {SUM}, got {sha256(b"not it")}; trying' in said[1].decode()


def test_what_every_place_said_is_told(web: Web, sources: Sources) -> None:
    first, second = web.put("/a.tgz", b"not it"), f"{web.url}/missing.tgz"
    lines = [
        f'no place has "{first}":',
        f'  bad checksum of "{first}": expected {SUM}, got {sha256(b"not it")}',
        f'  can not get "{second}": 404 Not Found',
    ]
    with refused(FetchError, "\n".join(lines)):
        sources.obtain(first, (SUM,), (second,))


def test_a_mirror_helps_at_once_when_the_first_place_has_trouble(web: Web, sources: Sources) -> None:
    first, second = web.put("/a.tgz", Page(DATA, fails=(503,) * 9)), web.put("/b.tgz", DATA)
    assert Path(sources.obtain(first, (SUM,), (second,))).read_bytes() == DATA
    assert web.requests == ["/a.tgz", "/b.tgz"]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_archive_mirrors_on_this_machine_come_first(web: Web, place: Path, tmp_path: Path, prefix: str) -> None:
    mirror = cache(tmp_path / "mirror", DATA, "md5")
    sources = Sources(str(place), mirrors=(f"{prefix}{mirror}",))
    path = sources.obtain(web.put("/a.tgz", DATA), (SUM, MD5))
    assert path.startswith(str(place))
    assert Path(path).read_bytes() == DATA
    assert web.requests == []


def test_archive_mirrors_elsewhere_come_last(web: Web, place: Path) -> None:
    digest = MD5.partition("=")[2]
    web.put(f"/cache/md5/{digest[:2]}/{digest}", DATA)
    sources = Sources(str(place), mirrors=(f"{web.url}/cache/",))
    url = f"{web.url}/a.tgz"
    assert Path(sources.obtain(url, (SUM, MD5))).read_bytes() == DATA
    assert web.requests == ["/a.tgz", f"/cache/sha256/{HEX[:2]}/{HEX}", f"/cache/md5/{digest[:2]}/{digest}"]


def test_a_damaged_mirror_is_passed_over(web: Web, place: Path, tmp_path: Path) -> None:
    mirror = cache(tmp_path / "mirror", DATA)
    damaged = mirror / "sha256" / HEX[:2] / HEX
    damaged.write_bytes(b"damaged")
    sources = Sources(str(place), mirrors=(str(mirror),))
    assert Path(sources.obtain(web.put("/a.tgz", DATA), (SUM,))).read_bytes() == DATA
    assert damaged.read_bytes() == b"damaged", "a mirror is not ours to change"


@pytest.mark.parametrize("mirror", ["git+https://example.org/a", "ssh://example.org/a", "hg+https://example.org"])
def test_what_can_not_be_a_mirror(place: Path, mirror: str) -> None:
    with refused(UsageError, f'"{mirror}" can not be an archive mirror'):
        Sources(str(place), mirrors=(mirror,))
    with refused(UsageError, f'the archive mirror "{place}/no" is not a directory'):
        Sources(str(place), mirrors=(f"{place}/no",))


def test_a_file_of_this_machine(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(DATA)
    assert Path(sources.obtain(f"file://{tmp_path}/a.tgz", (SUM,))).read_bytes() == DATA
    with refused(FetchError, f'can not read "{tmp_path}/b.tgz": no such file or directory'):
        sources.obtain(f"file://{tmp_path}/b.tgz", (WRONG,))
    os.mkfifo(tmp_path / "fifo")
    with refused(FetchError, f'"{tmp_path}/fifo" is not a file'):
        sources.obtain(f"file://{tmp_path}/fifo", (WRONG,))


def test_a_directory_has_no_checksum(sources: Sources, tmp_path: Path) -> None:
    with refused(FetchError, f'"file://{tmp_path}" is a directory, which can not have the checksum {SUM}'):
        sources.obtain(f"file://{tmp_path}", (SUM,))
    assert sources.obtain(str(tmp_path)) == os.path.realpath(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hg+https://example.org/a", 'can not get "hg+https://example.org/a": Mercurial is not supported'),
        ("darcs+https://example.org/a", 'can not get "darcs+https://example.org/a": Darcs is not supported'),
        ("rsync://example.org/a", 'can not get "rsync://example.org/a": rsync is not supported'),
    ],
)
def test_what_is_not_fetched(sources: Sources, url: str, message: str) -> None:
    with refused(FetchError, message):
        sources.obtain(url)
    with refused(FetchError, message):
        sources.obtain(url, (SUM,))


# Offline.


def test_offline_only_what_is_here(web: Web, place: Path, tmp_path: Path) -> None:
    offline = Sources(str(place), offline=True, mirrors=(f"{web.url}/cache",))
    url = web.put("/a.tgz", DATA)
    with pytest.raises(FetchError) as error:
        offline.obtain(url, (SUM,))
    assert str(error.value) == f'"{url}" is not on this machine, and nothing is fetched offline'
    wanted = f"sha256/{HEX[:2]}/{HEX}"
    assert error.value.hint == f"run it once with network, or give --archive-mirror DIR with DIR/{wanted}"
    assert left(place) == []
    mirror = cache(tmp_path / "mirror", DATA)
    path = Sources(str(place), offline=True, mirrors=(str(mirror),)).obtain(url, (SUM,))
    assert offline.obtain(url, (SUM,)) == path
    assert web.requests == []


# Without checksums.


def test_without_a_checksum_the_content_is_the_key(web: Web, place: Path) -> None:
    url = web.put("/a.tgz", Page(DATA, etag='"1"'))
    sources = Sources(str(place))
    path = sources.obtain(url)
    assert Path(path).read_bytes() == DATA
    assert Sources(str(place)).content_key(url) == SUM
    assert web.requests == ["/a.tgz"], "the same for as long as one command lasts"
    sources.forget()
    assert sources.obtain(url) == path
    assert web.requests == ["/a.tgz"] * 2, "asked, and not changed"
    web.put("/a.tgz", Page(b"new", etag='"2"'))
    sources.forget()
    assert sources.content_key(url) == sha256(b"new")
    sources.forget()
    assert Sources(str(place), offline=True).content_key(url) == sha256(b"new")
    assert sources.content_key("https://nowhere.invalid/", (MD5, SUM)) == SUM


def test_without_a_checksum_nothing_is_gone_on_with(web: Web, place: Path) -> None:
    url = web.put("/a.tgz", Page(DATA, cut=100_000))
    assert Path(Sources(str(place)).obtain(url)).read_bytes() == DATA
    assert web.requests == ["/a.tgz", "/a.tgz"]


def test_without_a_checksum_and_offline(web: Web, place: Path) -> None:
    url = web.put("/a.tgz", DATA)
    with refused(FetchError, f'"{url}" is not on this machine, and nothing is fetched offline'):
        Sources(str(place), offline=True).obtain(url)


# Together, and giving up.


def test_many_threads_download_once(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, held=10))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(sources.obtain(url, (SUM,)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert web.pages["/a.tgz"].reached.wait(20)
    web.pages["/a.tgz"].gate.set()
    for thread in threads:
        thread.join(20)
    assert len(set(found)) == 1
    assert len(found) == 8
    assert web.requests == ["/a.tgz"]


SCRIPT = """
import sys
from obuild.download import Sources
print(Sources(sys.argv[1]).obtain(sys.argv[2], sys.argv[3:], write=sys.stderr.buffer.write), flush=True)
"""


def start(place: Path, url: str) -> subprocess.Popen[bytes]:
    """Another process that wants the same."""
    line = [sys.executable, "-c", SCRIPT, str(place), url, SUM]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_processes_download_once(web: Web, place: Path) -> None:
    url = web.put("/a.tgz", Page(DATA, held=10))
    first = start(place, url)
    assert web.pages["/a.tgz"].reached.wait(20)
    second = start(place, url)
    assert second.stderr
    assert second.stderr.readline().decode() == f'waiting for another obuild that fetches "{url}"\n'
    web.pages["/a.tgz"].gate.set()
    results = [process.communicate(timeout=20)[0] for process in (first, second)]
    assert results[0] == results[1] != b""
    assert web.requests == ["/a.tgz"]


def test_what_a_killed_process_left_is_gone_on_with(web: Web, place: Path, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, held=200_000))
    process = start(place, url)
    assert web.pages["/a.tgz"].reached.wait(20)
    part = place / "sha256" / HEX[:2] / f"{HEX}.part"
    assert soon(lambda: part.stat().st_size >= 190_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    size = part.stat().st_size
    web.put("/a.tgz", DATA)
    assert Path(sources.obtain(url, (SUM,))).read_bytes() == DATA
    assert web.requests == ["/a.tgz", f"/a.tgz from {size}"]
    assert left(place) == [f"sha256/{HEX[:2]}/{HEX}"]


def cancelled(action: Callable[[Cancel], object], ready: Callable[[], bool]) -> None:
    """Whether an action ends soon when it is cancelled in the middle."""
    cancel = Cancel()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action(cancel)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert soon(ready)
    cancel.set()
    thread.join(5)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [Cancelled]


def test_cancelled_in_the_middle_of_a_file(web: Web, sources: Sources, place: Path) -> None:
    url = web.put("/a.tgz", Page(DATA, held=100_000))
    reached = web.pages["/a.tgz"].reached
    cancelled(lambda cancel: sources.obtain(url, (SUM,), cancel=cancel), reached.is_set)
    assert [path.endswith(".part") for path in left(place)] == [True], "it is gone on with next time"


def test_cancelled_while_another_fetches(web: Web, sources: Sources) -> None:
    url = web.put("/a.tgz", Page(DATA, held=10))
    other = threading.Thread(target=lambda: sources.obtain(url, (SUM,)))
    other.start()
    assert web.pages["/a.tgz"].reached.wait(20)
    waiting: list[bytes] = []
    cancelled(lambda cancel: sources.obtain(url, (SUM,), write=waiting.append, cancel=cancel), lambda: bool(waiting))
    web.pages["/a.tgz"].gate.set()
    other.join(20)
    assert Path(sources.obtain(url, (SUM,))).exists()


def test_cancelled_before_the_answer(sources: Sources) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.tgz"
        taken: list[socket.socket] = []
        thread = threading.Thread(target=lambda: taken.append(server.accept()[0]))
        thread.start()
        cancelled(lambda cancel: sources.obtain(url, (SUM,), cancel=cancel), lambda: bool(taken))
        thread.join(5)
        taken[0].close()


def test_a_full_disk(web: Web, tmp_path: Path, can_mount: None) -> None:
    url = web.put("/a.tgz", DATA)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", small], check=True)
    try:
        with pytest.raises(StoreError, match=r"^no space left on the disk of ") as error:
            Sources(f"{small}/sources").obtain(url, (SUM,))
        assert "obuild prune" in error.value.hint
        assert sum(path.stat().st_size for path in small.rglob("*.part")) == 0, "and room is made again"
    finally:
        subprocess.run(["umount", small], check=True)


# Proxies.


def test_a_proxy_is_asked(web: Web, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put("http://far.example/a.tgz", DATA)
    monkeypatch.setitem(system.ENVIRONMENT, "http_proxy", web.url)
    monkeypatch.setitem(system.ENVIRONMENT, "no_proxy", "127.0.0.1,near.example")
    assert Path(sources.obtain("http://far.example/a.tgz", (SUM,))).read_bytes() == DATA
    assert web.requests == ["http://far.example/a.tgz"]
    near = web.put("/near.tgz", b"near")
    assert Path(sources.obtain(near, (sha256(b"near"),))).read_bytes() == b"near"
    assert web.requests[1:] == ["/near.tgz"]
