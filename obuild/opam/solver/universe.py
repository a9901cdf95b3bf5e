"""What can be chosen: the candidates of each name, best first, and what each of them needs.

The rules are opam-0install's with day10's order of versions. All is worked out when it is first asked for: a single
request looks at a few hundred of the 18,000 versions of a repository.
"""

from __future__ import annotations

from obuild.opam.filter import satisfied
from obuild.opam.formula import atoms, pieces, resolve_formula
from obuild.opam.version import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from obuild.opam.formula import Formula
    from obuild.opam.solver.fact import Fact, Facts
    from obuild.opam.solver.rule import Rules

    Links: TypeAlias = tuple[frozenset[str], tuple[Formula, ...], frozenset[str], frozenset[str]]

__all__ = ["DEV", "Universe"]

DEV = "dev"
"""The version of packages that are not of a repository but in a directory of the user's."""
_DEV_KEY = version_key(DEV)


class Universe:
    """The packages of repositories under rules.

    `packages` gives the versions of each name, `facts` what their files say. A name in `pins` has the version `dev`
    alone, with the facts given there; it is available everywhere.
    """

    def __init__(
        self,
        packages: Mapping[str, Sequence[str]],
        facts: Facts,
        rules: Rules,
        pins: Mapping[str, Fact] | None = None,
    ) -> None:
        self.packages, self.rules, self.pins = packages, rules, pins or {}
        self._facts = facts
        self._table: dict[str, str | bool] = dict(rules.variables)
        self._known: dict[tuple[str, str], Fact | None] = {}
        self._candidates: dict[str, tuple[tuple[str, ...], bool]] = {}
        self._links: dict[tuple[str, str, bool], Links] = {}

    def fact(self, name: str, version: str) -> Fact:
        """The facts of a candidate."""
        found = self._fact(name, version)
        if found is None:
            raise KeyError(f"{name}.{version}")
        return found

    def candidates(self, name: str, *, asked: bool = False) -> tuple[str, ...]:
        """The versions of a name that can be chosen, best first; `asked` tells that the user names the package.

        Newest first (or oldest), those with the flag `avoid-version` after all others. When nothing but such versions
        is available there is no candidate at all, unless asked for.
        """
        if name not in self._candidates:
            self._candidates[name] = self._order(name)
        versions, avoided = self._candidates[name]
        return () if avoided and not (asked and not self.rules.day10) else versions

    def is_avoided(self, name: str) -> bool:
        """Whether all versions of a name that are available are to be avoided."""
        return not self.candidates(name) and self._candidates[name][1]

    def is_unreadable(self, name: str, version: str = "") -> bool:
        """Whether no opam file of a name can be read, or that of one of its versions."""
        versions = (version,) if version else self.packages.get(name, ())
        return name not in self.pins and not any(self._fact(name, each) for each in versions)

    def available(self, name: str) -> tuple[str, ...]:
        """All versions of a name that are available, those to be avoided, too, and the newest in front."""
        self.candidates(name)
        return tuple(sorted(self._candidates[name][0], key=version_key, reverse=True))

    def classes(self, name: str, version: str) -> tuple[str, ...]:
        """The conflict classes of a candidate."""
        *_, classes, _ = self.fact(name, version)
        return classes

    def load(self) -> None:
        """Read what the files of all packages say."""
        for name in self.packages:
            self.candidates(name)

    def _order(self, name: str) -> tuple[tuple[str, ...], bool]:
        """Available versions, best first, and whether all of them are to be avoided."""
        if name in self.pins:
            return (DEV,), False
        available = [(version, self._fact(name, version)) for version in self.packages.get(name, ())]
        usable = [(fact[-1], version) for version, fact in available if fact and self._is_available(version, fact)]
        usable.sort(key=lambda item: version_key(item[1]), reverse=not self.rules.prefer_oldest)
        usable.sort(key=lambda item: item[0])
        return tuple([version for _, version in usable]), bool(usable) and usable[0][0]

    def _is_available(self, version: str, fact: Fact) -> bool:
        _, _, _, available, *_ = fact
        return available is True or satisfied(available, {**self._table, "version": version}.get)

    def _fact(self, name: str, version: str) -> Fact | None:
        key = (name, version)
        if key not in self._known:
            self._known[key] = self.pins[name] if name in self.pins else self._facts(name, version)
        return self._known[key]

    def needs(self, name: str, version: str, *, tested: bool = False) -> tuple[Formula, Formula]:
        """What a candidate depends on and what it conflicts with, no filters left in either.

        Dependencies of the build and those that are only needed afterwards (`post`) count; those of tests and
        documentation where the rules have them, and when the package is to be `tested`.
        """
        depends, conflicts, *_ = self.fact(name, version)
        lookup = self.scope(version, tested=tested).get
        return resolve_formula(depends, lookup), resolve_formula(conflicts, lookup)

    def links(self, name: str, version: str, *, tested: bool = False) -> Links:
        """The names that a candidate depends on, the alternatives beside them, the names that it can use, and those
        that it only needs after its own build.
        """
        key = (name, version, tested)
        if key not in self._links:
            depends, _, depopts, *_ = self.fact(name, version)
            needed = pieces(self.needs(name, version, tested=tested)[0])
            # Whether something is there for tests alone plays no part in day10's test for `post`.
            before, after = (
                frozenset([name for name, _ in atoms(resolve_formula(depends, scope.get))])
                for scope in [self.scope(version, tested=True, post=post) for post in (False, True)]
            )
            self._links[key] = (
                frozenset([piece[1] for piece in needed if piece[0] == "atom"]),
                tuple([piece for piece in needed if piece[0] == "or"]),
                frozenset([name for name, _ in atoms(depopts)]),
                after - before,
            )
        return self._links[key]

    def scope(self, version: str, *, tested: bool, post: bool = True) -> dict[str, str | bool]:
        """The variables in the dependencies of a package of this version."""
        return {
            **self._table,
            "version": version,
            "build": True,
            "post": post,
            "with-test": tested and self.rules.with_test,
            "with-doc": tested and self.rules.with_doc,
            "with-dev-setup": False,
            "dev": version_key(version) == _DEV_KEY,
        }
