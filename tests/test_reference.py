"""Docker references by Docker's own rules."""

from __future__ import annotations

import pytest

from obuild.errors import UsageError
from obuild.reference import parse_digest, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("debian", "debian:latest"),
        ("debian:13", "debian:13"),
        ("docker.io/library/debian:13", "debian:13"),
        ("index.docker.io/library/debian:13", "debian:13"),
        ("library/debian", "debian:latest"),
        ("docker.io/debian", "debian:latest"),
        ("ocaml/opam:debian-13-ocaml-5.3", "ocaml/opam:debian-13-ocaml-5.3"),
        ("library/a/b", "library/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/a/b:T_1.x-y", "localhost:5000/a/b:T_1.x-y"),
        ("host.example:80/a", "host.example:80/a:latest"),
        ("Host/a", "Host/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("a__b/c-d.e", "a__b/c-d.e:latest"),
        ("a---b", "a---b:latest"),
        (f"debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:13@{DIGEST}", f"debian@{DIGEST}"),
    ],
)
def test_canonical_form(text: str, shortest: str) -> None:
    assert str(parse_reference(text)) == shortest
    assert parse_reference(shortest) == parse_reference(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Debian", '"Debian" is no part of a name'),
        ("debian:", '"" is no tag'),
        ("debian:.x", '".x" is no tag'),
        ("debian:" + "x" * 129, "is no tag"),
        ("debian:a b", '"a b" is no tag'),
        ("a//b", '"" is no part of a name'),
        ("a/", '"" is no part of a name'),
        ("a___b", '"a___b" is no part of a name'),
        ("a._b", '"a._b" is no part of a name'),
        ("-a", '"-a" is no part of a name'),
        ("a.", '"a." is no part of a name'),
        ("../a", '".." is no host'),
        ("a..b/c", '"a..b" is no host'),
        ("-a.b/c", '"-a.b" is no host'),
        ("ho_st:80/a", '"ho_st:80" is no host'),
        ("host:port/a", '"host:port" is no host'),
        (":80/a", '":80" is no host'),
        ("debian@sha256:12", '"sha256:12" is no digest'),
        (f"debian@{DIGEST.upper()}", "is no digest"),
        ("debian@md5:" + "0" * 32, "is no digest"),
        ("", '"" is no part of a name'),
        ("é", '"é" is no part of a name'),
    ],
)
def test_the_wrong_part_is_named(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match="is no Docker reference") as caught:
        parse_reference(text)
    assert wrong in str(caught.value)


@pytest.mark.parametrize("text", ["localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "[::1]:5000/x"])
def test_registries_of_this_machine_may_speak_plain_http(text: str) -> None:
    assert parse_reference(text).insecure


@pytest.mark.parametrize("text", ["debian", "localhost", "host.example:5000/x", "a/localhost/x", "127x/y"])
def test_others_may_not(text: str) -> None:
    assert not parse_reference(text).insecure


def test_digests_that_could_be_paths_are_refused() -> None:
    assert parse_digest(DIGEST) == ("sha256", DIGEST[7:])
    for text in ("sha256:../../etc/passwd", "sha256:" + "/" * 64, "x:" + "0" * 64, DIGEST[7:]):
        with pytest.raises(ValueError, match="is no digest"):
            parse_digest(text)
