"""What goes wrong with packages: each fault has its name in the JSON, nothing else is lost, the next run goes on."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from clinic import Clinic, install
from conftest import soon
from house import House

PATCH = "--- a/code\n+++ b/code\n@@ -1 +1 @@\n-{}\n+new\n"


@pytest.fixture
def clinic(house: House) -> Clinic:
    return Clinic(house)


@pytest.fixture
def archive(tmp_path: Path) -> tuple[str, str]:
    """The address of an archive with one file, and its checksum."""
    (tmp_path / "code").write_text("old\n")
    path = tmp_path / "source.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "code", "source/code")
    return f"file://{path}", hashlib.md5(path.read_bytes()).hexdigest()


def url(place: str, md5: str) -> str:
    return f'url {{ src: "{place}" checksum: "md5={md5}" }}'


def patched(clinic: Clinic, name: str, old: str, source: str) -> None:
    """A package with a patch of a line that was `old`."""
    text = PATCH.format(old)
    extra = f'patches: "fix.patch" extra-files: ["fix.patch" "md5={hashlib.md5(text.encode()).hexdigest()}"]\n{source}'
    clinic.write(**{f"{name}__1": install(name, first="grep new code", extra=extra)})
    files = clinic.repo / "packages" / name / f"{name}.1" / "files"
    files.mkdir(exist_ok=True)
    (files / "fix.patch").write_text(text)


def reports(folder: Path) -> dict[str, dict[str, Any]]:
    """What the JSON says of each package."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_every_fault_has_a_name_and_the_next_run_goes_on(
    clinic: Clinic, tmp_path: Path, archive: tuple[str, str]
) -> None:
    place, md5 = archive
    patched(clinic, "patched", "old", url(place, md5))
    patched(clinic, "unpatched", "other", url(place, md5))
    clinic.write(
        wrong__1=install("wrong", extra=url(place, "0" * 32)),
        missing__1=install("missing", extra=url(f"{place}.gz", "1" * 32)),
        outside__1='install: ["sh" "-c" "touch /home/opam/.opam/stray"]',
        broken__1='build: ["sh" "-c" "exit 3"]',
        uninstallable__1='build: ["sh" "-c" "echo \'bin: [ \\"no\\" ]\' >uninstallable.install"]',
        user__1=install("user", depends='"patched"'),
        lost__1=install("lost", depends='"broken"'),
        unsolved__1=install("unsolved", depends='"nowhere"'),
    )
    done = clinic.check("--all", "--json", tmp_path / "first")
    assert done.returncode == 1, done.stderr
    found = reports(tmp_path / "first")
    assert {name: record.get("category", record["status"]) for name, record in found.items()} == {
        "patched.1": "success",
        "user.1": "success",
        "unpatched.1": "patch_failure",
        "wrong.1": "checksum_failure",
        "missing.1": "fetch_failure",
        "outside.1": "outside_prefix",
        "broken.1": "build_failure",
        "uninstallable.1": "install_failure",
        "lost.1": "dependency_failure",
        "unsolved.1": "no_solution",
    }
    assert "/home/opam/.opam/stray" in found["outside.1"]["error"]
    assert found["lost.1"]["error"] == 'dependency "broken.1" failed'
    assert clinic.house.residue() == []
    assert clinic.house.open().fsck() == []

    patched(clinic, "unpatched", "old", url(place, md5))
    clinic.write(
        wrong__1=install("wrong", extra=url(place, md5)),
        missing__1=install("missing", extra=url(place, md5)),
        outside__1=install("outside"),
        broken__1=install("broken"),
        uninstallable__1=install("uninstallable"),
        unsolved__1=install("unsolved"),
    )
    done = clinic.check("--all", "--json", tmp_path / "second")
    assert done.returncode == 0, done.stdout
    assert {record["status"] for record in reports(tmp_path / "second").values()} == {"success"}
    built = list(clinic.built())
    assert sorted(built) == sorted(found), "what was good is not built again"


def test_two_packages_with_one_file(clinic: Clinic, tmp_path: Path) -> None:
    """Opam lets them: the last one wins. The verdict is opam's, and the conflict is named."""
    write = "mkdir -p %{share}% && echo %{name}% >%{share}%/same"
    clinic.write(
        one__1=install("one", first=write),
        two__1=install("two", first=write),
        both__1=install("both", depends='"one" "two"', first="cat %{share}%/same"),
        after__1=install("after", depends='"one"', first=write),
    )
    done = clinic.check("both", "after", "--json", tmp_path / "found")
    assert done.returncode == 0, done.stderr
    found = reports(tmp_path / "found")
    path = "/home/opam/.opam/default/share/same"
    assert found["both.1"]["conflict"] == f'file conflict: "{path}" in one.1 and two.1'
    assert found["after.1"]["conflict"].endswith("one.1 and after.1")
    assert "file conflict" in done.stdout
    store = clinic.house.open()
    meta = {layer.meta()["package"]: layer.meta() for layer in store.layers() if layer.id.startswith(clinic.key)}
    assert meta["both.1"]["conflicts"] == [{"path": path, "packages": ["one.1", "two.1"]}]
    assert meta["one.1"]["conflicts"] == meta["two.1"]["conflicts"] == []


def test_a_package_killed_in_the_middle_goes_on_at_its_step(clinic: Clinic, mark: str) -> None:
    clinic.write(
        below__1=install("below"),
        slow__1=f"""build: [["sh" "-c" "echo first >>log"] ["sh" "-c" "echo second >>log; sleep {mark}"]
          ["sh" "-c" "mkdir -p %{{share}}% && cp log %{{share}}%/log"]] depends: "below" """,
    )
    process = clinic.start("slow")
    assert soon(lambda: bool(_alive(mark)))
    process.kill()
    process.communicate()
    assert soon(lambda: not _alive(mark))
    text = (clinic.repo / "packages/slow/slow.1/opam").read_text()
    (clinic.repo / "packages/slow/slow.1/opam").write_text(text.replace(f"sleep {mark}", "true"))
    done = clinic.check("slow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(clinic.built()).count("below.1") == 1, "what was finished is found"
    assert clinic.house.open().fsck() == []
    assert clinic.house.residue() == []


def _alive(mark: str) -> list[str]:
    from conftest import alive

    return alive(mark)
