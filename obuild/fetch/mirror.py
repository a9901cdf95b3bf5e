"""Where Debian and Ubuntu packages come from: archives, suites, and the mirrors that this host's apt uses."""

from __future__ import annotations

import hashlib
import os
import tempfile
from email.utils import parsedate_to_datetime

from obuild import system
from obuild.errors import FetchError, nearest
from obuild.fetch import program
from obuild.retry import passes
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.cancel import Cancel

__all__ = ["Archive", "host_mirrors", "proxies", "sources", "state", "vendor"]

FLOATING = ("sid", "unstable", "testing", "experimental", "rc-buggy")
"""Suites of Debian that get their updates themselves."""


@value
class Archive:
    """What a vendor publishes: `ports` are the mirrors of other machines than PCs, if they are elsewhere."""

    vendor: str
    mirror: str
    security: str
    ports: str
    keyring: str
    keyring_package: str
    suites: tuple[str, ...]


DEBIAN = Archive(
    vendor="Debian",
    mirror="http://deb.debian.org/debian",
    security="http://security.debian.org/debian-security",
    ports="",
    keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
    keyring_package="debian-archive-keyring",
    suites=("bullseye", "bookworm", "trixie", "forky", "oldstable", "stable", *FLOATING),
)
UBUNTU = Archive(
    vendor="Ubuntu",
    mirror="http://archive.ubuntu.com/ubuntu",
    security="http://security.ubuntu.com/ubuntu",
    ports="http://ports.ubuntu.com/ubuntu-ports",
    keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    keyring_package="ubuntu-keyring",
    suites=("focal", "jammy", "noble", "plucky", "questing", "resolute"),
)
SUITES = "/usr/share/distro-info/ubuntu.csv"
"""Debian's list of Ubuntu's releases (package distro-info-data), newer than ours."""

PCS = ("amd64", "i386")
HELPERS = ("/usr/lib/apt/apt-helper", "/usr/libexec/apt/apt-helper")


def vendor(suite: str, mirror: str = "") -> Archive:
    """Whose a suite is; Debian's when nobody knows it."""
    if suite in UBUNTU.suites or suite in _listed() or "ubuntu" in mirror:
        return UBUNTU
    return DEBIAN


def _listed() -> set[str]:
    try:
        with open(SUITES, encoding="utf-8") as file:
            rows = [line.split(",") for line in file]
    except OSError:
        return set()
    return {row[2] for row in rows[1:] if len(row) > 2}


def host_mirrors(archive: Archive) -> tuple[str, str]:
    """The mirrors of an archive and of its security updates that this host's apt has lists from, "" where none.

    What a source offers is told by its Release file alone: addresses and suites are alike for many third parties.
    """
    apt = system.find("apt-get")
    if apt is None:
        return "", ""
    wanted = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    done = system.run([apt, "indextargets", "--format", wanted, "Created-By: Packages"], check=False, timeout=60)
    main = security = ""
    for line in done.stdout.decode(errors="replace").splitlines():
        uri, release, component, origin = (*line.split(None, 3), "", "", "", "")[:4]
        uri = uri.rstrip("/")
        if (origin, component) == (archive.vendor, "main") and uri.startswith(("http:", "https:")):
            if release.endswith(("-security", "/updates")):
                security = security or uri
            elif "-" not in release:
                main = main or uri
    return main, security


def sources(archive: Archive, suite: str, architecture: str, components: str, mirror: str = "") -> tuple[str, ...]:
    """The lines of a sources.list: of the suite, its updates and its security updates.

    With a `mirror` of the user's own only the suite: what else it has is not known. Raises `FetchError` when the
    archive's keyring is not installed: nothing can be verified without.
    """
    if not os.path.exists(archive.keyring):
        hint = f'install "{archive.keyring_package}" on this machine'
        raise FetchError(f'can not verify {archive.vendor} packages: no keyring "{archive.keyring}"', hint=hint)
    option = f"deb [signed-by={archive.keyring}]"
    if mirror:
        return (f"{option} {mirror} {suite} {components}",)
    main, security = host_mirrors(archive)
    if archive.ports and architecture not in PCS:
        main = security = archive.ports
    main, security = main or archive.mirror, security or archive.security
    places: Sequence[tuple[str, str]] = [(main, suite), (main, f"{suite}-updates"), (security, f"{suite}-security")]
    if suite in FLOATING:
        places = places[:1]
    return tuple(f"{option} {place} {name} {components}" for place, name in places)


