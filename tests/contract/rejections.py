"""Ways to make four orders not match, by the number with which the contract refuses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cast import STRANGER
from stage import NOBODY, Stage

from poolwright.poco.matching import Orders
from poolwright.poco.tags import GPU, SCONE, TDX, TEE

Spoil = Callable[[Stage], Orders]


def with_changes(**changes: Any) -> Spoil:
    return lambda stage: stage.orders(**changes)


def restricted(order: str, field: str) -> list[Spoil]:
    """Restrict to somebody else, and to contracts that are no groups."""

    def to(stage: Stage, restriction: Any) -> Orders:
        changes: dict[str, Any] = {order: {field: restriction}}
        return stage.orders(**changes)

    return [
        lambda stage: to(stage, STRANGER.address),
        lambda stage: to(stage, stage.wallet),
        lambda stage: to(stage, stage.app if field != "apprestrict" else stage.pool),
        lambda stage: to(stage, stage.hub),
    ]


def signed_by_another(order: str) -> Spoil:
    def spoil(stage: Stage) -> Orders:
        orders = stage.orders()
        wrong = STRANGER.signed(getattr(orders, order), stage.domain)
        return replace(orders, **{order: wrong})

    return spoil


def tampered(order: str) -> Spoil:
    """Change the order after it was signed."""

    def spoil(stage: Stage) -> Orders:
        orders = stage.orders()
        return replace(orders, **{order: replace(getattr(orders, order), salt=stage.salt())})

    return spoil


def bad_signature(order: str) -> list[Spoil]:
    """Another signer, other terms, zeros, v of 0 or 1, the malleable twin."""

    def resigned(change: Callable[[bytes], bytes]) -> Spoil:
        def spoil(stage: Stage) -> Orders:
            orders = stage.orders()
            good = getattr(orders, order)
            return replace(orders, **{order: replace(good, sign=change(good.sign))})

        return spoil

    return [
        signed_by_another(order),
        tampered(order),
        resigned(lambda sign: bytes(65)),
        resigned(lambda sign: sign[:64] + bytes((sign[64] - 27,))),
        resigned(malleable),
    ]


def malleable(sign: bytes) -> bytes:
    """The other signature of the same message, with s in the upper half, which the contract refuses."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(sign[32:64], "big")
    return sign[:32] + s.to_bytes(32, "big") + bytes((27 + 28 - sign[64],))


def request_of(**fields: Any) -> Spoil:
    return with_changes(request=fields)


def same_request_twice(stage: Stage) -> Orders:
    orders = stage.orders(request={"volume": 2})
    stage.match(STRANGER.address, orders)
    return orders


REJECTIONS: dict[int, list[Spoil]] = {
    0x00: [request_of(category=1), with_changes(workerpool={"category": 4})],
    0x01: [with_changes(request={"category": 5}, workerpool={"category": 5})],
    0x02: [request_of(trust=101), with_changes(workerpool={"trust": 0})],
    0x03: [with_changes(app={"appprice": 1001}, request={"appmaxprice": 1000})],
    0x04: [
        with_changes(dataset={"datasetprice": 501}, request={"datasetmaxprice": 500}),
    ],
    0x05: [with_changes(workerpool={"workerpoolprice": 25_001}, request={"workerpoolmaxprice": 25_000})],
    0x06: [
        with_changes(app={"tag": GPU}),
        with_changes(dataset={"tag": SCONE}),
        request_of(tag=TDX),
        with_changes(app={"tag": TEE | GPU}, workerpool={"tag": TEE}),
    ],
    0x07: [
        with_changes(request={"tag": TEE}, workerpool={"tag": TEE}),
        with_changes(dataset={"tag": TEE}, workerpool={"tag": TEE | SCONE}, app={"tag": SCONE}),
    ],
    0x10: [lambda stage: stage.orders(request={"app": stage.dataset})],
    0x11: [
        request_of(dataset=NOBODY),
        lambda stage: stage.orders(with_dataset=False, request={"dataset": stage.dataset}),
    ],
    0x12: restricted("request", "workerpool"),
    0x13: restricted("app", "datasetrestrict"),
    0x14: restricted("app", "workerpoolrestrict"),
    0x15: restricted("app", "requesterrestrict"),
    0x16: restricted("dataset", "apprestrict"),
    0x17: restricted("dataset", "workerpoolrestrict"),
    0x18: restricted("dataset", "requesterrestrict"),
    0x19: restricted("workerpool", "apprestrict"),
    0x1A: restricted("workerpool", "datasetrestrict"),
    0x1B: restricted("workerpool", "requesterrestrict"),
    0x20: [
        lambda stage: stage.orders(app={"app": stage.dataset}),
        lambda stage: stage.orders(app={"app": stage.hub}),
    ],
    0x21: bad_signature("app"),
    0x30: [lambda stage: stage.orders(dataset={"dataset": stage.app})],
    0x31: bad_signature("dataset"),
    0x40: [lambda stage: stage.orders(workerpool={"workerpool": stage.app})],
    0x41: bad_signature("workerpool"),
    0x50: bad_signature("request"),
    0x60: [
        request_of(volume=0),
        with_changes(app={"volume": 0}),
        with_changes(dataset={"volume": 0}),
        with_changes(workerpool={"volume": 0}),
        same_request_twice,
    ],
}
