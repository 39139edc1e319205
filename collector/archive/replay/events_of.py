"""
Convert a part's rows back to events: block by block, in order of height.

The results are records like a shard's, so an archive is published by the same code as a live
collector.
"""

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from collector.archive.reading.columns import as_list
from collector.archive.reading.holes import matches
from collector.archive.storage.manifest import File
from collector.archive.storage.part_file import read_file
from shards.protocol.events import (
    Book,
    Funding,
    Gap,
    Level,
    Oracle,
    Order,
    Orders,
    Price,
    Pulse,
    Ticker,
    Trade,
    Trades,
)
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BY_CHANNEL,
    LATE,
    SNAPSHOT,
    STATES,
    Record,
    encode,
    topic,
)
from shards.protocol.order_book import OrderBook
from shards.protocol.settings import CHAIN
from shards.protocol.text import symbol_of

_ROWS: Final = 8_192
"""Rows turned into events at once."""
KEYFRAME_EVERY: Final = 64
"""Changes of a book after which late joiners are given a whole one, as shards do."""
CHANNELS: Final = ("keyframe", "book", "trades", "orders", "ticker", "oracle", "funding", "gap", "blocks")  # fmt: skip
"""In the order in which a block's records go out."""
_LAST_PLACE: Final = len(CHANNELS)
"""Of what names no height: after the newest block at its instant."""
Row = dict[str, Any]


class Timed(NamedTuple):
    """A record and where it belongs; records are ordered by the first two."""

    height: int
    place: int
    number: int
    ts: int
    """The block's time in ns; 0 where the row has none."""
    record: Record
    event: Any = None
    """A book's, as it is inside the record."""


def _batches(
    root: Path, file: File, patterns: tuple[str, ...]
) -> Iterator[tuple[list[str], list[list[Any]]]]:
    """Read a file's columns in the order of the heights, some thousand rows at a time."""
    table = read_file(root, file)
    name = "market" if "market" in table.column_names else "symbol"
    if "*" not in patterns and name in table.column_names and file.channel != "oracle":
        wanted = [s for s in pc.unique(table[name]).to_pylist() if matches(s, patterns)]
        table = table.filter(pc.is_in(table[name], pa.array(wanted, pa.string())))
    order = _order(table)
    table = table.sort_by([(order, "ascending"), *_then(table.column_names, name)])
    names = table.column_names
    for start in range(0, table.num_rows, _ROWS):
        batch = table.slice(start, _ROWS).combine_chunks()
        yield names, [as_list(_whole(batch.column(i))) for i in range(len(names))]


def _order(table: Any) -> str:
    """Name the column in whose order rows go out; some sources name no heights of books."""
    if "height" not in table.column_names:
        return "ts"
    return "ts_event" if table["height"].null_count else "height"


class BlockTimes:
    """The newest height at an instant, by the rows of a part that have both."""

    def __init__(self, root: Path, files: Iterable[File]) -> None:
        self._root = root
        self._files = [file for file in files if file.channel in ("trades", "blocks")]
        self._known: tuple[list[int], list[int]] | None = None

    def height_at(self, ts: int, least: int) -> int:
        """Return the height at an instant in ns; `least` before the first."""
        times, heights = self._known or self._learn()
        at = bisect_right(times, ts)
        return max(least, heights[at - 1]) if at else least

    def _learn(self) -> tuple[list[int], list[int]]:
        found: set[tuple[int, int]] = set()
        for file in self._files:
            table = read_file(self._root, file, ["ts_event", "height"])
            columns = [as_list(_whole(column)) for column in table.columns]
            found.update(zip(*columns, strict=True))
        ordered = sorted(pair for pair in found if pair[0] and pair[1])
        self._known = [ts for ts, _ in ordered], [height for _, height in ordered]
        return self._known


def _rows(root: Path, file: File, patterns: tuple[str, ...]) -> Iterator[Row]:
    for names, columns in _batches(root, file, patterns):
        for values in zip(*columns, strict=True):
            row = dict(zip(names, values, strict=True))
            if row["overflow"]:
                _put_back(row)
            yield row


def _then(names: list[str], market: str) -> list[tuple[str, str]]:
    return [(n, "ascending") for n in (market, "sequence", "n") if n in names]


def _whole(column: Any) -> Any:
    chunk = column.combine_chunks()
    return chunk if not isinstance(chunk, pa.ChunkedArray) else pa.concat_arrays(chunk.chunks)


def _put_back(row: Row) -> None:
    """Put the texts of amounts that do not fit into a column in their places."""
    for note in row["overflow"]:
        name, _, leaf = note["column"].partition(".")
        if not leaf:
            row[name] = note["text"]
            continue
        place = 0 if leaf == "price" else 1
        at = next(i for i, level in enumerate(row[name]) if level[place] is None)
        level = list(row[name][at])
        level[place] = note["text"]
        row[name][at] = tuple(level)


