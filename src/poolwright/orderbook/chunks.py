"""A sorted list of orders that stays fast with a million of them: short sorted runs, found by bisection."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from poolwright.orderbook.listing import Entry, Listing, Place

RUN: Final = 512
"""Usual length of a run; it is split at twice this."""


class SortedListings:
    """Listings in the order of their places; each at most once."""

    __slots__ = ("_firsts", "_length", "_runs")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Take entries that are sorted already."""
        source = iter(entries)
        self._runs: list[list[Entry]] = []
        while run := list(islice(source, RUN)):
            self._runs.append(run)
        self._firsts: list[Entry] = [run[0] for run in self._runs]
        self._length = sum(map(len, self._runs))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Listing]:
        return (entry[3] for run in self._runs for entry in run)

    def entries(self) -> Iterator[Entry]:
        """The entries in order, from which another sorted list can be made."""
        return (entry for run in self._runs for entry in run)

    def add(self, entry: Entry) -> None:
        """Put a listing into its place; it must not be there yet. Lists share one entry per listing."""
        if not self._runs:
            self._runs.append([entry])
            self._firsts.append(entry)
            self._length = 1
            return
        number = max(bisect_right(self._firsts, entry) - 1, 0)
        run = self._runs[number]
        run.insert(bisect_left(run, entry), entry)
        self._firsts[number] = run[0]
        self._length += 1
        if len(run) > 2 * RUN:
            half = run[RUN:]
            del run[RUN:]
            self._runs.insert(number + 1, half)
            self._firsts.insert(number + 1, half[0])

    def remove(self, place: Place) -> None:
        """Take the listing of this place out. Raises KeyError when it is not here."""
        number, at = self._find(place)
        if number == len(self._runs) or self._runs[number][at][:3] != place:
            raise KeyError(place)
        run = self._runs[number]
        del run[at]
        self._length -= 1
        if run:
            self._firsts[number] = run[0]
        else:
            del self._runs[number]
            del self._firsts[number]

    def slice(self, skip: int, count: int) -> list[Listing]:
        """At most `count` listings after the first `skip`."""
        if skip >= self._length:
            return []
        for number, run in enumerate(self._runs):
            if skip < len(run):
                return self._from(number, skip, count)
            skip -= len(run)
        return []

    def after(self, place: Place, count: int) -> list[Listing]:
        """At most `count` listings that stand behind this place, whether or not one stands there."""
        number, at = self._find(place)
        if number < len(self._runs) and self._runs[number][at][:3] == place:
            at += 1
        return self._from(number, at, count)

    def _from(self, number: int, at: int, count: int) -> list[Listing]:
        found: list[Listing] = []
        while number < len(self._runs) and len(found) < count:
            found += [entry[3] for entry in self._runs[number][at : at + count - len(found)]]
            number, at = number + 1, 0
        return found

    def _find(self, place: Place) -> tuple[int, int]:
        """Run and position of the first entry at or behind a place; the number of runs when there is none."""
        number = max(bisect_left(self._firsts, place) - 1, 0)
        while number < len(self._runs):
            at = bisect_left(self._runs[number], place)
            if at < len(self._runs[number]):
                return number, at
            number += 1
        return number, 0
