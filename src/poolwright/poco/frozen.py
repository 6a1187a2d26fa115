"""`replace` for frozen dataclasses with slots: what `dataclasses.replace` does, three to six times as fast.

The standard one reads every field by name, gathers them in a dictionary, and calls an `__init__` that writes
each through `object.__setattr__`. Minds do little else than this. Here a function is made for each class and
each choice of fields, once, as `dataclasses` itself makes methods: it copies slot by slot. A class must keep
what it says in its fields alone: one with `__post_init__` is refused, as its checks would not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, TypeVar

from poolwright.poco.errors import InvariantBroken

T = TypeVar("T")

_copiers: Final[dict[tuple[type, tuple[str, ...]], Callable[..., Any]]] = {}


def replace(value: T, /, **changes: object) -> T:
    """A copy of a frozen dataclass with some fields changed. Raises InvariantBroken for a field it lacks."""
    key = (type(value), tuple(changes))
    copy: T = (_copiers.get(key) or copier(*key))(value, *changes.values())
    return copy


def copier(cls: type[T], changed: tuple[str, ...]) -> Callable[..., T]:
    """The function behind `replace` for one choice of fields: it takes the old value, then each new content.

    Raises InvariantBroken for a class that cannot be copied, or a field that it lacks.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # what is none is refused there
    slots: dict[str, Any] = {name: getattr(cls, name, None) for name in names}
    if hasattr(cls, "__post_init__") or not all(hasattr(slot, "__set__") for slot in slots.values()):
        raise InvariantBroken(
            f"{cls.__name__} cannot be copied slot by slot",
            code="not-plain",
            expected="a dataclass with slots=True and without __post_init__",
        )
    if unknown := set(changed) - set(names):
        raise InvariantBroken(f"{cls.__name__} has no field {min(unknown)!r}", code="no-field")
    lines = [
        f"def copier({', '.join(['__old__', *changed])}):",
        "    __copy__ = __new__(__class__)",
        *(
            f"    __set_{name}__(__copy__, {name if name in changed else '__old__.' + name})"
            for name in names
        ),
        "    return __copy__",
    ]
    scope: dict[str, Any] = {f"__set_{name}__": slot.__set__ for name, slot in slots.items()}
    scope |= {"__new__": object.__new__, "__class__": cls}
    exec("\n".join(lines), scope)  # noqa: S102  field names of our own classes, as dataclasses does
    made: Callable[..., T] = scope["copier"]
    return _copiers.setdefault((cls, changed), made)
