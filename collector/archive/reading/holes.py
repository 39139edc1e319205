"""What an archive has and lacks of each market, from its coverage tables."""

import datetime
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

from collector.archive.storage import layout, manifest
from collector.archive.storage.part_file import read_file
from collector.client.topic_filter import symbol_pattern
from shards.protocol.ranges import RangeList, count, minus, union, within

_EVERY: Final = 1 << 62


class Covered(NamedTuple):
    """One market's share of one part."""

    market: str
    date: str
    first: int
    last: int
    """Heights that are due here, both ends included."""
    missing: RangeList
    row: Mapping[str, Any]
    """The whole row of the coverage table."""


def covered(
    root: Path, files: Mapping[str, manifest.File], markets: Iterable[str]
) -> list[Covered]:
    """Read the coverage of the markets that match one of the patterns, oldest part first."""
    patterns = tuple(markets)
    found = []
    for file in sorted(files.values(), key=lambda file: file.first):
        if file.channel != layout.COVERAGE:
            continue
        for row in read_file(root, file).to_pylist():
            if matches(row["market"], patterns):
                missing = [(r["first"], r["last"]) for r in row["missing_ranges"] or ()]
                where = (row["market"], file.date, row["first_height"], row["last_height"])
                found.append(Covered(*where, missing, row))
    return found


def matches(symbol: str, patterns: Iterable[str]) -> bool:
    """Say whether a symbol is meant by one of the patterns: a symbol, a ticker, or a glob."""
    # An oracle's symbol is stored as the chain spells it.
    name = symbol_pattern(symbol)
    spelled = map(symbol_pattern, patterns)
    return any(name == text or fnmatchcase(name, text) for text in spelled)


def holes(parts: Iterable[Covered], first: int = 0, last: int = _EVERY) -> dict[str, RangeList]:
    """
    Return the missing heights of a range, by market; only markets that lack some.

    The default range is from the market's first to its last height.
    """
    spans: dict[str, RangeList] = {}
    had: dict[str, RangeList] = {}
    for part in parts:
        spans.setdefault(part.market, []).append((part.first, part.last))
        had.setdefault(part.market, []).extend(minus([(part.first, part.last)], part.missing))
    found = {}
    for market, ranges in spans.items():
        whole = union(ranges)
        low = first if first else whole[0][0]
        high = last if last < _EVERY else whole[-1][1]
        if lacking := minus([(low, high)], had[market]):
            found[market] = lacking
    return found


def spell(ranges: RangeList, most: int = 5) -> str:
    """Spell ranges for people: ``12-15, 20``."""
    texts = [f"{a}-{b}" if b > a else str(a) for a, b in ranges[:most]]
    more = len(ranges) - most
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def heights_lacking(found: Mapping[str, RangeList]) -> int:
    """Count the heights that are lacking, over all markets."""
    return sum(map(count, found.values()))


def share(ranges: RangeList, first: int, last: int) -> int:
    """Count the heights of a range that are in ranges."""
    return count(within(ranges, first, last))


def days_between(first: str, last: str) -> list[str]:
    """Return the dates from one to another, both included."""
    begin, end = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last)
    return [(begin + datetime.timedelta(days=n)).isoformat() for n in range((end - begin).days + 1)]
