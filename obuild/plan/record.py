"""What the finished layers of a plan say of themselves."""

from __future__ import annotations

from obuild.plan.build import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obuild.opam.filter import Contents
    from obuild.plan.build import PackageBuild, Plan
    from obuild.store import Layer, Store

__all__ = ["layer_id", "package_layer", "recorded"]


def layer_id(build: PackageBuild, plan: Plan) -> str:
    """The id of a build's layer in a store: `debian-13-x86_64/KEY`."""
    return f"{plan.base.platform.key}/{build.key}"


def package_layer(store: Store, build: PackageBuild, plan: Plan) -> Layer | None:
    """The finished layer of a build on this base and of this variant, stamped as used now; None when there is none."""
    from obuild.store.package import find

    return find(store, layer_id(build, plan), facts(build, plan))


def recorded(store: Store | None, plan: Plan) -> Callable[[PackageBuild], Mapping[str, Contents] | None]:
    """The variables that packages left in their `.config`, by their finished layers; None without such a layer."""

    def variables(build: PackageBuild) -> Mapping[str, Contents] | None:
        layer = store and package_layer(store, build, plan)
        if not layer:
            return None
        found = layer.meta().get("opam", {}).get("variables", {})
        return {name: tuple(text) if isinstance(text, list) else text for name, text in found.items()}

    return variables
