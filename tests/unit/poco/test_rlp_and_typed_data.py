"""RLP examples of the Yellow Paper's test set, and typed messages with partial domains."""

from __future__ import annotations

import pytest
from eth_utils import keccak

from poolwright.poco.errors import InputError
from poolwright.poco.rlp import Item, encode
from poolwright.poco.typed_data import TypedDomain, struct_hash, typed_digest
from poolwright.poco.types import Address

LOGIN = "Login(address worker,string challenge)"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (b"", "80"),
        (b"\x00", "00"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (b"dog", "83646f67"),
        (b"a" * 56, "b838" + "61" * 56),
        (0, "80"),
        (15, "0f"),
        (1024, "820400"),
        ([], "c0"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
    ],
)
def test_rlp_of_known_items(item: Item, expected: str) -> None:
    assert encode(item).hex() == expected


@pytest.mark.parametrize("item", [-1, True, None, "text", 1.5, [b"", None]])
def test_what_rlp_does_not_hold_is_refused(item: Item) -> None:
    with pytest.raises(InputError, match="RLP"):
        encode(item)


def test_the_challenge_of_the_task_log_reader_has_its_known_type_hashes() -> None:
    """The digest by its definition, word by word, with a domain that has no verifying contract."""
    domain = TypedDomain(name="iExec Core", version="1", chain_id=134)
    domain_separator = keccak(
        keccak(b"EIP712Domain(string name,string version,uint256 chainId)")
        + keccak(b"iExec Core")
        + keccak(b"1")
        + (134).to_bytes(32, "big")
    )
    struct = keccak(keccak(b"Challenge(string challenge)") + keccak(b"abc"))

    digest = typed_digest(domain, "Challenge(string challenge)", {"challenge": "abc"})

    assert digest == keccak(b"\x19\x01" + domain_separator + struct)


def test_every_part_of_the_domain_changes_the_digest() -> None:
    full = TypedDomain(name="n", version="1", chain_id=1, verifying_contract=Address(b"\x01" * 20))
    others = [TypedDomain(), TypedDomain(name="n"), TypedDomain(version="n"), TypedDomain(chain_id=1), full]

    assert len({domain.separator for domain in others}) == len(others)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"worker": Address.zero()}, "wrong members for Login, expected worker, challenge, got worker"),
        ({"worker": Address.zero(), "challenge": "", "more": 1}, "got worker, challenge, more"),
        ({"worker": b"\x01", "challenge": ""}, "expected address"),
        ({"worker": Address.zero(), "challenge": 5}, "member 'challenge' refused, expected string, got int"),
        ({"worker": Address.zero(), "challenge": "\ud800"}, "lone surrogates"),
    ],
)
def test_a_message_that_does_not_fit_its_type_is_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        struct_hash(LOGIN, values)


@pytest.mark.parametrize(
    "struct",
    ["Login", "(string a)", "Login(string)", "Login(string a", "Login(uint256[] a)", "Login(string  a)"],
)
def test_what_is_no_type_string_is_refused(struct: str) -> None:
    with pytest.raises(InputError, match="not a type string"):
        struct_hash(struct, {})
