"""Repositories: the same packages from a directory, git and a tar; what is found, passed over and remembered."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam

from obuild.errors import OpamError, UsageError
from obuild.opam.package import Package
from obuild.opam.repo import Repository, open_repositories, open_repository

EXAMPLES = Path(__file__).parent.parent / "examples" / "opam-repository"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nowhere",
    **{f"GIT_{who}_{what}": "x@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}

Files = dict[str, str | bytes]


def write(folder: Path, files: Files) -> Path:
    """Files by path; a text that begins with `->` is a symbolic link."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path) -> str:
    """Commit everything in a directory, making it a git repository first if it is none; the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def as_folder(folder: Path) -> str:
    return str(folder)


def as_git(folder: Path) -> str:
    commit(folder)
    return f"{folder}@HEAD"


def as_bare(folder: Path) -> str:
    commit(folder)
    bare = folder.with_name(f"{folder.name}.git")
    git(folder, "clone", "-q", "--bare", str(folder), str(bare))
    return str(bare)


def as_tar(folder: Path, kind: str = "", prefix: str = "") -> str:
    path = folder.with_name(f"{folder.name}.tar{kind}")
    with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
        tar.add(folder, prefix or ".")
    return str(path)


def as_gz(folder: Path) -> str:
    return as_tar(folder, "gz", "some/prefix")


def as_xz(folder: Path) -> str:
    return as_tar(folder, "xz", "prefix")


WAYS: dict[str, Callable[[Path], str]] = {
    "folder": as_folder,
    "git": as_git,
    "bare": as_bare,
    "tar": as_tar,
    "tar.gz": as_gz,
    "tar.xz": as_xz,
}
Open = Callable[[Files | Path], Repository]


@pytest.fixture(params=WAYS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a repository of the given files (or a copy of a directory), made in one of the ways."""

    def opened(files: Files | Path) -> Repository:
        folder = tmp_path / "repository"
        if isinstance(files, Path):
            shutil.copytree(files, folder, symlinks=True)
        else:
            write(folder, {"repo": "", **files})
        return open_repository(WAYS[request.param](folder), str(tmp_path / "cache"))

    return opened


def opam(text: str = "") -> str:
    return f'opam-version: "2.0"\n{text}'


def test_the_examples(opened: Open) -> None:
    repository = opened(EXAMPLES)
    packages = repository.packages()
    assert packages["greet"] == ("1.0", "2.0")
    assert packages["greet-doc"] == ("1.0", "2.0~rc1")
    assert list(packages)[:4] == ["broken", "color", "conf-cc", "greet"]
    assert sum(map(len, packages.values())) == 29
    assert repository.notes == ()
    package = Package("greet", "2.0")
    text = (EXAMPLES / "packages/greet/greet.2.0/opam").read_bytes()
    assert repository.text(package) == text
    assert repository.blob_id(package) == hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()
    assert repository.path(package).endswith("packages/greet/greet.2.0/opam")
    patch = (EXAMPLES / "packages/greet/greet.2.0/files/world.patch").read_bytes()
    assert repository.files(package) == repository.extra_files(package) == {"world.patch": patch}
    file = repository.opam(package)
    assert (file.package, file.blob, file.fields["depopts"]) == (
        package,
        repository.blob_id(package),
        ("list", ("color",)),
    )
    assert file.files == {"world.patch": patch}
    loaded = repository.load()
    assert {name: tuple(versions) for name, versions in loaded.items()} == packages
    assert loaded["greet"]["2.0"] == file.items == repository.items(package)


def test_archives_in_the_repository(opened: Open) -> None:
    repository = opened(EXAMPLES)
    assert repository.mirrors == ("cache",)
    source = repository.opam(Package("greet", "2.0")).url
    assert source is not None
    (checksum,) = source.checksums
    archive = repository.archive(checksum)
    assert archive is not None
    assert hashlib.sha256(archive).hexdigest() == checksum.partition("=")[2]
    assert repository.archive("sha256=" + "0" * 64) is None


