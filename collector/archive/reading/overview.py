"""What an archive has, by market and day: numbers for programs, a picture for people."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.archive.journal import segment_file
from collector.archive.reading import holes
from collector.archive.reading.holes import Counted, InChannel
from collector.archive.reading.unsealed import begun
from collector.archive.storage import manifest
from collector.archive.storage.by_channel import named
from collector.archive.storage.files import open_archive, with_files
from collector.tables.schema import TABLES
from shards.protocol.ranges import RangeList, count, minus, union, within

_SHADES: Final = ((1.0, "█"), (0.99, "▓"), (0.5, "▒"), (0.0, "░"))
_NOTHING: Final = "·"
LEGEND: Final = "█ whole  ▓ 99 %  ▒ half  ░ less  · nothing here"


class Day(msgspec.Struct, kw_only=True):
    """One market's share of one day. A part belongs to the day of its first block."""

    market: str
    market_id: str
    date: str
    first: int
    last: int
    """Heights that are due, both included."""
    due: int = 0
    missing: int = 0
    missing_ranges: RangeList = msgspec.field(default_factory=list)
    book_updates: int = 0
    trades: int = 0
    sequences_missing: int = 0
    replayed: int = 0
    """Updates and trades that were lost at first and came from the chain's record."""
    provable: bool = True
    """Whether the source tells blocks, so that silence means that nothing happened."""
    lacking: dict[str, RangeList] = msgspec.field(default_factory=dict)
    """Heights that are here without a channel which the archive has elsewhere, by channel."""

    @property
    def share(self) -> float:
        """The share of the due heights that are here."""
        return 1 - self.missing / self.due if self.due else 1.0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing; samples, which cannot be fetched later, do not count."""
        facts = [channel for channel in self.lacking if not TABLES[channel].is_sampled]
        return not self.missing and not self.sequences_missing and not facts


class Overview(msgspec.Struct, kw_only=True):
    """A whole archive."""

    path: str
    chain_id: str
    first: int
    last: int
    """Heights that sealed parts cover; 0 where there are none."""
    files: int
    bytes: int
    journal_bytes: int
    """Received and not sealed yet."""
    part_heights: int
    """Heights of a part, which is sealed once all of them are here."""
    days: list[Day]
    holes: dict[str, RangeList]
    """Heights that are missing between each market's first and last, by market. Those of a part that
    waits in the journal are not known to be missing."""
    pruned: RangeList = msgspec.field(default_factory=list)
    """Heights that were here and were removed to make room, of all markets."""
    channels: list[str] = msgspec.field(default_factory=list)
    """The channels that the archive has, as far as its parts name them; older parts do not."""
    lacking: dict[str, dict[str, RangeList]] = msgspec.field(default_factory=dict)
    """Heights that are here without one of these channels, by channel and market."""


def overview(root: Path, markets: Iterable[str] = ("*",)) -> Overview:
    """
    Summarise an archive.

    Raises:
        ConfigError: If there is none.

    """
    return with_files(lambda: _overview(root, markets))


def _overview(root: Path, markets: Iterable[str]) -> Overview:
    info = open_archive(root)
    lines = manifest.read(root)
    files, gone = manifest.current(lines), union(manifest.pruned(lines))
    markets = tuple(markets)
    rows = list(holes.counted(root, files, markets))
    parts = [part for part, _ in rows]
    known = manifest.by_channel(lines)
    between = {m: left for m, r in holes.holes(parts).items() if (left := minus(r, gone))}
    # Where a recorder was stopped, `backfill` may have sealed what follows.
    waiting = begun(root, info.span, manifest.sealed(lines)) if between else set()
    elsewhere = union([*gone, *waiting])
    channels = named(known.values())
    lacking = {c: holes.without(root, files, markets, InChannel(c, known)) for c in channels}
    return Overview(
        path=str(root),
        chain_id=info.chain_id,
        first=min((part.first for part in parts), default=0),
        last=max((part.last for part in parts), default=0),
        files=len(files),
        bytes=sum(file.bytes for file in files.values()),
        journal_bytes=sum(path.stat().st_size for path in segment_file.segments(root)),
        part_heights=info.span,
        days=list(_days(rows, elsewhere, lacking)),
        holes={m: left for m, r in between.items() if (left := minus(r, elsewhere))},
        pruned=gone,
        channels=channels,
        lacking={channel: found for channel, found in lacking.items() if found},
    )


def _days(
    parts: Iterable[Counted], elsewhere: RangeList, lacking: Mapping[str, Mapping[str, RangeList]]
) -> Iterator[Day]:
    grouped: dict[tuple[str, str], list[Counted]] = {}
    for counted in parts:
        grouped.setdefault((counted.part.market, counted.part.date), []).append(counted)
    for (market, date), counts in sorted(grouped.items()):
        of_day, rows = [part for part, _ in counts], [row for _, row in counts]
        missing = union(heights for part in of_day for heights in part.missing)
        # Heights between two parts of a day that are in neither are missing, too, unless they were
        # removed, or wait in the journal.
        covered = union((part.first, part.last) for part in of_day)
        between = minus([(covered[0][0], covered[-1][1])], [*covered, *elsewhere])
        missing = union([*missing, *between])
        yield Day(
            market=market,
            market_id=of_day[0].market_id,
            date=date,
            first=covered[0][0],
            last=covered[-1][1],
            due=sum(row["due"] for row in rows) + count(between),
            missing=count(missing),
            missing_ranges=missing,
            book_updates=_total(rows, "book_updates"),
            trades=_total(rows, "trades"),
            sequences_missing=_total(rows, "sequences_missing"),
            replayed=_total(rows, "replayed_updates") + _total(rows, "replayed_trades"),
            provable=all(row["provable"] for row in rows),
            lacking={
                channel: found
                for channel, of in lacking.items()
                if (found := within(of.get(market, ()), covered[0][0], covered[-1][1]))
            },
        )


def _total(rows: Iterable[Any], name: str) -> int:
    return sum(row[name] or 0 for row in rows)


def picture(found: Overview, width: int = 80) -> list[str]:
    """Lay an overview out for a terminal: a line a market, a mark a day."""
    lines = _head(found)
    if not found.days:
        return lines + _waiting(found) + _missing(found, width)
    dates = holes.days_between(
        min(day.date for day in found.days), max(day.date for day in found.days)
    )
    by_market: dict[str, dict[str, Day]] = {}
    for day in found.days:
        by_market.setdefault(day.market, {})[day.date] = day
    name_width = max(6, *(len(market) for market in by_market))
    places = max(1, width - name_width - 38)
    each = -(-len(dates) // places)
    groups = [dates[i : i + each] for i in range(0, len(dates), each)]
    marks = max(len(groups), 4)
    span = f"{dates[0]} to {dates[-1]}, {'a day' if each == 1 else f'{each} days'} a mark"
    lines += ["", span, LEGEND, ""]
    head = (
        f"{'market':<{name_width}}  {'days':<{marks}}  {'whole':>8}  {'changes':>11}  {'trades':>9}"
    )
    lines.append(head)
    for market, days in by_market.items():
        cells = "".join(_mark([days[date] for date in group if date in days]) for group in groups)
        lines.append(f"{market:<{name_width}}  {cells:<{marks}}  {_numbers(days.values())}")
    return lines + _missing(found, width)


def _head(found: Overview) -> list[str]:
    chain = f"{found.chain_id}, " if found.chain_id else ""
    nothing = "nothing sealed of these markets" if found.files else "nothing sealed yet"
    heights = f"heights {found.first} to {found.last}" if found.days else nothing
    waits = f", {size(found.journal_bytes)} not sealed yet" if found.journal_bytes else ""
    lines = [found.path, f"{chain}{heights}; {found.files} files, {size(found.bytes)}{waits}"]
    return [*lines, f"channels: {', '.join(found.channels)}"] if found.channels else lines


def _waiting(found: Overview) -> list[str]:
    """Say when the first part is sealed, which may take an hour."""
    if found.files or not found.journal_bytes:
        return []
    return [
        f"a part is sealed once its {found.part_heights:,} heights are complete; until then",
        "collector.read and collector.book_at have them, and SQL does not",
    ]


def _mark(days: list[Day]) -> str:
    if not days:
        return _NOTHING
    share = min(day.share for day in days)
    if share == 1.0 and not all(day.is_whole for day in days):
        share = 0.995
    return next(shade for least, shade in _SHADES if share >= least)


def _numbers(days: Iterable[Day]) -> str:
    due = sum(day.due for day in days)
    had = due - sum(day.missing for day in days)
    # Truncated, not rounded: only complete coverage shows 100 %.
    percent = had * 10_000 // due / 100 if due else 100.0
    changes, trades = (sum(getattr(day, n) for day in days) for n in ("book_updates", "trades"))
    return f"{percent:>6.2f} %  {changes:>11,}  {trades:>9,}"


def _missing(found: Overview, width: int) -> list[str]:
    lines = []
    if found.pruned:
        lines += ["", f"pruned: heights {holes.spell(found.pruned)}, removed to make room"]
    if found.holes:
        lines += ["", f"missing: {holes.heights_lacking(found.holes):,} heights, over all markets"]
        lines += [
            _within(f"  {market}: {holes.spell(ranges)}", width)
            for market, ranges in found.holes.items()
        ]
    if found.lacking:
        lines += ["", "heights that were recorded without a channel:"]
        lines += [
            _within(f"  {channel} of {market}: {holes.spell(ranges)}", width)
            for channel, of in found.lacking.items()
            for market, ranges in of.items()
        ]
    unproved = {day.market for day in found.days if not day.provable}
    if unproved:
        lines += ["", f"{len(unproved)} markets of a source that tells no blocks: nothing proves"]
        lines.append("that all came (docs/archive.md)")
    lacking = {day.market: day.sequences_missing for day in found.days if day.sequences_missing}
    if lacking:
        lines += ["", "missing changes of books:"]
        lines += [f"  {market}: {number:,}" for market, number in lacking.items()]
    return lines


def _within(text: str, width: int) -> str:
    """Cut a list of heights to a width, between two of them; the end says that there are more."""
    if len(text) <= width:
        return text
    end = "… (all with --json)"
    cut = text[: width - len(end)].rpartition(", ")[0]
    return f"{cut}, {end}" if cut else text


def size(number: int) -> str:
    """Spell a number of bytes."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1_000
    return f"{amount:.1f} TB"
