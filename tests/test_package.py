"""Packages built to layers: what the host puts into them, stacks, hits, failures and going on after them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import refused, soon
from house import Gate, House, Log, sh
from stores import describe

from obuild import spec as language
from obuild.build import Builder, Context
from obuild.build.package import request
from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError, ObuildError, StepFailed, StoreError, UsageError
from obuild.store import Layer
from obuild.switch.prefix import Relocations, parse_relocations

KEY = "tiny-1-x86_64"
HOME = "/home/opam"
PREFIX = f"{HOME}/.opam/default"
OPAM = 'opam-version: \\"2.0\\"\\nname: \\"{}\\"\\nversion: \\"1\\"\\n'


def text(content: str, target: str) -> str:
    return f'(copy (from (text "{content}")) (src {Path(target).name}) (dst {target}))'


def recipe(name: str, *ops: str, below: tuple[str, ...] = ()) -> str:
    """The spec of a package `name.1`, whose id is its name, on the layers of others."""
    folder = f"{PREFIX}/.opam-switch"
    stack = "".join([f"(copy (from (package {other}.1 {other})) (src /) (dst /))\n" for other in below])
    return f"""((from {KEY}) (shell /bin/sh -c) (user (uid 1000) (gid 1000)) {stack}
 (env PATH /bin) (env HOME {HOME}) (workdir {folder}/build/{name}.1)
 (copy (from (opam switch)) (src .) (dst {PREFIX}))
 {text(OPAM.format(name), f"{folder}/packages/{name}.1/opam")}
 {" ".join(ops)}
 (copy (from (opam install {name}.1 {name})) (src .) (dst {PREFIX})))"""


def install(command: str) -> str:
    """A run with the prefix in $P."""
    return sh(f"P={PREFIX}; {command}")


class Works:
    """A place to build packages in."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.builder = self.open()
        self.store = self.builder.store

    def open(self, **options: Any) -> Builder:
        return self.house.builder(images={KEY: f"dir:{self.house.base}"}, **options)

    def build(
        self,
        name: str,
        *ops: str,
        below: tuple[str, ...] = (),
        log: Log | None = None,
        builder: Builder | None = None,
        cancel: Cancel | None = None,
        **meta: Any,
    ) -> Layer:
        spec = language.parse(recipe(name, *ops, below=below), f"{name}.spec")
        return (builder or self.builder).build(
            spec,
            Context(source=str(self.house.context)),
            id=f"{KEY}/{name}",
            meta={"package": f"{name}.1", **meta},
            files={"opam": b"opam"},
            reporter=log or Log(),
            cancel=cancel,
        )

    def steps(self) -> int:
        """How many layers there are besides packages', the base and the empty switch that all packages share."""
        steps = [layer for layer in self.store.layers() if "/" not in layer.id]
        return len([layer for layer in steps if layer.meta().get("text") != "an empty switch"]) - 1

    def failure(self, name: str) -> dict[str, Any]:
        layer = self.builder.failure(f"{KEY}/{name}")
        assert layer
        return layer.meta()


@pytest.fixture(params=[("overlay", ""), ("copy", "")], ids=["overlay", "copy"])
def works(request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path, can_mount: None) -> Iterator[Works]:
    house = House(tmp_path, tiny_base, *request.param)
    yield Works(house)
    assert house.open().fsck() == []
    assert soon(lambda: not house.residue()), house.residue()


def paths(layer: Layer) -> list[str]:
    below = PREFIX[1:] + "/"
    return [line.removeprefix(below) for line in Path(layer.path, "paths").read_text().splitlines()]


