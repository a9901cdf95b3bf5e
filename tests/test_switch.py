"""What opam does to a switch, done by obuild: compared with the real opam, and against hostile trees."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from switches import PACKAGES, Switch, blank_times, definition, listing

from obuild.disk import remove_tree
from obuild.errors import ObuildError, UsageError
from obuild.opam.changes import Change, parse_changes
from obuild.opam.key import shown_id
from obuild.opam.package import parse_package
from obuild.opam.state import parse_state
from obuild.switch import act


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    """An empty switch in a tree."""
    made = Switch(tmp_path / "root")
    made.act("switch")
    return made


# Side by side with opam


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> MachineOpam:
    """The real opam with all packages installed one after the other; it has each build directory still."""
    folder = tmp_path_factory.mktemp("opam")
    write_repository(folder / "repository", {parse_package(name): definition(name) for name in PACKAGES})
    opam = MachineOpam(folder, folder / "repository", OPAMNODEPEXTS="1")
    for name in PACKAGES:
        opam.run("install", name)
    return opam


@pytest.fixture(scope="session")
def twin(machine: MachineOpam, tmp_path_factory: pytest.TempPathFactory) -> Switch:
    """A switch of the same path in a tree, with the same packages installed by obuild."""
    made = Switch(tmp_path_factory.mktemp("twin"), str(machine.folder / "root/test"))
    made.act("switch")
    for name in PACKAGES:
        made.run_recipe(name)
    made.act("switch")
    return made


@needs("opam")
def test_the_same_files_as_opam_installs(machine: MachineOpam, twin: Switch) -> None:
    assert listing(twin.place) == listing(machine.folder / "root/test")


@needs("opam")
@pytest.mark.parametrize("kind", ["install", "config"])
def test_the_same_files_as_opam_keeps(machine: MachineOpam, twin: Switch, kind: str) -> None:
    real = machine.folder / "root/test/.opam-switch" / kind
    ours = twin.meta / kind
    assert sorted(os.listdir(ours)) == sorted(os.listdir(real))
    for name in os.listdir(real):
        if not name.endswith(".changes"):
            assert (ours / name).read_bytes() == (real / name).read_bytes(), name


@needs("opam")
@pytest.mark.parametrize("name", PACKAGES)
def test_the_same_changes_as_opam_records(machine: MachineOpam, twin: Switch, name: str) -> None:
    path = f"install/{name.partition('.')[0]}.changes"
    real = (machine.folder / "root/test/.opam-switch" / path).read_bytes().decode("latin-1")
    now = time.time()
    found, expected = [parse_changes(blank_times(text, now=now)) for text in (twin.kept(path), real)]
    if machine.version < "2.2":  # before that, directories made on the way to a file are not recorded
        made = {path for path, change in found.items() if change == Change("added", "D")} - expected.keys()
        assert all(any(each.startswith(path + "/") for each in expected) for path in made)
        found = {path: change for path, change in found.items() if path not in made}
    assert found == expected
    if machine.version >= "2.2":
        assert blank_times(twin.kept(path), now=now) == blank_times(real, now=now)


@needs("opam")
def test_the_same_state_and_environment_as_opam_writes(machine: MachineOpam, twin: Switch) -> None:
    real = machine.folder / "root/test/.opam-switch"
    expected, found = [parse_state((path / "switch-state").read_bytes(), "state") for path in (real, twin.meta)]
    assert found["installed"] == expected["installed"] == found["roots"]
    assert found["compiler"] == (parse_package("base.3"),)
    # opam 2.2 has two columns more where it knows how a path is quoted; it reads the ones without as well
    text = (real / "environment").read_text().replace("\t:\ttarget\t", "\t").replace("\t:\thost\t", "\t")
    assert twin.kept("environment") == text
    assert parse_changes(twin.kept("install/plug.changes"))["bin/opam-plug"].kind == "added"


@needs("opam")
def test_opam_believes_the_switch(machine: MachineOpam, tmp_path: Path) -> None:
    """Moved to where it says it is, as it would be in a container, it is one that opam works with."""
    made = Switch(tmp_path / "tree", f"{tmp_path}/root/default")
    made.act("switch")
    for name in PACKAGES:
        made.run_recipe(name)
    made.act("switch", user=(os.getuid(), os.getgid()))
    os.rename(made.place.parent, tmp_path / "root")
    environment = {**machine.environment, "OPAMROOT": str(tmp_path / "root"), "OPAMSWITCH": ""}

    def opam(*words: str) -> list[str]:
        done = subprocess.run(["opam", *words], env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.splitlines()

    names = sorted(name.partition(".")[0] for name in PACKAGES)
    assert opam("list", "--installed", "--short") == names
    assert opam("list", "--installed-roots", "--short") == names
    assert opam("var", "dep:l") == ["a b c"]
    assert opam("var", "dep:build-id") == machine.run("var", "dep:build-id").splitlines()
    assert opam("switch", "show") == ["default"]
    assert f"PATH='{tmp_path}/root/default/bin:/two:" in "\n".join(opam("env"))
    assert opam("option", "depext") == ["false"]
    opam("repository", "add", "more", str(machine.folder / "repository"))
    opam("remove", "sections", "script")
    assert not (tmp_path / "root/default/lib/sections/l").exists()
    assert (tmp_path / "root/default/lib/dep/a.h").exists()
    opam("install", "--fake", "sections")
    opam("install", "script")
    assert (tmp_path / "root/default/lib/script/c").exists()
    assert opam("list", "--installed", "--short") == names


# The switch


def test_a_switch_is_what_is_in_its_packages(switch: Switch) -> None:
    for name in ("dep.1.2", "base.3", "plug.1"):
        switch.run_recipe(name)
    (switch.meta / "packages/cache").write_bytes(b"opam's own")
    switch.act("switch", user=(os.getuid(), os.getgid()))
    assert switch.kept("switch-state") == (
        'opam-version: "2.0"\ncompiler: ["base.3"]\nroots: ["base.3" "dep.1.2" "plug.1"]\n'
        'installed: ["base.3" "dep.1.2" "plug.1"]\n'
    )
    assert os.readlink(switch.root / "home/opam/.opam/plugins/bin/opam-plug") == "../../default/bin/opam-plug"
    assert "DEP\t=\t/home/opam/.opam/default/lib/dep\\ true\\ \\ 1.2\tUpdated\\ by\\ package\\ dep\n" in switch.kept(
        "environment"
    )


def test_a_switch_has_the_directories_of_a_new_one(switch: Switch) -> None:
    found = sorted(str(path.relative_to(switch.place)) for path in switch.place.rglob("*") if path.is_dir())
    assert [path for path in found if not path.startswith(".")] == [
        "bin", "doc", "lib", "lib/stublibs", "lib/toplevel", "man", "man/man1", "man/man1M", *[
            f"man/man{number}" for number in (2, 3, 4, 5, 6, 7, 9)
        ], "sbin",
    ]  # fmt: skip
    assert all(stat.S_IMODE(os.stat(switch.place / path).st_mode) == 0o755 for path in found)
    assert switch.kept("switch-state") == 'opam-version: "2.0"\n'


def test_the_owner_of_a_switch_is_named_as_in_the_image(tmp_path: Path, can_own: None) -> None:
    made = Switch(tmp_path)
    made.act("switch", user=(1000, 1000))
    assert 'user: "opam"\n  group: "folk"' in made.kept("switch-config")
    owners = {(os.lstat(path).st_uid, os.lstat(path).st_gid) for path in (tmp_path / "home").rglob("*")}
    assert owners == {(1000, 1000)}
    made.act("switch", user=(77, 77))
    assert 'user: "77"\n  group: "77"' in made.kept("switch-config")


def test_a_switch_may_have_any_name(tmp_path: Path) -> None:
    made = Switch(tmp_path, '/srv/caf\xe9 "x"/sw\xeftch')
    made.act("switch")
    assert made.kept("switch-config").encode("latin-1").decode() == (
        'opam-version: "2.0"\nsynopsis: "sw\xeftch"\nopam-root: "/srv/caf\xe9 \\"x\\""\npaths {\n  \n}\n'
        'variables {\n  user: "root"\n  group: "root"\n}\n'
    )
    assert (tmp_path / 'srv/caf\xe9 "x"/config').exists()


def test_a_package_without_a_definition_is_named(switch: Switch) -> None:
    (switch.meta / "packages/a.1").mkdir()
    with pytest.raises(ObuildError, match=r'the definition of "a\.1" is missing'):
        switch.act("switch")


# Installing


def test_modes_owners_and_times_of_installed_files(switch: Switch) -> None:
    folder = switch.build("a.1", {"x": "x", "y": "y"})
    os.chmod(folder / "x", 0o600)
    os.chmod(folder / "y", 0o755)
    os.utime(folder / "x", (1, 1))
    before, old = time.time() - 1, os.umask(0o077)
    try:
        switch.install("a.1", {"a.install": 'lib: ["x" {"p/q/x"} "y"] libexec: "x" bin: "x"'})
    finally:
        os.umask(old)
    modes = {path: stat.S_IMODE(os.stat(switch.place / path).st_mode) for path in ("lib/a/p/q/x", "lib/a/y", "bin/x")}
    assert modes == {"lib/a/p/q/x": 0o644, "lib/a/y": 0o644, "bin/x": 0o755}
    assert {stat.S_IMODE(os.stat(switch.place / path).st_mode) for path in ("lib/a", "lib/a/p", "lib/a/p/q")} == {0o755}
    assert os.stat(switch.place / "bin/x").st_mtime > before
    assert stat.S_IMODE(os.stat(switch.meta / "install/a.changes").st_mode) == 0o644


def test_a_file_named_in_two_sections_has_the_mode_of_the_later(switch: Switch) -> None:
    switch.install("a.1", {"x": "x", "a.install": 'libexec: "x" lib: "x"'})
    assert stat.S_IMODE(os.stat(switch.place / "lib/a/x").st_mode) == 0o755


def test_all_that_is_wrong_is_told_at_once(switch: Switch) -> None:
    folder = switch.build("a.1", {"ok": "x", "d/x": "x"})
    os.mkfifo(folder / "pipe")
    os.symlink("nowhere", folder / "broken")
    text = 'lib: ["gone" "ok" "d" "broken" "pipe" "?maybe" "?d" "ok" {"../../.opam-switch/x"} "ok" {"../../../x"}]'
    with pytest.raises(ObuildError) as caught:
        switch.install("a.1", {"a.install": f'{text} bin: ["?pipe"] misc: ["ok" {{"/etc/x"}}]'})
    prefix = switch.prefix
    assert str(caught.value).splitlines() == [
        'some files in "a.install" can not be installed:',
        f'  "pipe" is not a regular file, and should go to "{prefix}/bin/pipe"',
        f'  "gone" is missing, and should go to "{prefix}/lib/a/gone"',
        f'  "d" is a directory, and should go to "{prefix}/lib/a/d"',
        f'  "broken" is missing, and should go to "{prefix}/lib/a/broken"',
        f'  "pipe" is not a regular file, and should go to "{prefix}/lib/a/pipe"',
        f'  "ok" would be among opam\'s own files, and should go to "{prefix}/.opam-switch/x"',
        '  "ok" would be outside of the prefix, and should go to "/home/opam/.opam/x"',
        '  "ok" would be outside of the prefix, and should go to "/etc/x"',
    ]
    assert not (switch.place / "lib/a").exists()


@pytest.mark.parametrize("target", ['"d"', '"x" {""}', '"../a"'])
def test_a_directory_is_not_replaced(switch: Switch, target: str) -> None:
    entry = target if "{" in target else f'"x" {{{target}}}'
    with pytest.raises(ObuildError, match=r"it is a directory|is missing"):
        switch.install("a.1", {"x": "x", "a.install": f'lib: ["x" {{"d/y"}} {entry}]'})


def test_miscellaneous_files_within_the_prefix(switch: Switch) -> None:
    switch.install("a.1", {"x": "x", "a.install": f'misc: ["x" {{"{switch.prefix}/var/x"}}]'})
    assert (switch.place / "var/x").read_text() == "x"
    assert switch.kept("install/a.changes") == 'opam-version: "2.0"\n'  # opam records none of them


def test_facts_for_the_layer(switch: Switch) -> None:
    found = switch.run_recipe("dep.1.2")
    assert found["variables"]["l"] == ("a", "b c")
    assert found["variables"]["t"] is True
    assert (found["conflicts"], found["messages"]) == ([], [])
    switch.run_recipe("sections.1")
    found = switch.run_recipe("script.2")
    assert found["variables"] == {"x": "y"}
    assert found["conflicts"] == [
        {"path": path, "package": "sections.1"} for path in ("doc/sections/d", "etc/sections/e", "lib/sections/l")
    ]
    assert switch.run_recipe("partly.1")["messages"][0].startswith("partly.install:1:12: ")
    assert b"warning: left out as by opam: partly.install:1:12" in switch.said


def test_a_file_of_another_package_that_is_replaced_is_a_conflict(switch: Switch) -> None:
    switch.install("a.1", {"x": "x", "a.install": 'lib_root: "x"'})
    found = switch.install("b.1", {"x": "longer", "b.install": 'lib_root: "x"'})
    assert found["conflicts"] == [{"path": "lib/x", "package": "a.1"}]
    assert parse_changes(switch.kept("install/b.changes"))["lib/x"].kind == "contents-changed"


def test_what_commands_install_is_found_beside_what_others_did(switch: Switch) -> None:
    text = 'opam-version: "2.0"\ninstall: ["true"]\n'
    for name in ("a", "b", "c"):
        (switch.place / "share" / name).mkdir(parents=True)
        (switch.place / "share" / name / "x").write_text(name)
        if name == "b":
            (switch.place / "share/a/x").unlink()
        switch.install(f"{name}.1", {}, text)
    changes = {name: parse_changes(switch.kept(f"install/{name}.changes")) for name in "abc"}
    assert [sorted(changes[name]) for name in "abc"] == [
        ["share", "share/a", "share/a/x"],
        ["share/a/x", "share/b", "share/b/x"],
        ["share/c", "share/c/x"],
    ]
    assert changes["b"]["share/a/x"] == Change("removed")


def test_files_that_an_archive_carried_are_the_same(switch: Switch) -> None:
    switch.install("a.1", {"x": "x", "y": "y", "a.install": 'lib: ["x" "y"]'})
    for name, fraction in (("x", 0), ("y", 500_000_000)):
        seconds = int(os.stat(switch.place / "lib/a" / name).st_mtime)
        os.utime(switch.place / "lib/a" / name, ns=(0, seconds * 10**9 + fraction))
    text = re.sub(r"(T\d+\.)\d*", r"\g<1>12", switch.kept("install/a.changes"))
    (switch.meta / "install/a.changes").write_text(text)
    switch.install("b.1", {}, 'opam-version: "2.0"\ninstall: ["true"]\n')
    assert set(parse_changes(switch.kept("install/b.changes"))) == {"lib/a/y"}


@pytest.mark.parametrize("condition", ["with-test", "nosuch", "absent:installed", "installed"])
def test_commands_that_do_not_run_do_not_count(switch: Switch, condition: str) -> None:
    (switch.place / "stray").write_text("from a build command")
    switch.install("a.1", {}, f'opam-version: "2.0"\ninstall: ["true"] {{{condition}}}\n', id="0" * 64)
    assert switch.kept("install/a.changes") == 'opam-version: "2.0"\n'


def test_commands_that_run_for_a_variant(switch: Switch) -> None:
    (switch.place / "stray").write_text("x")
    switch.install("a.1", {}, 'opam-version: "2.0"\ninstall: ["true"] {with-test}\n', id="0" * 64 + "+test")
    assert "stray" in parse_changes(switch.kept("install/a.changes"))


def test_a_configuration_that_can_not_be_read_fails_the_package(switch: Switch) -> None:
    with pytest.raises(ObuildError, match=r'opam can not read "a\.config" of "a\.1":\na\.config:1:'):
        switch.install("a.1", {"a.config": 'opam-version: "2.0" variables {'})


def test_what_there_is_to_install_is_asked_of_the_package(switch: Switch) -> None:
    switch.build("a.1", {})
    with pytest.raises(ObuildError, match=r'the definition of "a\.1" is missing'):
        switch.act("install", "a.1")
    with pytest.raises(UsageError, match='"a" has no version'):
        switch.act("install", "a")
    with pytest.raises(ObuildError, match='opam has no action "remove"'):
        switch.act("remove", "a.1")


# Hostile trees


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host that nothing may change, with a secret file."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "secret").write_text("the host's")
    return folder


def refusal(action: Callable[[], object]) -> str:
    """What an action is refused with, "" when it is done."""
    try:
        action()
    except ObuildError as error:
        return str(error)
    return ""


def untouched(folder: Path) -> bool:
    return os.listdir(folder) == ["secret"] and (folder / "secret").read_text() == "the host's"


def test_a_source_that_leads_to_the_host_is_the_image_s_own(switch: Switch, outside: Path) -> None:
    folder = switch.build("a.1")
    os.symlink(outside / "secret", folder / "link")
    os.symlink("../" * 40 + "etc/os-release", folder / "up")
    with pytest.raises(ObuildError, match='"link" is missing'):
        switch.install("a.1", {"a.install": 'lib: ["link"]'})
    text = 'lib: ["up" "' + "../" * 40 + 'etc/passwd" {"passwd"} "/etc/group"]'
    with pytest.raises(ObuildError, match='"/etc/group" is missing'):  # opam takes it for a name below, too
        switch.install("a.1", {"a.install": text})
    switch.install("a.1", {"a.install": text.replace('"/etc/group"', '"?/etc/group"')})
    assert (switch.place / "lib/a/up").read_text().startswith("ID=debian")
    assert (switch.place / "lib/a/passwd").read_text().startswith("root:x:0:0::/:")


@pytest.mark.parametrize("path", ["lib", "lib/a", "lib/a/sub", "lib/a/x"])
def test_a_destination_never_leads_out_of_the_prefix(switch: Switch, outside: Path, path: str) -> None:
    place = switch.place / path
    if place.is_dir():
        for below in sorted(place.rglob("*"), reverse=True):
            below.rmdir()
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    inside = switch.root / "etc/secret"
    inside.write_text("the image's")
    for target in (outside, outside / "secret", "/etc", "../../../../../../../etc", "/etc/secret"):
        place.unlink(missing_ok=True)
        os.symlink(target, place)
        files = {"x": "x", "a.install": 'lib: ["x" "x" {"sub/x"}]'}
        refused = refusal(lambda: switch.install("a.1", files))  # noqa: B023
        assert re.search(r"outside of the prefix|is not a directory in the image", refused) or path == "lib/a/x"
        assert refused or not place.is_symlink()  # it led nowhere, and was replaced
        assert untouched(outside)
        assert inside.read_text() == "the image's"
        assert not (switch.root / "etc/sub").exists()


@pytest.mark.parametrize("path", ["install", "config", "install/a.install", "install/a.changes", "config/a.config"])
def test_opam_s_own_files_never_lead_to_the_host(switch: Switch, outside: Path, path: str) -> None:
    place = switch.meta / path
    if place.is_dir():
        place.rmdir()
    os.symlink(outside / ("secret" if "." in path else ""), place)
    files = {"x": "x", "a.install": 'lib: "x"', "a.config": "a: true"}
    refused = refusal(lambda: switch.install("a.1", files))
    assert "is not a directory in the image" in refused or not place.is_symlink()
    assert untouched(outside)


@pytest.mark.parametrize(
    "path", ["", ".opam-switch", ".opam-switch/packages", ".opam-switch/switch-state", "bin", "lib"]
)
def test_making_a_switch_never_leads_to_the_host(tmp_path: Path, outside: Path, path: str) -> None:
    made = Switch(tmp_path / "root")
    place = made.place / path
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(outside, place)
    refused = refusal(lambda: made.act("switch"))
    assert "is not a directory in the image" in refused or path.endswith("switch-state")
    assert untouched(outside)


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "link"])
def test_what_is_no_file_is_not_read(switch: Switch, outside: Path, can_own: None, kind: str) -> None:
    folder = switch.build("a.1", {"x": "x"})
    for name in ("a.install", "a.config", "s.in"):
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "device":
            os.mknod(folder / name, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
        elif kind == "directory":
            (folder / name).mkdir()
        else:
            os.symlink(outside / "secret", folder / name)
    found = switch.install("a.1", {})
    assert found == {"variables": {}, "conflicts": [], "messages": []}
    with pytest.raises(ObuildError, match=r"s\.in"):
        switch.act("substs", "a.1", src=("s",))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x\\000y", "it has a zero byte"),
        ("y" * 300, "is too long"),
        ("/".join(["d" * 200] * 30), "is too long"),
    ],
)
def test_names_that_are_none(switch: Switch, name: str, why: str) -> None:
    for text in (f'lib: ["x" {{"{name}"}}]', f'lib: ["{name}"]'):
        with pytest.raises(ObuildError, match=why):
            switch.install("a.1", {"x": "x", "a.install": text})


def test_names_that_are_not_unicode(switch: Switch) -> None:
    switch.build("a.1")
    (switch.meta / "build/a.1" / os.fsdecode(b"caf\xe9")).write_text("x")
    switch.install("a.1", {"a.install": 'lib: ["caf\xe9" "caf\xe9" {"\xff/\xfe"}]'})
    assert sorted(os.listdir(os.fsencode(switch.place / "lib/a"))) == [b"caf\xe9", b"\xff"]
    assert b'"lib/a/caf\xe9" {"F:S1T' in switch.kept("install/a.changes").encode("latin-1")
    with pytest.raises(ObuildError, match="caf\N{REPLACEMENT CHARACTER}"):
        switch.install("a.1", {"a.install": 'lib: ["caf\xe9x"]'})


def test_deep_directories_are_made(switch: Switch) -> None:
    deep = "/".join(["d"] * 1500)
    switch.install("a.1", {"x": "x", "a.install": f'lib: ["x" {{"{deep}/x"}}]'})
    assert len(parse_changes(switch.kept("install/a.changes"))) == 1502
    remove_tree(str(switch.place / "lib/a"))  # deeper than what the tests are cleaned up with can go


def test_many_files_are_installed(switch: Switch) -> None:
    count = 3000
    switch.build("a.1", {f"f{number}": "x" for number in range(count)})
    listed = " ".join(f'"f{number}"' for number in range(count))
    switch.install("a.1", {"a.install": f"lib: [{listed}]"})
    assert len(os.listdir(switch.place / "lib/a")) == count


def test_a_huge_file_is_not_read(switch: Switch) -> None:
    folder = switch.build("a.1")
    with open(folder / "a.install", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ObuildError, match="has more than 16 MB"):
        switch.install("a.1", {})


def test_a_large_file_keeps_its_content(switch: Switch) -> None:
    data = os.urandom(300_000)
    switch.install("a.1", {"x": data, "a.install": 'lib: "x"'})
    assert (switch.place / "lib/a/x").read_bytes() == data


def test_a_file_with_several_names_is_written_under_all(switch: Switch) -> None:
    """As by opam: `h` and `h2` are one file, before and after."""
    switch.run_recipe("links.1")
    links = switch.place / "lib/links"
    assert [(links / name).read_text() for name in ("h", "h2", "t", "dangling")] == ["b\n", "b\n", "a\n", "a\n"]
    assert os.path.samefile(links / "h", links / "h2")
    assert stat.S_IMODE(os.stat(links / "t").st_mode) == 0o644
    assert (switch.place / "share/real/f").read_text() == "a\n"


def test_a_record_that_is_none_is_named(switch: Switch) -> None:
    switch.install("a.1", {})
    (switch.meta / "install/a.changes").write_text('added: "\\q" {"D"}\n')
    with pytest.raises(ObuildError, match=r'a\.changes" is not a record of changes'):
        switch.install("b.1", {}, 'opam-version: "2.0"\ninstall: ["true"]\n')


# Substitution


def test_files_made_from_variables(switch: Switch) -> None:
    switch.run_recipe("dep.1.2")
    switch.define("a.1", 'opam-version: "2.0"\ndepends: "dep"\n')
    folder = switch.build("a.1", {
        "x.in": "%{_:build-id}%|%{dep:build-id}%|%{dep:l}%|%{_:depends}%|%{_:installed}%|%{with-test}%|%{user}%",
        "sub/y.in": "%{lib}% %{os-distribution}% %{os-version}% %{jobs}% %{sys-ocaml-version}%\n",
        "z.in": "new\n", "z": "old",
    })  # fmt: skip
    os.chmod(folder / "x.in", 0o755)
    os.chmod(folder / "z", 0o640)
    own, dep = "a" * 64, "b" * 64
    given = {"src": ("x", "sub/y", "z"), "id": own + "+test", "ids": {"dep.1.2": dep}}
    assert switch.act("substs", "a.1", variables={"sys-ocaml-version": "5.3.0"}, **given) == {}
    user = "root" if not os.getuid() else "opam" if os.getuid() == 1000 else str(os.getuid())
    assert (folder / "x").read_text() == f"{own}|{dep}|a b c|dep.1.2|false||{user}\n"
    assert (folder / "sub/y").read_text() == f"{switch.prefix}/lib debian 13 1 5.3.0\n"
    assert (folder / "z").read_text() == "new\n"
    modes = [stat.S_IMODE(os.stat(folder / name).st_mode) for name in ("x", "sub/y", "z", "x.in")]
    assert modes == [0o644, 0o644, 0o640, 0o755]


def test_a_package_without_a_build_id_sees_one_that_is_none(switch: Switch) -> None:
    switch.define("a.1", 'opam-version: "2.0"\n')
    folder = switch.build("a.1", {"x.in": "%{_:build-id}%"})
    switch.act("substs", "a.1", src=("x",), id="dev-0123456789")
    assert (folder / "x").read_text() == shown_id("dev-0123456789") + "\n"


def test_files_that_are_missing_are_all_named(switch: Switch) -> None:
    switch.define("a.1", 'opam-version: "2.0"\n')
    switch.build("a.1", {"x.in": ""})
    with pytest.raises(ObuildError) as caught:
        switch.act("substs", "a.1", src=("x", "y", "z"))
    assert str(caught.value).splitlines() == [
        'files that "substs" of "a.1" needs are not in its source:', '  "y.in"', '  "z.in"'
    ]  # fmt: skip


def test_a_file_made_from_variables_never_leads_to_the_host(switch: Switch, outside: Path) -> None:
    switch.define("a.1", 'opam-version: "2.0"\n')
    folder = switch.build("a.1", {"x.in": "new"})
    os.symlink(outside / "secret", folder / "x")
    switch.act("substs", "a.1", src=("x",))
    assert untouched(outside)
    assert (folder / "x").read_text() == "new\n"
    assert not (folder / "x").is_symlink()


def test_only_build_directories_have_files_made(switch: Switch) -> None:
    given = {"src": ("x",), "package": "a.1", "id": "", "ids": {}, "user": (0, 0), "write": bytes}
    with pytest.raises(ObuildError, match='"/tmp" is not a build directory of a switch'):
        act("substs", str(switch.root), "/tmp", workdir="/tmp", **given)
