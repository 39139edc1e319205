"""
The pipeline of a shard: payloads in, records and requests out. No I/O, no clock, no log.

::

    receive(payload, ts_recv) ─► decoder ─► feed ─► book ─► records   (take_records)
                                              └───► requests          (take_requests)
    join(snapshot), replay(block), lose_blocks(…)  answer the requests
    tick(now)                                      finds subscriptions that went mute
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from shards.core.chain_feed import ChainFeed
from shards.core.feed import Feed
from shards.core.outgoing import Outgoing
from shards.core.record_builder import Outbox
from shards.protocol.channels import BOOKS, DEFAULT_CHANNELS
from shards.protocol.errors import DecodeError
from shards.protocol.events import (
    Block,
    BookUpdate,
    Cause,
    Confirmed,
    Extras,
    Gap,
    Order,
    Rejected,
    Snapshot,
    Source,
    Trade,
)
from shards.protocol.frames import Record
from shards.protocol.ledger import MarketLedger, Ranges
from shards.protocol.settings import CHAIN, Limits, Market
from shards.protocol.trade_ids import TradeIdentity

_SLOWEST: Final = 3.0
"""A block counts as at most so many block times."""
Decoder: TypeAlias = Callable[[bytes | memoryview], tuple[int, Block | Confirmed | Rejected]]


class _Replayed(msgspec.Struct, gc=False):
    """A lost block, cut into what each market has of it."""

    block: Block
    slices: dict[str, Block]

    def of(self, market_id: str) -> Block:
        found = self.slices.get(market_id)
        block = self.block
        return found or Block(block.height, block.ts_event, [], [], block.has_books)


class Pipeline(Outgoing):
    """All markets of one shard."""

    def __init__(
        self,
        markets: Sequence[Market],
        *,
        source: Source,
        decoder: Decoder,
        trade_identity: TradeIdentity = TradeIdentity.HEIGHT,
        limits: Limits | None = None,
        channels: Collection[str] = DEFAULT_CHANNELS,
        ledgers: dict[str, MarketLedger] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._decode = decoder
        self._source: Source = source
        self._with_book = not BOOKS.isdisjoint(channels)
        self._with_ticker = "ticker" in channels
        self.markets: dict[str, Market] = {}
        """By market id; it changes while running, so do not keep a copy."""
        self.feeds: dict[str, Feed] = {}
        self._channels = frozenset(channels)
        self.outbox = Outbox(
            source=source,
            trade_identity=trade_identity,
            limits=self._limits,
            channels=channels,
        )
        self._subscriptions: dict[int, list[Feed]] = {}
        self._alone: dict[int, Feed] = {}
        """Those made for one market: their blocks name no other. Of one made for several that
        cannot be said, even where one market is all that is left of it here."""
        self._heard_by: dict[str, int] = {}
        """The subscription of each market that has one."""
        self._replayed: dict[int, _Replayed | None] = {}
        self.add(markets, ledgers or {})
        self.head = 0
        """Highest block that any market has seen."""
        self.head_ts_event = 0
        self.head_at = 0
        """``ts_recv`` of the head."""
        self.block_time_s = 0.0
        """Observed pace of the blocks; 0 before the second one."""
        self.payloads = 0
        self.ignored = 0
        """Messages of subscriptions that are no longer ours."""

    def _all(self) -> Mapping[str, Feed]:
        return self.feeds

    # ---- which markets --------------------------------------------------------------

    def add(self, markets: Sequence[Market], ledgers: Mapping[str, MarketLedger]) -> None:
        """Make feeds for more markets; those with a ledger are to be resumed by the caller."""
        held = max(64, 20_000 // max(1, len(self.feeds) + len(markets)))
        held = min(held, self._limits.held_blocks)
        # What an indexer gave of a lost block it gave for the markets that we had then.
        self._replayed.clear()
        for market in markets:
            self.markets[market.market_id] = market
            self.outbox.add(market)
            is_chain = market.type == "chain"
            self.feeds[market.market_id] = (ChainFeed if is_chain else Feed)(
                market.market_id,
                ledgers.get(market.market_id) or MarketLedger(),
                self.outbox,
                source=self._source,
                held_limit=held,
                with_book=self._with_book and not is_chain,
                with_ticker=self._with_ticker and not is_chain,
                with_extras=("oracle" if is_chain else "orders") in self._channels,
            )

    def remove(self, market_ids: Iterable[str]) -> None:
        """Let markets go; what still comes of their subscriptions is ignored."""
        gone = []
        for market_id in market_ids:
            del self.markets[market_id]
            self.outbox.remove(market_id)
            gone.append(self.feeds.pop(market_id))
        self._release(gone)

    def _release(self, feeds: Sequence[Feed]) -> None:
        """Take feeds out of the subscriptions that they are in."""
        leaving: dict[int, set[Feed]] = {}
        for feed in feeds:
            subscription = self._heard_by.pop(feed.market_id, None)
            if subscription is not None:
                leaving.setdefault(subscription, set()).add(feed)
        for subscription, gone in leaving.items():
            kept = [feed for feed in self._subscriptions[subscription] if feed not in gone]
            if kept:
                self._subscriptions[subscription] = kept
            else:
                self._forget(subscription)

    def _forget(self, subscription: int) -> list[Feed]:
        """Hear a subscription no more; say whose it was."""
        self._alone.pop(subscription, None)
        feeds = self._subscriptions.pop(subscription, [])
        for feed in feeds:
            self._heard_by.pop(feed.market_id, None)
        return feeds

    # ---- what came from the source --------------------------------------------------

    def subscribed(self, subscription: int, market_ids: Iterable[str], ts: int) -> None:
        """From now on messages with this id belong to these markets, and no other id does."""
        feeds = [self.feeds[market_id] for market_id in market_ids]
        for feed in feeds:
            feed.subscribed(ts)
        self._release(feeds)
        self._subscriptions[subscription] = feeds
        for feed in feeds:
            self._heard_by[feed.market_id] = subscription
        if len(feeds) == 1:
            self._alone[subscription] = feeds[0]

    def confirmed(self, subscription: int, ts: int = 0) -> None:
        """The source accepted a subscription (at ``ts``), and its payloads do not say so."""
        for feed in self._subscriptions.get(subscription, ()):
            feed.confirmed()

    def receive(self, payload: bytes | memoryview, ts_recv: int, subscription: int = 0) -> None:
        """
        Decode one payload and move the feeds it concerns.

        ``subscription`` counts where the payload itself names none.

        Raises:
            DecodeError: If it cannot be decoded: the connection cannot be trusted any more.

        """
        self.payloads += 1
        named, message = self._decode(payload)
        subscription = named or subscription
        if type(message) is Block:
            if message.height > self.head and subscription in self._subscriptions:
                self._advance(message, ts_recv)
            feed = self._alone.get(subscription)
            if feed is not None:
                feed.receive(message, ts_recv)
                return
        self._receive_other(subscription, message, ts_recv)

    def _receive_other(
        self, subscription: int, message: Block | Confirmed | Rejected, ts_recv: int
    ) -> None:
        """Take what does not belong to one market alone: a block of several, an answer."""
        feeds = self._subscriptions.get(subscription)
        if feeds is None:
            self._unaddressed(subscription, message)
        elif type(message) is Block:
            self._receive_grouped(feeds, message, ts_recv)
        else:
            self._answered(feeds, message, ts_recv)

    def _unaddressed(self, subscription: int, message: Block | Confirmed | Rejected) -> None:
        if subscription < 0 and type(message) is Rejected:
            # The node lost our id: nobody can say which request this answers.
            raise DecodeError("", f"the node answered without an id: {message.reason}")
        self.ignored += 1

    def _answered(
        self, feeds: list[Feed], message: Block | Confirmed | Rejected, ts_recv: int
    ) -> None:
        for feed in feeds:
            if isinstance(message, Rejected):
                feed.rejected(message.reason, ts_recv)
                self.outbox.want_subscription(feed)
            else:
                feed.confirmed()

    def _receive_grouped(self, feeds: list[Feed], block: Block, ts_recv: int) -> None:
        slices = split(block)
        empty = Block(block.height, block.ts_event, [], [])
        for feed in feeds:
            feed.receive(slices.get(feed.market_id, empty), ts_recv)

    def _advance(self, block: Block, ts_recv: int) -> None:
        """A new height: the clock of the chain ticks."""
        # A head that was taken over from a former process was not heard: it has no time.
        if self.head_at and block.height == self.head + 1:
            interval_s = (ts_recv - self.head_at) / 1e9
            pace = self.block_time_s or interval_s
            # A node that was away, or a chain that halted, is no slower chain: what is mute
            # afterwards must be found as soon as before. A slower one is known within blocks.
            # Of blocks that come all at once the pace is nothing: then the floor says what counts.
            most_s = max(_SLOWEST * pace, self._limits.mute_floor_s)
            self.block_time_s = pace + 0.1 * (min(max(0.0, interval_s), most_s) - pace)
        self.head = block.height
        self.head_ts_event = block.ts_event
        self.head_at = ts_recv

    def lost(self, subscription: int, cause: Cause, ts: int, reason: str) -> None:
        """One subscription has ended; its markets are subscribed anew."""
        for feed in self._forget(subscription):
            feed.lose(cause, ts, reason)
            self.outbox.want_subscription(feed)

    def disconnected(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The connection is gone, and with it every subscription."""
        self._subscriptions.clear()
        self._alone.clear()
        self._heard_by.clear()
        for feed in self.feeds.values():
            feed.lose(cause, ts, reason)

    def resume(
        self,
        ts: int,
        gaps: Mapping[str, Gap | None] | None = None,
        market_ids: Iterable[str] | None = None,
    ) -> None:
        """Take up markets that another process left behind, and their gaps; all unless named."""
        left = gaps or {}
        for market_id in list(self.feeds) if market_ids is None else market_ids:
            feed = self.feeds[market_id]
            if feed.ledger.first:
                self.head = max(self.head, feed.ledger.last)
                feed.resume(ts, left.get(market_id))

    def clock_set(self, now: int) -> None:
        """The clock was set: how long anything has been silent counts from now on, in ns."""
        if self.head_at:
            self.head_at = now
        for feed in self.feeds.values():
            if feed.heard_at:
                feed.heard_at = now

    def mute_limit_s(self) -> float:
        """Return how long a subscription may go without a block."""
        limits = self._limits
        return max(limits.mute_floor_s, limits.mute_blocks * self.block_time_s)

    def mute(self, now: int) -> list[Feed]:
        """Return the feeds that hear blocks no more; ``now`` is in ns like ``ts_recv``."""
        oldest = now - int(self.mute_limit_s() * 1e9)
        asked = now - int(self._limits.confirm_s * 1e9)
        return [
            feed
            for feed in self.feeds.values()
            if 0 < feed.heard_at < (oldest if feed.is_confirmed else asked)
        ]

    # ---- answers to requests --------------------------------------------------------

    def join(self, snapshot: Snapshot, ts_recv: int) -> bool:
        """Give a feed its snapshot; False if it is too old and another is needed."""
        feed = self.feeds.get(snapshot.market_id)
        return feed is None or feed.join(snapshot, ts_recv)

    def wants_snapshot(self, market_id: str) -> bool:
        """Say whether a snapshot of this market is still needed."""
        feed = self.feeds.get(market_id)
        return feed is not None and not feed.sync.in_sync

    def due_replays(self, limit: int) -> list[int]:
        """Return the lowest heights that are to be replayed and are not there yet."""
        holes = Ranges()
        for feed in self.feeds.values():
            if feed.replay_to:
                holes.add(feed.ledger.last + 1, feed.replay_to)
        heights: list[int] = []
        for first, last in holes:
            for height in range(first, last + 1):
                if height not in self._replayed:
                    heights.append(height)
                    if len(heights) == limit:
                        return heights
        return heights

    def replay(self, height: int, block: Block | None, ts_recv: int) -> None:
        """Take a lost block that was fetched, or None where nobody has it any more."""
        self._replayed[height] = None if block is None else _Replayed(block, split(block))
        needed = 0
        for feed in self.feeds.values():
            if feed.replay_to:
                self._replay_into(feed, ts_recv)
            if feed.replay_to:
                needed = min(needed or feed.ledger.last, feed.ledger.last)
        for done in [h for h in self._replayed if not needed or h <= needed]:
            del self._replayed[done]

    def _replay_into(self, feed: Feed, ts_recv: int) -> None:
        while feed.replay_to:
            due = feed.ledger.last + 1
            if due not in self._replayed:
                return
            found = self._replayed[due]
            if found is None:
                feed.give_up(due, ts_recv)
            else:
                feed.replay(found.of(feed.market_id), ts_recv)

    def dropped(self, records: Iterable[Record], ts: int) -> int:
        """Frames never left the process: have their blocks again. Return how many they were."""
        count, lost_from = self.outbox.dropped(records)
        for market_id, height in lost_from.items():
            self.feeds[market_id].rewind(height, ts)
        return count

    def held_blocks(self) -> int:
        """Count the blocks that wait until earlier ones are replayed."""
        return sum(feed.held for feed in self.feeds.values())


def split(block: Block) -> dict[str, Block]:
    """Cut a block of many markets into one block for each market that it names."""
    trades: dict[str, list[tuple[str, Trade]]] = {}
    updates: dict[str, list[BookUpdate]] = {}
    for trade in block.trades:
        trades.setdefault(trade[0], []).append(trade)
    for update in block.updates:
        updates.setdefault(update.market_id, []).append(update)
    extras = _split_extras(block.extras) if block.extras is not None else {}
    return {
        market_id: Block(
            block.height,
            block.ts_event,
            trades.get(market_id, []),
            updates.get(market_id, []),
            block.has_books,
            extras.get(market_id),
        )
        for market_id in trades.keys() | updates.keys() | extras.keys()
    }


def _split_extras(extras: Extras) -> dict[str, Extras]:
    """Part what else a block says by market; what belongs to none is the chain's."""
    orders: dict[str, list[tuple[str, Order]]] = {}
    for order in extras.orders:
        orders.setdefault(order[0], []).append(order)
    parted = {market_id: Extras(orders=found) for market_id, found in orders.items()}
    if extras.prices:
        parted[CHAIN.market_id] = Extras(prices=extras.prices)
    return parted
