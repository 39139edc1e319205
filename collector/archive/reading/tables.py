"""
Read an archive as exact tables, by market and range; missing heights are reported.

`read` is the public `collector.read`. Its table has Arrow's PyCapsule interface, so polars, DuckDB,
pandas and pyarrow accept it directly.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from collector.archive.journal import segment_file
from collector.archive.reading import holes as gaps
from collector.archive.reading.bounds import EVER, Bound, bounds
from collector.archive.reading.instants import heights_between
from collector.archive.reading.unsealed import unsealed
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import open_archive, with_files
from collector.archive.storage.part_file import read_file
from collector.tables.arrow import Decimals, converted, nanoseconds, schema_of
from collector.tables.schema import TABLES
from shards.protocol.ranges import RangeList, minus, union, within
from shards.protocol.settings import CHAIN

Holes = Literal["warn", "raise", "allow"]
GLOB: Final = frozenset("*?[")
_NAMED: Final = 5


class HolesWarning(UserWarning):
    """What was read is not whole; the message names what is missing."""


class HolesError(LookupError):
    """What was asked for is not whole; the message names what is missing."""


class Table:
    """
    Rows of one channel, in the order of (market, height), with the coverage beside them.

    It has ``__arrow_c_stream__``: ``polars.DataFrame(table)``, ``duckdb.from_arrow(table.arrow)``
    and ``pyarrow.table(table)`` accept it.
    """

    def __init__(
        self, table: pa.Table, holes: Mapping[str, RangeList], pruned: RangeList | None = None
    ) -> None:
        self.arrow = table
        """A `pyarrow.Table`."""
        self.holes = dict(holes)
        """Heights that are missing in the range asked for, by market; empty where none is."""
        self.pruned: RangeList = pruned or []
        """Heights of the range that were here and were removed to make room, of all markets."""
        self.outside = ""
        """What the archive has, where that is nothing of the range asked for; else empty."""
        self.through = 0
        """The newest height in the archive, of any market; 0 if it has none."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def to_pandas(self) -> Any:
        """Return a DataFrame; exact amounts are `decimal.Decimal`. Needs pandas."""
        return self.arrow.to_pandas()

    def __repr__(self) -> str:
        lacking = gaps.heights_lacking(self.holes)
        return f"<Table of {len(self)} rows, {lacking} heights missing>"


def read(
    root: str | Path,
    channel: str,
    *,
    markets: Iterable[str] | str = ("*",),
    start: Bound = None,
    end: Bound = None,
    decimals: Decimals = "exact",
    holes: Holes = "warn",
) -> Table:
    """
    Read one channel of an archive.

    Args:
        root: The archive's folder.
        channel: ``book``, ``trades``, ``keyframe``, ``orders``, ``ticker``, ``oracle``, ``funding``,
            ``markets``, ``blocks``, ``gap``, ``divergence`` or ``coverage``.
        markets: Symbols, tickers, or globs of them.
        start, end: Heights (both included), or instants (``end`` not included).
        decimals: Amounts as DECIMAL(38, 18), as float64, or as text.
        holes: What to do if heights of the range are missing.

    Raises:
        ConfigError: If there is no archive, or one of its files is damaged.
        ValueError: If the channel or a market is unknown, or a bound is not valid.
        HolesError: If heights are missing and `holes` is ``raise``.

    """
    root = Path(root)
    patterns = (markets,) if isinstance(markets, str) else tuple(markets)
    if channel not in TABLES:
        raise ValueError(f"no channel {channel!r}: choose from {', '.join(TABLES)}")
    for name, value, known in (("decimals", decimals, Decimals), ("holes", holes, Holes)):
        if value not in get_args(known):
            raise ValueError(f"{name}={value!r}: choose from {', '.join(get_args(known))}")
    if not patterns:
        raise ValueError("markets: none is named")
    heights, times = bounds(start, end)
    found = with_files(lambda: within_range(root, channel, patterns, heights, times))
    _object(found, holes)
    found.arrow = converted(found.arrow, decimals)
    return found


