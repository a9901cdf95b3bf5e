"""Image configurations: read, written, read again."""

from __future__ import annotations

import pytest

from obuild.errors import FetchError, UsageError
from obuild.image import PLAIN, Image, format_config, host_platform, parse_config, parse_platform

FULL = Image(
    env=(("PATH", "/bin"), ("EMPTY", ""), ("EQUALS", "a=b")),
    digest="sha256:1",
    user="1000:1000",
    workdir="/home",
    entrypoint=("/init",),
    cmd=("a", "b c"),
    labels=(("a", "1"), ("b", "2")),
    platform="linux/arm/v7",
)


@pytest.mark.parametrize("image", [FULL, Image(platform="linux/amd64"), Image(env=PLAIN, platform="linux/arm64")])
def test_what_is_written_is_read_again(image: Image) -> None:
    assert parse_config(format_config(image, ["sha256:2"]), image.digest) == image


def test_the_configuration_is_what_engines_expect() -> None:
    assert format_config(FULL, ["sha256:2"], created="2024-01-01T00:00:00Z") == {
        "created": "2024-01-01T00:00:00Z",
        "architecture": "arm",
        "os": "linux",
        "variant": "v7",
        "config": {
            "User": "1000:1000",
            "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b"],
            "Entrypoint": ["/init"],
            "Cmd": ["a", "b c"],
            "WorkingDir": "/home",
            "Labels": {"a": "1", "b": "2"},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:2"]},
    }


def test_nulls_as_docker_writes_them_are_nothing() -> None:
    found = parse_config({"config": {"Env": None, "Cmd": None, "Labels": None, "User": None}, "os": "linux"}, "")
    assert found == Image(platform="linux")
    assert parse_config({"config": None}, "") == Image()


@pytest.mark.parametrize("config", [{"config": {"Env": 3}}, {"config": {"Env": [1]}}, {"os": 3}])
def test_nonsense_is_one_error(config: dict[str, object]) -> None:
    with pytest.raises(FetchError, match="makes no sense"):
        parse_config(config, "sha256:1")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("", host_platform()),
        ("linux/amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("armv7l", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("386", "linux/386"),
    ],
)
def test_platforms(text: str, platform: str) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize("text", ["windows/amd64", "linux", "linux/", "linux/a/b/c", "AMD64", "linux/../x", "é"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(UsageError, match="unknown platform"):
        parse_platform(text)
