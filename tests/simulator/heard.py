"""What a subscriber receives from a collector that reads the indexer, compared with the truth."""

import itertools
from typing import Any

import msgpack
import zmq

from shards.protocol.events import ZERO, BookUpdate, Trade
from tests.simulator.client import Simulator

_BOOK, _TRADES, _GAP = 1, 2, 3

Sides = tuple[dict[str, str], dict[str, str]]


class Heard:
    """A subscriber that remembers everything."""

    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        self._socket.setsockopt_string(zmq.SUBSCRIBE, "")
        self.trades: dict[tuple[str, str], tuple[str, ...]] = {}
        """By market and trade id: side, price, quantity, fee, as published."""
        self.twice: list[tuple[str, str]] = []
        self.late: set[str] = set()
        """Ids of trades that a query brought."""
        self.books: dict[str, list[Any]] = {}
        """By market the book events as they came, deltas and snapshots."""
        self.gaps: dict[tuple[str, int], list[Any]] = {}

    def drain(self) -> None:
        """Take in all that has come."""
        while self._socket.poll(20):
            _, body = self._socket.recv_multipart()
            _, kind, *_, event = msgpack.unpackb(body)
            if kind == _TRADES:
                self._take_trades(event)
            elif kind == _BOOK:
                self.books.setdefault(event[0], []).append(event)
            elif kind == _GAP:
                self.gaps.setdefault((event[0], event[1]), []).append(event)

    def _take_trades(self, event: Any) -> None:
        market_id, height, _, _, source, trades = event
        for trade in trades:
            assert trade[0].startswith(f"{height}_")
            if (market_id, trade[0]) in self.trades:
                self.twice.append((market_id, trade[0]))
            self.trades[market_id, trade[0]] = tuple(trade[1:5])
            if source == "indexer-replay":
                self.late.add(trade[0])

    def between(self, first: int, last: int) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return the trades of some blocks."""
        return {
            key: trade
            for key, trade in self.trades.items()
            if first <= int(key[1].partition("_")[0]) <= last
        }

    def book(self, market_id: str) -> tuple[int, Sides]:
        """Build a book from what was published, the first whole book on."""
        sequence, bids, asks = -1, {}, {}
        for _, _, number, _, _, _, is_snapshot, its_bids, its_asks in self.books[market_id]:
            if is_snapshot:
                bids, asks = dict(its_bids), dict(its_asks)
            elif sequence < 0:
                continue
            else:
                assert number == sequence + 1, f"{number} after {sequence}"
                bids.update(its_bids)
                asks.update(its_asks)
            sequence = number
        return sequence, (_filled(bids), _filled(asks))

    def unexplained(self) -> list[tuple[str, int, int]]:
        """List the jumps of a book's sequence that no gap announced."""
        announced = {market_id for market_id, _ in self.gaps}
        jumps = []
        for market_id, events in self.books.items():
            for before, after in itertools.pairwise(events):
                if after[2] > before[2] + 1 and market_id not in announced:
                    jumps.append((market_id, before[2], after[2]))
        return jumps

    def open_gaps(self) -> list[Any]:
        """List the gaps that were not closed."""
        return [told[-1] for told in self.gaps.values() if told[-1][2] == "open"]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)


def _filled(side: dict[str, str]) -> dict[str, str]:
    return {price: quantity for price, quantity in side.items() if quantity != ZERO}


def true_trades(venue: Simulator, first: int, last: int) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return all trades of some blocks."""
    return {
        (market_id, trade.trade_id): fields(trade)
        for height in range(first, last + 1)
        for market_id, trade in venue.block(height).trades
    }


def fields(trade: Trade) -> tuple[str, ...]:
    """Return what is compared of a trade."""
    return trade.side, trade.price, trade.quantity, trade.fee


def true_updates(venue: Simulator, first: int, last: int) -> dict[tuple[str, int], BookUpdate]:
    """Return all book updates of some blocks, by market and sequence."""
    return {
        (update.market_id, update.sequence): update
        for height in range(first, last + 1)
        for update in venue.block(height).updates
    }


def true_book(venue: Simulator, market_id: str) -> tuple[int, Sides]:
    """Return a book as it is now."""
    book = venue.book(market_id)
    return book.sequence, (dict(book.bids), dict(book.asks))
