"""Images straight from a registry, without any engine, by skopeo.

skopeo does what needs to know registries: names, mirrors, credentials (its own auth file or Docker's). It saves an
image as it is (`dir:`); copying to `oci:` would rewrite manifest and configuration, and so change their digests.
"""

from __future__ import annotations

import hashlib

from obuild import system
from obuild.errors import FetchError
from obuild.fetch import program
from obuild.fetch.layers import choose, parse_json
from obuild.retry import passes
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.reference import Reference

__all__ = ["available", "download", "inspect"]


def available() -> bool:
    """Whether registries can be asked at all: skopeo is installed."""
    return system.find("skopeo") is not None


def inspect(reference: Reference, platform: str, *, cancel: Cancel | None = None) -> tuple[str, dict[str, Any]]:
    """The digest and content of the manifest of an image for `platform`.

    Raises `FetchError`, temporary when the network or the registry is at fault.
    """
    name = str(reference)
    while True:
        raw = _skopeo(reference, "inspect", "--raw", *_tls(reference, ""), cancel=cancel)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if reference.digest.startswith("sha256:") and digest != reference.digest:
            raise FetchError(f'the registry answered for "{reference}" with "{digest}"')
        found = parse_json(raw, name)
        if "manifests" not in found:
            return reference.digest or digest, found
        reference = replace(reference, tag="", digest=choose(found, platform, name))


def download(reference: Reference, folder: str, log: Callable[[bytes], None], *, cancel: Cancel | None = None) -> None:
    """Save the manifest and blobs of an image under their hexadecimal digests in the directory `folder`."""
    _skopeo(reference, "copy", *_tls(reference, "src-"), to=f"dir:{folder}", log=log, cancel=cancel)


def _tls(reference: Reference, side: str) -> tuple[str, ...]:
    return (f"--{side}tls-verify=false",) if reference.insecure else ()


def _skopeo(
    reference: Reference,
    command: str,
    *rest: str,
    log: Callable[[bytes], None] | None = None,
    cancel: Cancel | None = None,
    to: str = "",
) -> bytes:
    """Run skopeo on a reference; its output goes to `log`, or is returned without one."""
    argv = ["skopeo", command, *rest, f"docker://{reference}", *filter(None, [to])]
    output, problem = program.run(argv, log=log, cancel=cancel)
    if problem:
        raise _failure(reference, problem)
    return output


def _failure(reference: Reference, said: str) -> FetchError:
    """What skopeo's last words mean: `time="…" level=fatal msg="…"`."""
    last = said.rpartition("\n")[2]
    _, found, message = last.partition('msg="')
    message = message.removesuffix('"').replace('\\"', '"') if found else last
    message = message.rpartition(f'"docker://{reference}": ')[2]
    hint = ""
    if any(word in message.lower() for word in ("unauthorized", "denied", "authentication required")):
        hint = "check the name; if the image is private, log in with `skopeo login` or `docker login`"
    elif "unknown" in message.lower():
        hint = "check the name and the tag"
    elif "dial tcp" in message:
        hint = "without that network, take another base: --image NAME=debootstrap:SUITE"
    return FetchError(f'can not get "{reference}": {message}', hint=hint, temporary=passes(message))