def _record(channel: str, symbol: str, row: Row, event: Any, **given: int) -> Record:
    flags = given.get("flags", SNAPSHOT if channel in STATES else 0)
    return Record(
        topic(channel, symbol),
        KIND_BY_CHANNEL[channel],
        flags,
        given.get("height", row.get("height") or 0),
        given.get("sequence", row.get("sequence") or 0),
        given.get("count", 1),
        row.get("ts_event") or 0,
        row.get("ts_recv") or 0,
        encode(event),
    )


def _book(row: Row) -> Book:
    what = (row["market_id"], row["height"] or 0, row["sequence"], row["ts_event"], row["ts_recv"])
    return Book(*what, row["source"], bool(row["is_snapshot"]), row["bids"], row["asks"])


_OF_BOOK: Final = (
    *("market_id", "height", "sequence", "ts_event", "ts_recv", "source", "is_snapshot"),
    *("bids", "asks", "market", "overflow"),
)
_BOOK: Final = KIND_BY_CHANNEL["book"]


def _changes(
    root: Path, file: File, place: int, patterns: tuple[str, ...], times: BlockTimes
) -> Iterator[Timed]:
    """Yield a file's changes of books: nearly all that there is, and so without a dict a row."""
    topics: dict[str, str] = {}
    for names, columns in _batches(root, file, patterns):
        chosen = [columns[names.index(name)] for name in _OF_BOOK]
        for *what, market, overflow in zip(*chosen, strict=True):
            if overflow:
                row = {"bids": what[7], "asks": what[8], "overflow": overflow}
                _put_back(row)
            name = topics.get(market) or topics.setdefault(market, topic("book", market))
            what[1] = height = what[1] or 0
            event = Book(*what)
            sequence, ts, ts_recv = what[2:5]
            record = Record(name, _BOOK, 0, height, sequence, 1, ts, ts_recv, encode(event))
            if height:
                yield Timed(height, place, sequence, ts, record, event)
            else:
                at = times.height_at(ts, file.first)
                yield Timed(at, _LAST_PLACE, sequence, ts, record, event)


def _keyframes(rows: Iterable[Row]) -> Iterator[tuple[Row, Record]]:
    for row in rows:
        row["is_snapshot"] = True
        # Between two parts nothing is missing: only late joiners need the book there.
        flags = SNAPSHOT | (KEYFRAME if row["reason"] == "part" else 0)
        yield row, _record("book", row["market"], row, _book(row), flags=flags)


def _grouped(
    rows: Iterable[Row], key: str, make: Callable[[list[Row]], Record]
) -> Iterator[tuple[Row, Record]]:
    """Make one record of all rows of a market, or a symbol, in a block."""
    group: list[Row] = []
    for row in rows:
        if group and (row[key], row["height"]) != (group[0][key], group[0]["height"]):
            yield group[0], make(group)
            group = []
        group.append(row)
    if group:
        yield group[0], make(group)


_OF_TRADE: Final = (
    *("trade_id", "side", "price", "quantity", "fee", "execution_type", "order_hash"),
    *("subaccount_id", "fee_recipient", "cid", "margin", "payout"),
)
_OF_ORDER: Final = (
    *("order_hash", "status", "side", "order_type", "price", "quantity", "fillable"),
    *("subaccount_id", "fee_recipient", "cid", "trigger_price", "margin"),
)


def _of(row: Row, name: str) -> tuple[str, int, int, int, Any]:
    """Return what such an event begins with: whose it is, its block, how it came."""
    return row[name], row["height"], row["ts_event"], row["ts_recv"], row["source"]


def _trades(group: list[Row]) -> Record:
    first = group[0]
    trades = [Trade(*[row[name] for name in _OF_TRADE]) for row in group]
    event = Trades(*_of(first, "market_id"), trades)
    given = {"sequence": group[-1]["n"] or 0, "count": len(group)}
    return _record("trades", first["market"], first, event, **given)


def _orders(group: list[Row]) -> Record:
    first = group[0]
    orders = [Order(*[row[name] for name in _OF_ORDER]) for row in group]
    event = Orders(*_of(first, "market_id"), orders)
    return _record("orders", first["market"], first, event, count=len(group))


def _oracle(group: list[Row]) -> Record:
    first = group[0]
    prices = [Price(row["type"], row["price"]) for row in group]
    event = Oracle(*_of(first, "symbol"), prices)
    return _record("oracle", symbol_of(first["symbol"]), first, event)


