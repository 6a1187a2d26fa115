"""The one codec between dataclasses and JSON: log rows, snapshots, messages and HTTP bodies all use it.

How a type stands in JSON:

    dataclass                     object, one member per field; a default makes the member optional on input
    A | B of dataclasses          object with one more member, "type": the name of the class
    X | None                      null or X
    str, bool, int                themselves; an int must lie within +-(2^53 - 1)
    NRlc, Wei, BigInt             decimal string
    bytes, Hash32, Address...     "0x" and hexadecimal digits; addresses with their checksum
    a class with `parse`, `str`   its own text (Tag)
    Enum / StrEnum                name / value
    tuple, list, frozenset, set   array; sets are written in sorted order
    Mapping[K, V], dict[K, V]     object when K is written as text or int, else array of [key, value] pairs

Floats are refused: nothing in the protocol is one, and they do not survive a round trip.

A value encoded alone always carries its "type", so that a log row can be read as any union it belongs to;
`decode` of one class accepts the member and checks it. No field may be called `type`.

Decoding is strict: an unknown, missing or ill-typed member raises DecodeError, which names the place, as in
`$.details.exit_code: expected int, got str`. Encoding a value that does not fit its own annotation is our
bug and raises InvariantBroken in the same words. A repeated member is not noticed; the last one counts.

Each type is compiled once into two closures; writing or reading a six-field event takes a few microseconds.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum, Flag
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from poolwright.poco.errors import InputError, InvariantBroken, PeerError
from poolwright.poco.types import FixedBytes, NRlc, Wei
from poolwright.wire import leaves
from poolwright.wire.leaves import Coder, Mismatch, kind, shown

T = TypeVar("T")

TAG: Final = "type"


@dataclass(frozen=True, slots=True)
class AsDecimal:
    """Marks an integer annotation as a decimal string in JSON."""


BigInt = Annotated[int, AsDecimal()]
"""An integer of any size: a decimal string in JSON."""


class DecodeError(PeerError):
    """What came does not have the agreed form; `path` says where. The sender must correct it."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        self.path = path
        super().__init__(path, code="bad-form", expected=expected, got=got)

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, got {self.got}"


def to_json(value: object, type_: object = None) -> object:
    """The JSON-able form of a value, by its own class or as `type_`.

    Without `type_` the value is a dataclass and carries its "type". Raises InvariantBroken when the value
    does not fit its annotations.
    """
    coder = _tagged(type(value)) if type_ is None else _coder(type_)
    try:
        return coder.write(value)
    except Mismatch as problem:
        raise InvariantBroken(
            f"{type(value).__name__} {problem.path}",
            code="bad-value",
            expected=problem.expected,
            got=problem.got,
        ) from None


@overload
def from_json(type_: type[T], data: object) -> T: ...
@overload
def from_json(type_: object, data: object) -> Any: ...
def from_json(type_: object, data: object) -> object:
    """The value of type `type_` (a class, a union, any annotation) that `data` stands for.

    Raises DecodeError (a PeerError) naming the first place that does not fit.
    """
    try:
        return _coder(type_).read(data)
    except Mismatch as problem:
        raise DecodeError(problem.path, problem.expected, problem.got) from None


def encode(value: object, type_: object = None) -> bytes:
    """The value as compact JSON in ASCII; see `to_json`."""
    return _dump(to_json(value, type_)).encode()


def encode_in_parts(value: object, items: int = 20) -> Iterator[bytes]:
    """The text of `encode(value)` bit by bit: of a field that is an array, so many items at a time.

    For one that is too large to be written in one go; it must not change meanwhile. Raises InvariantBroken.
    """
    cls: Any = type(value)
    hints = get_type_hints(cls, include_extras=True)
    yield b'{"type":%b' % _dump(cls.__name__).encode()
    for field in fields(cls):
        tp, content = hints[field.name], getattr(value, field.name)
        yield b",%b:" % _dump(field.name).encode()
        if get_origin(tp) is tuple and get_args(tp)[1:] == (...,):
            yield b"["
            for start in range(0, len(content), items):
                part = encode(content[start : start + items], tp)[1:-1]
                yield b"," + part if start else part
            yield b"]"
        else:
            yield encode(content, tp)
    yield b"}"


@overload
def decode(type_: type[T], raw: bytes | str) -> T: ...
@overload
def decode(type_: object, raw: bytes | str) -> Any: ...
def decode(type_: object, raw: bytes | str) -> object:
    """The value of type `type_` in a JSON text; raises DecodeError as `from_json` does."""
    try:
        data = json.loads(raw if isinstance(raw, str) else raw.decode())
    except (ValueError, RecursionError) as problem:  # ValueError: syntax, UTF-8, absurdly long numbers
        raise DecodeError("$", "JSON", f"{problem}"[:120]) from None
    return from_json(type_, data)


