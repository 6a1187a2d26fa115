"""The model's memory: refused operations leave nothing behind, snapshots bring everything back."""

from __future__ import annotations

import pytest

from poolwright.poco.errors import InputError
from poolwright.poco.journal import Journal, Table
from poolwright.poco.model import Call, Poco, Registries
from poolwright.poco.orders import Domain
from poolwright.poco.revert import Revert
from poolwright.poco.types import Address, NRlc, Timestamp


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


OWNER, HUB, SOMEBODY = address(1), address(2), address(9)


@pytest.fixture
def poco() -> Poco:
    registries = Registries(app=address(4), dataset=address(5), workerpool=address(6))
    return Poco(Domain(chain_id=1, hub=HUB), token=address(3), owner=OWNER, registries=registries)


def call(caller: Address = OWNER) -> Call:
    return Call(caller, Timestamp(1))


def test_operation_that_fails_halfway_changes_nothing(poco: Poco) -> None:
    poco.rlc_approve(call(), HUB, NRlc(10))
    with pytest.raises(Revert):
        poco.deposit_for_array(call(), [NRlc(10), NRlc(1)], [SOMEBODY, SOMEBODY])

    assert poco.account(SOMEBODY).stake == 0
    assert poco.escrow.supply == 0
    assert poco.rlc.allowances[OWNER, HUB] == 10


def test_snapshot_brings_back_what_later_operations_changed(poco: Poco) -> None:
    poco.rlc_approve(call(), HUB, NRlc(10))
    before = poco.snapshot()
    poco.deposit(call(), NRlc(3))
    with pytest.raises(Revert):
        poco.deposit(call(), NRlc(8))
    inner = poco.snapshot()
    poco.deposit(call(), NRlc(7))

    poco.restore(inner)
    assert poco.account(OWNER).stake == 3
    poco.restore(before)
    assert poco.account(OWNER).stake == 0


def test_snapshot_serves_once_and_ends_with_an_older_one(poco: Poco) -> None:
    older, newer = poco.snapshot(), poco.snapshot()
    poco.restore(older)

    for ended in (older, newer):
        with pytest.raises(InputError, match="is not open"):
            poco.restore(ended)


def test_released_snapshot_keeps_the_present(poco: Poco) -> None:
    snapshot = poco.snapshot()
    poco.rlc_transfer(call(), SOMEBODY, NRlc(1))
    poco.release_snapshot(snapshot)

    assert poco.rlc.balances[SOMEBODY] == 1


def test_journal_forgets_when_nobody_can_return() -> None:
    journal = Journal()
    table: Table[str, int] = Table(journal, 0)
    table["a"] = 1
    assert journal.mark() == 1
    journal.settle()
    assert journal.mark() == 0

    snapshot = journal.snapshot()
    table["a"] = 2
    table["b"] = 3
    journal.settle()
    assert journal.mark() == 2
    journal.restore(snapshot)
    assert dict(table.items()) == {"a": 1}
    assert journal.mark() == 0


def test_revert_carries_the_data_of_the_evm() -> None:
    assert Revert().data == b""
    assert Revert(panic=0x11).data.hex() == "4e487b71" + f"{0x11:064x}"
    text = Revert("task-pending").data
    assert text[:4].hex() == "08c379a0"
    assert text[4:68] == (32).to_bytes(32, "big") + (12).to_bytes(32, "big")
    assert text[68:] == b"task-pending".ljust(32, b"\0")
