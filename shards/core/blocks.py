"""
Block-based liveness for all markets of a shard: block pace, silent subscriptions, lost blocks.

Every subscription receives every block, so silence means that it is dead, and a jump in height
means that blocks were lost (block_track.py). A lost block is fetched once for all markets.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from shards.core.block_slices import split
from shards.core.block_track import BlockTrack
from shards.core.chain_track import ChainTrack
from shards.core.feed import Feed
from shards.core.liveness import Liveness
from shards.core.pipeline import Decoder, Pipeline
from shards.protocol.channels import BOOKS, DEFAULT_CHANNELS
from shards.protocol.events import Block, Source
from shards.protocol.ledger import MarketLedger
from shards.protocol.ranges import Ranges
from shards.protocol.settings import Limits, Market
from shards.protocol.trade_ids import TradeIdentity

_SLOWEST: Final = 3.0
"""One interval counts as at most this many block times."""


class _Replayed(msgspec.Struct, gc=False):
    """A lost block, split by market."""

    block: Block
    slices: dict[str, Block]

    def of(self, market_id: str) -> Block:
        found = self.slices.get(market_id)
        block = self.block
        return found or Block(block.height, block.ts_event, [], [], block.has_books)


class Blocks(Liveness):
    """The blocks of one shard: their pace, the silent subscriptions, the lost blocks."""

    def __init__(
        self,
        limits: Limits | None = None,
        channels: Collection[str] = DEFAULT_CHANNELS,
        *,
        paths: int = 1,
    ) -> None:
        """``paths`` is the number of nodes at which each market is subscribed."""
        super().__init__()
        self.parts = paths
        self._limits = limits or Limits()
        self._channels = frozenset(channels)
        self._held_limit = self._limits.held_blocks
        self.tracks: dict[str, BlockTrack] = {}
        self._heard_since = 0
        """No subscription that is heard at all was heard last before this."""
        self._replayed: dict[int, _Replayed | None] = {}

    def expect(self, markets: int) -> None:
        """Divide the hold limit among this many markets."""
        self._held_limit = min(max(64, 20_000 // max(1, markets)), self._limits.held_blocks)
        # Blocks fetched from an indexer cover only the markets that we had at the time.
        self._replayed.clear()

    def track(self, feed: Feed, market: Market) -> BlockTrack:
        """Create the track of a feed."""
        is_chain = market.type == "chain"
        made = (ChainTrack if is_chain else BlockTrack)(
            feed,
            held=self._held_limit,
            replayed=self._limits.replay_blocks,
            with_extras=("oracle" if is_chain else "orders") in self._channels,
        )
        self.tracks[market.market_id] = made
        return made

    def forget(self, market_id: str) -> None:
        """A market was removed."""
        del self.tracks[market_id]

    def advance(self, height: int, ts_event: int, ts_recv: int) -> None:
        """A new height: the chain's clock advances."""
        head = self.head
        # A head taken over from an earlier process was not received here: it has no time.
        if head.at and height == head.height + 1:
            interval_s = (ts_recv - head.at) / 1e9
            pace = head.block_time_s or interval_s
            # After an outage or a chain halt the pace must not look slower: silent subscriptions
            # must be found as quickly as before. A truly slower chain is recognised within
            # blocks. A burst of blocks has a pace near zero; the minimum limit applies then.
            most_s = max(_SLOWEST * pace, self._limits.mute_floor_s)
            head.block_time_s = pace + 0.1 * (min(max(0.0, interval_s), most_s) - pace)
        head.advance(height, ts_event, ts_recv)

    # ---- silence --------------------------------------------------------------------

    def clock_set(self, now: int) -> None:
        """The wall clock was set: measure all silence from now on (ns)."""
        self._heard_since = 0
        if self.head.at:
            self.head.at = now
        for track in self.tracks.values():
            if track.heard_at:
                track.heard_at = now

    def mute_limit_s(self) -> float:
        """Return how long a subscription may go without a block."""
        limits = self._limits
        return max(limits.mute_floor_s, limits.mute_blocks * self.head.block_time_s)

    def mute(self, now: int) -> list[str]:
        """Return the markets that no longer receive blocks; ``now`` is in ns like ``ts_recv``."""
        oldest = now - int(self.mute_limit_s() * 1e9)
        asked = now - int(self._limits.confirm_s * 1e9)
        if self._heard_since >= max(oldest, asked):
            # Asked four times a second, of thousands of markets: not each time of every one.
            return []
        heard = [track.heard_at for track in self.tracks.values() if track.heard_at]
        self._heard_since = min(heard, default=0)
        return [
            market_id
            for market_id, track in self.tracks.items()
            if 0 < track.heard_at < (oldest if track.is_confirmed else asked)
        ]

    # ---- lost blocks ----------------------------------------------------------------

    def held_blocks(self) -> int:
        """Return the number of blocks held until earlier ones are replayed."""
        return sum([len(track.waiting) for track in self.tracks.values()])

    def due_replays(self, limit: int) -> list[int]:
        """Return the lowest heights that must be replayed and are not fetched yet."""
        holes = Ranges()
        for track in self.tracks.values():
            if track.replay_to:
                holes.add(track.ledger.last + 1, track.replay_to)
        heights: list[int] = []
        for first, last in holes:
            for height in range(first, last + 1):
                if height not in self._replayed:
                    heights.append(height)
                    if len(heights) == limit:
                        return heights
        return heights

    def replay(self, height: int, block: Block | None, ts_recv: int) -> None:
        """Take a fetched lost block, or None if no source has it any more."""
        if block is not None and BOOKS.isdisjoint(self._channels):
            # A lost block has all its changes, and nothing keeps a book that they could continue.
            block = msgspec.structs.replace(block, updates=[])
        self._replayed[height] = None if block is None else _Replayed(block, split(block))
        needed = 0
        for market_id, track in self.tracks.items():
            if track.replay_to:
                self._replay_into(market_id, track, ts_recv)
            if track.replay_to:
                last = track.ledger.last
                needed = min(needed or last, last)
        for done in [h for h in self._replayed if not needed or h <= needed]:
            del self._replayed[done]

    def _replay_into(self, market_id: str, track: BlockTrack, ts_recv: int) -> None:
        while track.replay_to:
            due = track.ledger.last + 1
            if due not in self._replayed:
                return
            found = self._replayed[due]
            if found is None:
                track.give_up(due, ts_recv)
            else:
                track.replay(found.of(market_id), ts_recv)


def block_pipeline(
    markets: Sequence[Market],
    *,
    source: Source,
    decoder: Decoder,
    trade_identity: TradeIdentity = TradeIdentity.HEIGHT,
    limits: Limits | None = None,
    channels: Collection[str] = DEFAULT_CHANNELS,
    ledgers: Mapping[str, MarketLedger] | None = None,
    paths: int = 1,
) -> Pipeline[Blocks]:
    """Create the pipeline of a block-based source."""
    return Pipeline(
        markets,
        Blocks(limits, channels, paths=paths),
        source=source,
        decoder=decoder,
        trade_identity=trade_identity,
        limits=limits,
        channels=channels,
        ledgers=ledgers,
    )
