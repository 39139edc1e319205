"""
The journal: state changes, with time and reason; the newest entries.

It records transitions, never messages. If many markets change in the same way for the same reason
(a lost connection affects them all), there is one entry with their number. The journal is bounded;
the next aggregator can load it, so that the ids continue.

Pure: instants are passed as ``ts``, ns since the epoch.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "state",
    "gap",
    "restart",
    "breaker",
    "halt",
    "connect",
    "move",
    "listing",
    "chain",
    "node",
    "divergence",
]
TOGETHER: Final = 5
"""From this many markets on, equal changes share one entry."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened."""

    id: int
    """1, 2, 3 …; readers request the entries after the last one they have."""
    ts: int
    kind: Kind
    shard: int | None
    symbol: str | None
    """The market; None if it is not about a single market."""
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
        """Add an entry at once."""
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
        """Note a change of one market; `flush` adds it, together with equal ones."""
        _, symbols = self._noted.setdefault((kind, shard, text, reason), (ts, []))
        symbols.append(symbol)

    def flush(self) -> None:
        """Add what was noted since the last call."""
        noted, self._noted = self._noted, {}
        for (kind, shard, text, reason), (ts, symbols) in noted.items():
            if len(symbols) < TOGETHER:
                for symbol in symbols:
                    self.add(kind, text, ts=ts, shard=shard, symbol=symbol, reason=reason)
            else:
                together = f"{len(symbols)} markets: {text}"
                self.add(kind, together, ts=ts, shard=shard, reason=reason)

    def after(self, id_: int) -> list[Entry]:
        """Return the entries after an id, as far as they are kept; all, if the id is in the future."""
        entries = self._entries
        if id_ > self.last:
            # The id is from an earlier aggregator whose journal is lost.
            id_ = 0
        newer = min(self.last - id_, len(entries))
        return list(islice(reversed(entries), newer))[::-1]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)
