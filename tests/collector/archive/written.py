"""Archives for the tests: journals written as the recorder writes them, from a scripted market."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Entry, Note, Writer
from collector.archive.sealing import seal
from collector.archive.storage import files, layout
from shards.protocol.events import Book, Level, Trade, Trades
from shards.protocol.frames import KIND_BY_CHANNEL

MARKET = "0x" + "a5" * 32
SYMBOL = "INJ-USDT"
DAY = 1_795_824_000_000_000_000
"""Midnight UTC, 2026-11-28, in ns."""
SPAN = 10


def amount(n: int, scale: int = 0) -> str:
    """Spell n with 18 decimals, `scale` of them in use."""
    digits = str(n * 10 ** (18 - scale)).rjust(19, "0")
    return f"{digits[:-18]}.{digits[-18:]}"


def instant(height: int) -> int:
    """Return a block's time: half a second each, the first one a minute before midnight."""
    return DAY - 60_000_000_000 + height * 500_000_000


def change(height: int, source: str = "chain-ws") -> Book:
    """Make the change of one block: a new bid, an older one gone, an ask."""
    bids: list[Level] = [(amount(height), amount(1)), (amount(max(1, height - 3)), amount(0))]
    what = (MARKET, height, height, instant(height), instant(height) + 7_000, source, False)
    return Book(*what, bids, [(amount(1_000 + height), amount(2))])


def whole(height: int) -> Book:
    """Make the whole book after a block."""
    bids = [(amount(h), amount(1)) for h in range(height, max(0, height - 3), -1)]
    asks = [(amount(1_000 + h), amount(2)) for h in range(1, height + 1)]
    return Book(MARKET, height, height, 0, instant(height), "query", True, bids, asks)


def trades(height: int, source: str = "chain-ws") -> Trades:
    """Make a block's two trades."""
    made = [
        Trade(
            f"{height}_{n}",
            "buy" if n else "sell",
            amount(20),
            amount(15, 1),
            amount(0),
            "Market",
            "0x0",
            "0x0",
            "inj1",
        )
        for n in range(2)
    ]
    return Trades(MARKET, height, instant(height), instant(height) + 7_000, source, made)


def entry(channel: str, event: Any, sequence: int = 1) -> Entry:
    """Make the journal's entry of an event."""
    body = msgspec.msgpack.encode(event)
    return Entry(
        f"{channel}.{SYMBOL}.", KIND_BY_CHANNEL[channel], event.height, body, 7, sequence, 1, 1, 0
    )


def write(
    root: Path, entries: Iterable[Entry], notes: Iterable[Note] = (), *, begin: int = 0
) -> None:
    """Make an archive whose journal has these entries."""
    files.open_archive(root, span=SPAN, create=True)
    writer = Writer(root)
    known = [Note("market", SYMBOL, 0, 0, f"{MARKET} spot"), Note("start", SYMBOL, begin, begin)]
    writer.begin(Chunk([], [*known, Note("source", "", 0, 0, "chain-ws"), *notes]))
    for made in entries:
        writer.append(Chunk([made]))
    writer.sync()
    writer.close()


def sealed(root: Path, first: int, last: int, **given: Any) -> None:
    """Make an archive of whole parts: heights `first` to `last`, a change and two trades each."""
    heights = range(first, last + 1)
    made = [entry("book", whole(first - 1))] if first > 0 else []
    for height in heights:
        made += [entry("book", change(height)), entry("trades", trades(height))]
    write(root, made, begin=first, **given)
    for start in range(first // SPAN * SPAN, last + 1, SPAN):
        if start + SPAN - 1 <= last:
            seal.seal(root, layout.part_of(start, SPAN), ts=DAY)
    assert segment_file.segments(root)
