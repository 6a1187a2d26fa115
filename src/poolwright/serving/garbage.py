"""The collector of cycles, told what a long-running process with much in memory knows better.

Nearly everything that such a process drops is freed at once, by reference counting. What it keeps (a pool's
tasks, a book's orders) is no garbage, and a full collection that looks through all of it stops the process:
a third of a second with 20,000 tasks, longer than a worker should wait for its next task.
"""

from __future__ import annotations

import gc
from typing import Final

COLLECTED_AFTER: Final = (2_000, 5, 1_000)
"""New objects until the collector looks at them, and how many looks until it looks at those it has seen once,
and at all. The first two keep each look at some milliseconds; the last makes a full one a matter of hours."""


def keep_what_is_loaded() -> None:
    """Leave all that is alive now out of collections, and make full ones rare. Called once all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
