"""The four signed orders: their EIP-712 hash, and their JSON as the official client writes it.

An order's hash names it everywhere: it is signed, its consumed volume is counted under it, and deal ids come
from it. `sign` is not part of the hash. Struct hashes are written out word by word, since hashing and
recovering orders is the hot path of a market.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, NoReturn, Self, TypeVar

from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak
from poolwright.poco.records import OrderOperation
from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import Address, Hash32, NRlc, OrderHash

APPORDER_TYPE: Final = (
    "AppOrder(address app,uint256 appprice,uint256 volume,bytes32 tag,address datasetrestrict,"
    "address workerpoolrestrict,address requesterrestrict,bytes32 salt)"
)
DATASETORDER_TYPE: Final = (
    "DatasetOrder(address dataset,uint256 datasetprice,uint256 volume,bytes32 tag,address apprestrict,"
    "address workerpoolrestrict,address requesterrestrict,bytes32 salt)"
)
WORKERPOOLORDER_TYPE: Final = (
    "WorkerpoolOrder(address workerpool,uint256 workerpoolprice,uint256 volume,bytes32 tag,uint256 category,"
    "uint256 trust,address apprestrict,address datasetrestrict,address requesterrestrict,bytes32 salt)"
)
REQUESTORDER_TYPE: Final = (
    "RequestOrder(address app,uint256 appmaxprice,address dataset,uint256 datasetmaxprice,address workerpool,"
    "uint256 workerpoolmaxprice,address requester,uint256 volume,bytes32 tag,uint256 category,uint256 trust,"
    "address beneficiary,address callback,string params,bytes32 salt)"
)


def _operation_typehash(order_type: str) -> bytes:
    """`operation` is uint256 in the hashed type although the ABI passes a uint8."""
    name = order_type.partition("(")[0]
    return keccak(f"{name}Operation({name} order,uint256 operation){order_type}".encode())


_DOMAIN_TYPEHASH: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_PAD: Final = bytes(12)
"""What makes a 20-byte address a 32-byte word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The hub on its chain, as every order hash contains it (EIP-712 domain)."""

    chain_id: int
    hub: Address
    name: str = "iExecODB"
    version: str = "5.0.0"
    separator: Hash32 = field(init=False, repr=False, compare=False)
    prefix: bytes = field(init=False, repr=False, compare=False)
    """What precedes the struct hash in every digest: 0x1901 and the separator."""

    def __post_init__(self) -> None:
        if not 0 <= self.chain_id < 1 << 256:
            raise InputError("chain id out of range", code="out-of-range", got=str(self.chain_id)[:80])
        separator = keccak(
            _DOMAIN_TYPEHASH
            + keccak(self.name.encode())
            + keccak(self.version.encode())
            + self.chain_id.to_bytes(32, "big")
            + _PAD
            + self.hub
        )
        object.__setattr__(self, "separator", Hash32(separator))
        object.__setattr__(self, "prefix", b"\x19\x01" + separator)


class _OrderJson:
    """The JSON side of an order: one string per field, the contract's field names."""

    __slots__ = ()
    KIND: ClassVar[str]

    def to_json(self) -> dict[str, str]:
        """The order as the official client's orders.json holds it: numbers as decimal strings."""
        return {
            name: f"0x{value.hex()}" if name in ("sign", "salt") else str(value)
            for name, value in ((name, getattr(self, name)) for name in _FIELDS[type(self)])
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read an order; numbers may be decimal strings or integers.

        `sign` may be missing (an unsigned or presigned order), everything else must be there, and nothing
        else. Raises InputError naming the field, what it must be, and what came.
        """
        readers = _FIELDS[cls]
        if not isinstance(document, Mapping):
            raise InputError(
                f"{cls.KIND} refused", code="bad-order", expected="an object", got=type(document).__name__
            )
        for name in document:
            if name not in readers:
                raise InputError(
                    f"{cls.KIND}: unknown field {str(name)[:40]!r}",
                    code="bad-order",
                    expected=", ".join(readers),
                )
        values = {}
        for name, read in readers.items():
            if name not in document:
                if name == "sign":
                    continue
                _refuse(cls.KIND, name, "a value", "nothing")
            values[name] = read(cls.KIND, name, document[name])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOrder(_OrderJson):
    """The owner of an app offers `volume` runs of it."""

    KIND: ClassVar[str] = "apporder"
    TYPEHASH: ClassVar[bytes] = keccak(APPORDER_TYPE.encode())
    OPERATION_TYPEHASH: ClassVar[bytes] = _operation_typehash(APPORDER_TYPE)

    app: Address
    appprice: NRlc
    """Per task."""
    volume: int
    """Tasks."""
    tag: Tag
    datasetrestrict: Address
    """Zero for anyone, an address for that one, or an ERC-734 group contract; so are all restrictions."""
    workerpoolrestrict: Address
    requesterrestrict: Address
    salt: Hash32
    """Random; makes equal orders differ."""
    sign: bytes = b""
    """Signature of the owner; empty for a presigned order."""

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct. Raises InputError for a number outside uint256."""
        try:
            words = (
                self.TYPEHASH,
                _PAD,
                self.app,
                self.appprice.to_bytes(32, "big"),
                self.volume.to_bytes(32, "big"),
                self.tag.to_bytes(32, "big"),
                _PAD,
                self.datasetrestrict,
                _PAD,
                self.workerpoolrestrict,
                _PAD,
                self.requesterrestrict,
                self.salt,
            )
        except OverflowError:
            _refuse_values(self)
        return keccak(b"".join(words))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOrder(_OrderJson):
    """The owner of a dataset offers `volume` uses of it."""

    KIND: ClassVar[str] = "datasetorder"
    TYPEHASH: ClassVar[bytes] = keccak(DATASETORDER_TYPE.encode())
    OPERATION_TYPEHASH: ClassVar[bytes] = _operation_typehash(DATASETORDER_TYPE)

    dataset: Address
    datasetprice: NRlc
    volume: int
    tag: Tag
    apprestrict: Address
    workerpoolrestrict: Address
    requesterrestrict: Address
    salt: Hash32
    sign: bytes = b""

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct. Raises InputError for a number outside uint256."""
        try:
            words = (
                self.TYPEHASH,
                _PAD,
                self.dataset,
                self.datasetprice.to_bytes(32, "big"),
                self.volume.to_bytes(32, "big"),
                self.tag.to_bytes(32, "big"),
                _PAD,
                self.apprestrict,
                _PAD,
                self.workerpoolrestrict,
                _PAD,
                self.requesterrestrict,
                self.salt,
            )
        except OverflowError:
            _refuse_values(self)
        return keccak(b"".join(words))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerpoolOrder(_OrderJson):
    """The owner of a workerpool offers to compute `volume` tasks of one category."""

    KIND: ClassVar[str] = "workerpoolorder"
    TYPEHASH: ClassVar[bytes] = keccak(WORKERPOOLORDER_TYPE.encode())
    OPERATION_TYPEHASH: ClassVar[bytes] = _operation_typehash(WORKERPOOLORDER_TYPE)

    workerpool: Address
    workerpoolprice: NRlc
    volume: int
    tag: Tag
    category: int
    trust: int
    """Highest trust that the pool accepts."""
    apprestrict: Address
    datasetrestrict: Address
    requesterrestrict: Address
    salt: Hash32
    sign: bytes = b""

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct. Raises InputError for a number outside uint256."""
        try:
            words = (
                self.TYPEHASH,
                _PAD,
                self.workerpool,
                self.workerpoolprice.to_bytes(32, "big"),
                self.volume.to_bytes(32, "big"),
                self.tag.to_bytes(32, "big"),
                self.category.to_bytes(32, "big"),
                self.trust.to_bytes(32, "big"),
                _PAD,
                self.apprestrict,
                _PAD,
                self.datasetrestrict,
                _PAD,
                self.requesterrestrict,
                self.salt,
            )
        except OverflowError:
            _refuse_values(self)
        return keccak(b"".join(words))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOrder(_OrderJson):
    """A requester asks for `volume` runs of an app and says what it would pay at most."""

    KIND: ClassVar[str] = "requestorder"
    TYPEHASH: ClassVar[bytes] = keccak(REQUESTORDER_TYPE.encode())
    OPERATION_TYPEHASH: ClassVar[bytes] = _operation_typehash(REQUESTORDER_TYPE)

    app: Address
    appmaxprice: NRlc
    dataset: Address
    """Zero for none."""
    datasetmaxprice: NRlc
    workerpool: Address
    """Zero for any."""
    workerpoolmaxprice: NRlc
    requester: Address
    volume: int
    tag: Tag
    category: int
    trust: int
    """Confidence asked for; 0 counts as 1."""
    beneficiary: Address
    callback: Address
    """Contract that receives the result; zero for none."""
    params: str
    """JSON for the worker, see `iexec_args` and its siblings."""
    salt: Hash32
    sign: bytes = b""

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct. Raises InputError for a number outside uint256 or params without UTF-8."""
        try:
            words = (
                self.TYPEHASH,
                _PAD,
                self.app,
                self.appmaxprice.to_bytes(32, "big"),
                _PAD,
                self.dataset,
                self.datasetmaxprice.to_bytes(32, "big"),
                _PAD,
                self.workerpool,
                self.workerpoolmaxprice.to_bytes(32, "big"),
                _PAD,
                self.requester,
                self.volume.to_bytes(32, "big"),
                self.tag.to_bytes(32, "big"),
                self.category.to_bytes(32, "big"),
                self.trust.to_bytes(32, "big"),
                _PAD,
                self.beneficiary,
                _PAD,
                self.callback,
                keccak(self.params.encode()),
                self.salt,
            )
        except (OverflowError, UnicodeEncodeError):
            _refuse_values(self)
        return keccak(b"".join(words))


Order = AppOrder | DatasetOrder | WorkerpoolOrder | RequestOrder

_NOBODY: Final = Address.zero()

NULL_DATASETORDER: Final = DatasetOrder(
    dataset=_NOBODY,
    datasetprice=NRlc(0),
    volume=0,
    tag=NO_TAG,
    apprestrict=_NOBODY,
    workerpoolrestrict=_NOBODY,
    requesterrestrict=_NOBODY,
    salt=Hash32.zero(),
)
"""Stands for "no dataset" in a match."""


def order_hash(order: Order, domain: Domain) -> OrderHash:
    """The EIP-712 digest that names the order and that its owner signs.

    Raises InputError when a field has no place in the contract's types.
    """
    return OrderHash(Hash32(keccak(domain.prefix + order.struct_hash())))


def operation_hash(order: Order, operation: OrderOperation, domain: Domain) -> Hash32:
    """What the owner signs so that anybody may presign or close the order (IexecOrderManagement).

    Raises InputError when a field has no place in the contract's types.
    """
    struct = keccak(order.OPERATION_TYPEHASH + order.struct_hash() + operation.to_bytes(32, "big"))
    return Hash32(keccak(domain.prefix + struct))


def _refuse(kind: str, name: str, expected: str, got: str) -> NoReturn:
    raise InputError(f"{kind}: field {name!r} refused", code="bad-order", expected=expected, got=got)


def _refuse_values(order: Order) -> NoReturn:
    """Find and name the field that could not be hashed."""
    for name in _FIELDS[type(order)]:
        value = getattr(order, name)
        if isinstance(value, int) and not 0 <= value < 1 << 256:
            _refuse(order.KIND, name, "0 to 2^256-1", str(value)[:80])
    _refuse(order.KIND, "params", "Unicode text without lone surrogates", "text that has no UTF-8")


_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)

_T = TypeVar("_T")
_Reader = Callable[[str, str, object], Any]
"""(kind of order, name of the field, JSON value) -> value of the field."""


def _read_number(kind: str, name: str, value: object) -> int:
    number = -1
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if not 0 <= number < 1 << 256:
        _refuse(kind, name, "a whole number from 0 to 2^256-1, as a decimal string", _shown(value))
    return number


def _read_address(kind: str, name: str, value: object) -> Address:
    return _read_hex(Address.parse, kind, name, value)


def _read_hash(kind: str, name: str, value: object) -> Hash32:
    return _read_hex(Hash32.parse, kind, name, value)


def _read_tag(kind: str, name: str, value: object) -> Tag:
    return _read_hex(Tag.parse, kind, name, value)


def _read_hex(parse: Callable[[str], _T], kind: str, name: str, value: object) -> _T:
    if not isinstance(value, str):
        _refuse(kind, name, "0x-prefixed hex", _shown(value))
    try:
        return parse(value)
    except InputError as problem:
        raise InputError(
            f"{kind}: field {name!r} refused",
            code="bad-order",
            expected=problem.expected,
            got=problem.got,
            next_step=problem.next_step,
        ) from problem


def _read_text(kind: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        _refuse(kind, name, "a string", _shown(value))
    if any("\ud800" <= character <= "\udfff" for character in value):
        _refuse(kind, name, "Unicode text without lone surrogates", _shown(value))
    return value


_HEX_BYTES: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)


def _read_bytes(kind: str, name: str, value: object) -> bytes:
    if not isinstance(value, str) or not _HEX_BYTES.fullmatch(value):
        _refuse(kind, name, "0x and hexadecimal digits in pairs", _shown(value))
    return bytes.fromhex(value[2:])


def _shown(value: object) -> str:
    return repr(value)[:80] if isinstance(value, str | int | float | None) else type(value).__name__


_ANNOTATION_TO_READER: Final[dict[str, _Reader]] = {
    "Address": _read_address,
    "NRlc": _read_number,
    "int": _read_number,
    "Tag": _read_tag,
    "Hash32": _read_hash,
    "str": _read_text,
    "bytes": _read_bytes,
}
_FIELDS: Final[dict[type, dict[str, _Reader]]] = {
    kind: {each.name: _ANNOTATION_TO_READER[str(each.type)] for each in fields(kind)}
    for kind in (AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder)
}
