"""Keys of layers, and what packages see of them."""

from __future__ import annotations

from obuild.opam.key import dev_key, is_dev, layer_key, shown_id

ID = "77" * 32


def test_a_plain_package_is_known_by_its_build_id() -> None:
    assert layer_key(ID) == ID
    assert not is_dev(ID)
    assert shown_id(ID) == ID


def test_variants_are_suffixes() -> None:
    assert layer_key(ID, tested=True) == f"{ID}+test"
    assert layer_key(ID, documented=True) == f"{ID}+doc"
    assert layer_key(ID, tested=True, documented=True) == f"{ID}+test+doc"
    special = layer_key(ID, tested=True, facts=["prefix /opt"])
    assert special.startswith(f"{ID}+test+")
    assert len(special.rpartition("+")[2]) == 12
    assert shown_id(special) == ID


def test_facts_count_and_their_order_does_not() -> None:
    assert layer_key(ID, facts=["a", "b"]) == layer_key(ID, facts=["b", "a"])
    assert layer_key(ID, facts=["a"]) != layer_key(ID, facts=["b"])


def test_a_key_of_our_own_is_visibly_one() -> None:
    key = dev_key(["package a.1", "source dir=1"])
    assert is_dev(key)
    assert key.startswith("dev-")
    assert key != dev_key(["package a.1", "source dir=2"])


def test_a_fake_build_id_looks_like_one_and_is_nobody_elses() -> None:
    one, other = (shown_id(dev_key([name])) for name in "ab")
    assert one != other
    for fake in (one, other):
        assert len(fake) == 64
        assert set(fake) <= set("0123456789abcdef")
        assert fake.startswith("0b111d0b111d")
