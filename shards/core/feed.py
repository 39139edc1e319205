"""
The feed of one market: its book, its gap, and its state (states.py).

It has three independent parts. The *track* (liveness.py) knows what the source has sent and what
is outstanding. The *book* has its own sequence (book_sync.py); when that breaks, a snapshot is
requested while everything else continues. The *gap* is announced when something is lost, and
closed when nothing is outstanding any more (gap_announcer.py).
"""

from functools import partial

from shards.core.book_sync import BookSync
from shards.core.gap_announcer import GapAnnouncer
from shards.core.late_changes import NEVER, LateChanges
from shards.core.record_builder import RecordBuilder
from shards.core.states import TABLE, State, Stimulus
from shards.core.top_of_book import TopOfBook
from shards.core.track import Track
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Block, Book, Orders, Snapshot, Source, Ticker, Trade, Trades
from shards.protocol.histograms import FeedStats
from shards.protocol.ledger import LedgerState, MarketLedger


class Feed:
    """One market; its track drives it."""

    track: Track

    def __init__(
        self,
        market_id: str,
        ledger: MarketLedger,
        builder: RecordBuilder,
        *,
        source: Source,
        with_book: bool = True,
        with_ticker: bool = False,
        late: LateChanges = NEVER,
    ) -> None:
        """``source`` is the source name in events from live payloads; for ``late`` see `BookSync`."""
        self.market_id = market_id
        self.ledger = ledger
        self.stats = FeedStats()
        self.sync = BookSync(market_id, wanted=with_book, late=late)
        self.gaps = GapAnnouncer(market_id, builder.gap, self.stats)
        self.builder = builder
        self.source: Source = source
        self.state = State.PENDING
        self.reason = ""
        """Why the feed is not live, as text for people."""
        self._late = late
        self._top = TopOfBook() if with_ticker else None

    # ---- where it stands ------------------------------------------------------------

    def on(self, stimulus: Stimulus, reason: str = "") -> bool:
        """Apply a stimulus to the state table; return False if the state does not change."""
        state = TABLE[stimulus].get(self.state)
        if state is None:
            return False
        self.state = state
        self.reason = reason
        self.builder.transitions += 1
        self.track.moved()
        return True

    def accounted(self) -> LedgerState:
        """Return the ledger up to the first block whose book changes wait for a snapshot."""
        ledger, waits_from = self.ledger, self.sync.waits_from
        if not 0 < waits_from <= ledger.last:
            return ledger.state()
        published = MarketLedger.of(ledger.state())
        published.rewind(max(ledger.first, waits_from) - 1)
        return published.state()

    def try_going_live(self, ts: int) -> None:
        """If nothing is outstanding, go live and close the gap."""
        if self.sync.in_sync and self.track.is_complete and self.on(Stimulus.COMPLETE):
            self.track.went_live(ts)

    def refused(self, reason: str, ts: int) -> None:
        """The source refused or ended the subscription."""
        self.on(Stimulus.REFUSED, reason)
        self.track.refused()
        if self.ledger.first:
            self.gaps.open("disconnect", self.ledger.last + 1, ts, reason)

    # ---- the book -------------------------------------------------------------------

    def lose_book(self, reason: str, height: int, ts: int) -> None:
        """The book is out of sync from this height on (0: unknown): request a snapshot."""
        self.on(Stimulus.INCOMPLETE, reason)
        if self.ledger.first:
            self.gaps.open("seq", height or self.ledger.last + 1, ts, reason)
        self.track.lost_book()
        self.want_book()

    def want_book(self, height: int = 0) -> None:
        """Request a snapshot unless the book is in sync; at exactly this height, if given."""
        if not self.sync.in_sync:
            self.builder.want_snapshot(self.market_id, height)

    @property
    def lacks_book(self) -> bool:
        """Whether a snapshot would be of use now."""
        return not self.sync.in_sync and not self.track.postpones_book

    def join(self, snapshot: Snapshot, ts_recv: int) -> bool:
        """Take a fetched snapshot; return False if it is too old and another is needed."""
        sync = self.sync
        if sync.in_sync:
            return True
        before = sync.book.sequence
        may_join = self.track.may_join(snapshot, ts_recv)
        published = sync.join(snapshot, ts_recv, self.source) if may_join else None
        if published is None:
            self.track.not_joined(snapshot)
            return False
        self.stats.resyncs += 1
        for event in published:
            if self.builder.book(event, late=True):
                self._publish_keyframe(event.sequence, event.ts_recv)
        self.stats.book_updates += len(published) - 1
        if self._top is not None:
            self._top.load(sync.book)
            self._publish_top(self._top, published[-1], late=True)
        self.track.joined(before, snapshot, ts_recv)
        return True

    def keyframe(self, ts: int) -> None:
        """Make a keyframe of the whole book for late joiners, if there is a book."""
        if self.sync.is_wanted and self.sync.in_sync:
            self.builder.keyframe(self._whole(ts))

    def _keyframe_due(self, event: Book) -> None:
        # Without its levels: in a flood, half of the markets may wait.
        make = partial(self._publish_keyframe, event.sequence, event.ts_recv)
        if self.builder.is_overdue(self.market_id):
            self._late.forget(self.market_id)
            make()
        elif not self._late.postpone(self.market_id, make):
            make()

    def _publish_keyframe(self, sequence: int, ts_recv: int) -> None:
        # During a join the book is ahead of this delta; a keyframe would include
        # deltas that are not sent yet.
        if self.sync.in_sync and sequence == self.sync.book.sequence:
            self.builder.keyframe(self._whole(ts_recv), deltas=0)

    def _whole(self, ts: int) -> Book:
        sync = self.sync
        return sync.whole(self.ledger.last, sync.changed_at, ts, self.source)

    def _publish_top(self, top: TopOfBook, book: Book, late: bool) -> None:
        sequence = self.sync.book.sequence
        times = (book.ts_event, book.ts_recv)
        height = book.height if self.track.has_heights else 0
        event = Ticker(self.market_id, height, sequence, *times, book.source, *top.best)
        self.builder.other(self.market_id, event, late)

    # ---- what is published ----------------------------------------------------------

    def publish(self, block: Block, ts_recv: int, source: Source, late: bool = False) -> None:
        """Publish a block that belongs to this market alone, its trades before its book."""
        if block.trades:
            trades = [trade for _, trade in block.trades]
            self.publish_trades(block.height, block.ts_event, ts_recv, source, trades, late)
        for update in block.updates:
            try:
                delta = self.sync.receive(update, block.height, block.ts_event, ts_recv, source)
            except SequenceGap as gap:
                self.lose_book(gap.reason, block.height, ts_recv)
                continue
            if delta is not None:
                self.stats.book_updates += 1
                is_due = self.builder.book(delta, late)
                if self.sync.is_owed:
                    self.sync.defer(self.builder.records[-1].event)
                if is_due:
                    self._keyframe_due(delta)
                top = self._top
                if (
                    top is not None
                    and self.sync.in_sync
                    and top.follow(self.sync.book, delta.bids, delta.asks)
                ):
                    self._publish_top(top, delta, late)
        if block.extras is not None and block.extras.orders:
            orders = [order for _, order in block.extras.orders]
            event = Orders(self.market_id, block.height, block.ts_event, ts_recv, source, orders)
            self.builder.other(self.market_id, event, late)

    def publish_trades(
        self,
        height: int,
        ts_event: int,
        ts_recv: int,
        source: Source,
        trades: list[Trade],
        late: bool,
    ) -> None:
        """Publish the trades of one block."""
        self.stats.trades += len(trades)
        event = Trades(self.market_id, height, ts_event, ts_recv, source, trades)
        self.builder.trades(event, late)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.market_id[:10]} {self.state.value}, height {self.ledger.last}, "
            f"sequence {self.sync.book.sequence}, {self.track.held} held>"
        )