def within_range(
    root: Path,
    channel: str,
    patterns: tuple[str, ...],
    heights: tuple[int, int] | None,
    times: tuple[int, int] | None,
) -> Table:
    """
    Read the rows of a channel within heights, instants, or both; nothing is said of what is missing.

    Raises:
        FileNotFoundError: If a file is missing: it may have been replaced a moment ago.
        ConfigError: As in `read`.
        ValueError: If a market is unknown.

    """
    span = open_archive(root).span
    # Before the manifest: what is sealed meanwhile is then named there, or its journal is missed.
    segments = segment_file.segments(root)
    lines = manifest.read(root)
    files = manifest.current(lines)
    chosen = [f for f in files.values() if f.channel == channel and _overlaps(f, heights, times)]
    tables = _each(
        lambda f: _filtered(
            read_file(root, f, is_alone=len(chosen) == 1), patterns, heights, times
        ),
        sorted(chosen, key=_order),
    )
    tail = unsealed(segments, channel, span, manifest.sealed(lines))
    if tail.table is not None:
        tables.append(_filtered(tail.table, patterns, heights, times))
    table = pa.concat_tables(tables) if tables else schema_of(TABLES[channel]).empty_table()
    in_channel = gaps.InChannel(gaps.fact_of(channel), manifest.by_channel(lines))
    known = [*gaps.covered(root, files, ("*",), in_channel), *tail.due]
    _check_markets(patterns, known, table)
    between = times and partial(heights_between, root, files.values(), tail.table, times)
    wanted = gaps.of_markets(known, patterns, channel)
    named = {part.market for part in wanted}
    lost = {m: r for m, r in tail.missing.items() if m in named or gaps.matches(m, patterns)}
    lacking = _lacking(wanted, lost, heights, between)
    removed = manifest.pruned(lines)
    gone = union(removed)
    holes = {market: left for market, ranges in lacking.items() if (left := minus(ranges, gone))}
    found = Table(table, holes, _pruned(removed, heights, times))
    found.outside = "" if table.num_rows else _outside(known, heights, times)
    found.through = max((tail.through, *(part.last for part in known)))
    return found


def _each(
    table_of: Callable[[manifest.File], pa.Table], files: Sequence[manifest.File]
) -> list[pa.Table]:
    """Read files at the same time: most are small, and Arrow reads without Python's lock."""
    if len(files) < 2:
        return list(map(table_of, files))
    with ThreadPoolExecutor(min(len(files), pa.cpu_count())) as threads:
        return list(threads.map(table_of, files))


def _check_markets(patterns: tuple[str, ...], known: list[gaps.Covered], table: pa.Table) -> None:
    """
    Refuse a market's name that is not in the archive, for a misspelled one looks like silence.

    Raises:
        ValueError: If there is one.

    """
    exact = [pattern for pattern in patterns if not GLOB.intersection(pattern)]
    if not exact:
        return
    names = {part.market for part in known}
    for column in {"market", "symbol"} & set(table.column_names):
        names |= set(pc.unique(table[column]).to_pylist())
    for pattern in exact if names else ():
        if pattern != CHAIN.symbol and not any(gaps.matches(name, (pattern,)) for name in names):
            some = ", ".join(sorted(names)[:_NAMED])
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise ValueError(f"no market {pattern!r} is in this archive: it has {some}{more}")


def _outside(
    known: list[gaps.Covered],
    heights: tuple[int, int] | None,
    times: tuple[int, int] | None,
) -> str:
    """Say so where a range has nothing in common with the archive."""
    if not known:
        return ""
    first, last = min(part.first for part in known), max(part.last for part in known)
    if heights is not None and (heights[0] > last or heights[1] < first):
        return f"this archive has heights {first} to {last}, and nothing of what is asked for"
    days = sorted({part.date for part in known} - {""})
    if times is None or not days:
        return ""
    oldest, newest = days[0], days[-1]
    # What is not sealed yet is newer, and its days are not known.
    is_after = layout.date_of(times[0]) > newest and all(part.date for part in known)
    if is_after or (times[1] < EVER and layout.date_of(times[1]) < oldest):
        return f"this archive has the days {oldest} to {newest}, and nothing of what is asked for"
    return ""


