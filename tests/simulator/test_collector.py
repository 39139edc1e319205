"""The promise, against the truth: every trade and book change, once, in order, whatever happens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from shards.events import ZERO, Snapshot
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector, eventually

_BOOK, _TRADES = 1, 2


class Published:
    """What a subscriber hears, held against the truth."""

    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        self._socket.setsockopt_string(zmq.SUBSCRIBE, "")
        self.trades: list[tuple[int, str, Any]] = []
        """``(height, market_id, fields)``, in the order of publication."""
        self.books: list[Any] = []
        """Book events as they came, deltas and snapshots."""

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
    options = ("--markets", "16", "--block-time", "0.1", "--touched", "0.8", "--matches", "6")
    with simulator(*options, "--quiet", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def running(venue: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of it, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    config = venue.config(Path(folder), extra="[limits]\nmute_floor_s = 0.6\n")
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
    faults.Oversized(market="INJ0000/USDT"),
    faults.BlockError(blocks=2),
    faults.StreamError(market="INJ0000/USDT"),
    faults.Disconnect(protocol="ws"),
    faults.Stop(protocol="ws", for_s=1.0),
    faults.Halt(for_s=1.5),
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
        venue.await_height(venue.head() + 12)
        venue.heal()
        last = venue.head()
        _await_heights(running, published, last)
    finally:
        published.close()
    _check_trades(venue, published, first, last)
    _check_books(venue, published, first, last, fault)


def _check_trades(venue: Simulator, published: Published, first: int, last: int) -> None:
    truth: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    for height in range(first, last + 1):
        for market_id, trade in venue.block(height).trades:
            truth.setdefault((height, market_id), []).append(_text(trade))
    heard: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    for height, market_id, fields in published.trades:
        if first <= height <= last:
            heard.setdefault((height, market_id), []).append(fields[:5])
    assert heard == truth
    assert heard


def _check_books(
    venue: Simulator, published: Published, first: int, last: int, fault: faults.Fault
) -> None:
    """Each change once, in order, and with the levels that make the book what it is."""
    truth: dict[str, list[tuple[int, int]]] = {}
    for height in range(first, last + 1):
        for update in venue.block(height).updates:
            truth.setdefault(update.market_id, []).append((height, update.sequence))
    assert truth
    for market_id, changes in truth.items():
        heard = [e for e in published.books if e[0] == market_id and first <= e[1] <= last]
        if not isinstance(fault, faults.Gap) or fault.what == "blocks":
            assert [(event[1], event[2]) for event in heard if not event[6]] == changes
        book = _built(venue.book(market_id, first - 1), heard)
        after = venue.book(market_id, last)
        assert book == (after.sequence, dict(after.bids), dict(after.asks))


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
