"""Frozen records without the start-up cost of `dataclasses`.

A `@dataclass(frozen=True, slots=True)` is built twice and compiles its methods from text each time the module is
imported: 0.7 to 1.5 ms a class, and 15 ms more for the module itself and `inspect`. A cached build has some twenty such
types and ends within a few times the start of Python alone, so they are made here from one set of shared methods.
Type checkers see a frozen dataclass (PEP 681).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_: object) -> Callable[[T], T]:
        """At run time there is nothing to transform."""
        return lambda item: item


__all__ = ["fields", "replace", "value"]


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make the annotated class an immutable record with slots, equality, hash, repr and `match` arguments.

    Defaults are written as in a dataclass and must be immutable themselves. A method `__post_init__` is called last
    and may raise.
    """
    names = tuple(vars(cls).get("__annotations__", ()))
    body = {name: item for name, item in vars(cls).items() if name not in (*names, "__dict__", "__weakref__")}
    body.update({name: method for name, method in _METHODS.items() if name not in body})
    body["__slots__"] = names
    body["__match_args__"] = names
    body["_defaults"] = {name: vars(cls)[name] for name in names if name in vars(cls)}
    made: Any = type(cls)
    record: type[T] = made(cls.__name__, cls.__bases__, body)
    return record


def fields(item: Any) -> tuple[str, ...]:
    """The field names of a record or record class, in order."""
    names: tuple[str, ...] = item.__match_args__
    return names


def replace(item: T, **changes: Any) -> T:
    """A copy of the record with some fields changed."""
    return type(item)(**{name: getattr(item, name) for name in fields(item)} | changes)


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    names = self.__match_args__
    if kwargs or len(args) != len(names):
        args = _in_order(self, names, args, kwargs)
    for name, arg in zip(names, args, strict=True):
        _set(self, name, arg)
    check = getattr(self, "__post_init__", None)
    if check:
        check()


_set = object.__setattr__


def _in_order(self: Any, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """A value for each field. Raises `TypeError` where there is none, or more than one."""
    if len(args) > len(names):
        raise TypeError(f"{type(self).__name__} takes {len(names)} fields, not {len(args)}")
    given = {**self._defaults, **dict(zip(names, args, strict=False)), **kwargs}
    if len(given) != len(names) or not kwargs.keys().isdisjoint(names[: len(args)]):
        wrong = given.keys() ^ set(names) or kwargs.keys() & set(names[: len(args)])
        raise TypeError(f"{type(self).__name__}: missing, unknown or repeated fields: {', '.join(sorted(wrong))}")
    return tuple([given[name] for name in names])


def _items(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _eq(self: Any, other: object) -> bool:
    return _items(self) == _items(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash((type(self), _items(self)))


def _repr(self: Any) -> str:
    inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__name__}({inside})"


def _setattr(self: Any, name: str, _: object) -> None:
    raise AttributeError(f'"{name}" of a {type(self).__name__} can not be changed')


def _reduce(self: Any) -> tuple[Any, ...]:
    return (type(self), _items(self))


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__reduce__": _reduce,
}
