"""
The journal: what changed, when and why, the newest entries of it.

Transitions only, never messages. Where many markets go the same way for the same reason (a
cut takes them all) the journal says it once, with their number. It is bounded, and it may be
saved and taken up again by the next aggregator, so that its ids go on.

Pure: instants come in as ``ts``, ns since the epoch.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "state", "gap", "restart", "breaker", "halt", "connect", "move", "listing", "chain", "node"
]
TOGETHER: Final = 5
"""So many markets that go the same way get one entry."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened."""

    id: int
    """1, 2, 3 …; a reader asks for what came after the last one that it has."""
    ts: int
    kind: Kind
    shard: int | None
    symbol: str | None
    """The market; None where it is not about one market alone."""
    text: str
    reason: str


_Note: TypeAlias = tuple[Kind, int | None, str, str]


class Journal:
    """The newest entries, oldest first."""

    def __init__(self, limit: int = 2_000, saved: Iterable[Entry] = ()) -> None:
        self._entries: deque[Entry] = deque(saved, maxlen=limit)
        self.last = self._entries[-1].id if self._entries else 0
        """Id of the newest entry, 0 without one."""
        self.counts: Counter[str] = Counter()
        """Entries by kind, since this journal began."""
        self._noted: dict[_Note, tuple[int, list[str]]] = {}

    def add(
        self,
        kind: Kind,
        text: str,
        *,
        ts: int,
        shard: int | None = None,
        symbol: str | None = None,
        reason: str = "",
    ) -> None:
        """Enter something at once."""
        self.last += 1
        self.counts[kind] += 1
        self._entries.append(Entry(self.last, ts, kind, shard, symbol, text, reason))

    def note(
        self,
        kind: Kind,
        text: str,
        *,
        ts: int,
        symbol: str,
        shard: int | None = None,
        reason: str = "",
    ) -> None:
        """Take down what happened to one market; `settle` enters it, with its like."""
        _, symbols = self._noted.setdefault((kind, shard, text, reason), (ts, []))
        symbols.append(symbol)

    def settle(self) -> None:
        """Enter what was noted since the last time."""
        noted, self._noted = self._noted, {}
        for (kind, shard, text, reason), (ts, symbols) in noted.items():
            if len(symbols) < TOGETHER:
                for symbol in symbols:
                    self.add(kind, text, ts=ts, shard=shard, symbol=symbol, reason=reason)
            else:
                together = f"{len(symbols)} markets: {text}"
                self.add(kind, together, ts=ts, shard=shard, reason=reason)

    def after(self, id_: int) -> list[Entry]:
        """Return what was entered after an id, as far as it is here; all, if that id is not yet."""
        entries = self._entries
        if id_ > self.last:
            # Of an aggregator before us, whose journal is lost.
            id_ = 0
        newer = min(self.last - id_, len(entries))
        return list(islice(reversed(entries), newer))[::-1]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)
