"""
The pipeline of a shard: payloads in, records and requests out. No I/O, no clock, no log.

::

    receive(payload, ts_recv, subscription)
        ─► decoder ─► track ─► feed ─► book ─► records   (take_records)
                        │       └────────────► requests  (take_requests)
                             └ proof that nothing is missing (liveness.py)

    join(snapshot) answers a snapshot request; the liveness answers all other requests
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from shards.core.block_slices import split
from shards.core.feed import Feed
from shards.core.late_changes import MOST, NEVER, LateChanges
from shards.core.liveness import Liveness
from shards.core.record_builder import RecordBuilder, Request
from shards.core.subscriptions import Subscriptions
from shards.protocol.channels import BOOKS, DEFAULT_CHANNELS
from shards.protocol.errors import DecodeError
from shards.protocol.events import (
    Block,
    Cause,
    Confirmed,
    Gap,
    OtherEvent,
    Rejected,
    Snapshot,
    Source,
)
from shards.protocol.frames import Record
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Limits, Market
from shards.protocol.trade_ids import TradeIdentity

Decoder: TypeAlias = Callable[[bytes | memoryview, int], tuple[int, object]]
"""
Decodes a payload received for a subscription (0: the payload names its own). Returns the
subscription, and a Block, an answer, or a message that this source's liveness understands.
"""
AnyLiveness = TypeVar("AnyLiveness", bound=Liveness, covariant=True)


class Pipeline(Generic[AnyLiveness]):
    """All markets of one shard."""

    def __init__(
        self,
        markets: Sequence[Market],
        liveness: AnyLiveness,
        *,
        source: Source,
        decoder: Decoder,
        trade_identity: TradeIdentity = TradeIdentity.HEIGHT,
        limits: Limits | None = None,
        channels: Collection[str] = DEFAULT_CHANNELS,
        ledgers: Mapping[str, MarketLedger] | None = None,
    ) -> None:
        """``source`` is the source name in events from live payloads; for the ledgers see `add`."""
        self.liveness = liveness
        self._head = liveness.head
        self._decode = decoder
        self._source: Source = source
        self._channels = frozenset(channels)
        self.markets: dict[str, Market] = {}
        """By market id; changes while running, so do not keep a copy."""
        self.feeds: dict[str, Feed] = {}
        self._builder = RecordBuilder(
            trade_identity=trade_identity, limits=limits or Limits(), channels=channels
        )
        self._late = LateChanges()
        self._subscriptions = Subscriptions(liveness)
        self.generation = 0
        """Number of chain replacements so far; answers from an earlier generation are ignored."""
        self.composition = 0
        """Grows whenever markets come or go."""
        self.payloads = 0
        self._first_of_head = 0
        """Number of the payload that brought the newest block first."""
        self.ignored = 0
        """Messages without use, mostly of subscriptions that have ended."""
        self.add(markets, ledgers or {})

    # ---- which markets --------------------------------------------------------------

    def add(self, markets: Sequence[Market], ledgers: Mapping[str, MarketLedger]) -> None:
        """Create feeds for more markets; the caller must resume those that have a ledger."""
        self.composition += 1
        self.liveness.expect(len(self.feeds) + len(markets))
        for market in markets:
            self.markets[market.market_id] = market
            self._builder.add(market)
            has_book = market.type != "chain"
            feed = self.feeds[market.market_id] = Feed(
                market.market_id,
                ledgers.get(market.market_id) or MarketLedger(),
                self._builder,
                source=self._source,
                with_book=has_book and not BOOKS.isdisjoint(self._channels),
                with_ticker=has_book and "ticker" in self._channels,
                late=self._late if "book" in self._channels else NEVER,
            )
            feed.track = self.liveness.track(feed, market)

    def remove(self, market_ids: Iterable[str]) -> None:
        """Remove markets; late messages of their subscriptions are ignored."""
        gone = []
        self.composition += 1
        for market_id in market_ids:
            feed = self.feeds.pop(market_id)
            feed.track.flush()
            self._late.forget(market_id)
            self._builder.remove(market_id)
            self.liveness.forget(market_id)
            del self.markets[market_id]
            gone.append(feed)
        self._subscriptions.leave(gone)

    # ---- what came from the source --------------------------------------------------

    def subscribed(
        self,
        subscription: int,
        market_ids: Iterable[str],
        ts: int,
        served: Collection[str] = (),
    ) -> None:
        """
        From now on, messages with this number belong to exactly these markets.

        Another subscription serves the markets in ``served`` already.
        """
        feeds = [self.feeds[market_id] for market_id in market_ids]
        self._subscriptions.begin(subscription, feeds, ts, served)

    def confirmed(self, subscription: int, ts: int = 0) -> None:
        """The source accepted a subscription (at ``ts``) without a payload that says so."""
        for feed in self._subscriptions.feeds.get(subscription, ()):
            feed.track.confirmed(subscription, ts)

    def receive(self, payload: bytes | memoryview, ts_recv: int, subscription: int = 0) -> None:
        """
        Decode one payload and update the feeds it concerns.

        ``subscription`` is used if the payload itself names none.

        Raises:
            DecodeError: If it cannot be decoded; the connection cannot be trusted any more.

        """
        self.payloads += 1
        subscription, message = self._decode(payload, subscription)
        if type(message) is Block:
            if message.height != self._head.height:
                self._check_height(subscription, message, ts_recv)
            receive = self._subscriptions.alone.get(subscription)
            if receive is not None:
                receive(message, ts_recv)
                return
        self._receive_other(subscription, message, ts_recv)

    def _check_height(self, subscription: int, block: Block, ts_recv: int) -> None:
        """Take a block of another height than the head's: a higher one becomes the head."""
        head = self._head
        if block.height > head.height:
            if subscription in self._subscriptions.feeds:
                self._first_of_head = self.payloads
                self.liveness.advance(block.height, block.ts_event, ts_recv)
        elif block.ts_event > head.ts_event > 0:
            # No chain has a lower block with a later time.
            head.suspect = block.height

    def _receive_other(self, subscription: int, message: object, ts_recv: int) -> None:
        """Take anything other than a block of a single market."""
        feeds = self._subscriptions.feeds.get(subscription)
        if feeds is None:
            if subscription < 0 and type(message) is Rejected:
                # The node lost our id, so the answer cannot be matched to a request.
                raise DecodeError("", f"the node answered without an id: {message.reason}")
            self.ignored += 1
        elif type(message) is Block:
            self._receive_grouped(feeds, message, ts_recv)
        elif type(message) is Rejected:
            for feed in feeds:
                feed.refused(message.reason, ts_recv)
                self._builder.want_subscription(feed.market_id)
        elif type(message) is Confirmed:
            self.confirmed(subscription, ts_recv)
        elif not self.liveness.hear(feeds, message, ts_recv):
            self.ignored += 1

    def _receive_grouped(self, feeds: list[Feed], block: Block, ts_recv: int) -> None:
        slices = split(block)
        empty = Block(block.height, block.ts_event, [], [])
        for feed in feeds:
            feed.track.receive(slices.get(feed.market_id, empty), ts_recv)

    def lost(self, subscription: int, cause: Cause, ts: int, reason: str) -> None:
        """One subscription has ended; its markets are subscribed again."""
        for feed in self._subscriptions.end(subscription):
            feed.track.lose(cause, ts, reason)
            self._builder.want_subscription(feed.market_id)

    def left(
        self,
        subscriptions: Iterable[int],
        unserved: Iterable[str],
        cause: Cause,
        ts: int,
        reason: str,
    ) -> None:
        """Some of several subscriptions have ended; no other one serves the markets ``unserved``."""
        for subscription in subscriptions:
            self._subscriptions.end(subscription)
        for market_id in unserved:
            if market_id in self.feeds:
                self.feeds[market_id].track.lose(cause, ts, reason)

    def lose(self, market_id: str, cause: Cause, ts: int, reason: str) -> None:
        """One market's subscription is useless; the caller makes a new one."""
        self.feeds[market_id].track.lose(cause, ts, reason)

    def disconnected(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The connection is lost, and with it every subscription."""
        self._subscriptions.end_all()
        for feed in self.feeds.values():
            feed.track.lose(cause, ts, reason)

    def resume(
        self,
        ts: int,
        gaps: Mapping[str, Gap | None] | None = None,
        market_ids: Iterable[str] | None = None,
    ) -> None:
        """Resume markets that another process left, with their gaps; all markets by default."""
        left = gaps or {}
        for market_id in list(self.feeds) if market_ids is None else market_ids:
            feed, gap = self.feeds[market_id], left.get(market_id)
            if feed.ledger.first:
                self._head.height = max(self._head.height, feed.ledger.last)
                feed.track.resume(ts, gap)
            elif gap is not None:
                # A new ledger, of a market that was collected before.
                feed.gaps.adopt(gap, 0, ts)

    def start_over(self, first: int, ts: int, detail: str) -> None:
        """
        Another chain has replaced ours: discard everything and start with its blocks.

        For each market, the blocks from ``first`` on are a gap until it is live.
        """
        markets = list(self.markets.values())
        self.remove([market.market_id for market in markets])
        self._subscriptions.end_all()
        self._builder.forget()
        self._head.advance(0, 0, 0)
        self._head.suspect = 0
        self.generation += 1
        self.add(markets, {})
        for feed in self.feeds.values():
            feed.reason = detail
            feed.gaps.open("chain_changed", first, ts, detail)

    # ---- answers, and what is published besides ---------------------------------------

    def join(self, snapshot: Snapshot, ts_recv: int) -> bool:
        """Give a feed its snapshot; return False if it is too old and another is needed."""
        feed = self.feeds.get(snapshot.market_id)
        return feed is None or feed.join(snapshot, ts_recv)

    def wants_snapshot(self, market_id: str) -> bool:
        """Return whether a snapshot of this market is still needed."""
        feed = self.feeds.get(market_id)
        return feed is not None and feed.lacks_book

    def postpone_book(self, market_id: str) -> None:
        """No server has the requested book of a height: it is requested again after a replay."""
        feed = self.feeds.get(market_id)
        if feed is not None:
            feed.track.postpone_book()

    def snapshot_from(self, market_id: str) -> int:
        """Return the lowest height at which a snapshot would still join the stream."""
        feed = self.feeds.get(market_id)
        return feed.sync.observed_from - 1 if feed is not None else 0

    def publish(self, market_id: str, event: OtherEvent) -> None:
        """Make a frame from a query's answer (it has no latency); removed markets are ignored."""
        self._builder.other(market_id, event, late=True)

    def keyframes(self, ts: int) -> None:
        """Send every book and every conflated topic again, for a new aggregator."""
        for feed in self.feeds.values():
            feed.keyframe(ts)
        self._builder.states()

    # ---- what goes out --------------------------------------------------------------

    @property
    def has_late(self) -> bool:
        """Whether work on books was put off (late_changes.py)."""
        return bool(self._late)

    def settle(self, most: int) -> None:
        """Do a part of that work: put at most so many changes into their books, or make a keyframe."""
        self._late.settle(most)

    @property
    def has_requests(self) -> bool:
        """Whether `take_requests` would return anything."""
        return bool(self._builder.requests)

    def take_records(self) -> list[Record]:
        """Return the records made since the last call, and forget them."""
        builder = self._builder
        records, builder.records = builder.records, []
        return records

    def take_requests(self) -> list[Request]:
        """Return what has to be fetched, and forget it."""
        builder = self._builder
        requests, builder.requests = builder.requests, []
        return requests

    def flush(self) -> None:
        """Publish what is being held back: the process is ending."""
        while self._late:
            self._late.settle(MOST)
        for feed in self.feeds.values():
            feed.track.flush()

    def dropped(self, records: Iterable[Record], ts: int) -> int:
        """These frames never left the process: restore their facts. Return their number."""
        count, of_market = self._builder.dropped(records)
        for market_id, dropped in of_market.items():
            self.feeds[market_id].track.rewind(dropped.height, dropped.records, ts)
        return count

    # ---- how far it is --------------------------------------------------------------

    @property
    def transitions(self) -> int:
        """How often a feed has come, gone or changed its state."""
        return self._builder.transitions

    def take_moved(self) -> set[str]:
        """Return the markets that were not steady at some time since the last call (`Track`)."""
        builder = self._builder
        moved, builder.moved = builder.moved, set()
        return moved & self.feeds.keys()

    @property
    def is_mid_block(self) -> bool:
        """Whether the newest block has probably not come to all markets yet, by counting payloads."""
        return self.payloads - self._first_of_head + 1 < len(self._subscriptions.feeds)

    @property
    def head(self) -> int:
        """The highest block named by anything."""
        return self._head.height

    @property
    def suspect(self) -> int:
        """Height of a block that cannot belong to our chain; 0: none was received."""
        return self._head.suspect

    def clear_suspect(self) -> None:
        """The chain was found to be ours."""
        self._head.suspect = 0

    @property
    def head_ts_event(self) -> int:
        """The head's block time; 0 if unknown."""
        return self._head.ts_event

    @property
    def block_time_s(self) -> float:
        """Observed time between blocks; 0 if unknown."""
        return self._head.block_time_s
