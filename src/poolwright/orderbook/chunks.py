"""A sorted list of orders that stays fast with a million of them: short sorted runs, found by bisection."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from poolwright.orderbook.listing import Entry, Listing, Place

RUN: Final = 512
"""Usual length of a run; it is split at twice this."""


class SortedListings:
    """Listings in the order of their places; each at most once."""

    __slots__ = ("_firsts", "_length", "_runs")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Take entries that are sorted already."""
        self._runs: list[list[Entry]] = []
        self._firsts: list[Entry] = []
        self._length = 0
        self.extend(entries)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Listing]:
        return (entry[3] for run in self._runs for entry in run)

    def entries(self, behind: Place | None = None) -> Iterator[Entry]:
        """The entries in order, all or those behind a place; another sorted list can be made of them."""
        if behind is None:
            return chain.from_iterable(self._runs)
        number, at = self._behind(behind)
        return chain.from_iterable(
            islice(run, at if place == number else 0, None)
            for place, run in enumerate(islice(self._runs, number, None), number)
        )

    def first(self) -> Listing:
        """The first of them. Raises IndexError when there is none."""
        return self._runs[0][0][3]

    def last(self) -> Listing:
        """The last of them. Raises IndexError when there is none."""
        return self._runs[-1][-1][3]

    def extend(self, entries: Iterable[Entry]) -> None:
        """Put sorted entries behind all others."""
        source = iter(entries)
        while run := list(islice(source, RUN)):
            self._runs.append(run)
            self._firsts.append(run[0])
            self._length += len(run)

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
        return self._from(*self._behind(place), count)

    def _behind(self, place: Place) -> tuple[int, int]:
        """Run and position behind a place, whether or not a listing stands there."""
        number, at = self._find(place)
        if number < len(self._runs) and self._runs[number][at][:3] == place:
            at += 1
        return number, at

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
