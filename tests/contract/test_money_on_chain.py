"""Money between people and the hub: deposits, allowances, what is locked, on both sides."""

from __future__ import annotations

import pytest
from cast import REQUESTER, SPONSOR, STRANGER, WORKERS
from stage import NOBODY, STAKE_EACH, Stage
from story import accepted, refused

pytestmark = pytest.mark.chain


def test_money_that_is_not_there_is_refused_without_text(stage: Stage) -> None:
    who = WORKERS[0].address
    refused(stage.deposit(who, STAKE_EACH + 1))
    refused(stage.withdraw(who, STAKE_EACH + 1))
    refused(stage.transfer(who, STRANGER.address, STAKE_EACH + 1))
    refused(stage.rlc_transfer(who, STRANGER.address, 10**18))
    refused(stage.transfer_from(STRANGER.address, who, STRANGER.address, 1))
    refused(stage.transfer(who, NOBODY, 1), "ERC20: transfer to the zero address")
    refused(stage.deposit_for(who, 1, NOBODY), "ERC20: mint to the zero address")
    refused(stage.approve(who, NOBODY, 1), "ERC20: approve to the zero address")
    refused(stage.deposit_for_array(who, [1], []), "invalid-array-length")


def test_allowance_is_used_up(stage: Stage) -> None:
    accepted(stage.approve(SPONSOR.address, STRANGER.address, 10))
    accepted(stage.transfer_from(STRANGER.address, SPONSOR.address, WORKERS[0].address, 7))
    refused(stage.transfer_from(STRANGER.address, SPONSOR.address, WORKERS[0].address, 4))
    accepted(stage.transfer_from(STRANGER.address, SPONSOR.address, WORKERS[0].address, 3))


def test_rlc_is_approved_and_deposited_in_one_transaction(stage: Stage) -> None:
    accepted(stage.rlc_approve_and_call(SPONSOR.address, 7))
    refused(stage.rlc_approve_and_call(SPONSOR.address, STAKE_EACH))

    assert stage.stake_of(SPONSOR.address) == STAKE_EACH + 7


def test_locked_money_cannot_be_withdrawn(stage: Stage) -> None:
    stage.deal(request={"volume": 1})

    refused(stage.withdraw(REQUESTER.address, STAKE_EACH - 26_499))
    accepted(stage.withdraw(REQUESTER.address, STAKE_EACH - 26_500))


def test_rlc_sent_to_the_hub_by_mistake_goes_to_its_owner(stage: Stage) -> None:
    stage.rlc_transfer(SPONSOR.address, stage.hub, 5)
    owner = stage.deployment.deployer
    before = stage.poco.account(owner).stake

    refused(stage.recover(SPONSOR.address), "Ownable: caller is not the owner")
    accepted(stage.recover(owner))
    assert stage.poco.account(owner).stake == before + 5