def test_a_package(works: Works) -> None:
    log = Log()
    layer = works.build(
        "a",
        text("one", "./x"),
        text('bin: [\\"x\\" {\\"tool\\"}]', "a.install"),
        install(
            "mkdir -p $P/lib/a /tmp/rubbish ~/.cache && cp x $P/lib/a/META && stat -c %U:%a x $P/.opam-switch/build"
        ),
        log=log,
        variant={"with-test": False},
        answer=42,
    )
    assert paths(layer) == [
        ".opam-switch/install/a.changes",
        ".opam-switch/install/a.install",
        ".opam-switch/packages/a.1/opam",
        "bin/tool",
        "lib/a/META",
    ]
    assert "opam:644\nopam:755\n" in log.text
    found = describe(layer.fs)
    assert found[f"{PREFIX[1:]}/bin/tool"][:3] == ("-rwxr-xr-x", 1000, 1000)
    assert {owner for _, owner, *_ in [found[f"{PREFIX[1:]}/{path}"] for path in paths(layer)]} == {1000}
    meta = layer.meta()
    assert [meta[name] for name in ("package", "exit_status", "deps", "hashes", "answer")] == ["a.1", 0, [], [], 42]
    assert meta["variant"] == {"with-test": False}
    assert meta["prefix"] == PREFIX
    assert layer.parents == (meta["base"],)
    assert Path(layer.path, "opam").read_bytes() == b"opam"
    spec = language.parse(Path(layer.path, "build.spec").read_text(), "build.spec")
    assert language.format(spec) == Path(layer.path, "build.spec").read_text()
    joined = Path(layer.log).read_text()
    assert "(from (opam switch))" in joined
    assert "opam:644" in joined
    assert works.steps() == 0
    assert log.steps[-1] == ("package", False, 0)


def test_files_that_hold_the_prefix_are_written_down(works: Works) -> None:
    layer = works.build(
        "a", install("mkdir -p $P/bin $P/lib; echo $P >$P/lib/text; ln -s $P/lib $P/bin/link; echo >$P/x")
    )
    meta = layer.meta()
    assert meta["relocations"] == {"texts": 2, "programs": 0, "first": ["bin/link", "lib/text"]}
    assert not meta["relocatable_verified"]
    recorded = Path(layer.path, "relocations.json").read_bytes()
    assert parse_relocations(recorded, PREFIX) == Relocations(("bin/link", "lib/text"))
    other = works.build("b", install("mkdir -p $P/lib; echo $P >$P/lib/text"), below=("a",))
    assert other.meta()["relocations"]["texts"] == 0  # the file is as it was
    plain = works.build("c", install("mkdir -p $P/lib; echo >$P/lib/c"), relocatable=True)
    assert [plain.meta()[name] for name in ("relocatable", "relocatable_verified")] == [True, True]


def test_a_second_time_it_is_there(works: Works) -> None:
    plain, tested = {"with-test": False, "patches": ()}, {"with-test": True, "patches": ()}
    first = works.build("a", variant=plain)
    log = Log()
    assert works.build("a", variant=plain, log=log) == first
    assert log.text == f'---> using "{KEY}/a" from cache\n'
    assert log.steps == [("package", True, 0)]
    base = first.meta()["base"]
    assert works.store.package(f"{KEY}/a", {"base": base, "variant": plain}) == first
    made = first.meta()["created"]
    again = works.build("a", base=base, variant=tested).meta()
    assert again["created"] > made
    assert again["variant"]["with-test"] is True
    with pytest.raises(ObuildError, match="is not the base any more that this package was planned for"):
        works.build("a", base="0" * 64)


def test_dependencies_are_stacked(works: Works) -> None:
    works.build("a", install("mkdir $P/lib/a && echo a > $P/lib/a/META"))
    works.build("b", install("mkdir $P/lib/b && echo b > $P/lib/b/META"))
    works.build("alone", install("mkdir $P/lib/alone"))
    look = "cat $P/lib/*/META; ls $P/lib; cat $P/.opam-switch/switch-state; echo c > $P/lib/a/META; rm $P/lib/b/META"
    log = Log()
    layer = works.build("c", install(look), below=("a", "b"), log=log)
    assert "a\nb\na\nb\n" in log.text.replace("stublibs\n", "").replace("toplevel\n", "")
    assert 'installed: ["a.1" "b.1"]' in log.text
    assert "alone" not in log.text
    assert paths(layer) == [".opam-switch/install/c.changes", ".opam-switch/packages/c.1/opam", "lib/a/META"]
    meta = layer.meta()
    assert (meta["deps"], meta["hashes"]) == (["b.1", "a.1"], ["b", "a"])
    assert layer.parents == (meta["base"], f"{KEY}/a", f"{KEY}/b")
    assert meta["changed"] == [f"{PREFIX[1:]}/lib/a/META"]
    assert meta["removed"] == [f"{PREFIX[1:]}/lib/b/META"]
    with works.store.view(layer) as tree:
        assert Path(f"{tree}{PREFIX}/lib/a/META").read_text() == "c\n"