def test_every_archive_of_the_examples_is_packed_from_its_sources(tmp_path: Path) -> None:
    sources = EXAMPLES / "sources"
    repository = open_repository(str(EXAMPLES), "")
    unpacked = set()
    for name, rows in repository.load().items():
        for version in rows:
            source = repository.opam(Package(name, version)).url
            if source is None:
                continue
            archive = repository.archive(source.checksums[0])
            assert archive is not None
            if zipfile.is_zipfile(io.BytesIO(archive)):
                with zipfile.ZipFile(io.BytesIO(archive)) as pack:
                    pack.extractall(tmp_path)
                    unpacked.update(pack.namelist())
                continue
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(tmp_path, filter="data")
                unpacked.update(tar.getnames())
    for path in filter(Path.is_file, sources.glob("*-*/**/*")):
        relative = path.relative_to(sources)
        assert str(relative) in unpacked
        assert (tmp_path / relative).read_bytes() == path.read_bytes()


def test_packages_at_any_depth(opened: Open) -> None:
    repository = opened(
        {
            "packages/a.1/opam": opam(),
            "packages/b/b.1/opam": opam(),
            "packages/deep/er/still/c.1.2/opam": opam(),
            "packages/deep/er/still/c.1.2/d.1/opam": opam(),
            "packages/deep/er/still/c.1.2/files/sub/x": "1",
        }
    )
    assert repository.packages() == {"a": ("1",), "b": ("1",), "c": ("1.2",)}
    assert repository.files(Package("c", "1.2")) == {"sub/x": b"1"}
    assert repository.notes == ()


def test_what_is_no_package_is_noted(opened: Open) -> None:
    repository = opened(
        {
            "packages/README": "",
            "packages/a/a.1/opam": opam(),
            "packages/a/.hidden": "",
            "packages/a/seen": "",
            "packages/a/a.2/opam.old": "",
            "packages/noversion/opam": opam(),
            "packages/x/5.1/opam": opam(),
            "packages/x/x.1 2/opam": opam(),
            "packages/x/x./opam": opam(),
            "packages/y/y.1/opam/file": "a directory called opam",
        }
    )
    assert repository.packages() == {"a": ("1",)}
    assert repository.notes == (
        '"packages/README" is not a package',
        '"packages/a/a.2/opam.old" is not a package',
        '"packages/a/seen" is not a package',
        '"packages/y/y.1/opam/file" is not a package',
        '"packages/noversion" is not called NAME.VERSION',
        '"packages/x/5.1" is not called NAME.VERSION',
        '"packages/x/x." is not called NAME.VERSION',
        '"packages/x/x.1 2" is not called NAME.VERSION',
    )


def test_versions_that_opam_can_not_tell_apart(opened: Open) -> None:
    repository = opened(
        {
            "packages/a/a.1/opam": opam("x-n: 1"),
            "packages/a/a.1-0/opam": opam("x-n: 2"),
            "packages/a/a.1.0/opam": opam("x-n: 3"),
            "packages/b/a.1/opam": opam("x-n: 4"),
        }
    )
    assert repository.packages() == {"a": ("1", "1.0")}
    assert repository.notes == (
        '"packages/a/a.1-0" is to opam the same version as "packages/a/a.1", which counts',
        '"packages/b/a.1" is the same package as "packages/a/a.1", which counts',
    )
    assert repository.find(Package("a", "1-")) == Package("a", "1")
    assert repository.opam(Package("a", "1-0")).package == Package("a", "1")
    assert repository.opam(Package("a", "1-0")).fields["x-n"] == 1
    assert repository.find(Package("a", "2")) is None


