"""What an image says beside its files: environment, user, command, platform; read from and written as OCI config.

Docker and OCI use the same names, so one reader serves an engine's answers, a registry's blobs and a layout on disk.
A build uses `env` alone, as OBuilder does; the rest is kept for `obuild export`.
"""

from __future__ import annotations

import os

from obuild.errors import FetchError, UsageError
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from obuild.store import Layer, Store

__all__ = ["PLAIN", "Image", "describe", "format_config", "host_platform", "parse_config", "parse_platform"]

MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""The kernel's words for a machine, and the ones images use."""


PLAIN = (("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),)
"""The environment of a root file system that is no image and so has none: dpkg refuses to work without a PATH."""


@value
class Image:
    """A base as fetched: `env` keeps the image's order; `digest` names its content (`sha256:…`).

    `labels` are sorted pairs; `platform` is `linux/amd64` or, with a variant, `linux/arm/v7`.
    """

    env: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    platform: str = ""


def parse_config(config: Mapping[str, Any], digest: str) -> Image:
    """The `Image` that an OCI image configuration describes. Raises `FetchError` when it is not one."""
    try:
        inner = config.get("config") or {}
        return Image(
            env=tuple(_pair(item) for item in inner.get("Env") or ()),
            digest=digest,
            user=inner.get("User") or "",
            workdir=inner.get("WorkingDir") or "",
            entrypoint=tuple(inner.get("Entrypoint") or ()),
            cmd=tuple(inner.get("Cmd") or ()),
            labels=tuple(sorted((inner.get("Labels") or {}).items())),
            platform="/".join(filter(None, (config.get("os"), config.get("architecture"), config.get("variant")))),
        )
    except (AttributeError, TypeError) as error:
        raise FetchError(f'image "{digest}" has a configuration that makes no sense: {error}') from None


def _pair(text: str) -> tuple[str, str]:
    name, _, content = text.partition("=")
    return name, content


def format_config(image: Image, layers: Iterable[str], *, created: str = "") -> dict[str, Any]:
    """The OCI image configuration of `image` with the uncompressed `layers`' digests; `created` is RFC 3339 or ""."""
    system, architecture, *variant = (image.platform or host_platform()).split("/")
    inner: dict[str, Any] = {
        "User": image.user,
        "Env": [f"{name}={content}" for name, content in image.env],
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.cmd),
        "WorkingDir": image.workdir,
        "Labels": dict(image.labels),
    }
    config: dict[str, Any] = {"created": created, "architecture": architecture, "os": system}
    config["variant"] = variant[0] if variant else ""
    config["config"] = {name: item for name, item in inner.items() if item}
    config["rootfs"] = {"type": "layers", "diff_ids": list(layers)}
    return {name: item for name, item in config.items() if item or name == "config"}


def describe(store: Store, layer: Layer) -> Image:
    """The image that a layer is: what its last step had, and for the rest what its base says of itself.

    User and directory are those of the last step, as that has run with them; a base alone keeps its own.
    """
    place = layer.meta().get("context", {})
    base = layer
    while "config" not in base.meta():
        below = store.get(base.meta()["parents"][0]) if base.meta()["parents"] else None
        if below is None:
            break
        base = below
    found = base.meta()
    image = parse_config(found.get("config", {}), found.get("image", ""))
    if base.id == layer.id:
        return replace(image, env=layer.env())
    uid, gid = place.get("user", (0, 0))
    return replace(
        image,
        env=tuple((name, text) for name, text in place.get("env", ())),
        user="" if (uid, gid) == (0, 0) else f"{uid}:{gid}",
        workdir=place.get("workdir", "/"),
    )


def host_platform() -> str:
    """The platform of the running kernel, in an image's words: `linux/amd64`."""
    machine = os.uname().machine
    return f"linux/{MACHINES.get(machine, machine)}"


def parse_platform(text: str) -> str:
    """`linux/amd64`, `arm64` or a kernel's word for a machine (`aarch64`), as `linux/…`; "" is the host's.

    Raises `UsageError` for another system than Linux and for what is no platform.
    """
    if not text:
        return host_platform()
    parts = text.split("/")
    if parts[0] != "linux":
        parts = ["linux", *MACHINES.get(text, text if text in MACHINES.values() else "").split("/")]
    words = all(part.isalnum() and part.isascii() and part == part.lower() for part in parts)
    if not words or not 2 <= len(parts) <= 3:
        raise UsageError(f'unknown platform "{text}"', hint='write it like "linux/amd64" or "linux/arm/v7"')
    return "/".join(parts)
