"""What a reader has, held against the simulator's truth."""

from typing import Any

from collector.verify.amounts import scaled
from shards.protocol.events import Level
from tests.simulator.client import Simulator
from tests.system.listening import Listener


def agrees(
    listener: Listener, exchange: Simulator, market: dict[str, Any], *, since: int = 0
) -> bool:
    """Say whether a reader's book stands at a block after `since`, and is the true one there."""
    height, book = listener.drain().book(market["symbol"])
    if book is None or height <= since:
        return False
    truth = exchange.book(market["ticker"], height)
    assert book.sequence == truth.sequence, (market["symbol"], height)
    assert book.bids == _numbers(truth.bids)
    assert book.asks == _numbers(truth.asks)
    return True


def agrees_now(
    listener: Listener, exchange: Simulator, market: dict[str, Any], *, after: int
) -> bool:
    """Say whether a reader's book, whose height may be unknown, is one after `after`, and true."""
    _, book = listener.drain().book(market["symbol"])
    for height in range(exchange.head(), after, -1):
        truth = exchange.book(market["ticker"], height)
        if book is not None and truth.sequence == book.sequence:
            assert book.bids == _numbers(truth.bids)
            assert book.asks == _numbers(truth.asks)
            return True
    return False


def _numbers(levels: list[Level]) -> dict[int, int]:
    return {scaled(price): scaled(quantity) for price, quantity in levels}
