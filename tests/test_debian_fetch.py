"""`debootstrap:`: wishes, mirrors, the state of an archive, and a real Debian."""

from __future__ import annotations

import functools
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from fetching import Open, get

from obuild import system
from obuild.errors import FetchError
from obuild.fetch import mirror
from obuild.fetch.debian import parse_wish
from obuild.image import PLAIN
from obuild.value import replace


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("trixie", "trixie"),
        ("trixie?", "trixie"),
        ("trixie?variant=minbase&components=main", "trixie"),
        ("trixie?include=b,a,b", "trixie?include=a,b"),
        ("sid?mirror=http://deb.example/debian/&variant=apt", "sid?variant=apt&mirror=http://deb.example/debian"),
    ],
)
def test_wishes_in_their_shortest_form(text: str, shortest: str) -> None:
    assert str(parse_wish(text)) == shortest
    assert parse_wish(shortest) == parse_wish(text)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address under which it is served."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield tmp_path / "web", f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


PACKAGES = "Package: a\nVersion: 1\nArchitecture: amd64\nFilename: a.deb\nSize: 1\n\n"


def publish(
    web: Path, place: str, suite: str, *, origin: str, packages: str = PACKAGES, minute: int = 0, name: str = "Release"
) -> None:
    """A Debian archive of one component, without signatures."""
    folder = web / place / "dists" / suite
    binary = folder / "main" / "binary-amd64"
    binary.mkdir(parents=True, exist_ok=True)
    (binary / "Packages").write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    (folder / name).write_text(
        f"Origin: {origin}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
        f"Date: Sat, 12 Sep 2026 07:{minute:02}:00 UTC\nSHA256:\n {digest} {len(packages)} main/binary-amd64/Packages\n"
    )


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes apt read other sources and settings than this host's."""
    folder = tmp_path / "apt"
    for name in ("lists/partial", "cache", "none"):
        (folder / name).mkdir(parents=True)

    def use(sources: str, settings: str) -> None:
        (folder / "sources.list").write_text(sources)
        places = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "none", "State::lists": "lists/"}
        places |= {"Cache": "cache/", "Etc::parts": "none", "Etc::main": "/dev/null"}
        lines = [f'Dir::{name} "{folder / place}";' for name, place in places.items()]
        lines += ['APT::Architecture "amd64";', 'APT::Sandbox::User "root";', settings, ""]
        (folder / "apt.conf").write_text("\n".join(lines))
        monkeypatch.setitem(system.ENVIRONMENT, "APT_CONFIG", str(folder / "apt.conf"))
        if sources:
            system.run(["apt-get", "update"])

    return use


@needs("apt-get")
def test_the_hosts_own_mirrors_are_used(apt: Callable[[str, str], None], web: tuple[Path, str]) -> None:
    folder, url = web
    for place, suite, origin in (
        ("vendor/debian", "bookworm", "Vendor"),
        ("near/pub", "bookworm-updates", "Debian"),
        ("near/pub", "bookworm", "Debian"),
        ("far/debian", "bookworm", "Debian"),
        ("near/security", "bookworm-security", "Debian"),
    ):
        publish(folder, place, suite, origin=origin)
    apt(
        f"deb [trusted=yes] {url}/vendor/debian bookworm main\n"
        f"deb [trusted=yes] {url}/near/pub/ bookworm-updates main\n"
        f"deb [trusted=yes] {url}/near/pub/ bookworm main\n"
        f"deb [trusted=yes] {url}/far/debian bookworm main\n"
        f"deb [trusted=yes] {url}/near/security bookworm-security main\n",
        "",
    )
    assert mirror.host_mirrors(mirror.DEBIAN) == (f"{url}/near/pub", f"{url}/near/security")
    assert mirror.host_mirrors(mirror.UBUNTU) == ("", "")


