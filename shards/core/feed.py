"""
The feed of one market: where its stream stands, what is lost, what must be fetched.

Two things run side by side. *Blocks* carry heights, each one more than the last; a jump
means lost blocks, which are replayed in order before later ones are let through. The
*book* carries its own sequence (booksync.py); when that breaks, a snapshot is asked for
while the blocks go on.

::

    pending ──confirmed──► syncing ──blocks contiguous and book in sync──► live
                              ▲                                             │
                              └────────── a block again ◄── stale ◄─────────┘  cut or mute
    failed: the source refused the subscription       inactive: the market's status

``live`` is what coverage counts. A quiet market is live: it hears empty blocks.
"""

from enum import Enum
from typing import Literal, Protocol

import msgspec

from shards.core.book_sync import BookSync
from shards.core.top_of_book import Top
from shards.protocol.errors import SequenceGap
from shards.protocol.events import (
    Block,
    Book,
    Cause,
    Extras,
    Gap,
    Oracle,
    Orders,
    Pulse,
    Snapshot,
    Source,
    Ticker,
    Trades,
)
from shards.protocol.histograms import FeedStats
from shards.protocol.ledger import MarketLedger


class State(Enum):
    """Where a feed stands; the values are what reports and the status show."""

    PENDING = "pending"
    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"
    FAILED = "failed"
    INACTIVE = "inactive"


class Outlet(Protocol):
    """Where a feed's events go: the outbox turns them into frames and requests."""

    def book(self, feed: "Feed", event: Book, late: bool = False) -> None: ...
    def trades(self, feed: "Feed", event: Trades, late: bool = False) -> None: ...
    def other(
        self, market_id: str, event: Ticker | Orders | Pulse | Oracle, late: bool = False
    ) -> None: ...
    def gap(self, feed: "Feed", event: Gap) -> None: ...
    def want_snapshot(self, feed: "Feed", height: int) -> None: ...
    def want_replay(self, feed: "Feed", ts: int) -> None: ...


