"""
cryptofeed's ZeroMQ backend, the publishing half: ``python -m bench.peer_cryptofeed OPTIONS``.

cryptofeed has no Injective feed, so the receiving half is the floor's; from there on each
update goes the way cryptofeed's feeds take: a book with its delta, in decimals, to `BookZMQ`.
"""

import asyncio
import sys
import time
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec

from bench.floor import Consumer, listen
from bench.tally import Tally, say, until_told

# Imported by name: it has no types, and type checks must work without it.
_backend: Any = import_module("cryptofeed.backends.zmq")
_types: Any = import_module("cryptofeed.types")
BID, ASK = "bid", "ask"


def publisher(backend: Any) -> Consumer:
    """Return a consumer that publishes through cryptofeed."""

    def consume(payload: memoryview, message: Any, last: bool) -> None:
        result = message.result
        if isinstance(result, str):
            return
        now = time.time()
        for updates in (result.spot_orderbook_updates, result.derivative_orderbook_updates):
            for update in updates or ():
                levels = update.orderbook
                book = _types.OrderBook("INJECTIVE", levels.market_id)
                book.timestamp = now
                book.delta = {BID: _decimals(levels.buy_levels), ASK: _decimals(levels.sell_levels)}
                _finish(backend(book, now))

    return consume


def _decimals(levels: Any) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(level.p), Decimal(level.q)) for level in levels or ()]


def _finish(call: Any) -> None:
    """Run a coroutine that never waits: it only fills an unbounded queue."""
    try:
        call.send(None)
    except StopIteration:
        return
    raise AssertionError("the backend waits")


async def run(options: dict[str, Any]) -> None:
    """Publish until asked to stop."""
    port = int(options["push"].rpartition(":")[2])
    backend = _backend.BookZMQ(host="127.0.0.1", port=port, key="book")
    backend.start(asyncio.get_running_loop())
    await asyncio.sleep(0.3)
    await listen(options, publisher(backend))
    say({"ready": True})
    await until_told(Tally())


if __name__ == "__main__":
    asyncio.run(run(msgspec.json.decode(sys.argv[1])))
