"""Random opam files, to have a real opam and ours read the same."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Generator"]

MIDDLES = ("", "", "", "", " ", r"\"", r"\\", r"\n", r"\t", "%%", "%{a}%", r"\n\"\"\"", r"\n\n", r"\065")


class Generator:
    """Makes opam files of every shape, some of them wrong, with texts of lengths that bring lines near the margin."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def any(self, *choices: str) -> str:
        return self.random.choice(choices)

    def some(self, make: Callable[[], str], most: int, between: str = " ") -> str:
        return between.join([make() for _ in range(self.random.randint(0, most))])

    def word(self) -> str:
        size = self.random.choice((1, 3, 5, self.random.randint(1, 30), self.random.randint(1, 72)))
        return "".join(self.random.choices("abcdefgh", k=size))

    def text(self) -> str:
        middle = self.any(*MIDDLES)
        return f'"{self.word()}{middle}{self.word()}"'

    def name(self) -> str:
        return self.any("os", "with-test", "build", "post", "version", "a:installed", "_:v", "a+b:c", self.word())

    def filter(self, depth: int = 3) -> str:
        kind = self.random.randrange(8 if depth else 3)
        if kind < 3:
            atom = self.any(self.name(), self.text(), "true", "7")
            return atom if kind == 0 else f"{atom} {self.relation()} {self.any(self.name(), self.text())}"
        inner = self.filter(depth - 1)
        return self.joined(inner, lambda: self.filter(depth - 1), f"!{inner}", f"?{inner}", f"({inner})")

    def joined(self, left: str, right: Callable[[], str], *others: str) -> str:
        return self.any(f"{left} & {right()}", f"{left} | {right()}", *others)

    def relation(self) -> str:
        return self.any("=", "!=", "<", "<=", ">", ">=")

    def condition(self, depth: int = 3) -> str:
        kind = self.random.randrange(7 if depth else 2)
        if kind < 2:
            version = self.any('"1.2"', '"2~rc1"', '"%{version}%"', "version", f'"{self.word()}"')
            return self.filter(1) if kind else f"{self.relation()} {version}"
        inner = self.condition(depth - 1)
        return self.joined(inner, lambda: self.condition(depth - 1), inner, f"!({inner})", f"({inner})")

    def package(self, depth: int = 3) -> str:
        kind = self.random.randrange(6 if depth else 3)
        if kind < 3:
            return f'"{self.word()}"' + (f" {{{self.condition()}}}" if kind else "")
        inner = self.package(depth - 1)
        return self.joined(inner, lambda: self.package(depth - 1), f"({inner})")

    def packages(self) -> str:
        return f"[{self.some(self.package, 5)}]"

    def filtered(self, value: str) -> str:
        return f"{value} {{{self.filter()}}}" if self.random.random() < 0.3 else value

    def command(self) -> str:
        arguments = self.some(lambda: self.filtered(self.any(self.text(), self.name())), 7)
        return self.filtered(f"[{arguments}]")

    def commands(self) -> str:
        return self.any(self.command(), f"[{self.some(self.command, 4)}]", self.name())

    def texts(self) -> str:
        filtered = self.some(lambda: self.filtered(self.text()), 4)
        return self.any(self.text(), f"[{self.some(self.text, 6)}]", f"[{filtered}]")

    def update(self) -> str:
        return f"{self.word().upper()} {self.any('=', '+=', ':=', '=+', '=:', '=+=')} {self.text()}"

    def updates(self) -> str:
        return self.any(self.update(), f"[{self.update()}]", f"[{self.some(lambda: f'[{self.update()}]', 3)}]")

    def checksum(self) -> str:
        kind, size = self.random.choice((("md5=", 32), ("", 32), ("sha256=", 64), ("SHA512=", 128), ("sha1=", 40)))
        return f'"{kind}{"".join(self.random.choices("0123456789abcdefABCDEF", k=size))}"'

    def source(self) -> str:
        address = f'"{self.any("https", "git+https", "http", "git", "ftp")}://{self.word()}/{self.word()}"'
        checksum = self.any(f"checksum: {self.checksum()}", f"checksum: [{self.some(self.checksum, 3)}]")
        mirrors = self.any("", f'mirrors: ["https://{self.word()}" "https://{self.word()}"]')
        return f"{{ {checksum} {mirrors} src: {address} }}"

    def wrong(self) -> str:
        return self.any("3", "[3]", "[[3]]", "[]", "[[]]", "(a b)", '"x" {a}', '[["a"] "b"]', '"a" = "b"', "[a [b]]")

    def file(self) -> bytes:
        makers = {
            **dict.fromkeys(("depends", "depopts", "conflicts"), self.packages),
            **dict.fromkeys(("build", "install", "remove", "run-test", "build-test", "build-doc"), self.commands),
            **dict.fromkeys(("setenv", "build-env"), self.updates),
            **dict.fromkeys(("patches", "substs"), self.texts),
            "available": lambda: self.any(self.filter(4), f"[{self.filter(4)}]"),
            "os": lambda: self.any('"linux"', '["a" | !"b"]', '[!("a" "b")]'),
            "ocaml-version": lambda: self.any('[>= "4" & < "5"]', '[!(= "4" | > "5")]'),
            "features": lambda: f"[{self.word()} {{{self.package()}}} {{{self.text()}}}]",
            "extra-files": lambda: f"[{self.some(lambda: f'[{self.text()} {self.checksum()}]', 3)}]",
        }
        names = self.random.sample(sorted(makers), self.random.randint(1, 6))
        lines = [f"{name}: {self.wrong() if self.random.random() < 0.06 else makers[name]()}" for name in names]
        lines += [self.any("", f"url {self.source()}"), self.any("", f'extra-source "{self.word()}" {self.source()}')]
        return "\n".join(['opam-version: "2.0"', *lines, ""]).encode()
