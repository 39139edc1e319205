"""
The feed of the chain itself: every block is told, and the prices that belong to no market.

It is subscribed, watched, replayed and handed from process to process like a market's
feed; it has no book.
"""

from shards.core.feed import Feed
from shards.protocol.events import Block, Oracle, Price, Pulse, Source


class ChainFeed(Feed):
    """A feed for which no block is empty."""

    def receive(self, block: Block, ts_recv: int) -> None:
        """Take a live block."""
        ledger = self.ledger
        if self._flows and block.height == ledger.last + 1:
            self.heard_at = ts_recv
            ledger.last = block.height
            self._publish(block, ts_recv, self._source)
        else:
            self._receive_unsettled(block, ts_recv)

    def _publish(self, block: Block, ts_recv: int, source: Source, late: bool = False) -> None:
        """Tell the block, then the oracles' prices in it, one event for each symbol."""
        height, ts_event = block.height, block.ts_event
        self._outlet.other(self.market_id, Pulse(height, ts_event, ts_recv, source), late)
        if block.extras is None:
            return
        by_symbol: dict[str, list[Price]] = {}
        for symbol, price in block.extras.prices:
            by_symbol.setdefault(symbol, []).append(price)
        for symbol, prices in by_symbol.items():
            event = Oracle(symbol, height, ts_event, ts_recv, source, prices)
            self._outlet.other(self.market_id, event, late)