def test_packages_in_an_ordinary_spec(works: Works) -> None:
    works.build("a", install("echo a > $P/lib/a"))
    works.build("b", install("echo b > $P/lib/b"))
    stack = "(copy (from (package a.1 a)) (src /) (dst /)) (copy (from (package b.1 b)) (src .) (dst /))"
    layer, log = works.house.build(f"((from {KEY}) {stack})", builder=works.builder)
    assert works.house.read(layer, f"{PREFIX}/lib/a", f"{PREFIX}/lib/b") == "a\nb\n"
    assert log.cached("copy") == [False]
    some = f"(copy (from (package a.1 a)) (src {PREFIX}/lib/a) (dst /x))"
    layer, log = works.house.build(f"((from {KEY}) {some})", builder=works.builder)
    assert works.house.read(layer, "/x") == "a\n"
    assert works.house.build(f"((from {KEY}) {some})", builder=works.builder)[1].cached("copy") == [True]
    works.store.delete(f"{KEY}/a", children=True)


def test_what_is_missing_is_said(works: Works) -> None:
    with pytest.raises(StoreError) as error:
        works.build("b", below=("a",))
    assert str(error.value) == f'b.spec:1:71: "a.1" has no layer "{KEY}/a" in the store'
    assert error.value.hint == "build it first: obuild health-check a.1"
    with pytest.raises(UsageError) as unbuilt:
        works.house.build("((from debian-99-x86_64))", builder=works.builder)
    assert str(unbuilt.value) == 'the platform "debian-99-x86_64" has not been built'
    assert unbuilt.value.hint == "obuild platform build debian-99"
    with refused(ObuildError, "the spec of a package needs a switch"):
        works.builder.build(language.parse(f"((from {KEY}))", "t"), Context(""), id=f"{KEY}/z")


def test_layers_on_another_base_do_not_go_together(works: Works, tmp_path: Path) -> None:
    works.build("a")
    other = works.house.builder(images={KEY: f"dir:{works.house.context}"})
    with pytest.raises(StoreError, match=f'layer "{KEY}/a" of "a.1" was built on another base'):
        works.build("b", below=("a",), builder=other)


def test_what_is_written_outside_of_the_prefix(works: Works) -> None:
    root = "(user (uid 0) (gid 0))"
    strays = install("touch /etc/x ~/.opam/y; mkdir /opt; echo > /etc/group; rm /etc/passwd; touch /tmp/z ~/z")
    with pytest.raises(StepFailed) as error:
        works.build("a", root, strays)
    found = ", ".join(f'"{path}"' for path in ("/etc/group", "/etc/passwd", "/etc/x", f"{HOME}/.opam/y", "/opt/"))
    assert str(error.value) == f"the package wrote outside its prefix: {found}"
    assert error.value.hint == f'only what is in "{PREFIX}" becomes part of a package'
    assert works.failure("a")["op"] == 9
    assert paths(works.build("a", root, install("echo fine")))
    assert works.builder.failure(f"{KEY}/a") is None


