"""
The feed of one market at the indexer, which tells no blocks: where it stands, what is owed.

A stream that says nothing proves nothing. Two things are compared instead, again and again:
the book's sequence with the one that the indexer's query shows (a *probe*), and the trades
that came with those that it lists (an *audit*). A market is live while both agree.

::

    pending ──streams open──► syncing ──book in sync, probed, audited──► live
                                 ▲                                         │
                                 └── streams open again ◄── stale ◄────────┘  cut, mute, unproved

An audit is the back-fill as well: what the streams did not bring is taken from it, late, and
known by its ids. Book changes that were missed cannot be had; a whole book stands for them,
and the gap says which they were.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from shards.adapters.injective_indexer.decoder import Stream, Told
from shards.core.book_sync import BookSync
from shards.core.feed import State
from shards.core.top_of_book import Top
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, BookUpdate, Cause, Gap, Snapshot, Ticker, Trade, Trades
from shards.protocol.histograms import FeedStats
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Limits
from shards.protocol.trade_ids import KnownTrades, place_of

_SECOND: Final = 1_000_000_000


class Outlet(Protocol):
    """Where a feed's events and wants go (the outbox)."""

    def book(self, feed: "IndexerFeed", event: Book, late: bool = False) -> None: ...
    def trades(self, feed: "IndexerFeed", event: Trades, late: bool = False) -> None: ...
    def gap(self, feed: "IndexerFeed", event: Gap) -> None: ...
    def other(self, market_id: str, event: Ticker, late: bool = False) -> None: ...
    def want_snapshot(self, feed: "IndexerFeed", height: int) -> None: ...
    def want_subscription(self, feed: "IndexerFeed") -> None: ...


class Head(msgspec.Struct):
    """The newest block that anything named; all feeds of a shard share it."""

    height: int = 0
    ts_event: int = 0
    at: int = 0


