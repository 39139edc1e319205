"""
The ledger: which blocks of a market were received, replayed, or are missing.

It is kept as ranges of heights, so its size depends on the number of gaps, not on time. After months
these are thousands, and the ledger travels with reports and is saved every second: so the number of
ranges is bounded, and only their sum is kept of the older ones (ranges.py). A market's *due* blocks
run from the first block after it joined to the newest block of the chain.
"""

from collections.abc import Iterable
from typing import Final, Self

import msgspec

from shards.protocol.ranges import Ranges

_REPLAYED: Final = 64
"""Ranges of replayed blocks that are kept of a market; people see only their number."""
_MISSING: Final = 256
"""Ranges of missing blocks; people see these heights, and gaps are announced with the newest."""


class LedgerState(msgspec.Struct, array_like=True, gc=False):
    """
    A market's ledger as it travels and is saved.

    A shard's report of a market, the point where another process takes it up, and what the
    aggregator saves of it are this with something beside it.
    """

    first: int = 0
    """0 while the market has not joined."""
    last: int = 0
    replayed: list[tuple[int, int]] = []
    missing: list[tuple[int, int]] = []
    audited_to: int = 0
    """On indexer-grpc: the instant up to which its trades were compared, in ns."""

    def copy_ledger(self, other: "LedgerState") -> None:
        """Stand where another ledger stands."""
        self.first, self.last = other.first, other.last
        self.replayed, self.missing = other.replayed, other.missing
        self.audited_to = other.audited_to


class MarketLedger:
    """
    One market's blocks: each height from ``first`` to ``last`` is accounted for as received,
    replayed or missing.
    """

    __slots__ = ("audited_to", "first", "last", "missing", "replayed")

    def __init__(
        self,
        first: int = 0,
        last: int = 0,
        replayed: Iterable[tuple[int, int]] = (),
        missing: Iterable[tuple[int, int]] = (),
        audited_to: int = 0,
    ) -> None:
        self.first = first
        """0 until the market joins."""
        self.last = last
        self.replayed = Ranges(replayed, _REPLAYED)
        self.missing = Ranges(missing, _MISSING)
        self.audited_to = audited_to
        """For indexer-grpc, whose heights do not count blocks: trades executed up to this
        instant (ns) were compared with the indexer's list; 0 until there is a baseline."""

    @classmethod
    def of(cls, state: LedgerState) -> Self:
        """Take a ledger up as it came."""
        return cls(state.first, state.last, state.replayed, state.missing, state.audited_to)

    def state(self) -> LedgerState:
        """Return it as it travels."""
        return LedgerState(
            self.first, self.last, list(self.replayed), list(self.missing), self.audited_to
        )

    @property
    def due(self) -> int:
        """Blocks accounted for so far."""
        return self.last - self.first + 1 if self.first else 0

    @property
    def received(self) -> int:
        """Blocks received live from the source."""
        return self.due - len(self.replayed) - len(self.missing)

    def begin(self, height: int) -> None:
        """Join at ``height``, the first block that is due."""
        self.first = height
        self.last = height - 1

    def rewind(self, height: int) -> None:
        """Un-count everything after ``height``: those blocks will be replayed."""
        self.replayed.discard(height + 1, self.last)
        self.missing.discard(height + 1, self.last)
        self.last = height

    def __repr__(self) -> str:
        return (
            f"<MarketLedger {self.first}..{self.last}, {len(self.replayed)} replayed, "
            f"{len(self.missing)} missing>"
        )
