"""The promise, against the truth: every trade and book change, once, in order, whatever happens."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from shards.events import ZERO
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector, eventually

_BOOK, _TRADES = 1, 2


class Published:
    """What a subscriber hears, held against the truth."""

    def __init__(self, endpoint: str) -> None:
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        self._socket.setsockopt_string(zmq.SUBSCRIBE, "")
        self.trades: list[tuple[int, str, Any]] = []
        """``(height, market_id, fields)``, in the order of publication."""
        self.books: dict[str, tuple[int, int, dict[str, str], dict[str, str]]] = {}
        """By market: height, sequence, bids, asks."""

    def drain(self) -> int:
        """Take in all that has come; return the highest height of it."""
        highest = 0
        while self._socket.poll(200):
            _, body = self._socket.recv_multipart()
            _, kind, *_, event = msgpack.unpackb(body)
            if kind == _TRADES:
                market_id, height = event[:2]
                self.trades += [(height, market_id, tuple(trade)) for trade in event[5]]
                highest = max(highest, height)
            elif kind == _BOOK:
                highest = max(highest, event[1])
                self._apply(event)
        return highest

    def _apply(self, event: list[Any]) -> None:
        market_id, height, sequence, _, _, _, is_snapshot, bids, asks = event
        if is_snapshot:
            self.books[market_id] = height, sequence, dict(bids), dict(asks)
        elif market_id in self.books:
            _, last, *sides = self.books[market_id]
            assert sequence == last + 1, f"{market_id}: {sequence} after {last}"
            for side, levels in zip(sides, (bids, asks), strict=True):
                for price, quantity in levels:
                    side[price] = quantity
            self.books[market_id] = height, sequence, sides[0], sides[1]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)


def _text(trade: Any) -> tuple[str, ...]:
    return (trade.trade_id, trade.side, trade.price, trade.quantity, trade.fee)


def _await_heights(running: Running, published: Published, height: int) -> None:
    """Wait until the collector is whole up to a height, and everything of it has come."""

    def whole() -> bool:
        status = running.status()
        return bool(status) and status["blocks"]["last"] >= height and not status["gaps"]["open"]

    eventually(whole, within_s=40, every_s=0.1, what=f"whole up to {height}; log:\n{running.log}")
    eventually(lambda: published.drain() >= height, within_s=10, what=f"frames up to {height}")


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    options = ("--markets", "16", "--block-time", "0.2", "--touched", "0.8", "--matches", "6")
    with simulator(*options, "--quiet", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def running(venue: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of it, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    config = venue.config(Path(folder))
    with collector(folder, "--shards", "2", "--config", str(config)) as started:
        started.await_live()
        yield started


MISFORTUNES: list[faults.Fault] = [
    faults.Mute(market="INJ0000/USDT", after=1),
    faults.Mute(),
    faults.HeightJump(after=1, blocks=4),
    faults.Gap(market="INJ0000/USDT", blocks=3),
    faults.Gap(market="INJ0000/USDT", what="updates", blocks=2),
    faults.Duplicate(blocks=3),
    faults.Reorder(blocks=5),
    faults.Stall(blocks=4),
    faults.Garbage(),
    faults.Garbage(what="truncated"),
    faults.Oversized(),
    faults.BlockError(blocks=2),
    faults.StreamError(market="INJ0000/USDT"),
    faults.Disconnect(protocol="ws"),
    faults.Stop(protocol="ws", for_s=1.0),
    faults.Halt(for_s=3.0),
]


@pytest.mark.parametrize("fault", MISFORTUNES, ids=repr)
def test_what_is_published_is_the_truth(
    venue: Simulator, running: Running, fault: faults.Fault
) -> None:
    published = Published(running.publish)
    try:
        first = venue.head() + 3
        _await_heights(running, published, first)
        venue.inject(fault)
        time_out = time.monotonic() + 10
        venue.await_height(venue.head() + 12, within_s=time_out - time.monotonic())
        venue.heal()
        last = venue.head()
        _await_heights(running, published, last)
    finally:
        published.close()
    _check_trades(venue, published, first, last)
    _check_books(venue, published)


def _check_trades(venue: Simulator, published: Published, first: int, last: int) -> None:
    truth = {
        (height, market_id): []
        for height in range(first, last + 1)
        for market_id, _ in venue.block(height).trades
    }  # type: dict[tuple[int, str], list[tuple[str, ...]]]
    for height in range(first, last + 1):
        for market_id, trade in venue.block(height).trades:
            truth[height, market_id].append(_text(trade))
    heard: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    for height, market_id, fields in published.trades:
        if first <= height <= last:
            heard.setdefault((height, market_id), []).append(fields[:5])
    assert heard == truth


def _check_books(venue: Simulator, published: Published) -> None:
    for market_id, (height, sequence, *sides) in published.books.items():
        book = venue.book(market_id, height)
        assert book.sequence == sequence
        for side, levels in zip(sides, (book.bids, book.asks), strict=True):
            assert {p: q for p, q in side.items() if q != ZERO} == dict(levels)
