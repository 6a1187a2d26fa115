"""The codec: every kind of annotation goes to JSON and back, and nothing else gets in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwright.poco.errors import InputError, InvariantBroken, PeerError
from poolwright.poco.tags import Tag
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    NRlc,
    TaskId,
    Timestamp,
    Wei,
    WorkerAddress,
)
from poolwright.wire.codec import (
    BigInt,
    DecodeError,
    decode,
    encode,
    encode_in_parts,
    from_json,
    to_json,
)

TASK = TaskId(Hash32(bytes(range(32))))
WORKER = WorkerAddress(Address.parse("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"))


NEVER = Timestamp(0)


class Status(StrEnum):
    RUNNING = "RUNNING"
    COMPUTED = "COMPUTED"


class Phase(Enum):
    ACTIVE = 1
    FAILED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    exit_code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    task_id: TaskId
    worker: WorkerAddress
    status: Status
    details: Details = Details()
    at: Timestamp = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    amount: NRlc
    fee: Wei
    weight: BigInt


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    phase: Phase
    tag: Tag
    block: BlockStamp
    seal: bytes
    flags: tuple[bool, ...]
    pair: tuple[int, str]
    workers: frozenset[WorkerAddress]
    by_task: Mapping[TaskId, Details]
    by_index: dict[int, NRlc]
    by_both: dict[tuple[TaskId, int], Status]
    mode: Literal["fast", "safe"] = "safe"
    last: Reported | Paid | None = None
    waiting: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    number: int
    things: tuple[Details, ...]
    pair: tuple[int, str] = (1, "one")
    name: str = "bag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    name: str
    children: tuple[Tree, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picky:
    volume: int

    def __post_init__(self) -> None:
        if self.volume < 1:
            raise InputError("volume", expected="1 or more", got=str(self.volume))


@dataclass(frozen=True, slots=True)
class WithFloat:
    share: float


@dataclass(frozen=True, slots=True)
class WithType:
    type: str


Event = Reported | Paid

REPORTED = Reported(
    task_id=TASK,
    worker=WORKER,
    status=Status.COMPUTED,
    details=Details(exit_code=3),
    at=Timestamp(1700000000),
)


def test_an_event_has_a_form_that_people_can_read() -> None:
    assert to_json(REPORTED) == {
        "type": "Reported",
        "task_id": "0x" + bytes(range(32)).hex(),
        "worker": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "status": "COMPUTED",
        "details": {"exit_code": 3, "reason": ""},
        "at": 1700000000,
    }


def test_money_and_big_numbers_are_decimal_strings() -> None:
    paid = Paid(amount=NRlc(5), fee=Wei(10**18), weight=2**200)
    assert to_json(paid) == {"type": "Paid", "amount": "5", "fee": str(10**18), "weight": str(2**200)}
    assert decode(Paid, encode(paid)) == paid


def test_one_value_of_every_kind_comes_back() -> None:
    value = Everything(
        phase=Phase.FAILED,
        tag=Tag(0x101),
        block=BlockStamp(BlockNumber(7), BlockHash(Hash32.zero()), Timestamp(9)),
        seal=b"\x00\xff",
        flags=(True, False),
        pair=(-1, "Zürich"),
        workers=frozenset({WORKER, WorkerAddress(Address.zero())}),
        by_task={TASK: Details(reason="x")},
        by_index={0: NRlc(1), -2: NRlc(3)},
        by_both={(TASK, 0): Status.RUNNING},
        last=REPORTED,
        waiting=["a"],
    )
    assert decode(Everything, encode(value)) == value


def test_a_text_in_parts_is_the_same_text() -> None:
    for count in (0, 1, 4, 5):
        bag = Bag(number=count, things=tuple(Details(reason=str(n)) for n in range(count)))
        assert b"".join(encode_in_parts(bag, items=2)) == encode(bag)


def test_a_union_reads_each_of_its_classes() -> None:
    paid = Paid(amount=NRlc(1), fee=Wei(2), weight=3)
    for event in (REPORTED, paid):
        assert decode(Event, encode(event)) == event


def test_a_class_that_contains_itself() -> None:
    tree = Tree(name="a", children=(Tree(name="b", children=(Tree(name="c"),)), Tree(name="d")))
    assert decode(Tree, encode(tree)) == tree


def test_any_annotation_can_stand_alone() -> None:
    events = (REPORTED, REPORTED)
    assert decode(tuple[Event, ...], encode(events, tuple[Event, ...])) == events


def test_a_set_is_written_the_same_in_every_run() -> None:
    items = [Address(bytes([n]) * 20) for n in range(50)]
    assert encode(frozenset(items), frozenset[Address]) == encode(
        frozenset(reversed(items)), frozenset[Address]
    )


def test_a_field_with_a_default_may_be_missing_so_old_logs_stay_readable() -> None:
    old = {"type": "Reported", "task_id": str(TASK), "worker": str(WORKER), "status": "RUNNING"}
    assert from_json(Event, old) == Reported(task_id=TASK, worker=WORKER, status=Status.RUNNING)


GOOD: dict[str, object] = json.loads(encode(REPORTED))


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"details": {"exit_code": "3"}}, "$.details.exit_code", "expected int, got str"),
        ({"details": {"exit_code": 3.0}}, "$.details.exit_code", "expected int, got float"),
        ({"details": {"exit_code": True}}, "$.details.exit_code", "expected int, got bool"),
        ({"details": {"exit_code": 2**53}}, "$.details.exit_code", "expected int within 2^53"),
        ({"details": {"colour": "red"}}, "$.details.colour", "expected no such field, got str"),
        ({"details": None}, "$.details", "expected object, got null"),
        ({"details": []}, "$.details", "expected object, got array"),
        ({"details": {"reason": "\ud800"}}, "$.details.reason", "expected text of Unicode"),
        ({"status": "ASLEEP"}, "$.status", "expected a Status (RUNNING, COMPUTED), got 'ASLEEP'"),
        ({"status": 1}, "$.status", "got int"),
        ({"task_id": "0x12"}, "$.task_id", "expected 0x and 64 hexadecimal digits, got '0x12'"),
        ({"task_id": "0x" + "g" * 64}, "$.task_id", "expected 0x and 64 hexadecimal digits"),
        ({"worker": "0x" + "00 " * 20}, "$.worker", "expected 0x and 40 hexadecimal digits"),
        ({"worker": "00" * 20}, "$.worker", "expected 0x and 40 hexadecimal digits"),
        ({"type": "Stolen"}, "$.type", "expected Reported or Paid, got 'Stolen'"),
        ({"type": None}, "$.type", "expected Reported or Paid, got nothing"),
        ({"type": {}}, "$.type", "expected Reported or Paid, got {}"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, object], path: str, says: str) -> None:
    with pytest.raises(PeerError) as caught:
        from_json(Event, GOOD | change)
    assert isinstance(caught.value, DecodeError)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: expected ")
    assert says in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(DecodeError, match=r"^\$\.status: expected a value, got nothing$"):
        from_json(Reported, {"task_id": str(TASK), "worker": str(WORKER)})


def test_another_class_is_not_taken_for_this_one() -> None:
    with pytest.raises(DecodeError, match=r"^\$\.type: expected 'Paid', got 'Reported'$"):
        decode(Paid, encode(REPORTED))


@pytest.mark.parametrize(
    ("type_", "text", "path"),
    [
        (tuple[Address, ...], '["0x00"]', "$[0]"),
        (tuple[int, str], "[1]", "$"),
        (frozenset[int], "[1, 1]", "$"),
        (dict[int, str], '{"01": "a"}', "$['01']"),
        (dict[Hash32, int], '{"0x": 1}', "$['0x']"),
        (dict[bytes, int], '{"0xAB": 1, "0xab": 2}', "$"),
        (dict[tuple[int, int], int], "[[[1, 2], 3], [[1, 2], 4]]", "$"),
        (NRlc, "5", "$"),
        (NRlc, '"1e3"', "$"),
        (NRlc, '"\u0665"', "$"),
        (NRlc, '"' + "9" * 5000 + '"', "$"),
        (Tag, '"tee"', "$"),
        (Literal["a", "b"], '"c"', "$"),
        (Picky, '{"volume": 0}', "$"),
        (int, "9" * 5000, "$"),
        (int, "[" * 100_000, "$"),
        (int, "{", "$"),
        (int, b"\xff", "$"),
        (int, "NaN", "$"),
    ],
)
def test_bad_text_is_refused_with_its_place(type_: object, text: str | bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(type_, text)
    assert caught.value.path == path


def test_writing_what_does_not_fit_is_our_bug() -> None:
    wrong = Details(exit_code=1.5)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(InvariantBroken, match=r"Details \$\.exit_code, expected int, got float"):
        encode(wrong)


@pytest.mark.parametrize("type_", [WithFloat, WithType, int | str, object, tuple[object, ...]])
def test_a_type_without_a_json_form_is_our_bug(type_: object) -> None:
    for _ in range(2):  # a refused type leaves nothing behind
        with pytest.raises(InvariantBroken) as caught:
            from_json(type_, {})
        assert caught.value.code == "no-codec"


hashes = st.binary(min_size=32, max_size=32).map(Hash32)
addresses = st.binary(min_size=20, max_size=20).map(Address)
small_ints = st.integers(-(2**53) + 1, 2**53 - 1)
texts = st.text(st.characters(codec="utf-8"))
events = st.one_of(
    st.builds(
        Reported,
        task_id=hashes,
        worker=addresses,
        status=st.sampled_from(Status),
        details=st.builds(Details, exit_code=st.none() | small_ints, reason=texts),
        at=small_ints,
    ),
    st.builds(Paid, amount=small_ints, fee=st.integers(0, 2**256), weight=st.integers(-(2**200), 2**200)),
)


@given(events)
def test_whatever_is_written_is_read_back(event: Event) -> None:
    written = encode(event)
    assert decode(Event, written) == event
    assert written.isascii()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(st.dictionaries(st.sampled_from([*GOOD, "stranger"]), json_values))
def test_whatever_comes_is_read_or_refused_and_never_crashes(change: dict[str, object]) -> None:
    try:
        read = from_json(Event, json.loads(json.dumps(GOOD | change)))
    except DecodeError:
        return
    assert isinstance(read, Reported)
