"""Events: topics as the contracts have them, strict reading, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest

from poolwright.poco import events
from poolwright.poco.errors import PeerError
from poolwright.poco.events import (
    EVENTS,
    TOPICS,
    EntryTransfer,
    HubEvent,
    Log,
    SchedulerNotice,
    TaskFinalize,
    Transfer,
    decode_log,
    encode_event,
)
from poolwright.poco.orders import NULL_DATASETORDER, AppOrder, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import GPU, Tag
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    NRlc,
    TaskId,
    Timestamp,
    TxHash,
)

HUB = Address(b"\xaa" * 20)
A, B = Address(b"\x01" * 20), Address(b"\x02" * 20)
TASK = TaskId(Hash32(b"\x11" * 32))

TOPIC_STARTS = {
    "SchedulerNotice": "692ad610",
    "OrdersMatched": "d811b592",
    "DealSponsored": "81eec3d5",
    "TaskInitialize": "252992fb",
    "TaskContribute": "3fdb8d77",
    "TaskConsensus": "f6d49bf3",
    "TaskReveal": "4b1763d4",
    "TaskReopen": "3afe0f24",
    "TaskFinalize": "78ce8a8b",
    "TaskClaimed": "cbc308b5",
    "AccurateContribution": "9703f458",
    "FaultyContribution": "f8687889",
    "Transfer": "ddf252ad",
    "EntryTransfer": "ddf252ad",
    "Approval": "8c5be1e5",
    "EntryApproval": "8c5be1e5",
    "Lock": "625fed98",
    "Unlock": "6381d981",
    "Reward": "c2aca55a",
    "Seize": "1bccc549",
    "SignedAppOrder": "50933cf5",
    "SignedDatasetOrder": "79ce8590",
    "SignedWorkerpoolOrder": "3a61aabf",
    "SignedRequestOrder": "3b0ac041",
    "ClosedAppOrder": "7343f75b",
    "ClosedDatasetOrder": "cf52e322",
    "ClosedWorkerpoolOrder": "145ad51e",
    "ClosedRequestOrder": "582f43f2",
    "BroadcastAppOrder": "6fd493f8",
    "BroadcastDatasetOrder": "c56d982a",
    "BroadcastWorkerpoolOrder": "af81a046",
    "BroadcastRequestOrder": "54bee205",
    "CreateCategory": "62bf0836",
    "OwnershipTransferred": "8be0079c",
    "DiamondCut": "8faa7087",
    "PolicyUpdate": "61f37ef3",
    "SchedulerNoticeBoost": "90edec6d",
    "ResultPushedBoost": "fbd7641f",
    "DealSponsoredBoost": "30d8c59d",
}
SAMPLES: Mapping[str, object] = {
    "Address": A,
    "DealId": Hash32(b"\x44" * 32),
    "TaskId": TASK,
    "OrderHash": Hash32(b"\x55" * 32),
    "Hash32": Hash32(b"\x66" * 32),
    "NRlc": 25000,
    "int": 7,
    "Seconds": 300,
    "Tag": GPU,
    "str": "é",
    "bytes": b"ipfs",
    "AppOrder": AppOrder(
        app=A,
        appprice=NRlc(1),
        volume=2,
        tag=GPU,
        datasetrestrict=A,
        workerpoolrestrict=B,
        requesterrestrict=A,
        salt=Hash32(b"\x07" * 32),
        sign=b"\x08" * 65,
    ),
    "DatasetOrder": NULL_DATASETORDER,
    "WorkerpoolOrder": WorkerpoolOrder(
        workerpool=A,
        workerpoolprice=NRlc(1),
        volume=2,
        tag=Tag(0),
        category=3,
        trust=4,
        apprestrict=A,
        datasetrestrict=B,
        requesterrestrict=A,
        salt=Hash32(b"\x07" * 32),
    ),
    "RequestOrder": RequestOrder(
        app=A,
        appmaxprice=NRlc(1),
        dataset=B,
        datasetmaxprice=NRlc(2),
        workerpool=A,
        workerpoolmaxprice=NRlc(3),
        requester=B,
        volume=4,
        tag=GPU,
        category=5,
        trust=6,
        beneficiary=A,
        callback=B,
        params="{}",
        salt=Hash32(b"\x07" * 32),
    ),
    "tuple[tuple[Address, int, tuple[bytes, ...]], ...]": ((A, 1, (b"\x01\x02\x03\x04",)),),
}


def log_of(topics: tuple[Hash32, ...], data: bytes) -> Log:
    block = BlockStamp(BlockNumber(12), BlockHash(Hash32(b"\xbb" * 32)), Timestamp(1000))
    return Log(
        address=HUB, topics=topics, data=data, block=block, tx_hash=TxHash(Hash32(b"\xcc" * 32)), log_index=3
    )


def sample(kind: type[HubEvent]) -> HubEvent:
    return kind(**{each.name: SAMPLES[str(each.type)] for each in fields(kind)})


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_the_topic_is_the_one_of_the_contract(kind: type[HubEvent]) -> None:
    assert TOPICS[kind].hex().startswith(TOPIC_STARTS[kind.__name__])


def test_every_event_class_is_in_the_union() -> None:
    assert {kind.__name__ for kind in events.Event.__subclasses__()} == set(TOPIC_STARTS)
    assert len(EVENTS) == len(TOPIC_STARTS)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_reads_back_from_its_log(kind: type[HubEvent]) -> None:
    event = sample(kind)

    assert decode_log(log_of(*encode_event(event))) == event


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_a_log_with_too_little_or_too_much_in_it_is_refused(kind: type[HubEvent]) -> None:
    topics, data = encode_event(sample(kind))

    with pytest.raises(PeerError, match=f"{kind.__name__} unreadable"):
        decode_log(log_of(topics, data + bytes(32)))
    if data:
        with pytest.raises(PeerError, match=rf"log 3 of block 12 .* by {HUB}: {kind.__name__} unreadable"):
            decode_log(log_of(topics, data[:-1]))
    with pytest.raises(PeerError, match="topics, got 5"):
        decode_log(log_of(topics[:1] * 5, data))


def test_a_transfer_of_a_registry_has_its_token_id_in_a_topic() -> None:
    """An app created: ERC-721 and ERC-20 share the first topic, only the number of topics differs."""
    topics = (
        TOPICS[Transfer],
        Hash32.zero(),
        Hash32(bytes(12) + A),
        Hash32(bytes(12) + B),
    )

    assert decode_log(log_of(topics, b"")) == EntryTransfer(source=Address.zero(), target=A, entry=B)
    amount = (1000).to_bytes(32, "big")
    assert decode_log(log_of(topics[:3], amount)) == Transfer(
        source=Address.zero(), target=A, value=NRlc(1000)
    )


def test_a_token_id_that_is_no_address_is_refused() -> None:
    topics = (TOPICS[EntryTransfer], Hash32.zero(), Hash32.zero(), Hash32(b"\x01" * 32))

    with pytest.raises(PeerError, match=r"EntryTransfer unreadable: token id, expected an address"):
        decode_log(log_of(topics, b""))


def test_an_indexed_address_with_dirt_in_front_is_refused() -> None:
    topics, data = encode_event(sample(SchedulerNotice))

    with pytest.raises(PeerError, match="SchedulerNotice unreadable"):
        decode_log(log_of((topics[0], Hash32(b"\x01" * 32)), data))


def test_a_foreign_or_anonymous_log_is_none_of_ours() -> None:
    assert decode_log(log_of((Hash32(b"\x01" * 32),), b"")) is None
    assert decode_log(log_of((), b"data")) is None


def test_two_logs_of_one_event_differ_by_place_only() -> None:
    topics, data = encode_event(TaskFinalize(task_id=TASK, results=b"/ipfs/x"))
    log = log_of(topics, data)

    assert decode_log(replace(log, log_index=4)) == decode_log(log)