class Feed:
    """One market's state machine; time comes in with the blocks."""

    def __init__(
        self,
        market_id: str,
        ledger: MarketLedger,
        outlet: Outlet,
        *,
        source: Source,
        held_limit: int = 2_000,
        with_book: bool = True,
        with_ticker: bool = False,
        with_extras: bool = False,
    ) -> None:
        """
        Args:
            with_extras: Whether a block without its events, of which an indexer told the
                trades alone, counts as missing: it lacks what this feed is to tell.

        """
        self.market_id = market_id
        self.ledger = ledger
        self.stats = FeedStats()
        self.sync = BookSync(market_id, wanted=with_book)
        self._top = Top() if with_ticker else None
        self._with_extras = with_extras
        self._flows = False
        self._replay_to = 0
        self.state = State.PENDING
        self.heard_at = 0
        """When this subscription last showed life, in ns like ``ts_recv``; 0 while there is none."""
        self.is_confirmed = False
        self.reason = ""
        """Why the feed is not live, for people."""
        self._outlet = outlet
        self._source: Source = source
        self._held_limit = held_limit
        self._held: list[tuple[Block, int]] = []
        self._shown = 0
        """Newest height that came behind a hole, held or not."""
        self._gap: Gap | None = None
        self._opened_at = 0

    @property
    def state(self) -> State:
        """Where this feed stands."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        # What the data path asks of every block, answered once per change.
        self._flows = state is State.LIVE and not self._replay_to

    @property
    def held(self) -> int:
        """Blocks that wait until earlier ones are replayed."""
        return len(self._held)

    @property
    def replay_to(self) -> int:
        """Last height that is being replayed; 0 when nothing is."""
        return self._replay_to

    @replay_to.setter
    def replay_to(self, height: int) -> None:
        self._replay_to = height
        self._flows = self._state is State.LIVE and not height

    # ---- what the subscription says -------------------------------------------------

    def subscribed(self, ts: int) -> None:
        """The subscription is being asked for: its silence counts from here."""
        self.heard_at = ts
        self.is_confirmed = False

    def confirmed(self) -> None:
        """The source accepted the subscription; the next block will show where it stands."""
        self.is_confirmed = True
        if self.state in (State.PENDING, State.FAILED):
            # With blocks behind us, only the next one shows what was missed meanwhile.
            self.state = State.STALE if self.ledger.first else State.SYNCING
            self.reason = ""

    def rejected(self, reason: str, ts: int) -> None:
        """The source refused or ended the subscription."""
        self.state = State.FAILED
        self.reason = reason
        self.heard_at = 0
        if self.ledger.first and self._gap is None:
            self._open_gap("disconnect", self.ledger.last + 1, ts, detail=reason)

    def resume(self, ts: int, gap: Gap | None = None) -> None:
        """Take up a market whose ledger another process left at ``ledger.last``, and its gap."""
        if gap is None:
            self._open_gap("crash", self.ledger.last + 1, ts)
        else:
            self._gap = gap
            self._opened_at = max(self._opened_at, gap.gap_id)
        self.sync.lose(observed_from=self.ledger.last + 1)
        self._outlet.want_snapshot(self, self.ledger.last)

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The subscription is gone (cut, mute); what it misses is unknown until a block comes."""
        if self.state in (State.LIVE, State.SYNCING):
            self.state = State.STALE
            self.reason = reason or cause
        self.heard_at = 0
        if self.ledger.first and self._gap is None:
            self._open_gap(cause, self.ledger.last + 1, ts)

    def rewind(self, height: int, ts: int) -> None:
        """
        Frames from ``height`` on never left the process: have those blocks again.

        A height above the newest block stands for the book alone.
        """
        ledger = self.ledger
        if not ledger.first:
            return
        height = max(ledger.first, min(height, ledger.last + 1))
        self.sync.lose(observed_from=height)
        self._outlet.want_snapshot(self, height - 1)
        if self._gap is None:
            self._open_gap("drop", height, ts)
        elif height < self._gap.first:
            self._gap = msgspec.structs.replace(self._gap, first=height)
            self._emit_gap(self._gap, "open", height, 0, ts, "frames were dropped")
        if height <= ledger.last:
            last = max(ledger.last, self.replay_to)
            self._held.clear()
            ledger.rewind(height - 1)
            self._replay(last, ts)
        elif self.state is State.LIVE:
            self.state = State.SYNCING
            self.reason = "the book was not delivered"

    # ---- blocks ---------------------------------------------------------------------

    def receive(self, block: Block, ts_recv: int) -> None:
        """Take a live block of this market's subscription."""
        ledger = self.ledger
        height = block.height
        if self._flows and height == ledger.last + 1:
            self.heard_at = ts_recv
            ledger.last = height
            if block.updates or block.trades or block.extras is not None:
                self._publish(block, ts_recv, self._source)
            return
        self._receive_unsettled(block, ts_recv)

    def _receive_unsettled(self, block: Block, ts_recv: int) -> None:
        ledger = self.ledger
        height = block.height
        if not ledger.first:
            ledger.begin(height)
            self.sync.lose(observed_from=height)
            self._outlet.want_snapshot(self, 0)
        if height <= ledger.last or height <= self._shown:
            # No sign of life: a server may repeat its last block for ever.
            self.stats.duplicates += 1
            return
        self.heard_at = ts_recv
        if self.state in (State.PENDING, State.FAILED, State.STALE):
            self.state = State.SYNCING
            self.reason = ""
        if self.replay_to or height > ledger.last + 1:
            self._shown = height
            self._hold(block, ts_recv)
            return
        ledger.last = height
        self._publish(block, ts_recv, self._source)
        self._settle(ts_recv)

    def replay(self, block: Block, ts_recv: int) -> None:
        """Take the lost block that is due next (``ledger.last + 1``)."""
        ledger = self.ledger
        ledger.last = block.height
        is_whole = block.has_books or not self._with_extras
        (ledger.replayed if is_whole else ledger.missing).add(block.height)
        self._publish(block, ts_recv, "replay", late=True)
        if not block.has_books:
            self.sync.lose(observed_from=block.height + 1)
        self._replayed(ts_recv)

    def give_up(self, to: int, ts: int) -> None:
        """Nobody has the blocks due next, up to ``to``: count them missing, go on after them."""
        self.ledger.missing.add(self.ledger.last + 1, to)
        self.ledger.last = to
        self.sync.lose(observed_from=to + 1)
        self._replayed(ts)

    def _replay(self, to: int, ts: int) -> None:
        if self._gap is None:
            self._open_gap("height", self.ledger.last + 1, ts)
        self.replay_to = to
        if self.state is State.LIVE:
            self.state = State.SYNCING
            self.reason = "replaying lost blocks"
        self._outlet.want_replay(self, ts)

    def _replayed(self, ts: int) -> None:
        """After each replayed or lost height: is the hole filled, and what was held behind it?"""
        if self.ledger.last < self.replay_to:
            return
        self.replay_to = 0
        if not self.sync.in_sync:
            self._outlet.want_snapshot(self, 0)
        held, self._held = self._held, []
        for block, ts_recv in held:
            self._take_held(block, ts_recv)
        if not self.replay_to and self._shown > self.ledger.last:
            # They were shown meanwhile, and let go.
            self._replay(self._shown, ts)
        self._settle(ts)

    def _take_held(self, block: Block, ts_recv: int) -> None:
        if self.replay_to or block.height > self.ledger.last + 1:
            self._hold(block, ts_recv)
        elif block.height == self.ledger.last + 1:
            self.ledger.last = block.height
            self._publish(block, ts_recv, self._source, late=True)

    def _hold(self, block: Block, ts_recv: int) -> None:
        """
        Keep a block until the ones before it are there.

        Behind a hole too large for that it is let go, and had again: it would only take up
        memory until so many wait that none can be kept.
        """
        self._held.append((block, ts_recv))
        if not self.replay_to:
            # What of the hole is not to be had at all no longer counts after this.
            self._replay(block.height - 1, ts_recv)
        if block.height - self.ledger.last > self._held_limit:
            self._held.clear()

    # ---- the book -------------------------------------------------------------------

    def join(self, snapshot: Snapshot, ts_recv: int) -> bool:
        """Take a fetched snapshot; False if it is too old and another one is needed."""
        if self.sync.in_sync:
            return True
        published = self.sync.join(snapshot, ts_recv, self._source)
        if published is None:
            return False
        self.stats.resyncs += 1
        for event in published:
            self._outlet.book(self, event, late=True)
        self.stats.book_updates += len(published) - 1
        if self._top is not None:
            self._top.load(self.sync.book)
            last = published[-1]
            self._tell_top(self._top, last.height, last.ts_event, ts_recv, last.source, late=True)
        self._settle(ts_recv)
        return True

    def _publish(self, block: Block, ts_recv: int, source: Source, late: bool = False) -> None:
        """Publish a block of this market alone, its trades before its book."""
        if block.trades:
            trades = [trade for _, trade in block.trades]
            self.stats.trades += len(trades)
            event = Trades(self.market_id, block.height, block.ts_event, ts_recv, source, trades)
            self._outlet.trades(self, event, late)
        for update in block.updates:
            try:
                delta = self.sync.receive(update, block.height, block.ts_event, ts_recv, source)
            except SequenceGap as gap:
                self._lose_book(gap, block.height, ts_recv)
                continue
            if delta is not None:
                self.stats.book_updates += 1
                self._outlet.book(self, delta, late)
                top = self._top
                if top is not None and top.follow(self.sync.book, delta.bids, delta.asks):
                    self._tell_top(top, block.height, block.ts_event, ts_recv, source, late)
        if block.extras is not None:
            self._publish_extras(block, block.extras, ts_recv, source, late)

    def _tell_top(
        self, top: Top, height: int, ts_event: int, ts_recv: int, source: Source, late: bool
    ) -> None:
        sequence = self.sync.book.sequence
        event = Ticker(self.market_id, height, sequence, ts_event, ts_recv, source, *top.best)
        self._outlet.other(self.market_id, event, late)

    def _publish_extras(
        self, block: Block, extras: Extras, ts_recv: int, source: Source, late: bool
    ) -> None:
        orders = [order for _, order in extras.orders]
        if orders:
            event = Orders(self.market_id, block.height, block.ts_event, ts_recv, source, orders)
            self._outlet.other(self.market_id, event, late)

    def _lose_book(self, gap: SequenceGap, height: int, ts: int) -> None:
        if self.state is State.LIVE:
            self.state = State.SYNCING
            self.reason = gap.reason
        if self._gap is None:
            self._open_gap("seq", height, ts, detail=gap.reason)
        self._outlet.want_snapshot(self, 0)

    # ---- gaps -----------------------------------------------------------------------

    def _settle(self, ts: int) -> None:
        """If nothing is owed any more, go live and close the gap."""
        if self.replay_to or not self.sync.in_sync or self.state is not State.SYNCING:
            return
        self.state = State.LIVE
        self.reason = ""
        gap, self._gap = self._gap, None
        if gap is None:
            return
        # By ranges: all markets of a hole of thousands of blocks come here in one call.
        if lost := self.ledger.missing.within(gap.first, self.ledger.last):
            count = sum(last - first + 1 for first, last in lost)
            reason = f"{count} blocks not to be had"
            self._emit_gap(gap, "open", lost[0][0], lost[-1][1], ts, reason)
            return
        self.stats.gaps_closed += 1
        self._emit_gap(gap, "closed", gap.first, self.ledger.last, ts, "")

    def _open_gap(self, cause: Cause, first: int, ts: int, detail: str = "") -> None:
        self.stats.gaps_opened += 1
        # The instant is the gap's id: two of one instant must differ.
        ts = self._opened_at = max(ts, self._opened_at + 1)
        gap = Gap(self.market_id, ts, "open", cause, first, 0, ts, detail)
        self._gap = gap
        self._outlet.gap(self, gap)

    def _emit_gap(
        self,
        gap: Gap,
        state: Literal["open", "closed"],
        first: int,
        last: int,
        ts: int,
        detail: str,
    ) -> None:
        event = Gap(self.market_id, gap.gap_id, state, gap.cause, first, last, ts, detail)
        self._outlet.gap(self, event)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.market_id[:10]} {self.state.value}, height {self.ledger.last}, "
            f"sequence {self.sync.book.sequence}, {len(self._held)} held>"
        )