_dump = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode


_coders: dict[object, Coder] = {}
_tagged_coders: dict[type, Coder] = {}


def _coder(tp: object) -> Coder:
    found = _coders.get(tp)
    if found is None:
        # A type may contain itself: until it is compiled, whoever asks gets a coder that looks it up later.
        _coders[tp] = Coder(lambda value: _coders[tp].write(value), lambda data: _coders[tp].read(data))
        try:
            found = _coders[tp] = _compile(tp)
        except BaseException:
            del _coders[tp]
            raise
    return found


def _tagged(cls: type) -> Coder:
    found = _tagged_coders.get(cls)
    if found is None:
        if not is_dataclass(cls):
            raise _unsupported(cls, "a dataclass, or a type given beside the value")
        found = _tagged_coders[cls] = _dataclass_coder(cls, is_tagged=True)
    return found


def _unsupported(tp: object, expected: str) -> InvariantBroken:
    return InvariantBroken("type without a JSON form", code="no-codec", expected=expected, got=shown(tp))


def _compile(tp: object) -> Coder:
    if tp is NRlc or tp is Wei:
        return leaves.DECIMAL
    if isinstance(tp, NewType):
        return _coder(tp.__supertype__)
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return leaves.DECIMAL if AsDecimal() in args[1:] else _coder(args[0])
    if origin is Union or origin is types.UnionType:
        return _union_coder(args)
    if origin is Literal:
        return leaves.literal_coder(args)
    if origin is tuple:
        return _array_coder(tuple, args[0]) if args[1:] == (...,) else _fixed_coder(args)
    if origin in (list, set, frozenset):
        return _array_coder(cast("type", origin), args[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_coder(args[0], args[1])
    if isinstance(tp, type):
        return _class_coder(tp)
    raise _unsupported(tp, "a type listed at the top of poolwright.wire.codec")


def _class_coder(cls: Any) -> Coder:
    if cls is str:
        return leaves.TEXT
    if cls is bool:
        return leaves.BOOL
    if cls is int:
        return leaves.INT
    if cls is bytes:
        return leaves.BYTES
    if issubclass(cls, FixedBytes):
        return leaves.fixed_bytes_coder(cls)
    if issubclass(cls, Enum) and not issubclass(cls, Flag):
        return leaves.enum_coder(cls)
    if callable(getattr(cls, "parse", None)) and cls.__str__ is not object.__str__:
        return leaves.parsed_coder(cls)
    if is_dataclass(cls):
        return _dataclass_coder(cls, is_tagged=False)
    raise _unsupported(cls, "a type listed at the top of poolwright.wire.codec")


def _each(function: Callable[[Any], Any], items: Iterable[object]) -> list[Any]:
    made: list[Any] = []
    try:
        for item in items:
            made.append(function(item))
    except Mismatch as problem:
        raise problem.at(f"[{len(made)}]") from None
    return made


def _array(data: object) -> list[object]:
    if type(data) is not list:
        raise Mismatch("array", kind(data))
    return data


def _array_coder(cls: type, item_type: object) -> Coder:
    item = _coder(item_type)
    is_set = cls in (set, frozenset)

    def write(value: object) -> list[object]:
        if not isinstance(value, cls):
            raise Mismatch(cls.__name__, kind(value))
        written = _each(item.write, cast("Iterable[object]", value))
        if is_set:  # the same set gives the same text, in every run
            written.sort(key=None if item.is_text else _dump)
        return written

    def read(data: object) -> object:
        items = _each(item.read, _array(data))
        if is_set and len(set(items)) != len(items):
            raise Mismatch("array without repetition", "repeated items")
        return cls(items)

    return Coder(write, read)


def _fixed_coder(item_types: tuple[object, ...]) -> Coder:
    coders = tuple(_coder(item_type) for item_type in item_types)
    writers, readers = tuple(c.write for c in coders), tuple(c.read for c in coders)

    def apply(functions: tuple[Callable[[Any], Any], ...], values: Any) -> list[Any]:
        if len(values) != len(functions):
            raise Mismatch(f"{len(functions)} items", f"{len(values)} items")
        return _each(lambda pair: pair[0](pair[1]), zip(functions, values, strict=True))

    def write(value: object) -> list[Any]:
        if not isinstance(value, tuple):
            raise Mismatch("tuple", kind(value))
        return apply(writers, value)

    return Coder(write, lambda data: tuple(apply(readers, _array(data))))


def _mapping_coder(key_type: object, value_type: object) -> Coder:
    key, item = _coder(key_type), _coder(value_type)
    if key is leaves.INT:
        key = leaves.INT_NAME
    if not key.is_text:
        return _pairs_coder(_fixed_coder((key_type, value_type)))

    def convert(
        pairs: Mapping[Any, object], name_of: Callable[[Any], Any], item_of: Callable[[Any], Any]
    ) -> Any:
        made = {}
        for name, element in pairs.items():
            try:
                made[name_of(name)] = item_of(element)
            except Mismatch as problem:
                raise problem.at(f"[{shown(name)}]") from None
        return made

    def write(value: object) -> object:
        if not isinstance(value, Mapping):
            raise Mismatch("Mapping", kind(value))
        return convert(value, key.write, item.write)

    def read(data: object) -> object:
        if type(data) is not dict:
            raise Mismatch("object", kind(data))
        made = convert(data, key.read, item.read)
        if len(made) != len(data):  # 0xAB and 0xab are two names of one key
            raise Mismatch("object without repeated keys", "repeated keys")
        return made

    return Coder(write, read)


def _pairs_coder(pair: Coder) -> Coder:
    def write(value: object) -> list[object]:
        if not isinstance(value, Mapping):
            raise Mismatch("Mapping", kind(value))
        return _each(pair.write, value.items())

    def read(data: object) -> dict[object, object]:
        pairs = _each(pair.read, _array(data))
        made = dict(pairs)
        if len(made) != len(pairs):
            raise Mismatch("pairs without repeated keys", "repeated keys")
        return made

    return Coder(write, read)


def _dataclass_coder(cls: Any, *, is_tagged: bool) -> Coder:
    hints = get_type_hints(cls, include_extras=True)
    own = [field for field in fields(cls) if field.init]
    if any(field.name == TAG for field in own):
        raise _unsupported(cls, f"no field called `{TAG}`, which names the class")
    coders = {field.name: _coder(hints[field.name]) for field in own}
    writers = tuple((name, coder.write) for name, coder in coders.items())
    readers = {name: coder.read for name, coder in coders.items()}
    required = frozenset(f.name for f in own if f.default is MISSING and f.default_factory is MISSING)
    class_name = cls.__name__

    def write(value: object) -> dict[str, object]:
        if type(value) is not cls:
            raise Mismatch(class_name, kind(value))
        written: dict[str, object] = {TAG: class_name} if is_tagged else {}
        name = ""
        try:
            for name, write_field in writers:
                written[name] = write_field(getattr(value, name))
        except Mismatch as problem:
            raise problem.at(f".{name}") from None
        return written

    def read(data: object) -> object:
        if type(data) is not dict:
            raise Mismatch("object", kind(data))
        values: dict[str, Any] = {}
        name = ""
        try:
            for name, item in data.items():
                read_field = readers.get(name)
                if read_field is not None:
                    values[name] = read_field(item)
                elif name != TAG:
                    raise Mismatch("no such field", kind(item))
                elif item != class_name:
                    raise Mismatch(repr(class_name), shown(item))
        except Mismatch as problem:
            raise problem.at(f".{name}") from None
        if len(values) != len(readers) and not required <= values.keys():
            raise Mismatch("a value", "nothing").at(f".{min(required - values.keys())}")
        try:
            return cls(**values)
        except (InputError, ValueError) as problem:  # the class checks itself when made
            raise Mismatch(f"a valid {class_name}", str(problem)) from None

    return Coder(write, read)


def _union_coder(members: tuple[object, ...]) -> Coder:
    classes = [member for member in members if member is not types.NoneType]
    coder = _coder(classes[0]) if len(classes) == 1 else _choice_coder(classes)
    if len(classes) == len(members):
        return coder
    write, read = coder.write, coder.read
    return Coder(
        lambda value: None if value is None else write(value),
        lambda data: None if data is None else read(data),
    )


def _choice_coder(members: list[object]) -> Coder:
    coders: dict[type, Coder] = {}
    for member in members:
        if not (isinstance(member, type) and is_dataclass(member)):
            raise _unsupported(member, "a union of dataclasses, or one type and None")
        coders[member] = _tagged(member)
    writers = {cls: coder.write for cls, coder in coders.items()}
    readers = {cls.__name__: coder.read for cls, coder in coders.items()}
    if len(readers) != len(coders):
        raise _unsupported(sorted(cls.__qualname__ for cls in coders), "classes of different names")
    expected = " or ".join(list(readers)[:12]) + (" or others" if len(readers) > 12 else "")

    def write(value: object) -> object:
        write_member = writers.get(type(value))
        if write_member is None:
            raise Mismatch(expected, kind(value))
        return write_member(value)

    def read(data: object) -> object:
        if type(data) is not dict:
            raise Mismatch("object", kind(data))
        name = data.get(TAG)
        read_member = readers.get(name) if type(name) is str else None
        if read_member is None:
            raise Mismatch(expected, "nothing" if name is None else shown(name)).at(f".{TAG}")
        return read_member(data)

    return Coder(write, read)