def test_symbolic_links(opened: Open) -> None:
    repository = opened(
        {
            "packages/a/a.1/opam": opam("x-n: 1"),
            "packages/a/a.1/files/real": "content",
            "packages/a/a.1/files/link": "->real",
            "packages/a/a.1/files/far": "->../../../../common/file",
            "packages/a/a.1/files/sub": "->../../../../common",
            "packages/a/a.1/files/dangling": "->nowhere",
            "packages/a/a.1/files/out": "->/etc/passwd",
            "packages/a/a.1/files/round": "->round",
            "packages/a/a.2": "->a.1",
            "packages/a/a.3/opam": "->../a.1/opam",
            "packages/a/a.3/files": "->../a.1/files",
            "packages/b": "->../elsewhere/b",
            "packages/out": "->../../../etc",
            "packages/up": "->..",
            "packages/self/self": "->.",
            "common/file": "common",
            "elsewhere/b/b.1/opam": opam("x-n: 2"),
        }
    )
    assert repository.packages() == {"a": ("1", "2", "3"), "b": ("1",)}
    files = {"real": b"content", "link": b"content", "far": b"common", "sub/file": b"common"}
    for version in ("1", "2", "3"):
        package = Package("a", version)
        assert repository.files(package) == files
        assert repository.opam(package).fields["x-n"] == 1
        assert repository.text(package) == opam("x-n: 1").encode()
    assert repository.opam(Package("b", "1")).fields["x-n"] == 2
    links = [note for note in repository.notes if "symbolic link" in note]
    assert [note.split('"')[1] for note in links] == ["packages/out", "packages/self/self", "packages/up"]


def test_links_to_each_other_end(tmp_path: Path) -> None:
    files: Files = {f"packages/{x}/{y}": f"->../{y}" for x in "abcd" for y in "abcd" if x != y}
    repository = open_repository(str(write(tmp_path, {**files, "packages/a/a.1/opam": opam()})), "")
    assert repository.packages() == {"a": ("1",)}


def test_names_that_are_no_utf_8(opened: Open) -> None:
    name = os.fsdecode(b"x\xff")
    repository = opened(
        {
            "packages/a/a.1/opam": opam(),
            f"packages/a/a.1/files/{name}": "1",
            f"packages/{name}": "",
            f"packages/{name}.d/{name}.1/opam": "(",
        }
    )
    assert repository.packages() == {"a": ("1",)}
    assert repository.files(Package("a", "1")) == {name: b"1"}
    assert repository.notes == (
        '"packages/x\ufffd" is not a package',
        '"packages/x\ufffd.d/x\ufffd.1" is not called NAME.VERSION',
    )


def test_bad_files_are_named_and_the_rest_loads(opened: Open) -> None:
    repository = opened(
        {
            "packages/a/a.1/opam": opam(),
            "packages/a/a.2/opam": 'opam-version: "2.0"\nbuild: [',
            "packages/a/a.3/opam": b"\x7fELF\0\1",
            "packages/a/a.4/opam": b"x" * 10_000_000,
            "packages/a/a.5/opam": "x: " + "[" * 100_000,
            "packages/b/b.1/opam": "(*",
        }
    )
    for _ in range(2):  # the second time from the cache
        assert {name: list(row) for name, row in repository.load().items()} == {"a": ["1"]}
        told = {str(package): str(error) for package, error in repository.unreadable.items()}
        assert list(told) == ["a.2", "a.3", "a.4", "a.5", "b.1"]
        assert (
            told["a.2"]
            .split("/packages")[-1]
            .split(":packages")[-1]
            .startswith("/a/a.2/opam:2:9: the file ends too early")
        )
        assert all(f"packages/{name[0]}/{name}/opam:" in error for name, error in told.items())
    with pytest.raises(OpamError, match=r"a\.3/opam:1:1: "):
        repository.opam(Package("a", "3"))
    assert repository.opam(Package("a", "1")).items == (("field", "opam-version", "2.0", 0),)


def test_unknown_packages_have_a_hint(opened: Open) -> None:
    repository = opened({"packages/greet/greet.1.10/opam": opam()})
    with pytest.raises(UsageError) as caught:
        repository.opam(Package("grete", "1"))
    assert caught.value.hint == 'did you mean "greet"?'
    with pytest.raises(UsageError) as caught:
        repository.text(Package("greet", "1.1"))
    assert caught.value.hint == 'did you mean "greet.1.10"?'


