"""Frozen records."""

from __future__ import annotations

import copy
import pickle

import pytest

from obuild.value import fields, replace, value


@value
class Point:
    """A point."""

    x: int
    y: int = 0


@value
class Other:
    """The same fields, another type."""

    x: int
    y: int = 0


def test_records_are_equal_by_type_and_fields() -> None:
    assert Point(1) == Point(1, 0) == Point(x=1, y=0)
    assert Point(1) != Other(1)
    assert len({Point(1), Point(1, 0), Point(2)}) == 2
    assert repr(Point(1)) == "Point(x=1, y=0)"
    assert fields(Point) == ("x", "y")


def test_records_do_not_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match='"x" of a Point'):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        point.z = 2  # type: ignore[attr-defined]
    assert replace(point, y=5) == Point(1, 5)


def test_wrong_fields_are_named() -> None:
    with pytest.raises(TypeError, match="z"):
        Point(1, z=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="x"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="x"):
        Point(1, x=1)  # type: ignore[misc]
    with pytest.raises(TypeError, match="2 fields"):
        Point(1, 2, 3)  # type: ignore[call-arg]


def test_records_match_pickle_and_copy() -> None:
    match Point(1, 2):
        case Point(1, y):
            assert y == 2
        case _:
            pytest.fail("did not match")
    assert pickle.loads(pickle.dumps(Point(3, 4))) == copy.deepcopy(Point(3, 4)) == Point(3, 4)
