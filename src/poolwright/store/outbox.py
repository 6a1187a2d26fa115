"""Which effects wait, as the one writer of a store knows them: the rules of the outbox without its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

from poolwright.poco.errors import InvariantBroken
from poolwright.store.port import Commit, EffectId, EffectRow

DIGEST_BYTES: Final = 16
"""Of a body, which is not kept here: tasks are many."""

_Wish = tuple[str, str, bytes]
"""Lane, key and the body's digest: what makes two effects the same one."""


class Outbox:
    """Gives effects their ids, finds those that already wait, and takes out those that are done."""

    def __init__(self, last_id: int = 0) -> None:
        self._last_id = last_id
        self._wishes: dict[EffectId, _Wish] = {}
        self._ids: dict[_Wish, EffectId] = {}
        self._by_lane: dict[str, dict[EffectId, None]] = {}

    def __iter__(self) -> Iterator[EffectId]:
        """Those that wait, oldest first."""
        return iter(self._wishes)

    def of_lane(self, lane: str) -> Iterator[EffectId]:
        """Those of one lane, oldest first."""
        return iter(self._by_lane.get(lane, {}))

    def check(self, commit: Commit) -> None:
        """Raise InvariantBroken when the commit cannot be, before anything has changed."""
        seen: set[EffectId] = set()
        for effect_id in commit.done:
            if effect_id not in self._wishes or effect_id in seen:
                raise already_done(effect_id)
            seen.add(effect_id)
        for row in commit.effects:
            if row.cause is not None and not 0 <= row.cause < len(commit.events):
                raise InvariantBroken(
                    f"effect {row.key} has a cause that is not in its commit",
                    code="effect-cause",
                    expected=f"one of {len(commit.events)} events, counted from 0",
                    got=str(row.cause),
                )

    def add(self, row: EffectRow) -> tuple[EffectId, bool]:
        """The effect's id, and whether it is new; it is not while the same one waits."""
        wish = _wish(row.lane, row.key, row.body)
        known = self._ids.get(wish)
        if known is not None:
            return known, False
        self._last_id += 1
        effect_id = EffectId(self._last_id)
        self._put(effect_id, wish)
        return effect_id, True

    def restore(self, effect_id: EffectId, lane: str, key: str, body: bytes) -> None:
        """Take in an effect that waits since before; ids ascend."""
        self._last_id = max(self._last_id, effect_id)
        self._put(effect_id, _wish(lane, key, body))

    def end(self, effect_id: EffectId) -> None:
        """This one is done; `check` has said that it waits."""
        wish = self._wishes.pop(effect_id)
        del self._ids[wish]
        lane = self._by_lane[wish[0]]
        del lane[effect_id]
        if not lane:
            del self._by_lane[wish[0]]

    def end_through(self, lane: str, upto: EffectId) -> Sequence[EffectId]:
        """Everything of a lane up to an id is done; which these are."""
        ended = []
        for effect_id in self.of_lane(lane):
            if effect_id > upto:
                break
            ended.append(effect_id)
        for effect_id in ended:
            self.end(effect_id)
        return ended

    def _put(self, effect_id: EffectId, wish: _Wish) -> None:
        self._wishes[effect_id] = wish
        self._ids[wish] = effect_id
        self._by_lane.setdefault(wish[0], {})[effect_id] = None


def already_done(effect_id: EffectId) -> InvariantBroken:
    """The refusal of a second outcome for one effect."""
    return InvariantBroken(
        f"effect {effect_id} cannot be marked done", code="effect-done", expected="an effect that is pending"
    )


def _wish(lane: str, key: str, body: bytes) -> _Wish:
    return lane, key, blake2b(body, digest_size=DIGEST_BYTES).digest()
