"""`serving.garbage`: what is loaded is left alone by later collections."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from poolwright.serving.garbage import COLLECTED_AFTER, keep_what_is_loaded


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_later_collections_pass_over_what_was_loaded() -> None:
    loaded: list[object] = [[n] for n in range(1_000)]

    keep_what_is_loaded()

    assert gc.get_freeze_count() > len(loaded)
    assert not any(item is loaded for item in gc.get_objects())
    assert gc.get_threshold() == COLLECTED_AFTER


def test_cycles_made_later_are_still_found() -> None:
    keep_what_is_loaded()
    cycle: list[object] = []
    cycle.append(cycle)

    del cycle

    assert gc.collect() >= 1
