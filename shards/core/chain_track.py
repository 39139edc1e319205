"""
The track of the chain itself: publishes every block, and the prices that belong to no market.

It is subscribed, monitored, replayed and handed over like a market's track; its feed has no
book.
"""

from shards.core.block_track import BlockTrack
from shards.protocol.events import Block, Oracle, Price, Pulse, Source


class ChainTrack(BlockTrack):
    """A track that publishes empty blocks too."""

    def receive(self, block: Block, ts_recv: int) -> None:
        """Take a live block."""
        ledger = self.ledger
        if self._flows and block.height == ledger.last + 1:
            self.heard_at = ts_recv
            ledger.last = block.height
            self._publish(block, ts_recv, self._feed.source)
        else:
            self._receive_other_block(block, ts_recv)

    def _publish(self, block: Block, ts_recv: int, source: Source, late: bool = False) -> None:
        """Publish the block, then its oracle prices, one event per symbol."""
        feed, height, ts_event = self._feed, block.height, block.ts_event
        feed.builder.other(feed.market_id, Pulse(height, ts_event, ts_recv, source), late)
        if block.extras is None:
            return
        by_symbol: dict[str, list[Price]] = {}
        for symbol, price in block.extras.prices:
            by_symbol.setdefault(symbol, []).append(price)
        for symbol, prices in by_symbol.items():
            event = Oracle(symbol, height, ts_event, ts_recv, source, prices)
            feed.builder.other(feed.market_id, event, late)
