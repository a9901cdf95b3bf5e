"""Plans of small worlds and of the example repository, on a base of which nothing special is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solving import World

from obuild.opam import buildid
from obuild.opam.package import Package, parse_package
from obuild.opam.platform import parse_platform
from obuild.opam.repo import open_repository
from obuild.opam.solver import NoSolution, Request, Rules, Solution, open_solver, parse_request, variable_table
from obuild.plan import PackageBuild, Plan, compile, plan
from obuild.platform import Base
from obuild.spec import Op, Run, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.filter import Contents

EXAMPLES = Path(__file__).parent.parent / "examples" / "opam-repository"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base(key: str = "debian-13-x86_64", packages: tuple[str, ...] = (), **variables: str) -> Base:
    env = (("PATH", PATH), ("HOME", "/home/opam"))
    return Base(parse_platform(key), "b" * 64, env, variables, frozenset(packages))


class Repo(World):
    """Packages by the texts of their opam files, enough of a repository for plans."""

    def text(self, package: Package) -> bytes:
        return f"# {package}\n".encode()

    def path(self, package: Package) -> str:
        return f"packages/{package}/opam"


def id_rules(on: Base) -> buildid.Rules:
    return buildid.Rules(variables=dict(variable_table(on.platform, given=tuple(on.variables.items()))))


def planned(texts: Mapping[str, str], asked: str, on: Base | None = None, **options: Any) -> Plan:
    """The plan in which all packages of a small world are the solution of the packages asked for."""
    repo, on = Repo(texts), on or base()
    wanted = tuple([(name, "") for name in asked.split()])
    solution = Solution(Request(wanted), tuple(map(parse_package, texts)))
    return plan(solution, repo, on, rules=id_rules(on), **options)  # type: ignore[arg-type]


def example(
    asked: str, on: Base | None = None, *, with_test: bool = False, with_doc: bool = False, **options: Any
) -> Plan:
    """The plan of packages of the example repository."""
    on = on or base()
    repository = open_repository(str(EXAMPLES), "")
    variables = variable_table(on.platform, given=tuple(on.variables.items()))
    solver, _ = open_solver(repository, Rules(variables, with_test=with_test, with_doc=with_doc))
    request = Request(tuple([pair for text in asked.split() for pair in parse_request(text).wanted]))
    answer = solver.solve(request, report="0install")
    assert not isinstance(answer, NoSolution), answer.report
    return plan(answer, repository, on, rules=id_rules(on), with_test=with_test, with_doc=with_doc, **options)


def names(found: Plan, build: PackageBuild) -> str:
    """The packages of the layers that a build is stacked upon."""
    return " ".join([each.package.name for each in found.parents(build)])


def target(found: Plan) -> PackageBuild:
    return found.by_key[found.targets[-1]]


def compiled(
    texts: Mapping[str, str], asked: str, variables: Mapping[str, Mapping[str, Contents] | None] = {}, **options: Any
) -> Spec:
    """The spec of the last package asked for; `variables` are what is recorded of others, by name."""
    found = planned(texts, asked, **options)
    return compile(target(found), found, lambda build: variables.get(build.package.name, {}))


def commands(spec: Spec) -> list[str]:
    return [op.shell for op in spec.ops if isinstance(op, Run)]


def ops(spec: Spec, kind: type[Op]) -> list[Any]:
    return [op for op in spec.ops if isinstance(op, kind)]