def test_a_failure_is_kept_until_it_goes_away(works: Works) -> None:
    good, gate = install("echo good > x"), works.house.folder / "context" / "gate"
    bad = install("cat x; test -e gate")
    gate.write_text("")
    with pytest.raises(StepFailed) as error:
        works.build("a", good, bad, variant=1)
    failure = works.failure("a")
    assert failure["error"] == str(error.value)
    assert (failure["status"], failure["failure"], failure["op"]) == (1, "StepFailed", 8)
    assert failure["step"] == error.value.id
    assert failure["package"] == "a.1"
    assert works.store.failed_layer(failure["step"])
    last = works.store.get(failure["last"])
    assert last
    assert last.id == failure["steps"][-1]
    with works.store.view(last) as tree:
        assert Path(f"{tree}{PREFIX}/.opam-switch/build/a.1/x").read_text() == "good\n"
    assert works.store.get(f"{KEY}/a") is None
    record = works.builder.failure(f"{KEY}/a")
    assert record
    assert "good" in Path(record.log).read_text()
    assert Path(record.path, "build.spec").exists()

    log = Log()
    with pytest.raises(StepFailed):
        works.build("a", good, bad, log=log, variant=1)
    assert log.cached() == [True, False], "it goes on at the step that failed"

    works.build("a", good, install("echo other"), variant=1)
    assert works.builder.failure(f"{KEY}/a") is None
    assert works.store.failed() == []
    assert works.steps() == 0


def test_what_was_cancelled_is_no_failure(works: Works) -> None:
    gate, cancel, log = Gate(), Cancel(), Log()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            works.build("a", install("echo good"), gate.run(), cancel=cancel, log=log)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    gate.wait()
    cancel.set()
    thread.join()
    gate.close()
    assert isinstance(errors[0], Cancelled)
    assert works.builder.failure(f"{KEY}/a") is None
    assert works.store.get(f"{KEY}/a") is None


