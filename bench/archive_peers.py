"""
Other writers with the sample of ``bench.archive``; run by an interpreter that has them.

nautilus_trader: its catalog's ``write_data`` of order book deltas, and ``query``, which reads them
back. tardis: ``incremental_book_L2`` as its documentation lays it out, a gzip file a market. DBN:
one MBO record a level, zstd level 3; a record's size holds 32 bits, so quantities are cut to fit.
"""

import gc
import gzip
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import databento_dbn as dbn
import msgspec
import zstandard
from nautilus_trader.model.data import BookOrder, OrderBookDelta
from nautilus_trader.model.enums import BookAction, OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.persistence.catalog import ParquetDataCatalog

Markets = list[tuple[str, list[Any]]]
_LAST = 128
"""What nautilus and DBN set on the last level of an update."""
_AGAIN = 9


def cpu_us(work: Callable[[], Any], updates: int) -> float:
    """Return the CPU that this takes, µs per update."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1000 / updates


def wall_us(work: Callable[[], Any], updates: int) -> float:
    """Return the time that this takes, µs per update."""
    began = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began) / 1000 / updates


def levels(book: list[Any]) -> list[tuple[bool, str, str]]:
    """List a change's levels: whether it is a bid, price, quantity."""
    return [(True, *level) for level in book[7]] + [(False, *level) for level in book[8]]


def deltas(symbol: str, books: list[Any]) -> list[OrderBookDelta]:
    """Make nautilus's objects of one market's changes."""
    instrument, found = InstrumentId.from_str(f"{symbol}.INJ"), []
    for book in books:
        _, _, sequence, ts_event, ts_recv = book[:5]
        every = levels(book)
        for number, (is_bid, price, quantity) in enumerate(every, 1):
            side = OrderSide.BUY if is_bid else OrderSide.SELL
            gone = not float(quantity)
            action = BookAction.DELETE if gone else BookAction.UPDATE
            # It supports at most sixteen decimals.
            order = BookOrder(
                side, Price.from_str(price[:-15]), Quantity.from_str(quantity[:-17]), 0
            )
            flags = _LAST if number == len(every) else 0
            delta = OrderBookDelta(instrument, action, order, flags, sequence, ts_event, ts_recv)
            found.append(delta)
    return found


def nautilus(folder: Path, markets: Markets, updates: int) -> dict[str, float]:
    """Write with its catalog."""
    catalog = ParquetDataCatalog(str(folder / "nautilus"))
    objects = [delta for symbol, books in markets for delta in deltas(symbol, books)]
    gc.collect()
    gc.freeze()
    write_us = cpu_us(lambda: catalog.write_data(objects), updates)
    size = sum(path.stat().st_size for path in (folder / "nautilus").rglob("*.parquet"))
    return {"nautilus_bytes": size / updates, "nautilus_write_us": write_us}


def nautilus_read(folder: Path, markets: Markets, updates: int) -> dict[str, float]:
    """Read what its catalog has."""
    catalog = ParquetDataCatalog(str(folder / "nautilus"))
    due = sum(len(levels(book)) for _, books in markets for book in books)
    times = []

    def read() -> None:
        found = len(catalog.query(OrderBookDelta))
        assert found == due, (found, due)

    read_us = cpu_us(lambda: times.append(wall_us(read, updates)), updates)
    return {
        "nautilus_read_us": read_us,
        "nautilus_per_s": 1e6 / read_us,
        "nautilus_read_wall_us": times[0],
        "nautilus_again_wall_us": statistics.median(wall_us(read, updates) for _ in range(_AGAIN)),
    }


def tardis(markets: Markets) -> int:
    """Return the bytes of ``incremental_book_L2`` files."""
    size = 0
    for symbol, books in markets:
        text = io.StringIO()
        text.write("exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n")
        for book in books:
            times = f"{book[3] // 1000},{book[4] // 1000},{'true' if book[6] else 'false'}"
            for is_bid, price, quantity in levels(book):
                amounts = f"{Decimal(price).normalize():f},{Decimal(quantity).normalize():f}"
                side = "bid" if is_bid else "ask"
                text.write(f"injective,{symbol},{times},{side},{amounts}\n")
        size += len(gzip.compress(text.getvalue().encode(), 9))
    return size


def databento(markets: Markets) -> int:
    """Return the bytes of MBO records under zstd."""
    records = io.BytesIO()
    for number, (_, books) in enumerate(markets, 1):
        for book in books:
            every = levels(book)
            for place, (is_bid, price, quantity) in enumerate(every, 1):
                units = min(int(Decimal(quantity) * 10), 2**32 - 1)
                record = dbn.MBOMsg(
                    publisher_id=1, instrument_id=number, ts_event=book[3], order_id=0,
                    price=int(Decimal(price) * 10**9), size=units,
                    action=dbn.Action.MODIFY if units else dbn.Action.CANCEL,
                    side=dbn.Side.BID if is_bid else dbn.Side.ASK, ts_recv=book[4],
                    flags=_LAST if place == len(every) else 0, sequence=book[2],
                )  # fmt: skip
                records.write(bytes(record))
    return len(zstandard.ZstdCompressor(level=3).compress(records.getvalue()))


def main() -> None:
    """Measure and print one line of JSON."""
    markets: Markets = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes())
    changes = [(symbol, books[1:]) for symbol, books in markets]
    updates = sum(len(books) for _, books in changes)
    if sys.argv[3:] == ["read"]:
        print(json.dumps(nautilus_read(Path(sys.argv[2]), changes, updates)))
        return
    found = nautilus(Path(sys.argv[2]), changes, updates)
    found["tardis_bytes"] = tardis(changes) / updates
    found["dbn_bytes"] = databento(changes) / updates
    print(json.dumps(found))


if __name__ == "__main__":
    main()
