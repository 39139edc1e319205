"""Split a block of many markets into one part per market."""

from shards.protocol.events import Block, BookUpdate, OptionalEvents, Order, Trade
from shards.protocol.settings import CHAIN


def split(block: Block) -> dict[str, Block]:
    """Split a block of many markets into one block for each market that it names."""
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


def _split_extras(extras: OptionalEvents) -> dict[str, OptionalEvents]:
    """Split the optional events by market; those of no market belong to the chain."""
    orders: dict[str, list[tuple[str, Order]]] = {}
    for order in extras.orders:
        orders.setdefault(order[0], []).append(order)
    parted = {market_id: OptionalEvents(orders=found) for market_id, found in orders.items()}
    if extras.prices:
        parted[CHAIN.market_id] = OptionalEvents(prices=extras.prices)
    return parted
