"""Order validation on one core: EIP-712 digest, signature recovery, address. Floor: the recovery alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice

from coincurve import PublicKey

from bench.harness import Figure, bench, best_rates
from poolwright.poco.orders import Domain, Order, RequestOrder, WorkerpoolOrder, order_hash
from poolwright.poco.signatures import address_of_key, recover, sign_digest
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address, Hash32, NRlc

GOAL_PER_SECOND = 10_000
KEY = bytes(range(1, 33))
DOMAIN = Domain(chain_id=134, hub=Address(b"\x3e" * 20))


def _workerpool_order(number: int) -> WorkerpoolOrder:
    return WorkerpoolOrder(
        workerpool=Address(b"\x11" * 20),
        workerpoolprice=NRlc(number),
        volume=5,
        tag=Tag(1),
        category=2,
        trust=3,
        apprestrict=Address.zero(),
        datasetrestrict=Address.zero(),
        requesterrestrict=Address.zero(),
        salt=Hash32(number.to_bytes(32, "big")),
    )


def _request_order(number: int) -> RequestOrder:
    return RequestOrder(
        app=Address(b"\x22" * 20),
        appmaxprice=NRlc(1),
        dataset=Address.zero(),
        datasetmaxprice=NRlc(0),
        workerpool=Address(b"\x11" * 20),
        workerpoolmaxprice=NRlc(number),
        requester=address_of_key(KEY),
        volume=1,
        tag=Tag(0),
        category=2,
        trust=1,
        beneficiary=Address.zero(),
        callback=Address.zero(),
        params='{"iexec_args":"--size 10"}',
        salt=Hash32(number.to_bytes(32, "big")),
    )


def _signed(make: Callable[[int], Order]) -> list[Order]:
    orders = [make(number) for number in range(300)]
    return [replace(order, sign=sign_digest(KEY, order_hash(order, DOMAIN))) for order in orders]


def _validate(orders: Sequence[Order], count: int) -> None:
    signer = address_of_key(KEY)
    for order in islice(cycle(orders), count):
        if recover(order_hash(order, DOMAIN), order.sign) != signer:
            raise AssertionError("a valid order was not recognised")


def _recover_only(signatures: Sequence[tuple[bytes, bytes]], count: int) -> None:
    for digest, signature in islice(cycle(signatures), count):
        PublicKey.from_signature_and_message(signature, digest, hasher=None)


@bench("orders")
def orders() -> Iterator[Figure]:
    """Orders checked per second, by kind."""
    for name, make in (("workerpoolorder", _workerpool_order), ("requestorder", _request_order)):
        signed = _signed(make)
        plain = [
            (bytes(order_hash(order, DOMAIN)), order.sign[:64] + bytes([order.sign[64] - 27]))
            for order in signed
        ]
        rates = best_rates(
            {
                "floor": partial(_recover_only, plain),
                "value": partial(_validate, signed),
            },
            count=3_000,
        )
        yield Figure(
            name=f"orders.{name}",
            value=rates["value"],
            unit="1/s",
            floor=rates["floor"],
            goal=f"over {GOAL_PER_SECOND:,}/s",
            is_met=rates["value"] > GOAL_PER_SECOND,
        )