def _pruned(
    removed: Mapping[layout.Part, set[str]],
    heights: tuple[int, int] | None,
    times: tuple[int, int] | None,
) -> RangeList:
    """Return the pruned heights of what is asked for; of instants whole days count."""
    if heights is not None:
        return within(removed, *heights)
    if times is None:
        return []
    first, last = map(layout.date_of, times)
    return union(
        part for part, dates in removed.items() if min(dates) <= last and first <= max(dates)
    )


def _order(file: manifest.File) -> tuple[int, str]:
    return file.first, file.path


def _overlaps(
    file: manifest.File, heights: tuple[int, int] | None, times: tuple[int, int] | None
) -> bool:
    if heights is not None:
        return file.first <= heights[1] and file.last >= heights[0]
    if times is not None and times[1] < 1 << 62:
        return layout.date_of(times[0]) <= file.date <= layout.date_of(times[1])
    return times is None or layout.date_of(times[0]) <= file.date


def _filtered(
    table: pa.Table,
    patterns: tuple[str, ...],
    heights: tuple[int, int] | None,
    times: tuple[int, int] | None,
) -> pa.Table:
    table = in_markets(table, patterns)
    if heights is not None and "height" in table.column_names:
        column = table["height"]
        table = table.filter(
            pc.and_(pc.greater_equal(column, heights[0]), pc.less_equal(column, heights[1]))
        )
    if times is not None and (when := _when(table)) is not None:
        column = nanoseconds(table[when])
        table = table.filter(pc.and_(pc.greater_equal(column, times[0]), pc.less(column, times[1])))
    return table


def in_markets(table: pa.Table, patterns: tuple[str, ...]) -> pa.Table:
    """Return the rows of the markets, or the oracles' symbols, that match one of the patterns."""
    name = "market" if "market" in table.column_names else "symbol"
    if "*" in patterns or name not in table.column_names:
        return table
    symbols = pc.unique(table[name]).to_pylist()
    wanted = [symbol for symbol in symbols if gaps.matches(symbol, patterns)]
    return table.filter(pc.is_in(table[name], pa.array(wanted, pa.string())))


def _when(table: pa.Table) -> str | None:
    return next((c for c in ("ts_event", "ts", "ts_recv") if c in table.column_names), None)


def _lacking(
    parts: list[gaps.Covered],
    lost: Mapping[str, RangeList],
    heights: tuple[int, int] | None,
    between: Callable[[], tuple[int, int]] | None,
) -> dict[str, RangeList]:
    """Find what is missing of the heights that are asked for, or of those between two instants."""
    if between is not None:
        oldest = min((part.first for part in parts), default=0)
        if not lost and not _holes(parts, (oldest, EVER)):
            # As most archives: nothing is missing, whenever.
            return {}
        heights = between()
    found = _holes(parts, heights)
    for market, ranges in lost.items():
        found[market] = union([*found.get(market, ()), *within(ranges, *(heights or (0, EVER)))])
    return found


def _holes(parts: list[gaps.Covered], asked: tuple[int, int] | None) -> dict[str, RangeList]:
    """Find what is missing of the heights that are asked for; None is from first to last."""
    if asked is None:
        return gaps.holes(parts)
    newest = max((part.last for part in parts), default=0)
    return gaps.holes(parts, asked[0], min(asked[1], newest))


def _object(found: Table, holes: Holes) -> None:
    texts = []
    if found.holes:
        market, ranges = next(iter(found.holes.items()))
        others = f" (and of {len(found.holes) - 1} other markets)" if len(found.holes) > 1 else ""
        texts.append(
            f"heights {gaps.spell(ranges)} of {market}{others} are missing in this archive"
        )
    if found.pruned:
        texts.append(f"heights {gaps.spell(found.pruned)} were pruned from this archive")
    if found.outside:
        texts.append(found.outside)
    if not texts or holes == "allow":
        return
    text = "; ".join(texts)
    if holes == "raise":
        raise HolesError(text)
    warnings.warn(text, HolesWarning, stacklevel=3)
