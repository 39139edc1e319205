"""What an archive has and lacks of each market, from its coverage tables."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from collector.archive.storage import layout, manifest
from collector.archive.storage.by_channel import BY_HEIGHT, ByChannel, lacks
from collector.archive.storage.files import path_of
from collector.archive.storage.part_file import read_file
from collector.client.topic_filter import symbol_pattern
from shards.protocol.channels import CHAIN_WIDE
from shards.protocol.ranges import RangeList, count, minus, union, within
from shards.protocol.settings import CHAIN

_EVERY: Final = 1 << 62
_COLUMNS: Final = ("market", "market_id", "first_height", "last_height", "missing_ranges")
_MOST: Final = 100_000
"""Markets' shares of parts that are kept in memory, about 30 MB."""


class Covered(NamedTuple):
    """One market's share of one part."""

    market: str
    market_id: str
    date: str
    first: int
    last: int
    """Heights that are due here, both ends included."""
    missing: RangeList


class Counted(NamedTuple):
    """The same, with what was counted."""

    part: Covered
    row: Mapping[str, Any]
    """The whole row of the coverage table."""


def fact_of(channel: str) -> str:
    """Return the channel whose facts decide what is missing: whole books are of the book's."""
    return "book" if channel == layout.KEYFRAME else channel


class InChannel(NamedTuple):
    """A channel, and what each part lacks by channel: then what it alone lacks is missing too."""

    name: str
    known: Mapping[layout.Part, ByChannel]

    def of(self, file: manifest.File, parts: list[Covered]) -> list[Covered]:
        """Return a part's shares, as this channel has them."""
        found = {part.market: (part, lacking) for part, lacking in self.lacking(file, parts)}
        if not found:
            return parts
        shares = {part.market: part for part in parts}
        for market, (part, lacking) in found.items():
            shares[market] = part._replace(missing=union([*part.missing, *lacking]))
        return list(shares.values())

    def lacking(
        self, file: manifest.File, parts: list[Covered]
    ) -> Iterator[tuple[Covered, RangeList]]:
        """Yield the shares of a part that the channel alone lacks heights of, and those heights."""
        known = self.known.get(layout.Part(file.first, file.last))
        if known is None or self.name not in BY_HEIGHT or known.get(self.name) == {}:
            # As nearly always: it has what the others have.
            return
        for part in self._with_chain(parts):
            here = minus([(part.first, part.last)], part.missing)
            if found := lacks(known, self.name, part.market, here):
                yield part, found

    def _with_chain(self, parts: list[Covered]) -> list[Covered]:
        """Add the chain's share, if this is its channel and it has none."""
        if self.name not in CHAIN_WIDE or not parts or any(p.market == CHAIN.symbol for p in parts):
            return parts
        first, last = min(part.first for part in parts), max(part.last for part in parts)
        return [*parts, Covered(CHAIN.symbol, CHAIN.market_id, parts[0].date, first, last, [])]


def covered(
    root: Path,
    files: Mapping[str, manifest.File],
    markets: Iterable[str],
    *channels: InChannel,
) -> list[Covered]:
    """
    Return the coverage of the markets that match one of the patterns, oldest part first.

    With channels, heights that only these lack are missing too.
    """
    found: list[Covered] = []
    for file in _of_coverage(files):
        parts = _parts(root, file)
        for channel in channels:
            parts = channel.of(file, parts)
        found += parts
    return of_markets(found, tuple(markets))


def without(
    root: Path, files: Mapping[str, manifest.File], markets: tuple[str, ...], channel: InChannel
) -> dict[str, RangeList]:
    """Return the heights that are here without a channel, by market."""
    found: dict[str, RangeList] = {}
    for file in _of_coverage(files):
        for part, lacking in channel.lacking(file, _parts(root, file)):
            found.setdefault(part.market, []).extend(lacking)
    wanted = {m for m in found if matches(m, markets) or channel.name in CHAIN_WIDE}
    return {market: union(found[market]) for market in sorted(wanted)}


def of_markets(parts: list[Covered], patterns: tuple[str, ...], channel: str = "") -> list[Covered]:
    """Return the parts of the markets that match one of the patterns, and of the chain if it is its channel."""
    if "*" in patterns:
        return parts
    wanted = {name for name in {part.market for part in parts} if matches(name, patterns)}
    wanted |= {CHAIN.symbol} if channel in CHAIN_WIDE else set()
    return [part for part in parts if part.market in wanted]


def counted(
    root: Path, files: Mapping[str, manifest.File], markets: Iterable[str]
) -> Iterator[Counted]:
    """Yield the same with whole rows."""
    patterns = tuple(markets)
    for file in _of_coverage(files):
        for row in read_file(root, file).to_pylist():
            if matches(row["market"], patterns):
                yield Counted(_part(file, row), row)


def _of_coverage(files: Mapping[str, manifest.File]) -> list[manifest.File]:
    found = (file for file in files.values() if file.channel == layout.COVERAGE)
    return sorted(found, key=lambda file: file.first)


def _part(file: manifest.File, row: Mapping[str, Any]) -> Covered:
    missing = [(r["first"], r["last"]) for r in row["missing_ranges"] or ()]
    where = (file.date, row["first_height"], row["last_height"])
    return Covered(row["market"], row["market_id"], *where, missing)


_Key: TypeAlias = tuple[str, str, int, int]
_known: Final[dict[_Key, list[Covered]]] = {}
"""
What files of coverage say, from earlier reads of this process.

Every read asks for all of them, and an archive has one for each hour.
"""


def _parts(root: Path, file: manifest.File) -> list[Covered]:
    """Read a file of coverage, unless it is known."""
    is_now = path_of(root, file.path).stat()
    # A sealed file never changes. One that was put back from a copy is read again.
    key = (file.date, file.file_sha256, is_now.st_ino, is_now.st_mtime_ns)
    parts = _known.get(key)
    if parts is None:
        parts = [_part(file, row) for row in read_file(root, file, _COLUMNS).to_pylist()]
        if len(_known) * len(parts) > _MOST:
            # The last one: reads go from the oldest to the newest, each time.
            _known.popitem()
        _known[key] = parts
    return parts


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
