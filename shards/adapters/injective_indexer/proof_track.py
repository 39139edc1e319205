"""
One market of the indexer, which tells no blocks: what is proved of it, and what is owed.

A stream that says nothing proves nothing. Two things are compared instead, again and again:
the book's sequence with the one that the indexer's query shows (a *probe*), and the trades
that came with those that it lists (an *audit*). A market is live while both agree.

An audit is the back-fill as well: what the streams did not bring is taken from it, late, and
known by its ids. Book changes that were missed cannot be had; a whole book stands for them,
and the gap says which they were.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from shards.adapters.injective_indexer.decoder import PARTS, STREAMS, Stream, Told
from shards.adapters.injective_indexer.reader import Reader
from shards.core.feed import Feed
from shards.core.liveness import Head
from shards.core.states import State, Stimulus
from shards.core.track import Track
from shards.protocol.events import Block, BookUpdate, Cause, Gap, Snapshot, Trade
from shards.protocol.frames import KIND_TRADES, Record, decode_trades
from shards.protocol.settings import Market
from shards.protocol.trade_ids import KnownTrades, place_of

_NONE: Final[list[tuple[str, Trade]]] = []


class Bounds(msgspec.Struct, frozen=True):
    """The times of `Limits` that concern a track, in ns."""

    grace: int
    """The indexer may be ahead of its own streams for so long."""
    hold: int
    """How long a trade waits for others of its block."""
    fresh: int
    """How long a proof is worth something."""
    back: int
    """How far before the newest trade listed an audit begins."""


class _Waiting:
    """Trades that wait for others of their block, so that they go out in order."""

    __slots__ = ("_at", "_of", "_publish", "_trades")

    def __init__(self, publish: Callable[[int, int, int, list[Trade]], None]) -> None:
        self._publish = publish
        self._trades: list[Trade] = []
        self._of = (0, 0, 0)
        """Their height, time and receipt."""
        self._at = 0

    def add(self, told: Told, trade: Trade, ts_recv: int) -> None:
        """Take one more; those of another block go."""
        if self._trades and told.height != self._of[0]:
            self.flush()
        if not self._trades:
            self._of = told.height, told.ts_event, ts_recv
        self._trades.append(trade)
        self._at = ts_recv

    def clock_set(self, now: int) -> None:
        """The wall clock was set: they wait from now on."""
        self._at = min(self._at, now)

    def flush(self, before: int | None = None) -> None:
        """Publish them, if there are any and none came after this instant."""
        if self._trades and (before is None or self._at <= before):
            trades, self._trades = self._trades, []
            self._publish(*self._of, trades)


class _Trades:
    """Which trades of one market are known, due, and were listed but brought by no stream."""

    __slots__ = ("known", "since", "unseen")

    def __init__(self) -> None:
        self.known = KnownTrades()
        self.since = 0
        """Trades executed before are not due: they are from before we joined."""
        self.unseen: dict[str, int] = {}
        """Ids that an audit found and no stream has brought, and when."""

    def fresh(self, listed: Iterable[Told]) -> list[Told]:
        """Return what of a list is due and was not published."""
        return [
            told
            for told in listed
            if told.trade is not None
            and told.ts_event >= self.since
            and told.trade not in self.known
        ]

    def are_missing(self, fresh: Iterable[Told], begun: int, grace: int) -> bool:
        """Say whether a listed trade has been on its way for too long."""
        before, self.unseen = self.unseen, {}
        for told in fresh:
            assert told.trade is not None
            name = told.trade.trade_id
            self.unseen[name] = before.get(name, begun)
        return any(begun - since >= grace for since in self.unseen.values())


class ProofTrack(Track):
    """What was compared of one market, and when."""

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
        """The sequence that the indexer showed and we had not, and when."""
        self._trades = _Trades()
        self._waiting = _Waiting(self._publish_live)
        self._skipped = ""
        """Which book changes a whole book stands for, since the gap was opened."""
        self.lives = 0
        """How often it went live: a stream that brought that about deserves a fresh start."""

    # ---- what the streams say --------------------------------------------------------

    @property
    def is_confirmed(self) -> bool:  # type: ignore[override]
        """Whether every stream of this market is known to be served."""
        return not self._unconfirmed

    @property
    def is_settled(self) -> bool:
        """Whether every comparison was made since the streams were opened."""
        streams = self._reader.streams
        return (
            not self._unconfirmed
            and (self._probed or "book" not in streams)
            and (self._audited or "trades" not in streams)
        )

    def subscribed(self, subscription: int, ts: int) -> None:
        """A stream is being asked for; what it may have missed is owed."""
        self._reader.read(subscription, self._market)
        self._unconfirmed.add(STREAMS[subscription % PARTS])
        self._probed = self._audited = False

    def unsubscribed(self, subscription: int) -> None:
        """Its payloads are read no more."""
        self._reader.read_no_more(subscription)

    def confirmed(self, subscription: int, ts: int) -> None:
        """A stream is served."""
        self._served(STREAMS[subscription % PARTS], ts)

    def _served(self, stream: Stream, ts: int) -> None:
        if stream not in self._unconfirmed:
            return
        self._unconfirmed.discard(stream)
        if self._unconfirmed:
            return
        self._confirmed_at = ts
        self._proved_at = dict.fromkeys(self._reader.streams, ts)
        self._feed.on(Stimulus.SHOWN)
        self._feed.want_book()

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The streams are gone, or tell not everything: what they miss is owed."""
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
        """Take up a market as another process left it in our ledger, and its gap."""
        ledger = self._feed.ledger
        if ledger.audited_to:
            self._trades.since = max(1, ledger.audited_to - self._bounds.back)
        self._skipped = "changes of the book meanwhile are only in the whole book"
        self._feed.gaps.adopt(gap, ledger.last + 1, ts)

    def rewind(self, height: int, records: Sequence[Record], ts: int) -> None:
        """Frames never left the process: list their trades again, fetch the book."""
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
        feed.on(Stimulus.OWED, "frames were dropped")

    # ---- the book -------------------------------------------------------------------

    def receive(self, block: Block, ts_recv: int) -> None:
        """The indexer tells no blocks."""
        raise NotImplementedError

    def hear(self, told: Told, ts_recv: int) -> None:
        """Take what one message of a stream says."""
        if told.update is not None:
            self._served("book", ts_recv)
            self._hear_update(told, told.update, ts_recv)
        elif told.trade is not None:
            self._served("trades", ts_recv)
            self._hear_trade(told, told.trade, ts_recv)

    def _hear_update(self, told: Told, update: BookUpdate, ts_recv: int) -> None:
        feed = self._feed
        self._proved_at["book"] = ts_recv
        if not told.is_whole:
            if feed.sync.in_sync:
                feed.sync.lose(observed_from=0)
            feed.lose_book("a message that is no plain update", 0, ts_recv)
            return
        before = feed.stats.book_updates
        # No height: an update does not name its block.
        feed.publish(Block(0, told.ts_event, _NONE, [update]), ts_recv, feed.source)
        if feed.stats.book_updates > before and self._ahead is not None:
            # It lags behind the query, but it speaks, and leaves nothing out.
            self._ahead = self._ahead[0], ts_recv

    def lost_book(self) -> None:
        """What was proved of the book counts no more."""
        self._probed = False

    def may_join(self, snapshot: Snapshot, ts: int) -> bool:
        """Another backend of the indexer may be behind the one that we heard; 0 is not known."""
        if snapshot.height > self._head.height:
            self._head.advance(snapshot.height, 0, ts)
        return snapshot.sequence >= self._feed.sync.book.sequence

    def not_joined(self, snapshot: Snapshot) -> None:
        """Say why the market has to wait."""
        self._feed.reason = (
            "the indexer's books are behind its streams"
            if snapshot.sequence
            else "the indexer does not tell how far its book is"
        )

    def joined(self, before: int, snapshot: Snapshot, ts: int) -> None:
        """The query that brought the book shows how far the indexer is, as a probe does."""
        if before and snapshot.sequence > before:
            self._skipped = (
                f"book changes {before + 1} to {snapshot.sequence} are only in the whole book"
            )
        if not self._unconfirmed:
            self._prove_book(ts)

    def probed(self, sequence: int, ts: int) -> None:
        """The indexer shows how far its book is; 0 where it does not know."""
        sync = self._feed.sync
        if "book" not in self._reader.streams or not sync.in_sync or self._unconfirmed:
            return
        ours = sync.book.sequence
        if self._ahead is not None and ours >= self._ahead[0]:
            # The stream has brought what the query showed before it.
            self._ahead = None
            self._prove_book(ts)
        if sequence <= ours:
            self._prove_book(ts)
        elif self._ahead is None:
            self._ahead = sequence, ts
        elif ts - self._ahead[1] > self._bounds.grace:
            behind = self._ahead[0] - ours
            self._mute(ts, f"the indexer is {behind} changes ahead of its own stream")

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

    def _hear_trade(self, told: Told, trade: Trade, ts_recv: int) -> None:
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
        """Whether going live waits for the trades to be compared."""
        return "trades" in self._reader.streams and not self._unconfirmed and not self._audited

    def audited(self, listed: Sequence[Told], newest: int, begun: int, ts: int) -> None:
        """Compare with all trades listed from `ledger.audited_to` on, asked for at ``begun``."""
        fresh = self._trades.fresh(listed)
        self._proved_at["trades"] = ts
        if self._feed.state is State.LIVE:
            if not self._trades.are_missing(fresh, begun, self._bounds.grace):
                # Look at those again that may still be on their way.
                self._move(min([newest, *(told.ts_event for told in fresh)]))
                return
            self._mute(ts, f"{len(fresh)} trades that no stream brought")
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
            # What is newest may not be listed completely yet.
            ledger.last = max(ledger.last, self._head.height - 1)

    def _publish_late(self, fresh: Iterable[Told], ts: int) -> None:
        self.flush()
        blocks: dict[int, list[Told]] = {}
        for told in fresh:
            blocks.setdefault(told.height, []).append(told)
        for height in sorted(blocks):
            told = blocks[height][0]
            trades = self._trades.known.take(t.trade for t in blocks[height] if t.trade)
            trades.sort(key=place_of)
            self._feed.publish_trades(
                height, told.ts_event, ts, "indexer-replay", trades, late=True
            )

    # ---- time -----------------------------------------------------------------------

    def flush(self) -> None:
        """Publish the trades that wait for others of their block."""
        self._waiting.flush()

    def clock_set(self, now: int) -> None:
        """The wall clock was set: every wait and every silence counts from now on."""
        self._confirmed_at = min(self._confirmed_at, now)
        self._waiting.clock_set(now)
        self._proved_at = dict.fromkeys(self._proved_at, now)
        if self._ahead is not None:
            self._ahead = self._ahead[0], now

    def tick(self, now: int) -> None:
        """Let trades go that have waited; believe in nothing that was not proved lately."""
        bounds = self._bounds
        self._waiting.flush(now - bounds.hold)
        if self._feed.state is State.LIVE and now - min(self._proved_at.values()) > bounds.fresh:
            seconds = bounds.fresh // 1_000_000_000
            self._feed.on(
                Stimulus.LOST, f"unproved for {seconds} s: the indexer answers no queries"
            )
            self._probed = self._audited = False

    def _prove(self, ts: int) -> None:
        if self._feed.state is State.STALE and not self._unconfirmed:
            self._feed.on(Stimulus.SHOWN)
        self._feed.settle(ts)

    def went_live(self, ts: int) -> None:
        """Begin the ledger, if that was still to come, and close the gap."""
        feed, ledger, head = self._feed, self._feed.ledger, self._head.height
        self.lives += 1
        if not ledger.first:
            ledger.begin(max(1, head))
            ledger.last = ledger.first
        gap = feed.gaps.current
        if gap is not None:
            feed.gaps.close(max(gap.first, head), ts, self._skipped)
        self._skipped = ""
