"""`replace` for frozen dataclasses with slots: what `dataclasses.replace` does, twice as fast.

The standard one reads every field by name, gathers them in a dictionary, and calls an `__init__` that writes
each through `object.__setattr__`. Minds do little else than this. Here the fields are read at once and
written by their slots. A class must keep what it says in its fields alone: one with `__post_init__` is
refused, as its checks would not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeVar

from poolwright.poco.errors import InvariantBroken

T = TypeVar("T")

_copiers: Final[dict[type, Callable[..., Any]]] = {}


def replace(value: T, /, **changes: object) -> T:
    """A copy of a frozen dataclass with some fields changed. Raises InvariantBroken for a field it lacks."""
    cls = type(value)
    copy: T = (_copiers.get(cls) or _make_copier(cls))(value, changes)
    return copy


def _make_copier(cls: type) -> Callable[..., Any]:
    names = [field.name for field in fields(cls)]
    slots: dict[str, Any] = {name: getattr(cls, name, None) for name in names}
    if (
        len(names) < 2
        or hasattr(cls, "__post_init__")
        or not all(hasattr(s, "__set__") for s in slots.values())
    ):
        raise InvariantBroken(
            f"{cls.__name__} cannot be copied slot by slot",
            code="not-plain",
            expected="a dataclass of two fields or more, with slots=True and without __post_init__",
        )
    setters = {name: slot.__set__ for name, slot in slots.items()}
    in_order, read, new = tuple(setters.values()), attrgetter(*names), object.__new__

    def copier(value: object, changes: dict[str, object]) -> object:
        copy: object = new(cls)
        for write, content in zip(in_order, read(value), strict=True):
            write(copy, content)
        for name, content in changes.items():
            write = setters.get(name)
            if write is None:
                raise InvariantBroken(f"{cls.__name__} has no field {name!r}", code="no-field")
            write(copy, content)
        return copy

    _copiers[cls] = copier
    return copier
