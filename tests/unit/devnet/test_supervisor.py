"""The supervisor as dialogue: what happened, what it does."""

from signal import Signals

import pytest

from poolwright.devnet.supervisor import (
    CRASH_LIMIT,
    FIRST_CRASH_LIMIT,
    STEADY_SECONDS,
    STOP_SECONDS,
    Effect,
    Event,
    KillPart,
    Network,
    Part,
    PartAnswered,
    PartExited,
    Phase,
    SignalPart,
    StartPart,
    StopAsked,
    Tell,
    Tick,
    back_off_seconds,
    next_deadline,
    step,
)


class Talk:
    """A network in conversation."""

    def __init__(self, *parts: Part) -> None:
        self.network = Network(parts={part.name: part for part in parts})

    def hear(self, event: Event) -> tuple[Effect, ...]:
        self.network, effects = step(self.network, event)
        return effects

    def phase(self, name: str) -> Phase:
        return self.network.parts[name].phase


def three() -> Talk:
    return Talk(
        Part(name="chain", rank=0, stop_signal=Signals.SIGINT),
        Part(name="scheduler", rank=1, needs=frozenset({"chain"})),
        Part(name="worker-1", rank=2, needs=frozenset({"scheduler"})),
    )


def three_ready() -> Talk:
    talk = three()
    talk.hear(Tick(at=0))
    for name in ("chain", "scheduler", "worker-1"):
        talk.hear(PartAnswered(name=name, at=1))
    assert talk.network.is_ready
    return talk


def test_parts_start_as_the_parts_they_need_answer() -> None:
    talk = three()

    assert talk.hear(Tick(at=0)) == (StartPart(name="chain"),)
    assert talk.hear(Tick(at=1)) == ()
    assert talk.hear(PartAnswered(name="chain", at=1)) == (StartPart(name="scheduler"),)
    assert talk.hear(PartAnswered(name="scheduler", at=2)) == (StartPart(name="worker-1"),)
    assert not talk.network.is_ready
    assert talk.hear(PartAnswered(name="worker-1", at=3)) == ()
    assert talk.network.is_ready


def test_parts_that_need_nothing_start_together_whatever_their_rank() -> None:
    talk = Talk(Part(name="scheduler", rank=2), Part(name="results", rank=1))

    assert talk.hear(Tick(at=0)) == (StartPart(name="scheduler"), StartPart(name="results"))


def test_crashed_part_is_started_again_after_the_back_off_and_not_before() -> None:
    talk = three_ready()

    (told,) = talk.hear(PartExited(name="scheduler", code=-9, at=10))
    assert told == Tell(line="scheduler ended (SIGKILL); starting it again in 0.25 s")
    assert next_deadline(talk.network) == 10.25
    assert talk.hear(Tick(at=10.2)) == ()
    assert talk.hear(Tick(at=10.25)) == (StartPart(name="scheduler"),)
    assert talk.network.parts["scheduler"].restarts == 1


def test_other_parts_run_on_while_one_is_restarted() -> None:
    talk = three_ready()

    talk.hear(PartExited(name="chain", code=1, at=10))

    assert talk.phase("worker-1") is Phase.READY
    assert talk.hear(Tick(at=10.25)) == (StartPart(name="chain"),)


def test_back_off_doubles_up_to_a_bound() -> None:
    assert [back_off_seconds(n) for n in (1, 2, 3, 7, 8, 50)] == [0.25, 0.5, 1, 15, 15, 15]


def test_part_that_was_steady_starts_its_back_off_anew() -> None:
    talk = three_ready()
    talk.hear(PartExited(name="scheduler", code=1, at=2))
    talk.hear(Tick(at=3))
    talk.hear(PartAnswered(name="scheduler", at=4))

    talk.hear(PartExited(name="scheduler", code=1, at=4 + STEADY_SECONDS))

    assert talk.network.parts["scheduler"].crashes_in_a_row == 1
    assert talk.network.parts["scheduler"].restarts == 2


def test_crash_loop_ends_in_failed() -> None:
    talk = three_ready()
    now = 2.0
    for _ in range(CRASH_LIMIT):
        (told, *_) = talk.hear(PartExited(name="scheduler", code=1, at=now))
        now += 60
        talk.hear(Tick(at=now))

    assert talk.phase("scheduler") is Phase.FAILED
    assert told == Tell(line="scheduler ended (exit code 1): 8 times in a row; not started again")
    assert [part.name for part in talk.network.failed] == ["scheduler"]
    assert next_deadline(talk.network) is None


def test_part_that_never_answered_fails_sooner() -> None:
    talk = Talk(Part(name="scheduler", rank=0))
    for now in range(0, 60 * FIRST_CRASH_LIMIT, 60):
        talk.hear(Tick(at=now))
        talk.hear(PartExited(name="scheduler", code=1, at=now + 1))

    assert talk.phase("scheduler") is Phase.FAILED


def test_wrong_input_is_not_tried_twice() -> None:
    talk = three_ready()

    talk.hear(PartExited(name="scheduler", code=2, at=2))

    assert talk.phase("scheduler") is Phase.FAILED


def test_stop_goes_from_the_highest_rank_to_the_chain() -> None:
    talk = three_ready()

    assert talk.hear(StopAsked(at=5)) == (SignalPart(name="worker-1", signal=Signals.SIGTERM),)
    assert talk.hear(StopAsked(at=5)) == ()
    assert talk.hear(PartExited(name="worker-1", code=0, at=6)) == (
        SignalPart(name="scheduler", signal=Signals.SIGTERM),
    )
    assert talk.hear(PartExited(name="scheduler", code=-15, at=7)) == (
        SignalPart(name="chain", signal=Signals.SIGINT),
    )
    assert not talk.network.is_over
    assert talk.hear(PartExited(name="chain", code=0, at=8)) == ()
    assert talk.network.is_over


def test_part_that_does_not_stop_is_killed() -> None:
    talk = three_ready()
    talk.hear(StopAsked(at=5))

    assert next_deadline(talk.network) == 5 + STOP_SECONDS
    assert talk.hear(Tick(at=5 + STOP_SECONDS)) == (KillPart(name="worker-1"),)


def test_stop_before_everything_started_ends_what_runs() -> None:
    talk = three()
    talk.hear(Tick(at=0))

    assert talk.hear(StopAsked(at=1)) == (SignalPart(name="chain", signal=Signals.SIGINT),)
    assert talk.phase("worker-1") is Phase.STOPPED


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.STOPPED, Phase.FAILED, Phase.READY])
def test_answer_outside_starting_changes_nothing(phase: Phase) -> None:
    talk = Talk(Part(name="chain", rank=0, phase=phase, start_at=100))

    assert talk.hear(PartAnswered(name="chain", at=1)) == ()
    assert talk.phase("chain") is phase
