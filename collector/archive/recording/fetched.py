"""The journal entries of a block from the chain's record. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from collector.archive.journal.segment_file import Entry
from shards.protocol.events import REPLAY, Block, Book, Oracle, Orders, Pulse, Trades
from shards.protocol.frames import KIND_BY_CHANNEL, topic as topic_name
from shards.protocol.settings import CHAIN
from shards.protocol.text import symbol_of

_encode: Final = msgspec.msgpack.Encoder().encode


def entries_of(
    block: Block, symbols: Mapping[str, str], channels: set[str], ts: int
) -> Iterator[Entry]:
    """Make the entries of a block from the chain's record, for some markets, by id, and channels."""
    height, when = block.height, block.ts_event
    if "trades" in channels:
        trades: dict[str, list[Any]] = {}
        for market_id, trade in block.trades:
            trades.setdefault(market_id, []).append(trade)
        for market_id, of_market in trades.items():
            if market_id in symbols:
                event = Trades(market_id, height, when, ts, REPLAY, of_market)
                yield _fetched("trades", symbols[market_id], height, event)
    if "book" in channels and block.has_books:
        for update in block.updates:
            if update.market_id in symbols:
                what = (update.market_id, height, update.sequence, when, ts, REPLAY, False)
                book = Book(*what, update.bids, update.asks)
                yield _fetched("book", symbols[update.market_id], height, book)
    if "blocks" in channels and CHAIN.symbol in symbols:
        yield _fetched("blocks", CHAIN.symbol, height, Pulse(height, when, ts, REPLAY))
    yield from _extras(block, symbols, channels, ts)


def _extras(
    block: Block, symbols: Mapping[str, str], channels: set[str], ts: int
) -> Iterator[Entry]:
    if block.extras is None:
        return
    orders: dict[str, list[Any]] = {}
    for market_id, order in block.extras.orders:
        orders.setdefault(market_id, []).append(order)
    prices: dict[str, list[Any]] = {}
    for symbol, price in block.extras.prices:
        prices.setdefault(symbol, []).append(price)
    where = (block.height, block.ts_event, ts, REPLAY)
    if "orders" in channels:
        for market_id, of_market in orders.items():
            if market_id in symbols:
                updates = Orders(market_id, *where, of_market)
                yield _fetched("orders", symbols[market_id], block.height, updates)
    if "oracle" in channels and CHAIN.symbol in symbols:
        for symbol, told in prices.items():
            event = Oracle(symbol, *where, told)
            yield _fetched("oracle", symbol_of(symbol), block.height, event)


def _fetched(channel: str, symbol: str, height: int, event: Any) -> Entry:
    return Entry(topic_name(channel, symbol), KIND_BY_CHANNEL[channel], height, _encode(event))
