"""
One market of the indexer, which sends no blocks: what is verified, and what is outstanding.

A silent stream proves nothing. Two comparisons are repeated instead: the book's sequence with the
one from the indexer's query (a *probe*), and the received trades with those that the indexer lists
(an *audit*). A market is live while both agree.

The stream tells no heights, so a restarted sequence shows by time: a later change with a sequence
that is not above ours. On a quiet stream it shows by a query whose answers stay below ours.

An audit also fills gaps: trades that the streams missed are taken from it, late, and deduplicated
by id. Missed book changes are not available; a snapshot replaces them, and the gap names them.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from shards.adapters.injective_indexer.decoder import PARTS, STREAMS, Stream, StreamMessage
from shards.adapters.injective_indexer.origins import LISTED
from shards.adapters.injective_indexer.pending_trades import ListedTrades, WaitingTrades
from shards.adapters.injective_indexer.reader import Reader
from shards.core.feed import Feed
from shards.core.liveness import Head
from shards.core.states import State, Stimulus
from shards.core.track import Track
from shards.protocol import gap_details
from shards.protocol.events import Block, BookUpdate, Cause, Gap, Snapshot, Trade
from shards.protocol.frames import KIND_TRADES, Record, decode_trades
from shards.protocol.settings import Market
from shards.protocol.trade_ids import place_of

_NONE: Final[list[tuple[str, Trade]]] = []


class Bounds(msgspec.Struct, frozen=True):
    """The limits from `Limits` that concern a track, in ns."""

    grace: int
    """How long the indexer's answers may be ahead of its streams."""
    hold: int
    """How long a trade waits for others of its block."""
    fresh: int
    """How long a successful comparison is valid."""
    back: int
    """How far before the newest listed trade an audit begins."""