class IndexerFeed:
    """One market's state machine; instants are ns and come in as arguments."""

    def __init__(
        self,
        market_id: str,
        ledger: MarketLedger,
        outlet: Outlet,
        head: Head,
        *,
        limits: Limits,
        streams: Sequence[Stream],
        with_ticker: bool = False,
    ) -> None:
        self.market_id = market_id
        self.ledger = ledger
        """Its heights are those of the trades; they count no blocks."""
        self.stats = FeedStats()
        self.sync = BookSync(market_id, wanted="book" in streams)
        self._top = Top() if with_ticker else None
        self.state = State.PENDING
        self.reason = ""
        """Why the feed is not live, for people."""
        self.lives = 0
        """How often it went live: a stream that brought that about deserves a fresh start."""
        self._outlet = outlet
        self._head = head
        self._streams = frozenset(streams)
        self._unconfirmed: set[Stream] = set(streams)
        self._confirmed_at = 0
        self._probed = self._audited = False
        self._proved_at: dict[Stream, int] = {}
        self._grace = int(limits.probe_grace_s * _SECOND)
        self._hold = int(limits.trade_hold_s * _SECOND)
        self._fresh = int(limits.fresh_s * _SECOND)
        self._back = int(limits.audit_back_s * _SECOND)
        self._ahead: tuple[int, int] | None = None
        """The sequence that the indexer showed and we had not, and when."""
        self._known = KnownTrades()
        self._since = 0
        """Trades executed before are not due: they are from before we joined."""
        self._unseen: dict[str, int] = {}
        """Ids that an audit found and no stream has brought, and when."""
        self._pending: list[Trade] = []
        self._pending_of = (0, 0, 0)
        """Height, time and receipt of the trades that wait for others of their block."""
        self._pending_at = 0
        self._gap: Gap | None = None
        self._opened_at = 0
        self._skipped = ""
        """Which book changes a whole book stands for, since the gap was opened."""

    # ---- what the streams say --------------------------------------------------------

    @property
    def is_confirmed(self) -> bool:
        """Whether every stream of this market is known to be served."""
        return not self._unconfirmed

    def subscribed(self, stream: Stream) -> None:
        """A stream is being asked for; what it may have missed is owed."""
        self._unconfirmed.add(stream)
        self._probed = self._audited = False

    def confirmed(self, stream: Stream, ts: int) -> None:
        """A stream is served."""
        if stream not in self._unconfirmed:
            return
        self._unconfirmed.discard(stream)
        if self._unconfirmed:
            return
        self._confirmed_at = ts
        self._proved_at = dict.fromkeys(self._streams, ts)
        if self.state is not State.LIVE:
            self.state = State.SYNCING
            self.reason = ""
        self._outlet.want_snapshot(self, 0)

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The streams are gone, or tell not everything: what they miss is owed."""
        self._unconfirmed |= self._streams
        self._probed = self._audited = False
        self._ahead = None
        self.sync.lose(observed_from=0)
        if self.state in (State.LIVE, State.SYNCING):
            self.state = State.STALE
        self.reason = reason or cause
        if self.ledger.first and self._gap is None:
            self._open_gap(cause, ts, reason)

    def resume(self, ts: int, gap: Gap | None) -> None:
        """Take up a market as another process left it in our ledger, and its gap."""
        if self.ledger.audited_to:
            self._since = max(1, self.ledger.audited_to - self._back)
        self._skipped = "changes of the book meanwhile are only in the whole book"
        if gap is None:
            self._open_gap("crash", ts)
        else:
            self._gap = gap
            self._opened_at = max(self._opened_at, gap.gap_id)

    def rewind(self, trades: Iterable[Trade], since: int, ts: int) -> None:
        """Frames never left the process: these trades (from ``since`` on), or some of the book."""
        self._known.forget(trades)
        if since:
            self.ledger.audited_to = min(self.ledger.audited_to or since, since)
            self._since = min(self._since or since, since)
        self._audited = False
        self.sync.lose(observed_from=0)
        self._outlet.want_snapshot(self, 0)
        if self._gap is None:
            self._open_gap("drop", ts)
        if self.state is State.LIVE:
            self.state = State.SYNCING
            self.reason = "frames were dropped"

    # ---- the book -------------------------------------------------------------------

    def receive(self, told: Told, ts_recv: int) -> None:
        """Take what one message of a stream says."""
        if told.update is not None:
            self.confirmed("book", ts_recv)
            self._receive_update(told, told.update, ts_recv)
        elif told.trade is not None:
            self.confirmed("trades", ts_recv)
            self._receive_trade(told, told.trade, ts_recv)

    def _receive_update(self, told: Told, update: BookUpdate, ts_recv: int) -> None:
        self._proved_at["book"] = ts_recv
        if not told.is_whole:
            self._lose_book("a message that is no plain update", ts_recv)
            return
        try:
            # No height: an update does not name its block.
            delta = self.sync.receive(update, 0, told.ts_event, ts_recv, "indexer-grpc")
        except SequenceGap as gap:
            self._lose_book(gap.reason, ts_recv)
            return
        if delta is not None:
            self.stats.book_updates += 1
            self._outlet.book(self, delta)
            if self._ahead is not None:
                # It lags behind the query, but it speaks, and leaves nothing out.
                self._ahead = self._ahead[0], ts_recv
            top = self._top
            if top is not None and top.follow(self.sync.book, delta.bids, delta.asks):
                self._tell_top(top, told.ts_event, ts_recv)

    def _tell_top(self, top: Top, ts_event: int, ts_recv: int, *, late: bool = False) -> None:
        sequence = self.sync.book.sequence
        event = Ticker(self.market_id, 0, sequence, ts_event, ts_recv, "indexer-grpc", *top.best)
        self._outlet.other(self.market_id, event, late)

    def _lose_book(self, reason: str, ts: int) -> None:
        if self.sync.in_sync:
            self.sync.lose(observed_from=0)
        if self.state is State.LIVE:
            self.state = State.SYNCING
            self.reason = reason
        if self.ledger.first and self._gap is None:
            self._open_gap("seq", ts, reason)
        self._probed = False
        self._outlet.want_snapshot(self, 0)

    def join(self, snapshot: Snapshot, ts_recv: int) -> bool:
        """Take a fetched book; False if it is too old and another one is needed."""
        if self.sync.in_sync:
            return True
        before = self.sync.book.sequence
        # Another backend of the indexer may be behind the one that we heard; 0 is not known.
        is_behind = snapshot.sequence < before
        published = None if is_behind else self.sync.join(snapshot, ts_recv, "indexer-grpc")
        if published is None:
            self.reason = (
                "the indexer's books are behind its streams"
                if snapshot.sequence
                else "the indexer does not tell how far its book is"
            )
            return False
        self.stats.resyncs += 1
        if before and snapshot.sequence > before:
            self._skipped = (
                f"book changes {before + 1} to {snapshot.sequence} are only in the whole book"
            )
        for event in published:
            self._outlet.book(self, event, late=True)
        self.stats.book_updates += len(published) - 1
        if self._top is not None:
            self._top.load(self.sync.book)
            self._tell_top(self._top, published[-1].ts_event, ts_recv, late=True)
        if not self._unconfirmed:
            # The query that brought the book shows how far the indexer is, as a probe does.
            self._prove_book(ts_recv)
        return True

    def probed(self, sequence: int, ts: int) -> None:
        """The indexer shows how far its book is; 0 where it does not know."""
        if "book" not in self._streams or not self.sync.in_sync or self._unconfirmed:
            return
        ours = self.sync.book.sequence
        if self._ahead is not None and ours >= self._ahead[0]:
            # The stream has brought what the query showed before it.
            self._ahead = None
            self._prove_book(ts)
        if sequence <= ours:
            self._prove_book(ts)
        elif self._ahead is None:
            self._ahead = sequence, ts
        elif ts - self._ahead[1] > self._grace:
            behind = self._ahead[0] - ours
            self.lose("mute", ts, f"the indexer is {behind} changes ahead of its own stream")
            self._outlet.want_subscription(self)

    def _prove_book(self, ts: int) -> None:
        self._proved_at["book"] = ts
        self._probed = True
        if "trades" not in self._streams and self.ledger.first:
            self.ledger.last = max(self.ledger.last, self._head.height - 1)
        self._prove(ts)

    # ---- trades ---------------------------------------------------------------------

    def _receive_trade(self, told: Told, trade: Trade, ts_recv: int) -> None:
        if trade in self._known:
            self.stats.duplicates += 1
            return
        if self._pending and told.height != self._pending_of[0]:
            self._publish_pending()
        if not self._pending:
            self._pending_of = told.height, told.ts_event, ts_recv
        self._known.take((trade,))
        self._pending.append(trade)
        self._pending_at = ts_recv

    def _publish_pending(self) -> None:
        trades, self._pending = self._pending, []
        self._publish(*self._pending_of, trades, late=False)

    def _publish(
        self, height: int, ts_event: int, ts_recv: int, trades: list[Trade], *, late: bool
    ) -> None:
        trades.sort(key=place_of)
        self.stats.trades += len(trades)
        source: Literal["indexer-replay", "indexer-grpc"] = (
            "indexer-replay" if late else "indexer-grpc"
        )
        event = Trades(self.market_id, height, ts_event, ts_recv, source, trades)
        self._outlet.trades(self, event, late)

    def anchored(self, newest: int) -> None:
        """Begin with trades: those executed after this instant, the newest listed, are due."""
        if not self._since:
            self._since = newest + 1
            self.ledger.audited_to = max(1, newest)

    @property
    def wants_audit(self) -> bool:
        """Whether going live waits for the trades to be compared."""
        return "trades" in self._streams and not self._unconfirmed and not self._audited

    def audited(self, listed: Sequence[Told], newest: int, begun: int, ts: int) -> None:
        """Compare with all trades listed from `ledger.audited_to` on, asked for at ``begun``."""
        fresh = [
            told
            for told in listed
            if told.trade is not None
            and told.ts_event >= self._since
            and told.trade not in self._known
        ]
        self._proved_at["trades"] = ts
        if self.state is State.LIVE:
            if not self._are_missing(fresh, begun):
                # Look at those again that may still be on their way.
                self._move(min([newest, *(told.ts_event for told in fresh)]))
                return
            self.lose("mute", ts, f"{len(fresh)} trades that no stream brought")
            self._outlet.want_subscription(self)
        self._unseen.clear()
        self._publish_late(fresh, ts)
        self._move(newest)
        if not self._unconfirmed and begun >= self._confirmed_at:
            self._audited = True
            self._prove(ts)

    def _are_missing(self, fresh: Iterable[Told], begun: int) -> bool:
        """Say whether a listed trade has been on its way for too long."""
        before, self._unseen = self._unseen, {}
        for told in fresh:
            assert told.trade is not None
            name = told.trade.trade_id
            self._unseen[name] = before.get(name, begun)
        return any(begun - since >= self._grace for since in self._unseen.values())

    def _move(self, newest: int) -> None:
        self.ledger.audited_to = max(self.ledger.audited_to, newest)
        if self.ledger.first:
            # What is newest may not be listed completely yet.
            self.ledger.last = max(self.ledger.last, self._head.height - 1)

    def _publish_late(self, fresh: Iterable[Told], ts: int) -> None:
        self.flush()
        blocks: dict[int, list[Told]] = {}
        for told in fresh:
            blocks.setdefault(told.height, []).append(told)
        for height in sorted(blocks):
            trades = self._known.take(told.trade for told in blocks[height] if told.trade)
            self._publish(height, blocks[height][0].ts_event, ts, trades, late=True)

    # ---- time -----------------------------------------------------------------------

    def flush(self) -> None:
        """Let the trades go that wait for others of their block."""
        if self._pending:
            self._publish_pending()

    def clock_set(self, now: int) -> None:
        """The clock was set: every wait and every silence counts from now on."""
        self._confirmed_at = min(self._confirmed_at, now)
        self._pending_at = min(self._pending_at, now)
        self._proved_at = dict.fromkeys(self._proved_at, now)
        if self._ahead is not None:
            self._ahead = self._ahead[0], now

    def tick(self, now: int) -> None:
        """Let trades go that have waited; believe in nothing that was not proved lately."""
        if self._pending and now - self._pending_at >= self._hold:
            self._publish_pending()
        if self.state is State.LIVE and now - min(self._proved_at.values()) > self._fresh:
            self.state = State.STALE
            self.reason = f"unproved for {self._fresh // _SECOND} s: the indexer answers no queries"
            self._probed = self._audited = False

    def _prove(self, ts: int) -> None:
        if self.state is State.STALE and not self._unconfirmed:
            self.state = State.SYNCING
        self._settle(ts)

    def _settle(self, ts: int) -> None:
        """If nothing is owed any more, go live and close the gap."""
        if self.state is not State.SYNCING or self._unconfirmed or not self.sync.in_sync:
            return
        if "book" in self._streams and not self._probed:
            return
        if "trades" in self._streams and not self._audited:
            return
        self.state = State.LIVE
        self.lives += 1
        self.reason = ""
        if not self.ledger.first:
            self.ledger.begin(max(1, self._head.height))
            self.ledger.last = self.ledger.first
        gap, self._gap = self._gap, None
        if gap is not None:
            self.stats.gaps_closed += 1
            last = max(gap.first, self._head.height)
            closed = Gap(
                self.market_id, gap.gap_id, "closed", gap.cause, gap.first, last, ts, self._skipped
            )
            self._outlet.gap(self, closed)
        self._skipped = ""

    # ---- gaps -----------------------------------------------------------------------

    def _open_gap(self, cause: Cause, ts: int, detail: str = "") -> None:
        self.stats.gaps_opened += 1
        # The instant is the gap's id: two of one instant must differ.
        ts = self._opened_at = max(ts, self._opened_at + 1)
        first = self.ledger.last + 1
        self._gap = Gap(self.market_id, ts, "open", cause, first, 0, ts, detail)
        self._outlet.gap(self, self._gap)

    def __repr__(self) -> str:
        return (
            f"<IndexerFeed {self.market_id[:10]} {self.state.value}, "
            f"sequence {self.sync.book.sequence}, {len(self._pending)} trades held>"
        )
