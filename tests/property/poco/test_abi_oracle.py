"""The ABI codec against eth-abi: random types and values, and random damage to good data."""

from __future__ import annotations

import contextlib
from typing import Any

import eth_abi
from hypothesis import given
from hypothesis import strategies as st

from poolwright.poco.abi import decode, encode
from poolwright.poco.errors import PeerError

Typed = tuple[str, st.SearchStrategy[Any]]


def integers(bits: int, signed: bool) -> Typed:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return f"{'int' if signed else 'uint'}{bits}", st.integers(low, high)


def fixed_bytes(length: int) -> Typed:
    return f"bytes{length}", st.binary(min_size=length, max_size=length)


def array(inner: Typed, length: int | None) -> Typed:
    type_, values = inner
    low, high = (0, 4) if length is None else (length, length)
    suffix = "" if length is None else length
    return f"{type_}[{suffix}]", st.lists(values, min_size=low, max_size=high).map(tuple)


def tuple_of(members: list[Typed]) -> Typed:
    return f"({','.join(type_ for type_, _ in members)})", st.tuples(*(values for _, values in members))


simple: st.SearchStrategy[Typed] = st.one_of(
    st.builds(integers, st.integers(1, 32).map(lambda n: 8 * n), st.booleans()),
    st.builds(fixed_bytes, st.integers(1, 32)),
    st.sampled_from(
        [
            ("bool", st.booleans()),
            ("address", st.binary(min_size=20, max_size=20)),
            ("bytes", st.binary(max_size=70)),
            ("string", st.text(max_size=40)),
        ]
    ),
)
typed = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(array, inner, st.none() | st.integers(1, 3)),
        st.builds(tuple_of, st.lists(inner, min_size=1, max_size=4)),
    ),
    max_leaves=8,
)


@st.composite
def arguments(draw: st.DrawFn) -> tuple[list[str], list[Any]]:
    members = draw(st.lists(typed, max_size=5))
    return [type_ for type_, _ in members], [draw(values) for _, values in members]


def comparable(value: Any) -> Any:
    """eth-abi gives addresses as lower-case hex."""
    if isinstance(value, tuple):
        return tuple(comparable(member) for member in value)
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        return bytes.fromhex(value[2:])
    return value


@given(arguments())
def test_encoding_equals_the_one_of_eth_abi_and_decodes_to_the_same(
    given: tuple[list[str], list[Any]],
) -> None:
    types, values = given

    data = encode(types, values)

    assert data == eth_abi.encode(types, values)
    assert decode(types, data) == tuple(values)
    assert comparable(eth_abi.decode(types, data)) == comparable(tuple(values))


@given(arguments(), st.data())
def test_damaged_data_decodes_to_what_encodes_to_it_or_is_refused(
    given: tuple[list[str], list[Any]], data: st.DataObject
) -> None:
    """Whatever decodes is the only reading: encoding it gives the same bytes, so nothing is guessed.

    Two freedoms remain: tails in another order, and bytes in a string that are no UTF-8.
    """
    types, values = given
    good = encode(types, values)
    position = data.draw(st.integers(0, len(good)))
    bad = data.draw(
        st.one_of(
            st.just(good[:position]),
            st.binary(min_size=1, max_size=40).map(lambda more: good[:position] + more + good[position:]),
            st.integers(0, 255).map(lambda byte: good[:position] + bytes([byte]) + good[position + 1 :]),
        )
    )

    with contextlib.suppress(PeerError):
        again = encode(types, decode(types, bad))
        assert len(again) == len(bad) or "string" in ",".join(types)


@given(st.lists(simple | typed, max_size=5), st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused_as_the_peer_s_fault(members: list[Typed], noise: bytes) -> None:
    with contextlib.suppress(PeerError):
        decode([type_ for type_, _ in members], noise)
