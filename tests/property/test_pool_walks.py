"""The machine of `test_pool_machine`, led on long random walks from fixed seeds.

Hypothesis prefers short stories and shrinks them well; a walk gets further: several rounds of reveal and
reopen, uploads that fail and are asked for again, workers that come and go meanwhile. A seed that once failed
stays in the list.
"""

from __future__ import annotations

import random

import pytest
from test_pool_machine import NAMES, PoolMachine, S

SEEDS = (*range(12), 172)
STEPS = 120


def walk(seed: int, steps: int = STEPS) -> PoolMachine:
    """Lead a new machine through `steps` random moves and to its end."""
    chance = random.Random(seed)
    machine = PoolMachine()
    machine.choose_habits(
        wrong=set(chance.sample(NAMES, chance.randint(0, 2))),
        reluctant=set(chance.sample(NAMES, chance.randint(0, 4))),
    )
    for name in NAMES:
        machine.connect(name, slots=chance.randint(1, 3), forgets=False)
    for _ in range(steps):
        step(machine, chance)
        machine.phases_are_the_chains()
    machine.teardown()
    return machine


def step(machine: PoolMachine, chance: random.Random) -> None:
    name = chance.choice(NAMES)
    number = chance.randint(0, 200)
    match chance.choices(range(15), weights=(4, 5, 4, 3, 22, 22, 12, 8, 14, 1, 3, 3, 2, 2, 1))[0]:
        case 0 if len(machine.chain.tasks) < 12:
            age = chance.choice((0, 0, 0, 0, 1500, 2500, 4000))
            machine.deal(chance.choice((1, 1, 2, 3, 5)), chance.randint(1, 3), age)
        case 1:
            machine.connect(name, chance.randint(0, 3), forgets=chance.random() < 0.2)
        case 2:
            machine.fall_silent(name)
        case 3:
            machine.read_logs(chance.randint(1, 4))
        case 4:
            machine.let_work(name, chance.randint(1, 12), chance.random() < 0.3)
        case 5:
            machine.let_all_work(chance.randint(1, 10))
        case 6 if machine.txs:
            machine.mine(number, chance.random() < 0.3)
        case 7 if machine.verifications:
            machine.verify(number, chance.random() < 0.4)
        case 8:
            machine.pass_time(chance.choice((1, 1, 5, 5, 30, 60, 120, 121, 300, 600)))
        case 9 if machine.chain.tasks:
            machine.contribute_unasked(number, name)
        case 10 if machine.chain.tasks:
            machine.report_nonsense(number, name, chance.choice(list(S)))
        case 11 if machine.told:
            machine.repeat(chance.randrange(len(machine.told)))
        case 12:
            machine.restart()
        case 13 if machine.pool.workers:
            machine.drain_or_resume(name, chance.random() < 0.6)
        case 14:
            machine.allow_or_bar(name, chance.random() < 0.7)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_walk_ends_with_every_task_ended(seed: int) -> None:
    machine = walk(seed)

    assert machine.outcomes.keys() == machine.chain.tasks.keys()
