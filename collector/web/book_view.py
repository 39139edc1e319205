"""One market as its page shows it: the top of its book, its last trades. Pure."""

from typing import Any, Final

import msgspec

from collector.client.market_status import MarketStatus
from shards.protocol.events import Book, Trades
from shards.protocol.order_book import OrderBook

LEVELS: Final = 100
"""Levels shown per side."""
TRADES: Final = 60


class ShownTrade(msgspec.Struct, frozen=True, gc=False):
    """A trade without its accounts."""

    trade_id: str
    ts: int
    """Block time, Unix ms."""
    side: str
    price: str
    quantity: str
    kind: str


class BookView:
    """The state shown for one open market; its version grows with every change."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.version = 1
        self._book: tuple[int, dict[str, Any] | None] = 1, None
        self._kept: OrderBook | None = None
        self._trades: dict[str, tuple[int, ShownTrade]] = {}
        self._trouble: tuple[int, str] = 0, ""
        self._row: tuple[int, MarketStatus | None] = 0, None

    def row(self, row: MarketStatus) -> None:
        """Take the aggregator's row of the market: state, height, counts."""
        if row != self._row[1]:
            self.version += 1
            self._row = self.version, row

    def book(self, book: OrderBook | None, event: Book | None = None) -> None:
        """Take the current book after an event; None if it is out of sync."""
        self.version += 1
        self._kept = book
        before = self._book[1] or {}
        self._book = (
            self.version,
            None
            if book is None or event is None
            else {
                "sequence": book.sequence,
                "height": event.height,
                "source": event.source,
                # A fetched snapshot has no block time: keep the last change's.
                "ts": event.ts_event // 1_000_000 or before.get("ts", 0),
            },
        )

    def trades(self, event: Trades) -> None:
        """Take trades, live or earlier; each is kept once, the newest by id."""
        self.version += 1
        for trade in event.trades:
            if trade.trade_id not in self._trades:
                self._trades[trade.trade_id] = (
                    self.version,
                    ShownTrade(
                        trade.trade_id,
                        event.ts_event // 1_000_000,
                        trade.side,
                        shorter(trade.price),
                        shorter(trade.quantity),
                        trade.execution_type,
                    ),
                )
        newest = sorted(self._trades, key=_order)[-TRADES:]
        self._trades = {trade_id: self._trades[trade_id] for trade_id in newest}

    def trouble(self, text: str) -> None:
        """Set the reason why there is nothing to show; empty if there is none."""
        if text != self._trouble[1]:
            self.version += 1
            self._trouble = self.version, text

    def changes(self, seen: int) -> dict[str, Any]:
        """Return what changed after a version: the whole book, and new trades."""
        if seen == self.version:
            return {}
        found: dict[str, Any] = {"symbol": self.symbol}
        if self._book[0] > seen:
            found["book"] = self._shown_book()
        if self._row[0] > seen:
            found["row"] = self._row[1]
        if self._trouble[0] > seen:
            found["trouble"] = self._trouble[1]
        if trades := [trade for version, trade in self._trades.values() if version > seen]:
            found["trades"] = trades
        return found

    def _shown_book(self) -> dict[str, Any] | None:
        """Sort the book only when it is requested."""
        facts = self._book[1]
        if facts is None or self._kept is None:
            return None
        bids, asks = self._kept.levels()
        return facts | {
            "bids": [(shorter(price), shorter(quantity)) for price, quantity in bids[:LEVELS]],
            "asks": [(shorter(price), shorter(quantity)) for price, quantity in asks[:LEVELS]],
            "levels": (len(bids), len(asks)),
        }


def shorter(amount: str) -> str:
    """Strip trailing zeros: 10.500000000000000000 becomes 10.5."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def _order(trade_id: str) -> tuple[int, ...]:
    """Sort key of trade ids, ``{height}_{n}``: the chain's order."""
    return tuple(int(part) for part in trade_id.split("_") if part.isdecimal())