_OF_TICKER: Final = (
    *("market_id", "height", "sequence", "ts_event", "ts_recv", "source"),
    *("bid_price", "bid_quantity", "ask_price", "ask_quantity"),
)
_OF_FUNDING: Final = (
    *("market_id", "height", "ts_event", "ts_recv", "source", "cumulative_funding"),
    *("cumulative_price", "last_timestamp", "next_funding_timestamp", "funding_interval"),
    *("hourly_rate_cap", "hourly_interest_rate", "mark_price"),
)
_OF_GAP: Final = ("market_id", "gap_id", "state", "cause", "first", "last", "ts", "detail")


def _plain(channel: str, rows: Iterable[Row]) -> Iterator[tuple[Row, Record]]:
    for row in rows:
        match channel:
            case "ticker":
                values: Any = [0 if row[name] is None else row[name] for name in _OF_TICKER]
                event: Any = Ticker(*values)
            case "funding":
                event = Funding(*[row.get(name, 0) for name in _OF_FUNDING])
            case "gap":
                event = Gap(*[row[name] for name in _OF_GAP])
            case _:
                event = Pulse(row["height"], row["ts_event"], row["ts_recv"], row["source"])
        symbol = row.get("market") or CHAIN.symbol
        if channel == "gap":
            given = {"sequence": row["gap_id"], "height": row["first"], "flags": LATE}
            yield row, _record("gap", symbol, row, event, **given)
        else:
            yield row, _record(channel, symbol, row, event)


def _records(channel: str, rows: Iterable[Row]) -> Iterator[tuple[Row, Record]]:
    match channel:
        case "keyframe":
            return _keyframes(rows)
        case "trades":
            return _grouped(rows, "market_id", _trades)
        case "orders":
            return _grouped(rows, "market_id", _orders)
        case "oracle":
            return _grouped(rows, "symbol", _oracle)
        case _:
            return _plain(channel, rows)


def _timed(
    root: Path, files: list[File], place: int, patterns: tuple[str, ...], times: BlockTimes
) -> Iterator[Timed]:
    """Yield a channel's records of one part, lowest heights first."""
    by_date: dict[str, list[Iterator[Timed]]] = {}
    for file in files:
        by_date.setdefault(file.date, []).append(_of_file(root, file, place, patterns, times))
    for date in sorted(by_date):
        # Facts that came after their part was sealed are in files of their own.
        yield from heapq.merge(*by_date[date], key=_height)


_height: Final = itemgetter(0)


def _of_file(
    root: Path, file: File, place: int, patterns: tuple[str, ...], times: BlockTimes
) -> Iterator[Timed]:
    if file.channel == "book":
        yield from _changes(root, file, place, patterns, times)
        return
    for number, (row, record) in enumerate(_records(file.channel, _rows(root, file, patterns)), 1):
        height = row.get("height") or row.get("first")
        if not height and file.channel == "ticker":
            height = times.height_at(row["ts_event"], file.first)
        height = min(max(height or file.first, file.first), file.last)
        yield Timed(height, place, number, row.get("ts_event") or 0, record)


def records(
    root: Path, files: Iterable[File], channels: Iterable[str], markets: Iterable[str]
) -> Iterator[Timed]:
    """Yield the records of one part's files, lowest heights first; a block's pulse comes last."""
    wanted, patterns, files = {*channels}, tuple(markets), list(files)
    times = BlockTimes(root, files)
    if "book" in wanted:
        wanted.add("keyframe")
    by_channel: dict[str, list[File]] = {}
    for file in files:
        by_channel.setdefault(file.channel, []).append(file)
    streams = [
        _timed(root, sorted(by_channel[channel], key=lambda f: f.path), place, patterns, times)
        for place, channel in enumerate(CHANNELS)
        if channel in wanted and channel in by_channel
    ]
    return heapq.merge(*streams)


class BookOf:
    """One market's book while it is replayed: the start, and keyframes for late joiners."""

    def __init__(self, symbol: str, market_id: str) -> None:
        self.symbol = symbol
        self.book = OrderBook(market_id)
        self.height = 0
        self._since = 0

    def take(self, event: Book) -> bool:
        """Take a change or a whole book; say whether a keyframe is due."""
        self.height = event.height
        if event.is_snapshot:
            self.book.load(event.sequence, event.bids, event.asks)
            self._since = 0
            return False
        self.book.change(event.sequence, event.bids, event.asks)
        self._since += 1
        return self._since >= KEYFRAME_EVERY

    def whole(self, *, flags: int, ts_recv: int) -> Record:
        """Make the whole book's record as it stands."""
        self._since = 0
        bids, asks = self.book.levels()
        at = (self.book.market_id, self.height, self.book.sequence)
        levels: tuple[list[Level], list[Level]] = (list(bids), list(asks))
        event = Book(*at, 0, ts_recv, "query", True, *levels)
        name = topic("book", self.symbol)
        kind = KIND_BY_CHANNEL["book"]
        return Record(name, kind, flags, self.height, at[2], 1, 0, ts_recv, encode(event))
