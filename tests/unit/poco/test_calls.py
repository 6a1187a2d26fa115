"""Call data against the selectors of the deployed contracts and eth-abi, and the answers of the views."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import eth_abi
import pytest

from poolwright.poco import calls, views
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.orders import NULL_DATASETORDER, AppOrder, Domain, RequestOrder, WorkerpoolOrder
from poolwright.poco.records import (
    Account,
    AppInfo,
    Category,
    Contribution,
    ContributionStatus,
    DatasetInfo,
    Deal,
    OnchainTask,
    OrderOperation,
    Resource,
    TaskStatus,
    WorkerpoolInfo,
)
from poolwright.poco.tags import TDX, TEE
from poolwright.poco.types import Address, DealId, Hash32, NRlc, OrderHash, Seconds, TaskId, Timestamp

A, B, C = (Address(bytes([n]) * 20) for n in (0xA1, 0xB2, 0xC3))
DEAL = DealId(Hash32(b"\xdd" * 32))
TASK = TaskId(Hash32(b"\x11" * 32))
HASH = Hash32(b"\x22" * 32)
ORDER_HASH = OrderHash(HASH)
APP_TYPE = "(address,uint256,uint256,bytes32,address,address,address,bytes32,bytes)"
POOL_TYPE = "(address,uint256,uint256,bytes32,uint256,uint256,address,address,address,bytes32,bytes)"
REQUEST_TYPE = (
    "(address,uint256,address,uint256,address,uint256,address,uint256,bytes32,uint256,uint256,"
    "address,address,string,bytes32,bytes)"
)
FOUR_TYPES = [APP_TYPE, APP_TYPE, POOL_TYPE, REQUEST_TYPE]

APP = AppOrder(
    app=A,
    appprice=NRlc(5),
    volume=6,
    tag=TEE,
    datasetrestrict=B,
    workerpoolrestrict=C,
    requesterrestrict=A,
    salt=HASH,
    sign=b"\x01" * 65,
)
APP_VALUES = (A, 5, 6, TEE.word, B, C, A, HASH, b"\x01" * 65)
NULL_VALUES = (bytes(20), 0, 0, bytes(32), bytes(20), bytes(20), bytes(20), bytes(32), b"")
POOL = WorkerpoolOrder(
    workerpool=A,
    workerpoolprice=NRlc(5),
    volume=6,
    tag=TDX,
    category=7,
    trust=8,
    apprestrict=A,
    datasetrestrict=B,
    requesterrestrict=C,
    salt=HASH,
    sign=b"\x02",
)
POOL_VALUES = (A, 5, 6, TDX.word, 7, 8, A, B, C, HASH, b"\x02")
REQUEST = RequestOrder(
    app=A,
    appmaxprice=NRlc(1),
    dataset=B,
    datasetmaxprice=NRlc(2),
    workerpool=C,
    workerpoolmaxprice=NRlc(3),
    requester=A,
    volume=4,
    tag=TEE,
    category=5,
    trust=6,
    beneficiary=B,
    callback=C,
    params='{"iexec_args":"é"}',
    salt=HASH,
    sign=b"\x03",
)
REQUEST_VALUES = (A, 1, B, 2, C, 3, A, 4, TEE.word, 5, 6, B, C, '{"iexec_args":"é"}', HASH, b"\x03")
FOUR = (APP, NULL_DATASETORDER, POOL, REQUEST)
FOUR_VALUES = [APP_VALUES, NULL_VALUES, POOL_VALUES, REQUEST_VALUES]

Case = tuple[bytes, str, list[str], list[object]]
TRANSACTIONS: list[Case] = [
    (calls.match_orders(*FOUR), "156194d4", FOUR_TYPES, [*FOUR_VALUES]),
    (calls.sponsor_match_orders(*FOUR), "2f391533", FOUR_TYPES, [*FOUR_VALUES]),
    (views.compute_deal_volume(*FOUR), "66517ca6", FOUR_TYPES, [*FOUR_VALUES]),
    (
        calls.manage_app_order(APP, OrderOperation.CLOSE),
        "b2b07e66",
        [f"({APP_TYPE},uint8,bytes)"],
        [(APP_VALUES, 1, b"")],
    ),
    (
        calls.manage_dataset_order(NULL_DATASETORDER, OrderOperation.SIGN, b"s"),
        "4b747106",
        [f"({APP_TYPE},uint8,bytes)"],
        [(NULL_VALUES, 0, b"s")],
    ),
    (
        calls.manage_workerpool_order(POOL, OrderOperation.CLOSE),
        "7e34a077",
        [f"({POOL_TYPE},uint8,bytes)"],
        [(POOL_VALUES, 1, b"")],
    ),
    (
        calls.manage_request_order(REQUEST, OrderOperation.CLOSE),
        "8dd971d5",
        [f"({REQUEST_TYPE},uint8,bytes)"],
        [(REQUEST_VALUES, 1, b"")],
    ),
    (
        views.assert_dataset_deal_compatibility(NULL_DATASETORDER, DEAL),
        "80f03425",
        [APP_TYPE, "bytes32"],
        [NULL_VALUES, DEAL],
    ),
    (calls.initialize(DEAL, 3), "5b36c66b", ["bytes32", "uint256"], [DEAL, 3]),
    (
        calls.contribute(TASK, HASH, HASH, A, b"e", b"a" * 65),
        "34623484",
        ["bytes32", "bytes32", "bytes32", "address", "bytes", "bytes"],
        [TASK, HASH, HASH, A, b"e", b"a" * 65],
    ),
    (calls.reveal(TASK, HASH), "fc334e8c", ["bytes32", "bytes32"], [TASK, HASH]),
    (calls.reopen(TASK), "f6c68e10", ["bytes32"], [TASK]),
    (calls.finalize(TASK, b"r", b"c"), "8fc375e5", ["bytes32", "bytes", "bytes"], [TASK, b"r", b"c"]),
    (
        calls.contribute_and_finalize(TASK, HASH, b"r", b"c", A, b"e", b"a"),
        "5facd761",
        ["bytes32", "bytes32", "bytes", "bytes", "address", "bytes", "bytes"],
        [TASK, HASH, b"r", b"c", A, b"e", b"a"],
    ),
    (calls.claim(TASK), "bd66528a", ["bytes32"], [TASK]),
    (
        calls.initialize_array([DEAL, DEAL], [0, 1]),
        "b504681d",
        ["bytes32[]", "uint256[]"],
        [[DEAL] * 2, [0, 1]],
    ),
    (calls.claim_array([TASK]), "fa055d7e", ["bytes32[]"], [[TASK]]),
    (
        calls.initialize_and_claim_array([DEAL], [7]),
        "f722cb32",
        ["bytes32[]", "uint256[]"],
        [[DEAL], [7]],
    ),
    (calls.deposit(NRlc(9)), "b6b55f25", ["uint256"], [9]),
    (calls.deposit_native(), "d0e30db0", [], []),
    (calls.deposit_for(NRlc(9), A), "36efd16f", ["uint256", "address"], [9, A]),
    (
        calls.deposit_for_array([NRlc(1), NRlc(2)], [A, B]),
        "3354f8a5",
        ["uint256[]", "address[]"],
        [[1, 2], [A, B]],
    ),
    (calls.withdraw(NRlc(9)), "2e1a7d4d", ["uint256"], [9]),
    (calls.withdraw_to(NRlc(9), A), "c86283c8", ["uint256", "address"], [9, A]),
    (calls.recover(), "ce746024", [], []),
    (
        calls.receive_approval(A, NRlc(9), B, b"x"),
        "8f4ffcb1",
        ["address", "uint256", "address", "bytes"],
        [A, 9, B, b"x"],
    ),
    (
        calls.create_category("XS", '""', Seconds(300)),
        "298503d9",
        ["string", "string", "uint256"],
        ["XS", '""', 300],
    ),
    (calls.approve(A, NRlc(1)), "095ea7b3", ["address", "uint256"], [A, 1]),
    (calls.transfer(A, NRlc(1)), "a9059cbb", ["address", "uint256"], [A, 1]),
    (calls.transfer_from(A, B, NRlc(1)), "23b872dd", ["address", "address", "uint256"], [A, B, 1]),
    (
        calls.transfer_entry(A, B, C),
        "42842e0e",
        ["address", "address", "uint256"],
        [A, B, int.from_bytes(C, "big")],
    ),
    (calls.transfer_ownership(A), "f2fde38b", ["address"], [A]),
]
VIEWS: list[Case] = [
    (views.view_deal(DEAL), "b74861b2", ["bytes32"], [DEAL]),
    (views.view_task(TASK), "adccf0d5", ["bytes32"], [TASK]),
    (views.view_contribution(TASK, A), "e741363b", ["bytes32", "address"], [TASK, A]),
    (views.view_account(A), "6b55f4a5", ["address"], [A]),
    (views.view_score(A), "db230b52", ["address"], [A]),
    (views.view_category(4), "4f5f44ec", ["uint256"], [4]),
    (views.count_category(), "c140996f", [], []),
    (views.view_consumed(ORDER_HASH), "4b2bec8c", ["bytes32"], [HASH]),
    (views.view_presigned(ORDER_HASH), "d286eb16", ["bytes32"], [HASH]),
    (views.result_for(TASK), "d09cc57e", ["bytes32"], [TASK]),
    (views.verify_signature(A, HASH, b"s"), "01751998", ["address", "bytes32", "bytes"], [A, HASH, b"s"]),
    (views.verify_presignature(A, HASH), "c87b582a", ["address", "bytes32"], [A, HASH]),
    (
        views.verify_presignature_or_signature(A, HASH, b"s"),
        "bf36994e",
        ["address", "bytes32", "bytes"],
        [A, HASH, b"s"],
    ),
    (views.balance_of(A), "70a08231", ["address"], [A]),
    (views.owner(), "8da5cb5b", [], []),
    (views.owner_of(A), "6352211e", ["uint256"], [int.from_bytes(A, "big")]),
    (views.name(), "06fdde03", [], []),
    (views.symbol(), "95d89b41", [], []),
    (views.decimals(), "313ce567", [], []),
    (views.total_supply(), "18160ddd", [], []),
    (views.allowance(A, B), "dd62ed3e", ["address", "address"], [A, B]),
    (views.is_valid_signature(HASH, b"s"), "1626ba7e", ["bytes32", "bytes"], [HASH, b"s"]),
]


@pytest.mark.parametrize(("data", "selector", "types", "values"), TRANSACTIONS + VIEWS)
def test_call_data_is_the_selector_of_the_contract_and_the_arguments_as_eth_abi_encodes_them(
    data: bytes, selector: str, types: list[str], values: list[object]
) -> None:
    assert data == bytes.fromhex(selector) + eth_abi.encode(types, values)


def test_a_value_that_does_not_fit_is_refused_naming_the_function() -> None:
    with pytest.raises(InputError, match=r"deposit\[0\] does not fit its ABI type, expected uint256"):
        calls.deposit(NRlc(-1))


def test_a_deal_reads_field_by_field() -> None:
    answer = eth_abi.encode(
        [
            "((address,address,uint256),(address,address,uint256),(address,address,uint256),uint256,uint256,"
            "bytes32,address,address,address,string,uint256,uint256,uint256,uint256,uint256,address)"
        ],
        [
            (
                (A, B, 1),
                (bytes(20), bytes(20), 0),
                (B, C, 3),
                4,
                5,
                TEE.word,
                A,
                B,
                C,
                "{}",
                6,
                7,
                8,
                9,
                10,
                B,
            )
        ],
    )

    assert views.decode_deal(answer) == Deal(
        app=Resource(pointer=A, owner=B, price=NRlc(1)),
        dataset=Resource(pointer=Address.zero(), owner=Address.zero(), price=NRlc(0)),
        workerpool=Resource(pointer=B, owner=C, price=NRlc(3)),
        trust=4,
        category=5,
        tag=TEE,
        requester=A,
        beneficiary=B,
        callback=C,
        params="{}",
        start_time=Timestamp(6),
        bot_first=7,
        bot_size=8,
        worker_stake=NRlc(9),
        scheduler_reward_ratio=10,
        sponsor=B,
    )


TASK_TYPE = (
    "(uint8,bytes32,uint256,uint256,uint256,uint256,uint256,bytes32,uint256,uint256,address[],bytes32,"
    "bytes,uint256,bytes)"
)


def test_a_task_reads_field_by_field() -> None:
    answer = eth_abi.encode(
        [TASK_TYPE], [(2, DEAL, 1, 300, 10, 11, 12, HASH, 13, 14, [A, B], HASH, b"link", 0, b"callback")]
    )

    assert views.decode_task(answer) == OnchainTask(
        status=TaskStatus.REVEALING,
        deal_id=DEAL,
        index=1,
        timeref=Seconds(300),
        contribution_deadline=Timestamp(10),
        reveal_deadline=Timestamp(11),
        final_deadline=Timestamp(12),
        consensus=HASH,
        reveal_counter=13,
        winner_counter=14,
        contributors=(A, B),
        result_digest=HASH,
        results=b"link",
        results_callback=b"callback",
    )


def test_an_unknown_task_reads_as_unset() -> None:
    nothing = (0, bytes(32), 0, 0, 0, 0, 0, bytes(32), 0, 0, [], bytes(32), b"", 0, b"")

    task = views.decode_task(eth_abi.encode([TASK_TYPE], [nothing]))

    assert task.status is TaskStatus.UNSET
    assert not task.deal_id


def test_a_status_that_no_contract_has_is_refused() -> None:
    nonsense = (5, bytes(32), 0, 0, 0, 0, 0, bytes(32), 0, 0, [], bytes(32), b"", 0, b"")

    with pytest.raises(PeerError, match="not a TaskStatus, expected 0 to 4, got 5"):
        views.decode_task(eth_abi.encode([TASK_TYPE], [nonsense]))


@pytest.mark.parametrize(
    ("decoder", "types", "values", "expected"),
    [
        (
            views.decode_contribution,
            ["(uint8,bytes32,bytes32,address,uint256)"],
            [(1, HASH, TASK, A, 4)],
            Contribution(
                status=ContributionStatus.CONTRIBUTED,
                result_hash=HASH,
                result_seal=TASK,
                enclave_challenge=A,
                weight=4,
            ),
        ),
        (views.decode_account, ["(uint256,uint256)"], [(1, 2)], Account(stake=NRlc(1), locked=NRlc(2))),
        (
            views.decode_category,
            ["(string,string,uint256)"],
            [("XS", '""', 300)],
            Category(name="XS", description='""', timeref=Seconds(300)),
        ),
        (
            views.decode_app,
            ["(address,string,string,bytes,bytes32,bytes)"],
            [(A, "app", "DOCKER", b"image:1", HASH, b"")],
            AppInfo(owner=A, name="app", type="DOCKER", multiaddr=b"image:1", checksum=HASH, mrenclave=b""),
        ),
        (
            views.decode_dataset,
            ["(address,string,bytes,bytes32)"],
            [(A, "data", b"/ipfs/x", HASH)],
            DatasetInfo(owner=A, name="data", multiaddr=b"/ipfs/x", checksum=HASH),
        ),
        (
            views.decode_workerpool,
            ["(address,string,uint256,uint256)"],
            [(A, "pool", 30, 1)],
            WorkerpoolInfo(owner=A, description="pool", worker_stake_ratio=30, scheduler_reward_ratio=1),
        ),
        (
            views.decode_domain,
            ["(string,string,uint256,address)"],
            [("iExecODB", "5.0.0", 134, A)],
            Domain(chain_id=134, hub=A),
        ),
        (views.decode_uint, ["uint256"], [7], 7),
        (views.decode_bool, ["bool"], [True], True),
        (views.decode_address, ["address"], [A], A),
        (views.decode_entry, ["uint256"], [int.from_bytes(A, "big")], A),
        (views.decode_hash, ["bytes32"], [HASH], HASH),
        (views.decode_bytes, ["bytes"], [b"abc"], b"abc"),
        (views.decode_string, ["string"], ["RLC"], "RLC"),
        (views.decode_is_valid_signature, ["bytes4"], [bytes.fromhex("1626ba7e")], True),
        (views.decode_is_valid_signature, ["bytes4"], [bytes(4)], False),
    ],
)
def test_an_answer_reads_as_its_record(
    decoder: Callable[[bytes], object], types: list[str], values: list[object], expected: object
) -> None:
    assert decoder(eth_abi.encode(types, values)) == expected


DECODERS = [function for name, function in inspect.getmembers(views) if name.startswith("decode_")]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.__name__)
def test_no_answer_is_refused(decoder: Callable[[bytes], object]) -> None:
    """An address without code answers every call with nothing."""
    with pytest.raises(PeerError, match="ABI data refused at byte 0"):
        decoder(b"")