def test_two_who_want_the_same_share_it(works: Works) -> None:
    gate, logs = Gate(), (Log(), Log())
    builders = works.builder, works.open()
    layers: list[Layer] = []
    threads = [
        threading.Thread(
            target=lambda n=n: layers.append(works.build("a", gate.run("echo heard"), builder=builders[n], log=logs[n]))
        )
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    gate.wait()
    assert soon(lambda: all("heard" in log.text for log in logs)), "who waits hears the log"
    assert gate.nobody()
    gate.open()
    for thread in threads:
        thread.join()
    assert layers[0] == layers[1]
    assert sorted(log.steps[-1] for log in logs) == [("package", False, 0), ("package", True, 0)]
    gate.close()


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from house import House
from test_package import Works
works = Works(House(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
works.build("a", *sys.argv[5:])
"""


def test_a_killed_build_leaves_nothing_half_done(works: Works) -> None:
    gate, good = Gate(), install("mkdir $P/lib/a; echo good > $P/lib/a/x")
    house = works.house
    arguments = [Path(__file__).parent, house.folder, house.base, works.store.kind, good, gate.run()]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, arguments)])
    gate.wait()
    process.kill()
    process.wait()
    gate.close()
    again = works.open()
    assert again.store.fsck() == []
    assert again.store.get(f"{KEY}/a") is None
    assert "lib/a/x" in paths(works.build("a", good, builder=again))


def test_what_the_host_puts_there_is_one_layer(works: Works) -> None:
    def ids(*ops: str) -> list[str]:
        _, log = works.house.build(f"((from {KEY}) (shell /bin/sh -c) {' '.join(ops)})", builder=works.builder)
        return log.ids[1:]

    one, two, three = text("1", "/a/one"), text("2", "/a/two"), text("3", "/a/one")
    together = ids(one, two, three)
    assert len(together) == 1
    layer = works.store.get(together[0])
    assert layer
    assert works.house.read(layer, "/a/one", "/a/two") == "32"
    assert len(ids(one, two)) == 1
    assert ids(one, two, three) == together
    works.store.delete(together[0])
    assert ids(one, two, three) == together
    apart = ids(one, sh("true"), two)
    assert len(apart) == 3
    assert apart[0] == ids(one)[0]
    assert ids('(copy (from (text "1")) (src one) (dst /a/))') == ids(one), "how it is written does not count"
    assert ids('(copy (from (text "1")) (src two) (dst /a/))') != ids(one)


def test_downloads(works: Works) -> None:
    source = works.house.folder / "source"
    (source / "pkg-1/sub").mkdir(parents=True)
    (source / "pkg-1/sub/file").write_text("packed")
    archive = works.house.folder / "pkg.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source / "pkg-1", "pkg-1")
    checksum = f"sha256={hashlib.sha256(archive.read_bytes()).hexdigest()}"
    url = f'(url "file:///nowhere.tar.gz" {checksum} (mirror "file://{archive}"))'

    def build(op: str) -> tuple[Layer, Log]:
        return works.house.build(f"((from {KEY}) (workdir /src) {op})", builder=works.builder)

    layer, _ = build(f"(copy (from {url}) (src .) (dst ./))")
    assert works.house.read(layer, "/src/sub/file") == "packed"
    layer, _ = build(f"(copy (from {url}) (src ./sub) (dst ./))")
    assert works.house.read(layer, "/src/file") == "packed"
    layer, log = build(f"(copy (from {url}) (src it.tar.gz) (dst it.tar.gz))")
    assert Path(layer.fs, "src/it.tar.gz").read_bytes() == archive.read_bytes()
    archive.unlink()
    again, log = build(f'(copy (from (url "file:///elsewhere" {checksum})) (src it.tar.gz) (dst it.tar.gz))')
    assert (again, log.cached("copy")) == (layer, [True]), "the content counts, not the address"
    with pytest.raises(ObuildError, match=r"test.spec:1:\d+: .*/nothing") as error:
        build(f'(copy (from (url "file:///nothing" sha256={"0" * 64})) (src .) (dst .))')
    assert isinstance(error.value, FetchError)


def test_variables_of_the_machine_count_for_no_id(works: Works) -> None:
    op = '(run (shell "echo jobs=$OBUILD_JOBS $NAME"))'
    spec = f"((from {KEY}) (shell /bin/sh -c) (env NAME mine) {op})"
    given = {"variables": (("OBUILD_JOBS", "7"), ("NAME", "theirs"))}
    first, log = works.house.build(spec, builder=works.open(**given))
    assert "jobs=7 mine\n" in log.text
    again, log = works.house.build(spec, builder=works.open())
    assert (again, log.cached()) == (first, [True])


def test_a_step_before_the_switch_is_everybodys(works: Works) -> None:
    system = '(user (uid 0) (gid 0)) (run (shell "echo from the system > /etc/package")) (user (uid 1000) (gid 1000))'

    def build(name: str) -> Log:
        log = Log()
        spec = recipe(name, install("cat /etc/package")).replace("(user (uid 1000) (gid 1000))", system, 1)
        works.builder.build(language.parse(spec, "t"), Context(""), id=f"{KEY}/{name}", reporter=log)
        return log

    assert build("a").cached() == [False, False]
    log = build("b")
    assert log.cached() == [True, False]
    assert "from the system" in log.text
    assert works.steps() == 1


def test_the_text_of_a_package_builds_its_layer(works: Works) -> None:
    layer = works.build("a", text("one", f"{PREFIX}/lib/a/META"), variant={"with-test": False})
    base = layer.parents[0]
    Path(works.store.path, KEY, "base").symlink_to(f"../steps/{base}")
    same = language.parse(recipe("a", text("one", f"{PREFIX}/lib/a/META")), "typed.spec")
    asked = request(same, works.store)
    assert asked["id"] == layer.id
    assert works.builder.build(same, Context(source="/var/empty"), **asked) == layer
    changed = language.parse(recipe("a", text("two", f"{PREFIX}/lib/a/META")), "typed.spec")
    assert request(changed, works.store) == {}  # somebody's package stays what it is
    works.store.delete(layer.id)
    typed = works.builder.build(changed, Context(source="/var/empty"), **request(changed, works.store))
    assert typed.id == layer.id
    again = works.build("a", text("one", f"{PREFIX}/lib/a/META"), variant={"with-test": False})
    assert works.house.read(again, f"{PREFIX}/lib/a/META") == "one"  # what was typed is not taken for what is planned
    assert request(language.parse(f"((from {KEY}))", "other.spec"), works.store) == {}
