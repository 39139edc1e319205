"""What is in an archive's journal and not sealed yet: rows, missing heights, and how far it reaches."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from collector.archive.journal import segment_file
from collector.archive.journal.damage import lost_blocks
from collector.archive.journal.ledger import Ledger
from collector.archive.reading import holes
from collector.archive.reading.holes import Covered
from collector.archive.storage import layout
from collector.archive.storage.by_channel import BY_HEIGHT, applies
from collector.archive.storage.layout import Part, part_of
from collector.tables.arrow import batch_of
from collector.tables.rows import dedupe, rows_of
from collector.tables.schema import TABLES, Row
from shards.protocol.channels import CHAIN_WIDE
from shards.protocol.frames import EVENTS
from shards.protocol.ranges import RangeList, minus, union
from shards.protocol.settings import CHAIN

_EVER: Final = 1 << 62


class Unsealed(NamedTuple):
    """What the journal has that no sealed part has."""

    table: pa.Table | None
    """The rows of one channel; None without any."""
    wholes: pa.Table | None
    """If that channel is ``book``: the whole books, which are no rows of it; None without any."""
    missing: dict[str, RangeList]
    """Heights that were lost and are not fetched yet, or that the channel alone lacks, by market."""
    due: list[Covered]
    """What is due of each market, whether or not it is missing."""
    through: int
    """The newest height in the journal; 0 without any."""


def unsealed(segments: Iterable[Path], channel: str, span: int, sealed: Iterable[Part]) -> Unsealed:
    """Read a journal's segments, leaving out what belongs to a sealed part."""
    parts = frozenset(sealed)
    has_rows = channel not in (layout.COVERAGE, layout.KEYFRAME)
    rows: list[Row] = []
    wholes: list[Row] = []
    ledger, through, lowest = Ledger(), 0, _EVER
    paths = list(segments)
    lost = lost_blocks(paths)
    for path in paths:
        for chunk in segment_file.read(path):
            ledger.fold(chunk.notes)
            if path in lost:
                ledger.fold((lost.pop(path),))
            for entry in chunk.entries:
                through = max(through, entry.height)
                if entry.height < lowest and part_of(entry.height, span) not in parts:
                    lowest = entry.height
                name, _, rest = entry.topic.partition(".")
                if has_rows and name == channel and part_of(entry.height, span) not in parts:
                    event = EVENTS[entry.kind].decode(entry.event)
                    is_whole = getattr(event, "is_snapshot", False)
                    (wholes if is_whole else rows).extend(rows_of(event, rest[:-1], entry))
    known = union(parts)
    missing: dict[str, RangeList] = {
        symbol: lacking
        for symbol in ledger.markets
        if (lacking := minus(ledger.missing(symbol, 0, _EVER), known))
    }
    lowest = min([lowest, *(ranges[0][0] for ranges in missing.values())])
    newest = max([through, *(ranges[-1][1] for ranges in missing.values())])
    due = list(_due(ledger, part_of(lowest, span).first, newest, known))
    due += _in_channel(ledger, holes.fact_of(channel), due, missing)
    return Unsealed(_table(channel, rows), _table(channel, wholes), missing, due, through)


def begun(root: Path, span: int, sealed: Iterable[Part]) -> set[Part]:
    """Return the parts that a recorder has begun and not sealed: the journal has something of them."""
    found = {
        part_of(entry.height, span)
        for path in segment_file.segments(root)
        for chunk in segment_file.read(path)
        for entry in chunk.entries
    }
    return found.difference(sealed)


def _due(ledger: Ledger, first: int, last: int, sealed: RangeList) -> Iterator[Covered]:
    """Yield what is due of each market between two heights; its day is not known."""
    for symbol, market in ledger.markets.items():
        for low, high in minus(ledger.due(symbol, first, last), sealed):
            yield Covered(symbol, market.market_id, "", low, high, [])


def _in_channel(
    ledger: Ledger, channel: str, due: list[Covered], missing: dict[str, RangeList]
) -> list[Covered]:
    """Add what a channel alone lacks to what is missing; return the chain's share if it has none."""
    if ledger.channels is None or channel not in BY_HEIGHT:
        return []
    chain: list[Covered] = []
    if channel in CHAIN_WIDE and due and CHAIN.symbol not in ledger.markets:
        first, last = min(part.first for part in due), max(part.last for part in due)
        chain = [Covered(CHAIN.symbol, CHAIN.market_id, "", first, last, [])]
    spans = ledger.channels.get(channel, [])
    for part in (*due, *chain):
        lacking = minus([(part.first, part.last)], spans)
        if lacking and applies(channel, part.market):
            missing[part.market] = union([*missing.get(part.market, ()), *lacking])
    return chain


def _table(channel: str, rows: list[Row]) -> pa.Table | None:
    if not rows:
        return None
    batch, _ = batch_of(TABLES[channel], dedupe(TABLES[channel], rows))
    return pa.Table.from_batches([batch])