def test_the_lines_of_a_sources_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "PATH", str(tmp_path))  # a host without apt
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    archive = replace(mirror.UBUNTU, mirror="http://m", security="http://s", ports="http://p", keyring=str(keyring))
    option = f"deb [signed-by={keyring}]"

    def lines(suite: str, architecture: str, where: str = "") -> list[str]:
        return [line.removeprefix(f"{option} ") for line in mirror.sources(archive, suite, architecture, "a b", where)]

    assert lines("x", "amd64") == ["http://m x a b", "http://m x-updates a b", "http://s x-security a b"]
    assert lines("x", "arm64") == ["http://p x a b", "http://p x-updates a b", "http://p x-security a b"]
    assert lines("sid", "amd64") == ["http://m sid a b"]
    assert lines("x", "amd64", "http://mine") == ["http://mine x a b"]


@needs("apt-get")
def test_the_state_of_an_archive_is_its_packages(web: tuple[Path, str]) -> None:
    folder, url = web
    line = f"deb [signed-by=/x] {url}/debian trixie main"

    def state(**changes: Any) -> tuple[str, int]:
        publish(folder, "debian", "trixie", origin="Debian", name="InRelease", **changes)
        return mirror.state([line], ["main"], "amd64")

    first, date = state()
    assert date == 1789196400
    assert state(minute=5) == (first, date + 300)  # published again without a change
    assert state(packages="Package: new\n")[0] != first
    (folder / "debian/dists/trixie/InRelease").write_text("Origin: Debian\n")
    with pytest.raises(FetchError, match="without a date"):
        mirror.state([line], ["main"], "amd64")


@needs("apt-config")
def test_the_hosts_proxies_are_used(apt: Callable[[str, str], None]) -> None:
    apt("", 'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::https::Proxy "DIRECT";')
    assert mirror.proxies() == {"http_proxy": "http://proxy.example:3128"}
    apt("", "")
    assert mirror.proxies() == {}


@pytest.mark.parametrize(
    ("suite", "where", "name"),
    [("trixie", "", "Debian"), ("noble", "", "Ubuntu"), ("zzz", "", "Debian"), ("zzz", "http://x/ubuntu", "Ubuntu")],
)
def test_whose_a_suite_is(suite: str, where: str, name: str) -> None:
    assert mirror.vendor(suite, where).vendor == name


@needs("mmdebstrap", "apt-get")
def test_a_real_debian(opened: Open, root: Path, can_mount: None) -> None:
    source = "debootstrap:bookworm?variant=extract&include=base-files,tzdata"
    fetcher = opened(source)
    try:
        key = fetcher.key()
    except FetchError as error:
        pytest.skip(f"no Debian mirror can be reached: {error}")
    image, said = get(fetcher, root)
    assert "success" in said
    assert image.env == PLAIN
    assert (root / "etc" / "debian_version").exists()
    lines = (root / "etc" / "apt" / "sources.list").read_text().splitlines()
    assert [line.split()[3] for line in filter(None, lines)] == ["bookworm", "bookworm-updates", "bookworm-security"]
    for name in ("resolv.conf", "hostname"):
        assert (root / "etc" / name).read_bytes() == b""
    assert list((root / "var" / "cache" / "apt" / "archives").glob("*.deb")) == []
    assert root.stat().st_mtime < time.time() - 3600
    assert opened(source).key() == opened(source).key(pull=True) == key


@needs("mmdebstrap", "apt-get")
@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (
            "debootstrap:bookwrm?mirror=http://127.0.0.1:1/debian",
            'no packages of "bookwrm"',
            'did you mean "bookworm"?',
        ),
        ("debootstrap:bookworm?mirror=file:/nowhere", 'no packages of "bookworm"', "?mirror=URL"),
    ],
)
def test_an_archive_that_does_not_answer(opened: Open, source: str, message: str, hint: str) -> None:
    with pytest.raises(FetchError) as caught:
        opened(source).key()
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_missing_keyring_is_named(opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        pytest.skip("not installed: mmdebstrap")
    monkeypatch.setattr(mirror, "UBUNTU", replace(mirror.UBUNTU, keyring=str(tmp_path / "missing.gpg")))
    with pytest.raises(FetchError, match="can not verify Ubuntu packages") as caught:
        opened("debootstrap:noble").key()
    assert 'install "ubuntu-keyring"' in caught.value.hint


def test_without_mmdebstrap(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obuild.system.PATH", str(tmp_path))
    with pytest.raises(FetchError, match="mmdebstrap is missing"):
        opened("debootstrap:trixie").key()
