"""
Add facts to a sealed part: late ones, or those fetched to fill a gap.

They go into separate files, ``….add1.parquet``, which compaction merges; facts already in the part
are skipped. The part's coverage is written again and replaces the old one.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from collector.archive.journal.ledger import Ledger
from collector.archive.journal.spool import Spool, gather
from collector.archive.sealing.book_track import Carried, Track
from collector.archive.sealing.merged_channels import merged
from collector.archive.sealing.output import Output
from collector.archive.sealing.seal import UNPROVABLE, end_as_orphan, time_places
from collector.archive.storage import layout, manifest
from collector.archive.storage.crash_points import reach
from collector.archive.storage.files import open_archive, sealing
from collector.archive.storage.layout import Part
from collector.archive.storage.part_file import read_file
from collector.archive.storage.recovery import recover
from collector.tables.rows import dedupe, rows_of
from collector.tables.schema import TABLES, Row
from shards.adapters import registry
from shards.protocol.errors import ConfigError
from shards.protocol.frames import EVENTS
from shards.protocol.ranges import RangeList, count, minus, union, within

_CHANNELS: Final = tuple(name for name in TABLES if name not in (layout.COVERAGE, layout.KEYFRAME))


class Adder:
    """Adds to one part of one archive, whose lock the caller holds."""

    def __init__(
        self,
        root: Path,
        part: Part,
        entries: Spool,
        ledger: Ledger,
        *,
        carried: Sequence[Carried] = (),
    ) -> None:
        self._root, self._part = root, part
        self._entries, self._ledger = entries, ledger
        self._carried = carried
        """Whole books from before the facts that are added."""
        lines = manifest.read(root)
        self._files = [f for f in manifest.current(lines).values() if (f.first, f.last) == part]
        self._by_channel = manifest.by_channel(lines).get(part)
        generations = (layout.generation_of(file.path) for file in self._files)
        self._suffix = f".add{1 + max(generations, default=0)}"
        self._outputs: dict[tuple[str, str], Output] = {}
        self._new: dict[str, dict[str, int]] = {}

    def run(self, *, ts: int) -> manifest.Line | None:
        """Write the new facts and the coverage; return the manifest line, or None if all is as before."""
        for channel in _CHANNELS:
            known = self._known(channel)
            for row in self._rows(channel):
                if self._key(channel, row) not in known:
                    self._put(channel, row)
                    self._count(channel, row)
        self._put_keyframes()
        before, rows = self._coverage(), self._coverage()
        for symbol in self._ledger.markets:
            self._covered(symbol, rows)
        files = {file.channel for file in self._files}
        by_channel = merged(self._part, self._by_channel, files, self._ledger, before, rows)
        if not self._outputs and rows == before and by_channel == self._by_channel:
            return None
        replaced = self._cover(rows)
        line = manifest.Line(
            act="add", first=self._part.first, last=self._part.last, removed=replaced,
            files=[output.close() for output in self._outputs.values()], channels=by_channel,
            writer=f"process {os.getpid()}", ts=ts,
        )  # fmt: skip
        manifest.append(self._root, line)
        for path in replaced:
            (self._root / path).unlink(missing_ok=True)
        reach("add.removed")
        return line

    def _key(self, channel: str, row: Row) -> tuple[Any, ...]:
        table = TABLES[channel]
        return tuple(row[table.place(name)] for name in table.key)

    def _known(self, channel: str) -> set[tuple[Any, ...]]:
        """Return the keys of the rows that the part has."""
        found: set[tuple[Any, ...]] = set()
        names = list(TABLES[channel].key)
        for file in self._files:
            if file.channel == channel:
                table = read_file(self._root, file, names)
                found.update(zip(*(_plain(table[name]) for name in names), strict=True))
        return found

    def _rows(self, channel: str) -> list[Row]:
        """Return a channel's new rows, in the order in which they are sealed: market by market."""
        found = [topic for topic in self._entries.topics() if topic.startswith(f"{channel}.")]
        markets = self._ledger.markets
        ordered = sorted(
            (markets[symbol].market_id if symbol in markets else "", symbol)
            for symbol in (topic.partition(".")[2][:-1] for topic in found)
        )
        return [row for _, symbol in ordered for row in self._rows_of(channel, symbol)]

    def _rows_of(self, channel: str, symbol: str) -> list[Row]:
        rows: list[Row] = []
        for entry in self._entries.entries(f"{channel}.{symbol}."):
            event = EVENTS[entry.kind].decode(entry.event)
            if not getattr(event, "is_snapshot", False):
                rows += rows_of(event, symbol, entry)
        return dedupe(TABLES[channel], rows)

    def _put(self, channel: str, row: Row) -> None:
        when = next((row[place] for place in time_places(TABLES[channel]) if row[place]), 0)
        self._output(channel, layout.date_of(when) if when else self._date()).add(row)

    def _put_keyframes(self) -> None:
        """Write the whole books with which the changes begin, where the part has none yet."""
        known = self._known(layout.KEYFRAME) if self._carried else set()
        for book in sorted(self._carried, key=lambda book: (book.market_id, book.symbol)):
            for row in Track(book.symbol, self._part, book).keyframes:
                if self._key(layout.KEYFRAME, row) not in known:
                    self._output(layout.KEYFRAME, self._date()).add(row)

    def _output(self, channel: str, date: str) -> Output:
        output = self._outputs.get((channel, date))
        if output is None:
            output = Output(self._root, channel, date, self._part, self._suffix)
            self._outputs[channel, date] = output
        return output

    def _count(self, channel: str, row: Row) -> None:
        if channel not in ("book", "trades"):
            return
        table = TABLES[channel]
        counts = self._new.setdefault(row[table.place("market")], {})
        counts[channel] = counts.get(channel, 0) + 1
        if row[table.place("source")] in registry.replays():
            counts[f"replayed {channel}"] = counts.get(f"replayed {channel}", 0) + 1
        if channel == "book":
            sequence = row[table.place("sequence")]
            counts["low"] = min(counts.get("low", sequence), sequence)
            counts["high"] = max(counts.get("high", sequence), sequence)

    # -- coverage ----------------------------------------------------------------------

    def _coverage(self) -> dict[str, dict[str, Any]]:
        """Return the part's coverage so far, by market."""
        rows: dict[str, dict[str, Any]] = {}
        for file in self._covering():
            for row in read_file(self._root, file).to_pylist():
                row["missing_ranges"] = [
                    (r["first"], r["last"]) for r in row["missing_ranges"] or ()
                ]
                rows[row["market"]] = row
        return rows

    def _covering(self) -> list[manifest.File]:
        return [file for file in self._files if file.channel == layout.COVERAGE]

    def _cover(self, rows: dict[str, dict[str, Any]]) -> list[str]:
        """Write the part's coverage as it is now; return the files whose place it takes."""
        output = self._output(layout.COVERAGE, self._date())
        for row in sorted(rows.values(), key=lambda row: (row["market_id"], row["market"])):
            output.add(tuple(row.get(c.name) for c in TABLES[layout.COVERAGE].columns))
        return [file.path for file in self._covering()]

    def _date(self) -> str:
        """Return the part's date, which is its coverage's."""
        dates = [file.date for file in self._covering()]
        return min(dates or [date for _, date in self._outputs], default="1970-01-01")

    def _covered(self, symbol: str, rows: dict[str, dict[str, Any]]) -> None:
        """Bring one market's row up to date with what its ledger says of the part."""
        part, market = self._part, self._ledger.of(symbol)
        due = self._ledger.due(symbol, part.first, part.last)
        row = rows.get(symbol)
        if row is None and not due:
            return
        if row is None:
            row = rows[symbol] = _empty(market.market_id, symbol, self._ledger.source)
            had: RangeList = []
        else:
            had = minus([(row["first_height"], row["last_height"])], row["missing_ranges"])
        # What was fetched may lie in other parts.
        had = within([*had, *self._ledger.came(symbol, *part)], *part)
        if not had and not due:
            return
        # What is missing at an end is due all the same.
        known = [(row["first_height"], min(row["last_height"], part.last))] if row["due"] else []
        ends = union([*known, *had, *due])
        row["first_height"], row["last_height"] = ends[0][0], ends[-1][1]
        whole = [(row["first_height"], row["last_height"])]
        row["missing_ranges"] = minus(whole, had)
        row["due"], row["missing"] = count(whole), count(row["missing_ranges"])
        self._counted(row, self._new.get(symbol, {}))

    def _counted(self, row: dict[str, Any], new: dict[str, int]) -> None:
        row["book_updates"] += new.get("book", 0)
        row["trades"] += new.get("trades", 0)
        row["replayed_updates"] += new.get("replayed book", 0)
        row["replayed_trades"] += new.get("replayed trades", 0)
        row["sequences_missing"] = max(0, row["sequences_missing"] - new.get("book", 0))
        for name, of, choose in (("first_sequence", "low", min), ("last_sequence", "high", max)):
            known = [value for value in (row[name], new.get(of)) if value is not None]
            row[name] = _chosen(choose, known)


