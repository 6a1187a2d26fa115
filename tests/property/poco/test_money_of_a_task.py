"""Whatever a task's end pays, nothing is made and nothing is lost."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from poolwright.poco import rewards
from poolwright.poco.consensus import Consensus, is_reached, more_needed, weight, workers_needed
from poolwright.poco.records import NO_CONTRIBUTION, NO_DEAL, Contribution, ContributionStatus, Deal, Resource
from poolwright.poco.types import Address, Hash32, NRlc

prices = st.one_of(st.integers(0, 100), st.integers(0, 10**18))
kitties = st.one_of(st.integers(0, 3 * 10**9), st.integers(0, 10**18)).map(NRlc)


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def resource(number: int, price: int) -> Resource:
    return Resource(pointer=address(number), owner=address(100 + number), price=NRlc(price))


@st.composite
def deals(draw: st.DrawFn) -> Deal:
    pool_price = NRlc(draw(prices))
    return replace(
        NO_DEAL,
        app=resource(1, draw(prices)),
        dataset=resource(2, draw(prices)),
        workerpool=resource(3, pool_price),
        worker_stake=rewards.worker_stake(pool_price, draw(st.integers(0, 300))),
        scheduler_reward_ratio=draw(st.integers(0, 100)),
    )


contributions = st.lists(
    st.tuples(st.sampled_from(list(ContributionStatus)[1:]), st.integers(1, 10)), min_size=1, max_size=8
).filter(lambda each: any(status is ContributionStatus.PROVED for status, _ in each))


def contributed(given: list[tuple[ContributionStatus, int]]) -> list[tuple[Address, Contribution]]:
    return [
        (address(1000 + number), replace(NO_CONTRIBUTION, status=status, weight=its_weight))
        for number, (status, its_weight) in enumerate(given)
    ]


@given(deal=deals(), given_=contributions, kitty=kitties)
def test_finalize_pays_out_exactly_price_and_lost_stakes(
    deal: Deal, given_: list[tuple[ContributionStatus, int]], kitty: NRlc
) -> None:
    payout = rewards.finalize_payout(deal, contributed(given_), kitty)

    lost = sum(share.stake for share in payout.workers if share.is_faulty)
    rewarded = sum(share.reward for share in payout.workers)
    assert payout.app + payout.dataset + rewarded + payout.scheduler == payout.sponsor_locked + lost
    assert all(share.reward == 0 for share in payout.workers if share.is_faulty)
    assert payout.scheduler >= (deal.workerpool.price + lost) * deal.scheduler_reward_ratio // 100
    assert 0 <= payout.kitty_bonus <= kitty


@given(deal=deals(), kitty=kitties)
def test_all_at_once_pays_out_exactly_the_price(deal: Deal, kitty: NRlc) -> None:
    payout = rewards.fast_payout(deal, address(1000), kitty)

    assert payout.app + payout.dataset + payout.workers[0].reward + payout.scheduler == payout.sponsor_locked
    assert payout.workers[0].stake == 0


@given(deal=deals(), workers=st.integers(0, 6))
def test_claim_rewards_nobody(deal: Deal, workers: int) -> None:
    payout = rewards.claim_payout(deal, [address(1000 + number) for number in range(workers)])

    assert payout.sponsor_locked == rewards.task_price(deal)
    assert (payout.app, payout.dataset, payout.scheduler, payout.kitty_bonus) == (0, 0, 0, 0)
    assert all((share.reward, share.is_faulty) == (0, False) for share in payout.workers)


@given(kitty=kitties)
def test_kitty_is_emptied_in_the_end(kitty: NRlc) -> None:
    bonus = rewards.kitty_bonus(kitty)

    assert bonus <= kitty
    assert bonus == kitty or bonus >= rewards.KITTY_MIN


scores = st.integers(0, 600)
letters = st.sampled_from("abc")


@given(given_=st.lists(st.tuples(letters, scores), max_size=8))
def test_total_is_always_one_more_than_the_groups(given_: list[tuple[str, int]]) -> None:
    tally = Consensus()
    for letter, score in given_:
        tally = tally.add(Hash32(letter.encode() * 32), weight(score))

    assert tally.total == 1 + sum(tally.groups.values())


@settings(max_examples=300)
@given(
    groups=st.dictionaries(
        st.sampled_from("abc").map(lambda x: Hash32(x.encode() * 32)), st.integers(2, 500)
    ),
    pending=st.lists(st.integers(2, 99), max_size=4),
    trust=st.integers(0, 1_000),
)
def test_forecast_asks_for_exactly_the_workers_that_bring_consensus(
    groups: dict[Hash32, int], pending: list[int], trust: int
) -> None:
    missing = workers_needed(groups, pending, trust)
    best = max(groups, key=lambda each: groups[each], default=Hash32(b"a" * 32))
    tally = Consensus(total=1 + sum(groups.values()), groups=groups)
    crew = [*pending, *[2] * missing]
    for its_weight in crew:
        tally = tally.add(best, its_weight)

    if crew or groups:
        assert is_reached(tally.groups[best], tally.total, trust)
    assert not more_needed(groups, crew, trust)
    assert missing == 0 or more_needed(groups, crew[:-1], trust)
