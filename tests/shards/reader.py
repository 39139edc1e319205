"""What arrives behind a pipeline: the frames kept once, as the aggregator keeps them."""

from collections.abc import Iterable

import msgspec

from shards.core.top_of_book import Best, TopOfBook
from shards.protocol.events import Book, Gap, Ticker, Trades
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TICKER,
    KIND_TRADES,
    SNAPSHOT,
    Record,
)
from shards.protocol.order_book import OrderBook

_book = msgspec.msgpack.Decoder(Book)
_trades = msgspec.msgpack.Decoder(Trades)
_ticker = msgspec.msgpack.Decoder(Ticker)
_gap = msgspec.msgpack.Decoder(Gap)


class Received:
    """One market's data behind the aggregator."""

    def __init__(self, market_id: str) -> None:
        self.market_id = market_id
        self.known = 0
        """Heights up to here came from a process that was never accounted for."""
        self.book = OrderBook(market_id)
        self.book_sequence = self.book_height = 0
        self.book_began_at = self.ticker_began_at = 0
        """Heights at which a book's sequence restarted: earlier facts are known."""
        self.ticker_height = 0
        self.jumps: list[tuple[int, int, int]] = []
        """Changes that never came: the sequence before them, that after them, and its height."""
        self.joins_again = False
        """Whether the next whole book is a new beginning: its process knows of none before it."""
        self.is_whole = False
        """Whether all changes since a whole book came."""
        self.ticker_sequence = 0
        self.best: Best = ("", "", "", "")
        """As the tickers tell it."""
        self.wrong_tickers: list[Ticker] = []
        self.trade_height = 0
        self.trades: dict[int, list[str]] = {}
        self.gaps: dict[int, list[Gap]] = {}
        self.keyframes = 0

    def take(self, record: Record) -> None:
        """Take one record, unless it was taken before."""
        if record.kind == KIND_BOOK:
            self._take_book(record)
        elif record.kind == KIND_TRADES and record.height > self.trade_height:
            event = _trades.decode(record.event)
            assert len(event.trades) == record.count
            self.trade_height = record.height
            self.trades[record.height] = [trade.trade_id for trade in event.trades]
        elif record.kind == KIND_TICKER and not record.flags & KEYFRAME:
            self._take_ticker(record)
        elif record.kind == KIND_GAP:
            gap = _gap.decode(record.event)
            self.gaps.setdefault(gap.gap_id, []).append(gap)

    def _take_book(self, record: Record) -> None:
        event = _book.decode(record.event)
        assert event.sequence == record.sequence
        assert event.is_snapshot == bool(record.flags & SNAPSHOT)
        if record.flags & KEYFRAME:
            self.keyframes += 1
            if self.is_whole and record.sequence == self.book_sequence == self.book.sequence:
                # It includes exactly the changes before it.
                assert (event.bids, event.asks) == self.book.levels()
            if not self.is_whole and record.sequence >= self.book_sequence:
                # A subscriber without a whole book asks for one: the aggregator has this.
                self.book.load(event.sequence, event.bids, event.asks)
                self.is_whole = True
            self.book_sequence = max(self.book_sequence, record.sequence)
            return
        if (
            event.is_snapshot
            and 0 < self.book_height < record.height
            and (record.sequence < self.book_sequence)
        ):
            self.book_began_at = record.height
        elif record.height < self.book_began_at:
            return
        else:
            again = event.is_snapshot and event.sequence == self.book_sequence
            if record.sequence <= self.book_sequence and not again:
                return
        before, due = self.book_sequence, self.book_sequence + (not event.is_snapshot)
        self.book_sequence, self.book_height = event.sequence, record.height
        if before and event.sequence > due and not (self.joins_again and event.is_snapshot):
            self.jumps.append((before, event.sequence + event.is_snapshot, record.height))
            self.is_whole = False
        if event.is_snapshot:
            self.book.load(event.sequence, event.bids, event.asks)
            self.is_whole = True
        elif self.is_whole:
            self.book.apply(event.sequence, event.bids, event.asks)
        self.joins_again = False

    def _take_ticker(self, record: Record) -> None:
        if record.sequence < self.ticker_sequence and 0 < self.ticker_height < record.height:
            self.ticker_began_at = record.height
        elif record.sequence <= self.ticker_sequence or record.height < self.ticker_began_at:
            return
        self.ticker_height = record.height
        event = _ticker.decode(record.event)
        assert event.sequence == record.sequence
        self.ticker_sequence = event.sequence
        self.best = (event.bid_price, event.bid_quantity, event.ask_price, event.ask_quantity)
        if event.sequence == self.book.sequence and self.best != self.top():
            self.wrong_tickers.append(event)

    def top(self) -> Best:
        """Look up the best of the book as it is here."""
        top = TopOfBook()
        top.load(self.book)
        return top.best

    def open_gaps(self) -> list[Gap]:
        """Return the gaps that were not closed, as they were last announced."""
        return [told[-1] for told in self.gaps.values() if told[-1].state == "open"]


class Reader:
    """All markets, by symbol."""

    def __init__(self, symbols: dict[str, str]) -> None:
        self.markets = {symbol: Received(market_id) for symbol, market_id in symbols.items()}

    def take(self, records: Iterable[Record]) -> None:
        """Take what was delivered."""
        for record in records:
            symbol = record.topic.partition(".")[2].rstrip(".")
            self.markets[symbol].take(record)
