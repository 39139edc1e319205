"""What a collector publishes, held against the simulator's truth: all of it, once, in order."""

from typing import Any, Final

import msgpack
import zmq

from shards.protocol.events import ZERO, Snapshot
from tests.simulator.client import Simulator
from tests.system.running import Running, eventually

_BOOK: Final = 1
_TRADES: Final = 2


class Published:
    """What a subscriber hears, held against the truth; made once it hears something."""

    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        self._socket.setsockopt_string(zmq.SUBSCRIBE, "")
        self.trades: list[tuple[int, str, Any]] = []
        """``(height, market_id, fields)``, in the order of publication."""
        self.books: list[Any] = []
        """Book events as they came, deltas and snapshots."""
        # Until a connection is there, it hears nothing; on a busy machine that takes some blocks.
        assert self._socket.poll(30_000), f"nothing is published on {endpoint}"

    def drain(self) -> int:
        """Take in all that has come; return the highest height of it."""
        highest = 0
        while self._socket.poll(50):
            _, body = self._socket.recv_multipart()
            _, kind, *_, event = msgpack.unpackb(body)
            if kind == _TRADES:
                market_id, height = event[:2]
                self.trades += [(height, market_id, tuple(trade)) for trade in event[5]]
                highest = max(highest, height)
            elif kind == _BOOK:
                highest = max(highest, event[1])
                self.books.append(event)
        return highest

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)


def _text(trade: Any) -> tuple[str, ...]:
    return (trade.trade_id, trade.side, trade.price, trade.quantity, trade.fee)


def await_heights(running: Running, published: Published, height: int) -> None:
    """Wait until the collector is whole up to a height, and everything of it has come."""

    def whole() -> bool:
        # A ledger counts only once the frames before it have come through.
        rows = running.markets()
        return all(row["height"] >= height for row in rows if row["state"] != "inactive")

    eventually(
        lambda: running.live() and whole(),
        within_s=60,
        every_s=0.1,
        what=lambda: f"whole up to {height}; log:\n{running.log}",
    )
    # Frames come in the order in which they were published: one of a later block is the last to wait for.
    later = max(row["height"] for row in running.markets()) + 1
    eventually(lambda: published.drain() >= later, within_s=30, what=f"a frame of block {later}")


def check_trades(venue: Simulator, published: Published, first: int, last: int) -> None:
    """Each trade of some blocks once, in the chain's order, and nothing else."""
    truth: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    for height in range(first, last + 1):
        for market_id, trade in venue.block(height).trades:
            truth.setdefault((height, market_id), []).append(_text(trade))
    heard: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    for height, market_id, fields in published.trades:
        if first <= height <= last:
            heard.setdefault((height, market_id), []).append(fields[:5])
    differ = {key for key in heard | truth if heard.get(key) != truth.get(key)}
    assert not differ, f"from {first} to {last}: {sorted(differ)}"
    assert heard


def check_books(
    venue: Simulator, published: Published, first: int, last: int, *, whole: bool = True
) -> None:
    """
    Each change once, in order, and with the levels that make the book what it is.

    Where updates were kept from us (`whole` is false) a book may have been fetched again instead.
    """
    truth: dict[str, list[tuple[int, int]]] = {}
    for height in range(first, last + 1):
        for update in venue.block(height).updates:
            truth.setdefault(update.market_id, []).append((height, update.sequence))
    assert truth
    by_market: dict[str, list[Any]] = {}
    for event in published.books:
        if first <= event[1] <= last:
            by_market.setdefault(event[0], []).append(event)
    strange = {name: events for name, events in by_market.items() if name not in truth}
    assert not strange or not whole, strange
    for market_id, changes in truth.items():
        heard, until = by_market.get(market_id, []), last
        if whole:
            assert [(event[1], event[2]) for event in heard if not event[6]] == changes
        else:
            heard, until = _through_a_later_book(published, market_id, first, last)
        book = _built(venue.book(market_id, first - 1), heard)
        after = venue.book(market_id, until)
        assert book == (after.sequence, dict(after.bids), dict(after.asks))


def _through_a_later_book(
    published: Published, market_id: str, first: int, last: int
) -> tuple[list[Any], int]:
    """
    Return a market's book events, and the height through which they are complete.

    A book that was fetched for what was kept from us may be one of after the last block that is
    looked at; it stands for the changes before it, which are not published.
    """
    heard = [event for event in published.books if event[0] == market_id and event[1] >= first]
    for n, event in enumerate(heard):
        if event[6] and event[1] > last:
            return heard[: n + 1], event[1]
    return [event for event in heard if event[1] <= last], last


def _built(start: Snapshot, heard: list[Any]) -> tuple[int, dict[str, str], dict[str, str]]:
    """Build a book from what was published; a snapshot may close a hole in the sequence."""
    sequence, bids, asks = start.sequence, dict(start.bids), dict(start.asks)
    for _, _, number, _, _, _, is_snapshot, its_bids, its_asks in heard:
        if is_snapshot:
            bids, asks = dict(its_bids), dict(its_asks)
        else:
            assert number == sequence + 1
            bids.update(its_bids)
            asks.update(its_asks)
        sequence = number
    sides = [{p: q for p, q in side.items() if q != ZERO} for side in (bids, asks)]
    return sequence, sides[0], sides[1]