class ProofTrack(Track):
    """What was compared for one market, and when."""

    has_heights = False

    def __init__(
        self, feed: Feed, market: Market, reader: Reader, head: Head, bounds: Bounds
    ) -> None:
        """``head`` and ``reader`` are the shard's."""
        self._feed = feed
        self._market = market
        self._reader = reader
        self._head = head
        self._bounds = bounds
        self._unconfirmed: set[Stream] = set(reader.streams)
        self._confirmed_at = 0
        self._probed = self._audited = False
        self._proved_at: dict[Stream, int] = {}
        self._ahead: tuple[int, int] | None = None
        """A sequence shown by the indexer above ours, and when; None if there is none."""
        self._newest = (0, 0)
        """Sequence and block time of the newest change that was streamed."""
        self._lower_since = 0
        """Since when the indexer's whole books are below ours, in ns; 0 if they are not."""
        self._trades = ListedTrades()
        self._waiting = WaitingTrades(self._publish_live)
        self._skipped = ""
        """Which book changes a snapshot replaced since the gap opened."""
        self.lives = 0
        """How often it went live; a stream that got there starts again without backoff."""

    # ---- what the streams say --------------------------------------------------------

    @property
    def is_confirmed(self) -> bool:  # type: ignore[override]
        """Whether every stream of this market is known to be served."""
        return not self._unconfirmed

    @property
    def is_complete(self) -> bool:
        """Whether every comparison has succeeded since the streams were opened."""
        streams = self._reader.streams
        return (
            not self._unconfirmed
            and (self._probed or "book" not in streams)
            and (self._audited or "trades" not in streams)
        )

    def subscribed(self, subscription: int, ts: int) -> None:
        """A stream is being requested; what it may have missed is outstanding."""
        self._reader.read(subscription, self._market)
        self._unconfirmed.add(STREAMS[subscription % PARTS])
        self._probed = self._audited = False

    def unsubscribed(self, subscription: int) -> None:
        """Stop decoding its payloads."""
        self._reader.read_no_more(subscription)

    def confirmed(self, subscription: int, ts: int) -> None:
        """A stream is being served."""
        self._served(STREAMS[subscription % PARTS], ts)

    def _served(self, stream: Stream, ts: int) -> None:
        if stream not in self._unconfirmed:
            return
        self._unconfirmed.discard(stream)
        if self._unconfirmed:
            return
        self._confirmed_at = ts
        self._proved_at = dict.fromkeys(self._reader.streams, ts)
        self._feed.on(Stimulus.SERVED)
        self._feed.want_book()

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The streams ended, or are incomplete: what they miss is outstanding."""
        feed = self._feed
        self._unconfirmed |= self._reader.streams
        self._probed = self._audited = False
        self._ahead = None
        feed.sync.lose(observed_from=0)
        feed.on(Stimulus.LOST, reason or cause)
        feed.reason = reason or cause
        if feed.ledger.first:
            feed.gaps.open(cause, feed.ledger.last + 1, ts, reason)

    def resume(self, ts: int, gap: Gap | None) -> None:
        """Resume a market as another process left it in our ledger, with its gap."""
        ledger = self._feed.ledger
        if ledger.audited_to:
            self._trades.since = max(1, ledger.audited_to - self._bounds.back)
        self._skipped = "book changes in the meantime are only in the snapshot"
        self._feed.gaps.adopt(gap, ledger.last + 1, ts)

    def rewind(self, height: int, records: Sequence[Record], ts: int) -> None:
        """These frames never left the process: list their trades again and fetch the book."""
        feed, ledger = self._feed, self._feed.ledger
        lost = [decode_trades(r.event) for r in records if r.kind == KIND_TRADES]
        for event in lost:
            self._trades.known.forget(event.trades)
        if lost:
            since = min(event.ts_event for event in lost)
            ledger.audited_to = min(ledger.audited_to or since, since)
            self._trades.since = min(self._trades.since or since, since)
        self._audited = False
        feed.sync.lose(observed_from=0)
        feed.want_book()
        feed.gaps.open("drop", ledger.last + 1, ts)
        feed.on(Stimulus.INCOMPLETE, gap_details.FRAMES_DROPPED)

    # ---- the book -------------------------------------------------------------------

    def receive(self, block: Block, ts_recv: int) -> None:
        """Never called: the indexer sends no blocks."""
        raise NotImplementedError

    def hear(self, told: StreamMessage, ts_recv: int) -> None:
        """Take one decoded stream message."""
        if told.update is not None:
            self._served("book", ts_recv)
            self._hear_update(told, told.update, ts_recv)
        elif told.trade is not None:
            self._served("trades", ts_recv)
            self._hear_trade(told, told.trade, ts_recv)

    def _hear_update(self, told: StreamMessage, update: BookUpdate, ts_recv: int) -> None:
        feed = self._feed
        self._proved_at["book"] = ts_recv
        if not told.is_whole:
            if feed.sync.in_sync:
                feed.sync.lose(observed_from=0)
            feed.lose_book("a message that is not a plain update", 0, ts_recv)
            return
        sequence, ts_event = self._newest
        if update.sequence <= sequence and told.ts_event > ts_event > 0:
            self._restart(told.ts_event, ts_recv)
        if told.ts_event >= ts_event:
            self._newest = update.sequence, told.ts_event
            feed.sync.changed_at = told.ts_event
        before = feed.stats.book_updates
        # No height: an update does not name its block.
        feed.publish(Block(0, told.ts_event, _NONE, [update]), ts_recv, feed.source)
        if feed.stats.book_updates > before and self._ahead is not None:
            # It is behind the query, but it sends, and skips nothing.
            self._ahead = self._ahead[0], ts_recv

    def _restart(self, ts_event: int, ts_recv: int) -> None:
        """The book's sequence restarted: no snapshot of the earlier count may join."""
        feed = self._feed
        before, self._newest, self._lower_since = feed.sync.book.sequence, (0, ts_event), 0
        feed.sync.restart(ts_event)
        feed.lose_book(f"the sequence restarted, after {before}", 0, ts_recv)

    def lost_book(self) -> None:
        """The book's earlier comparisons are void."""
        self._probed = False

    def may_join(self, snapshot: Snapshot, ts: int) -> bool:
        """Another backend of the indexer may be behind the one we read; 0 means unknown."""
        if snapshot.height > self._head.height:
            self._head.advance(snapshot.height, 0, ts)
        if snapshot.sequence >= self._feed.sync.book.sequence:
            self._lower_since = 0
            return True
        self._lower_since = self._lower_since or ts
        if not snapshot.sequence or ts - self._lower_since < self._bounds.fresh:
            return False
        # No backend stays behind for this time. Nothing was streamed, so the instant is unknown.
        self._restart(self._newest[1] + 1, ts)
        return True

    def not_joined(self, snapshot: Snapshot) -> None:
        """Explain why the market has to wait."""
        self._feed.reason = (
            "the indexer's books are behind its streams"
            if snapshot.sequence
            else "the indexer does not return its book's sequence"
        )

    def joined(self, before: int, snapshot: Snapshot, ts: int) -> None:
        """The query that returned the book also shows the indexer's sequence, like a probe."""
        if before and snapshot.sequence > before:
            self._skipped = (
                f"book changes {before + 1} to {snapshot.sequence} are only in the snapshot"
            )
        if not self._unconfirmed:
            self._prove_book(ts)

    def probed(self, sequence: int, ts: int) -> None:
        """The indexer returned its book's sequence; 0 if it does not know."""
        sync = self._feed.sync
        if "book" not in self._reader.streams or not sync.in_sync or self._unconfirmed:
            return
        ours = sync.book.sequence
        if self._ahead is not None and ours >= self._ahead[0]:
            # The stream has sent what the query showed earlier.
            self._ahead = None
            self._prove_book(ts)
        if sequence <= ours:
            self._prove_book(ts)
        elif self._ahead is None:
            self._ahead = sequence, ts
        elif ts - self._ahead[1] > self._bounds.grace:
            behind = self._ahead[0] - ours
            self._mute(ts, f"the indexer's query is {behind} changes ahead of its stream")

    def _mute(self, ts: int, reason: str) -> None:
        self.lose("mute", ts, reason)
        self._feed.builder.want_subscription(self._feed.market_id)

    def _prove_book(self, ts: int) -> None:
        ledger = self._feed.ledger
        self._proved_at["book"] = ts
        self._probed = True
        if "trades" not in self._reader.streams and ledger.first:
            ledger.last = max(ledger.last, self._head.height - 1)
        self._prove(ts)

    # ---- trades ---------------------------------------------------------------------

    def _hear_trade(self, told: StreamMessage, trade: Trade, ts_recv: int) -> None:
        if not self._trades.known.take((trade,)):
            self._feed.stats.duplicates += 1
            return
        self._waiting.add(told, trade, ts_recv)

    def _publish_live(self, height: int, ts_event: int, ts_recv: int, trades: list[Trade]) -> None:
        trades.sort(key=place_of)
        feed = self._feed
        feed.publish_trades(height, ts_event, ts_recv, feed.source, trades, late=False)

    def anchored(self, newest: int) -> None:
        """Set the baseline: only trades executed after ``newest`` are expected."""
        if not self._trades.since:
            self._trades.since = newest + 1
            self._feed.ledger.audited_to = max(1, newest)

    @property
    def wants_audit(self) -> bool:
        """Whether going live waits for an audit."""
        return "trades" in self._reader.streams and not self._unconfirmed and not self._audited

    def audited(self, listed: Sequence[StreamMessage], newest: int, begun: int, ts: int) -> None:
        """Compare with all trades listed since `ledger.audited_to`, queried at ``begun``."""
        fresh = self._trades.fresh(listed)
        self._proved_at["trades"] = ts
        if self._feed.state is State.LIVE:
            if not self._trades.are_missing(fresh, begun, self._bounds.grace):
                # Trades that may still be on their way are compared again next time.
                self._move(min([newest, *(told.ts_event for told in fresh)]))
                return
            self._mute(ts, f"{len(fresh)} listed trades were not streamed")
        self._trades.unseen.clear()
        self._publish_late(fresh, ts)
        self._move(newest)
        if not self._unconfirmed and begun >= self._confirmed_at:
            self._audited = True
            self._prove(ts)

    def _move(self, newest: int) -> None:
        ledger = self._feed.ledger
        ledger.audited_to = max(ledger.audited_to, newest)
        if ledger.first:
            # The newest trades may not be completely listed yet.
            ledger.last = max(ledger.last, self._head.height - 1)

    def _publish_late(self, fresh: Iterable[StreamMessage], ts: int) -> None:
        self.flush()
        blocks: dict[int, list[StreamMessage]] = {}
        for told in fresh:
            blocks.setdefault(told.height, []).append(told)
        for height in sorted(blocks):
            told = blocks[height][0]
            trades = self._trades.known.take(t.trade for t in blocks[height] if t.trade)
            trades.sort(key=place_of)
            self._feed.publish_trades(height, told.ts_event, ts, LISTED, trades, late=True)

    # ---- time -----------------------------------------------------------------------

    def flush(self) -> None:
        """Publish the trades that wait for others of their block."""
        self._waiting.flush()

    def clock_set(self, now: int) -> None:
        """The wall clock was set: measure every wait and silence from now on."""
        self._confirmed_at = min(self._confirmed_at, now)
        self._waiting.clock_set(now)
        self._proved_at = dict.fromkeys(self._proved_at, now)
        if self._ahead is not None:
            self._ahead = self._ahead[0], now

    def tick(self, now: int) -> None:
        """Publish trades that have waited long enough; expire old comparisons."""
        bounds = self._bounds
        self._waiting.flush(now - bounds.hold)
        if self._feed.state is State.LIVE and now - min(self._proved_at.values()) > bounds.fresh:
            seconds = bounds.fresh // 1_000_000_000
            self._feed.on(
                Stimulus.LOST, f"not verified for {seconds} s: the indexer answers no queries"
            )
            self._probed = self._audited = False

    def _prove(self, ts: int) -> None:
        if self._feed.state is State.STALE and not self._unconfirmed:
            self._feed.on(Stimulus.SERVED)
        self._feed.try_going_live(ts)

    def went_live(self, ts: int) -> None:
        """Begin the ledger if it has not begun, and close the gap."""
        feed, ledger, head = self._feed, self._feed.ledger, self._head.height
        self.lives += 1
        if not ledger.first:
            ledger.begin(max(1, head))
            ledger.last = ledger.first
        gap = feed.gaps.current
        if gap is not None and (lost := feed.gaps.uncollected(ledger.first)):
            ((first, last),) = lost
            detail = gap_details.blocks_not_available(last - first + 1)
            feed.gaps.leave_open(first, last, ts, detail)
        elif gap is not None:
            feed.gaps.close(max(gap.first, head), ts, self._skipped)
        self._skipped = ""