def test_what_is_not_a_repository(opened: Open) -> None:
    repository = opened({"package/a/a.1/opam": opam()})
    with pytest.raises(OpamError, match='not an opam repository: it has no directory "packages"'):
        repository.packages()


def test_an_empty_repository(opened: Open) -> None:
    repository = opened({"packages/.keep": ""})
    assert (repository.packages(), repository.load(), repository.notes) == ({}, {}, ())


def test_a_checksum_that_does_not_match_is_an_error(opened: Open) -> None:
    good = hashlib.sha256(b"good").hexdigest()
    repository = opened(
        {
            "packages/a/a.1/opam": opam(
                f'extra-files: [["x" "sha256={good}"] ["y" "sha256={good}"] ["z" "md5={good[:32]}"]]'
            ),
            "packages/a/a.1/files/x": "good",
            "packages/a/a.1/files/y": "bad",
            "packages/a/a.2/opam": opam(),
            "packages/a/a.2/files/any": "thing",
        }
    )
    with pytest.raises(OpamError) as caught:
        repository.extra_files(Package("a", "1"))
    assert [problem.message for problem in caught.value.problems] == [
        f'"files/y" does not have the checksum sha256={good}',
        '"files/z" is missing',
    ]
    assert repository.extra_files(Package("a", "2")) == {"any": b"thing"}


# The real thing


@needs("opam")
def test_opam_finds_the_same_packages(tmp_path: Path) -> None:
    files: Files = {
        "packages/a.1/opam": opam('synopsis: "x"'),
        "packages/deep/er/b.1/opam": opam(),
        "packages/deep/er/b.1/c.1/opam": opam(),
        "packages/d/d.2/opam": "(",
        "packages/junk": "",
        "packages/e/e.1": "->../../other/e.1",
        "other/e.1/opam": opam(),
    }
    folder = write(tmp_path / "r", {"repo": 'opam-version: "2.0"\n', **files})
    shutil.copytree(EXAMPLES / "packages", folder / "packages", dirs_exist_ok=True)
    machine = MachineOpam(tmp_path, folder)
    listed = machine.run("list", "--all", "--all-versions", "--short", "--columns=package").split()
    ours = open_repository(str(folder), "").load()
    assert {f"{name}.{version}" for name, row in ours.items() for version in row} == set(listed)


def test_the_public_repositories(recorded_repositories: Path, tmp_path: Path) -> None:
    main, extra = (str(recorded_repositories / f"{name}.git") for name in ("opam-repository", "oxcaml"))
    overlay = open_repositories([extra, main], str(tmp_path / "cache"))
    packages = overlay.packages()
    found = git(Path(main), "ls-tree", "-r", "--name-only", "HEAD", "packages").splitlines()
    names = {path.split("/")[-2] for path in found if path.endswith("/opam")}
    ours = {
        f"{name}.{version}" for name, versions in overlay.repositories[1].packages().items() for version in versions
    }
    assert names - ours == {"ocaml-variants.5.5.0+introcaml0"}
    assert ours <= names
    assert len(ours) == 18792
    assert [note.split(": ")[1] for note in overlay.notes] == [
        '"packages/ocaml-variants/ocaml-variants.5.5.0+introcaml0" is to opam the same version as '
        '"packages/ocaml-variants/ocaml-variants.5.5.0+introcaml", which counts'
    ]
    assert {f"{name}.{version}" for name, versions in packages.items() for version in versions} >= ours
    told: list[int] = []
    loaded = overlay.load(lambda done, total: told.append(total))
    assert {name: tuple(row) for name, row in loaded.items()} == packages
    assert overlay.unreadable == {}
    assert max(told) > 18000
    again = open_repositories([extra, main], str(tmp_path / "cache"))
    told.clear()
    assert again.load(lambda done, total: told.append(total)) == loaded
    assert told == []