def proxies() -> dict[str, str]:
    """The proxies that this host's apt is set up with, as environment: mmdebstrap's apt does not read its settings."""
    apt = system.find("apt-config")
    if apt is None:
        return {}
    names = {"http_proxy": "Acquire::http::Proxy", "https_proxy": "Acquire::https::Proxy"}
    asked = [word for name, option in names.items() for word in (name, option)]
    rows = system.run([apt, "shell", *asked], check=False, timeout=60).stdout.decode().splitlines()
    found = {name: text.strip("'") for name, _, text in (row.partition("=") for row in rows)}
    return {name: text for name, text in found.items() if name in names and text not in ("", "DIRECT")}


def state(
    lines: Sequence[str], components: Sequence[str], architecture: str, *, cancel: Cancel | None = None
) -> tuple[str, int]:
    """A digest of the sources' lists of packages, and when the first was published, in seconds.

    Release files name the digest of each list; their own dates move even when no package does. They are not verified
    here: they only decide what is made anew, and mmdebstrap verifies what it installs.
    """
    wanted = {f"{component}/binary-{architecture}/Packages" for component in components}
    whole, dates = hashlib.sha256(), []
    for line, release in zip(lines, _releases(lines, cancel), strict=True):
        rows = [row.split() for row in release.splitlines()]
        found = sorted(row[0] for row in rows if len(row) == 3 and row[2] in wanted and len(row[0]) == 64)
        whole.update(repr((line, found or release)).encode())
        dates += [row.partition(":")[2] for row in release.splitlines() if row.startswith("Date:")][:1]
    try:
        return f"sha256:{whole.hexdigest()}", int(parsedate_to_datetime(dates[0]).timestamp())
    except (IndexError, ValueError, TypeError):
        raise FetchError(f'"{lines[0]}" has a Release file without a date') from None


def _releases(lines: Sequence[str], cancel: Cancel | None) -> list[str]:
    """The sources' Release files, got by apt's own downloader, which knows this host's proxies and certificates."""
    helper = next((path for path in HELPERS if os.access(path, os.X_OK)), None)
    if helper is None:
        raise FetchError("apt is missing, which mmdebstrap needs", hint='install "apt"')
    with tempfile.TemporaryDirectory(prefix="obuild-") as folder:
        pairs = [(f"{_address(line)}/InRelease", f"{folder}/{number}") for number, line in enumerate(lines)]
        argv = [helper, "-oAcquire::Retries=0", "download-file", *(word for pair in pairs for word in pair)]
        _, said = program.run(argv, log=lambda _: None, cancel=cancel)
        if said:
            raise _unreachable(lines, said)
        texts = []
        for _, path in pairs:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
    return texts


def _address(line: str) -> str:
    _, _, place, suite, *_ = line.split()
    return f"{place}/dists/{suite}"


def _unreachable(lines: Sequence[str], said: str) -> FetchError:
    errors = [line.removeprefix("E: ") for line in said.splitlines() if line.startswith("E: ")]
    problem = " ".join((errors or [said])[0].split())
    suite = lines[0].split()[3]
    known = (*DEBIAN.suites, *UBUNTU.suites)
    hint = nearest(suite, known) if suite not in known else "check the mirror, or give another with ?mirror=URL"
    return FetchError(f'no packages of "{suite}": {problem}', hint=hint, temporary=passes(problem))