def _chosen(choose: Callable[[Iterable[int]], int], known: list[int]) -> int | None:
    return choose(known) if known else None


def _empty(market_id: str, symbol: str, source: str) -> dict[str, Any]:
    counts = ("book_updates", "trades", "replayed_updates", "replayed_trades", "sequences_missing")
    return {
        "market_id": market_id, "market": symbol, "first_height": None, "last_height": None, "due": 0,
        "gaps": 0, "provable": source not in UNPROVABLE, "source": source,
        "first_sequence": None, "last_sequence": None, **dict.fromkeys(counts, 0),
    }  # fmt: skip


def _plain(column: Any) -> list[Any]:
    """Return a key's values; instants as ns."""
    if str(column.type).startswith("timestamp"):
        column = column.cast("int64")
    values: list[Any] = column.to_pylist()
    return values


def add(root: Path, part: Part, *, ts: int) -> manifest.Line | None:
    """
    Add the journal's facts that a sealed part lacks; the caller holds `sealing`.

    A pruned part stays pruned, even if late facts of it arrive.
    """
    if part in manifest.pruned(manifest.read(root)):
        return None
    entries, notes = gather(root, part, root / layout.JOURNAL)
    try:
        ledger = Ledger()
        ledger.fold(notes)
        return Adder(root, part, entries, ledger).run(ts=ts)
    finally:
        entries.close()


def main(arguments: Sequence[str]) -> None:
    """Add to ``DIR FIRST [RECORDER]``; the recorder that holds the lock starts this."""
    root = Path(arguments[0])
    part = layout.part_of(int(arguments[1]), open_archive(root).span)
    with sealing(root):
        end_as_orphan(arguments)
        recover(root)
        try:
            add(root, part, ts=time.time_ns())
        except ConfigError as error:
            # A file of the part is damaged: its late facts stay in the journal.
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
