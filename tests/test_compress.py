"""Gzip in threads: a stream that everybody reads, the same whatever the number of threads and the cut of the input."""

from __future__ import annotations

import gzip
import os
import random
import subprocess

import pytest
from conftest import needs

from obuild.compress import BLOCK, gzip_chunks

TEXT = b"".join(b"line %d of a text that compresses\n" % (number % 5000) for number in range(100_000))
CONTENTS = [b"", b"x", os.urandom(BLOCK), TEXT, TEXT[: BLOCK + 1], bytes(3 * BLOCK)]


@pytest.mark.parametrize("content", CONTENTS, ids=["empty", "one", "random", "text", "block+1", "zeros"])
def test_everybody_can_read_it(content: bytes) -> None:
    packed = b"".join(gzip_chunks([content]))
    assert gzip.decompress(packed) == content


@needs("gzip")
def test_gzip_can_read_it() -> None:
    packed = b"".join(gzip_chunks([TEXT]))
    assert subprocess.run(["gzip", "-dc"], input=packed, check=True, capture_output=True).stdout == TEXT


def test_bytes_do_not_depend_on_threads_or_chunks() -> None:
    cuts = random.Random(1)
    chunks, at = [], 0
    while at < len(TEXT):
        size = cuts.randrange(1, 200_000)
        chunks.append(TEXT[at : at + size])
        at += size
    assert b"".join(gzip_chunks(chunks, threads=1)) == b"".join(gzip_chunks([TEXT], threads=4))


def test_cutting_into_blocks_costs_little() -> None:
    assert len(b"".join(gzip_chunks([TEXT]))) < 1.02 * len(gzip.compress(TEXT, 4))
