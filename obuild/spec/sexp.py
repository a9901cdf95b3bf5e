"""S-expressions: text to nodes, and nodes to the one text that step ids are made of.

The syntax is that of OCaml's sexplib, read by a subclass of sexpdata's parser: atoms stay text (`5.10`, `nil` and `007`
are not numbers or lists), and every node knows where it stands. Text that is not UTF-8 keeps its bytes, as Python's
`surrogateescape`; an escape such as `\\226` is a byte, so that three of them make one character.
"""

from __future__ import annotations

import re
from bisect import bisect_right

import sexpdata

from obuild.errors import Problem, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

__all__ = ["Atom", "List", "Node", "Source", "escape", "format", "is_bare", "parse", "quote", "read"]

DEPTH = 200
"""How deeply lists may nest: a hundred builds inside one another, and far from the end of Python's stack."""


class Atom(str):
    """A text that stands from `offset` up to `end` of its source, quotes included."""

    __slots__ = ("end", "offset")
    offset: int
    end: int


class List(tuple["Atom | List", ...]):
    """A list that stands from `offset` up to `end` of its source, parentheses included."""

    offset: int
    end: int


Node = Atom | List
if TYPE_CHECKING:
    Tree: TypeAlias = str | Sequence["Tree"]


class Source:
    """A text read: its one `node`, and the `comments` around and inside of it as (offset, end), in order."""

    def __init__(self, text: str, path: str, node: Node, comments: Sequence[tuple[int, int]]) -> None:
        self.text, self.path, self.node, self.comments = text, path, node, comments
        self._lines: list[int] = []

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column, both from 1, of a character."""
        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def problem(self, node: Node, message: str, hint: str = "") -> Problem:
        """Something wrong with `node`."""
        return Problem.at(message, self.path, self.text, node.offset, hint=hint)


def parse(text: str | bytes, path: str) -> Node:
    """The one expression in `text`; raises `SpecError` with its place in `path` where there is none, or more."""
    return read(text, path).node


def read(text: str | bytes, path: str) -> Source:
    """As `parse`, with the comments and the means to tell where a node stands."""
    string = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    if not string.isascii():
        string = _check(string, path).removeprefix("\ufeff")
    reader = _Reader(string, path)
    nodes: list[Node] = reader.parse()
    if not nodes:
        raise SpecError([Problem("there is no expression in it, only blanks and comments", path)])
    if len(nodes) > 1:
        raise reader.error(nodes[1].offset, "more than one expression", hint="put one pair of parentheses around all")
    return Source(string, path, nodes[0], sorted(reader.comments))


def _check(text: str, path: str) -> str:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise SpecError([Problem.at("half of a character", path, text, error.start)]) from None
    return text


class _Reader(sexpdata.Parser):  # type: ignore[misc]
    """sexpdata's parser with sexplib's rules; its lists are gathered on a stack, so that no nesting is too deep.

    sexpdata works out the tables below again for each text; here they are made once and nothing is left to set up.
    """

    brackets = {"(": ")"}  # noqa: RUF012 - the names and types are sexpdata's
    closing_brackets = {")"}  # noqa: RUF012
    atom_end = set(' \t\n\f\r()";')  # noqa: RUF012
    atom_end_or_escape_re = re.compile('[ \t\n\f\r()";]')  # no backslash: in a bare atom it is a character like others
    blanks = re.compile("[ \t\n\f\r]+")

    def __init__(self, string: str, path: str) -> None:
        self.string, self.path = string, path
        self.comments: list[tuple[int, int]] = []
        # The lists being read, innermost last: offset, items, and the offsets of `#;` that wait for their expression.
        self.stack: list[tuple[int, list[Node], list[int]]] = [(0, [], [])]

    def error(self, offset: int, message: str, hint: str = "") -> SpecError:
        return SpecError([Problem.at(message, self.path, self.string, offset, hint=hint)])

    def parse_sexp(self, i: int) -> tuple[int, list[Node]]:
        text, size = self.string, len(self.string)
        while i < size:
            c = text[i]
            if c in " \t\n\f\r":
                i = self.blanks.match(text, i).end()  # type: ignore[union-attr] # it has at least `c`
            elif c == "(":
                i = self._open(i)
            elif c == ")":
                i = self._close(i)
            elif c == '"':
                i, atom = self.parse_str(i)
                self._add(atom)
            elif c == ";" or text.startswith(("#|", "#;", "|#"), i):
                i = self._comment(i)
            else:
                i, atom = self.parse_atom(i)
                self._add(atom)
        return i, self._end()

    def parse_atom(self, i: int) -> tuple[int, Atom]:
        end, token = super().parse_atom(i)
        mark = min((at for at in (token.find("#|"), token.find("|#")) if at >= 0), default=-1)
        if mark >= 0:
            text = token[mark : mark + 2]
            raise self.error(i + mark, f'"{text}" inside an atom', hint="put the atom in double quotes")
        return end, _placed(Atom(token), i, end)

    def atom(self, token: str) -> str:
        return token  # sexpdata would make numbers, booleans and lists of some

    def parse_str(self, i: int) -> tuple[int, Atom]:
        end = self._string_end(i)
        raw = self.string[i + 1 : end - 1]
        return end, _placed(Atom(self._unescape(raw, i + 1) if "\\" in raw else raw), i, end)

    def _string_end(self, start: int) -> int:
        """The offset behind the closing quote of the string at `start`."""
        text, i = self.string, start + 1
        while True:
            end = text.find('"', i)
            if end < 0:
                raise self.error(start, "the string is never closed", hint="a double quote is missing")
            slash = text.find("\\", i, end)
            if slash < 0:
                return end + 1
            i = slash + 2

    def _unescape(self, raw: str, offset: int) -> str:
        def decode(match: re.Match[str]) -> str:
            escape = match[1]
            if escape in _ESCAPES:
                return _ESCAPES[escape]
            if escape[0] in "\r\n" and escape != "\r":
                return ""  # the end of the line, and the blanks that the next one begins with
            if escape[0].isdecimal():
                return self._byte(escape, 10, offset + match.start())
            return self._byte(escape[1:], 16, offset + match.start()) if escape[0] == "x" else match[0]

        text = re.sub(r"(?s)\\(\r?\n[ \t]*|[0-9]{1,3}|x[0-9a-fA-F]{0,2}|.)", decode, raw)
        # Bytes that were escaped one by one may be a character together.
        return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")

    def _byte(self, digits: str, radix: int, offset: int) -> str:
        if len(digits) != (3 if radix == 10 else 2):
            rule = 'three decimal digits ("\\010")' if radix == 10 else 'two hexadecimal digits ("\\x0a")'
            raise self.error(offset, "an escape is cut short", hint=f"it takes {rule}")
        byte = int(digits, radix)
        if byte > 255:
            raise self.error(offset, f'"\\{digits}" is not a byte', hint="the highest is 255")
        return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)

    def _add(self, node: Node) -> None:
        _, items, dropped = self.stack[-1]
        if not dropped:
            items.append(node)
            return
        start = dropped.pop()
        self.comments = [comment for comment in self.comments if comment[0] < start]
        self.comments.append((start, node.end))

    def _open(self, i: int) -> int:
        if len(self.stack) > DEPTH:
            raise self.error(i, f"lists are nested more than {DEPTH} deep")
        self.stack.append((i, [], []))
        return i + 1

    def _close(self, i: int) -> int:
        if len(self.stack) == 1:
            raise self.error(i, '")" without a "("')
        start, items, dropped = self.stack.pop()
        if dropped:
            raise self.error(dropped[0], '"#;" without an expression to leave out')
        self._add(_placed(List(items), start, i + 1))
        return i + 1

    def _end(self) -> list[Node]:
        offset, items, dropped = self.stack[-1]
        if len(self.stack) > 1:
            raise self.error(offset, '"(" is never closed', hint=self._suspect())
        if dropped:
            raise self.error(dropped[0], '"#;" without an expression to leave out')
        return items

    def _suspect(self) -> str:
        """Where the missing ")" belongs, if indentation tells: before a list that begins left of what holds it."""
        size = len(self.string)
        whole = _placed(List(), 0, size)
        for start, items, _ in reversed(self.stack[1:]):
            whole = _placed(List([*items, whole]), start, size)
        source = Source(self.string, self.path, whole, ())
        waiting = [whole]
        while waiting:
            parent = waiting.pop(0)
            above, left = source.place(parent.offset)
            for child in parent:
                line, column = source.place(child.offset)
                if (
                    line > above
                    and column <= left
                    and not self.string[child.offset - column + 1 : child.offset].strip()
                ):
                    return f"judging by the indentation, the one at line {above}, column {left} lacks its end"
            waiting += [child for child in parent if isinstance(child, List)]
        return ""

    def _comment(self, i: int) -> int:
        text = self.string
        if text.startswith("#;", i):
            self.stack[-1][2].append(i)
            return i + 2
        if text.startswith("|#", i):
            raise self.error(i, '"|#" without a "#|"')
        newline = text.find("\n", i)
        end = self._block_end(i) if text[i] == "#" else newline if newline >= 0 else len(text)
        self.comments.append((i, end))
        return end

    def _block_end(self, start: int) -> int:
        """The offset behind the comment at `start`; as in sexplib comments nest, and strings hide their marks."""
        depth, i = 1, start + 2
        for_mark = re.compile(r'#\||\|#|"')
        while depth:
            match = for_mark.search(self.string, i)
            if not match:
                raise self.error(start, "the comment is never closed", hint='a "|#" is missing')
            depth += {"#|": 1, "|#": -1, '"': 0}[match[0]]
            i = self._string_end(match.start()) if match[0] == '"' else match.end()
        return i


def _placed(node: Any, offset: int, end: int) -> Any:
    node.offset, node.end = offset, end
    return node


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "\\": "\\", '"': '"', "'": "'"}
_NAMED = {ord(char): f"\\{name}" for name, char in _ESCAPES.items() if char != "'"}
_SPECIAL = frozenset(' "();\\')


def is_bare(text: str) -> bool:
    """Whether an atom can be written without quotes: a printable ASCII text without a delimiter or comment mark."""
    plain = text.isascii() and text.isprintable() and text != "" and _SPECIAL.isdisjoint(text)
    return plain and "#|" not in text and "|#" not in text


def format(tree: Tree) -> str:
    """The canonical text of nested sequences of texts: sexplib's machine format, byte for byte, as step ids need it.

    It is ASCII; two different trees never have the same text. Blanks stand only between two atoms without quotes.
    """
    out: list[str] = []
    append = out.append
    bare_before = False
    waiting = [iter((tree,))]
    while waiting:
        for node in waiting[-1]:
            if isinstance(node, str):
                bare = is_bare(node)
                append((" " + node if bare_before else node) if bare else _escape(node))
                bare_before = bare
            else:
                append("(")
                bare_before = False
                waiting.append(iter(node))
                break
        else:
            waiting.pop()
            append(")")
            bare_before = False
    return "".join(out[:-1])


def _escape(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return '"' + "".join([_NAMED.get(ord(c)) or (c if " " <= c <= "~" else f"\\{ord(c):03}") for c in data]) + '"'


def quote(text: str) -> str:
    """An atom as a person writes it: without quotes where it needs none."""
    return text if is_bare(text) else f'"{escape(text)}"'


def escape(text: str) -> str:
    """What stands between the quotes of an atom that a person writes: printable characters are as they are."""
    shown = text.translate(_NAMED)
    return shown if shown.isprintable() else "".join([c if c.isprintable() else _escape(c)[1:-1] for c in shown])
