"""
Seal one part: convert its journal entries to Parquet files and a line of the manifest.

It runs in a separate process, ``python -m collector.archive.sealing.seal DIR FIRST``, so that the
recorder does not keep the memory. Repeated, or killed at any moment and repeated, it produces the
same files.
"""

import contextlib
import functools
import gc
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from collector.archive.journal import spool as spooling
from collector.archive.journal.ledger import Ledger
from collector.archive.journal.spool import Spool
from collector.archive.sealing.book_track import Carried, Track, of_each_market
from collector.archive.sealing.carried_books import load_books, save_books
from collector.archive.sealing.exit_codes import ALREADY
from collector.archive.sealing.output import Output
from collector.archive.storage import layout, manifest
from collector.archive.storage.crash_points import reach
from collector.archive.storage.files import open_archive, sealing
from collector.archive.storage.layout import Part
from collector.archive.storage.recovery import recover
from collector.tables.book_changes import Changes, columns_of, facts_of
from collector.tables.rows import book_row, dedupe, rows_of
from collector.tables.schema import TABLES, Row, Table
from shards.adapters import registry
from shards.protocol.frames import EVENTS
from shards.protocol.ranges import count

PLAIN: Final = ("trades", "orders", "ticker", "oracle", "funding", "markets", "blocks", "gap", "divergence")  # fmt: skip
"""The channels whose events become rows one by one, in the order of their files; books are columns."""
UNPROVABLE: Final = registry.unprovable()
"""Sources that cannot prove their completeness."""


class Sealer:
    """Seals one part of one archive."""

    def __init__(
        self,
        root: Path,
        part: Part,
        entries: Spool,
        ledger: Ledger,
        *,
        carried: Sequence[Carried],
        ts: int,
    ) -> None:
        self._root, self._part = root, part
        self._entries, self._ledger = entries, ledger
        self._outputs: dict[tuple[str, str], Output] = {}
        self._keyframes: list[Row] = []
        self._coverage: dict[str, dict[str, Any]] = {}
        self._carried = {book.symbol: book for book in carried}
        self.next: list[Carried] = []
        """Every market's book as this part leaves it, where that is known."""
        self._tops: dict[str, list[Row]] = {}
        self._ts = ts
        self._day = 0
        """The earliest block time seen; what has none of its own belongs to its date."""

    def run(self) -> list[manifest.File]:
        """Write every file of the part."""
        topics = self._entries.topics()
        with_ticker = any(topic.startswith("ticker.") for topic in topics)
        for symbol in self._by_market(self._symbols("book", topics) | self._carried_on()):
            self._book(symbol, with_ticker=with_ticker)
        for channel in PLAIN:
            for symbol in self._by_market(self._symbols(channel, topics)):
                self._plain(channel, symbol)
        for row in self._keyframes:
            self._put("keyframe", row, is_local=row[-1] != "part")
        self._cover()
        reach("seal.half")
        return [output.close() for output in self._outputs.values()]

    def _carried_on(self) -> set[str]:
        """Return the markets whose books are carried on: none if books are not recorded any more."""
        channels = self._ledger.by_channel(*self._part)
        return {*self._carried} if channels is None or "book" in channels else set()

    def _symbols(self, channel: str, topics: Iterable[str]) -> set[str]:
        start = f"{channel}."
        return {topic[len(start) : -1] for topic in topics if topic.startswith(start)}

    def _by_market(self, symbols: Iterable[str]) -> list[str]:
        """Order symbols by what tells markets apart everywhere: their ids."""
        return sorted(symbols, key=lambda symbol: (self._ledger.of(symbol).market_id, symbol))

    def _book(self, symbol: str, *, with_ticker: bool) -> None:
        entries = self._entries.entries(f"book.{symbol}.")
        end = None
        for of_market, carried in of_each_market(entries, self._carried.get(symbol)):
            track = Track(
                symbol,
                self._part,
                carried,
                put=functools.partial(self._put_books, symbol),
                with_tops=with_ticker,
            )
            track.walk(of_market)
            self._keyframes += track.keyframes
            self._cover_book(symbol, track)
            market_id = track.market_id or self._market_id(symbol)
            end = track.end(market_id, self._ledger.without_book(symbol, *self._part))
            if with_ticker:
                self._tops.setdefault(symbol, []).extend(
                    row for event, entry in track.tops for row in rows_of(event, symbol, entry)
                )
        if end is not None:
            self.next.append(end)

    def _cover_book(self, symbol: str, track: Track) -> None:
        """Count a track; the sequences are those of the last market with this symbol."""
        before = self._coverage.get(symbol, {})
        counts = {
            "book_updates": track.changes,
            "sequences_missing": track.sequences_missing,
            "replayed_updates": track.replayed,
        }
        self._coverage[symbol] = {
            "first_sequence": track.first_sequence,
            "last_sequence": track.last_sequence,
            **{name: number + before.get(name, 0) for name, number in counts.items()},
        }

    def _put_books(self, symbol: str, changes: Changes) -> None:
        """Write some changes of a market: at once, unless they are of more than one day."""
        times: Sequence[int] = changes.fields.ts_events
        if 0 in times:
            times = [at or came for at, came in zip(times, changes.fields.ts_recvs, strict=True)]
        first = min(times)
        if not first or layout.date_of(first) != layout.date_of(max(times)):
            for event, arrival in zip(changes.events(), changes.fields.arrivals, strict=True):
                self._put("book", book_row(event, symbol, arrival))
            return
        self._day = min(first, self._day or first)
        output = self._output("book", layout.date_of(first))
        output.add_columns(columns_of(changes, symbol), facts_of(changes))

    def _market_id(self, symbol: str) -> str:
        carried = self._carried.get(symbol)
        return carried.market_id if carried else self._ledger.of(symbol).market_id

    def _plain(self, channel: str, symbol: str) -> None:
        """Write one topic of a channel whose rows stand by themselves."""
        table = TABLES[channel]
        rows = dedupe(table, self._rows(channel, symbol))
        if channel == "ticker":
            rows = dedupe(table, [*rows, *self._tops.get(symbol, ())])
        for row in rows:
            self._put(channel, row)
        if channel == "trades":
            source = table.place("source")
            replays = registry.replays()
            found = self._coverage.setdefault(symbol, {})
            found["trades"] = len(rows)
            found["replayed_trades"] = sum(row[source] in replays for row in rows)

    def _rows(self, channel: str, symbol: str) -> list[Row]:
        rows: list[Row] = []
        for entry in self._entries.entries(f"{channel}.{symbol}."):
            rows += rows_of(EVENTS[entry.kind].decode(entry.event), symbol, entry)
        return rows

    def _put(self, channel: str, row: Row, *, is_local: bool = False) -> None:
        table = TABLES[channel]
        when = next((row[i] for i in time_places(table) if row[i]), 0)
        if channel not in _DATED_BY_PART and when and (not self._day or when < self._day):
            self._day = when
        date = layout.date_of((channel not in _DATED_BY_PART and when) or self._day or self._ts)
        self._output(channel, date).add(row, is_local=is_local)

    def _output(self, channel: str, date: str) -> Output:
        output = self._outputs.get((channel, date))
        if output is None:
            output = Output(self._root, channel, date, self._part)
            self._outputs[channel, date] = output
        return output

    def _cover(self) -> None:
        """Write each market's coverage of this part: what is present and what is missing."""
        part = self._part
        for symbol in self._by_market(self._ledger.markets):
            market = self._ledger.of(symbol)
            due = self._ledger.due(symbol, part.first, part.last)
            if not due:
                continue
            missing = self._ledger.missing(symbol, due[0][0], due[-1][1])
            known = self._coverage.get(symbol, {})
            self._put("coverage", self._coverage_row(symbol, market.market_id, due, missing, known))

    def _coverage_row(
        self, symbol: str, market_id: str, due: list[Any], missing: list[Any], known: dict[str, Any]
    ) -> Row:
        source = self._ledger.source
        values = {
            "market_id": market_id,
            "market": symbol,
            "first_height": due[0][0],
            "last_height": due[-1][1],
            "due": count(due),
            "missing": count(missing),
            "missing_ranges": missing,
            "gaps": self._ledger.of(symbol).gaps,
            "provable": source not in UNPROVABLE,
            "source": source,
        }
        counted = (
            "book_updates",
            "sequences_missing",
            "trades",
            "replayed_updates",
            "replayed_trades",
        )
        values |= dict.fromkeys(counted, 0) | known
        return tuple(values.get(column.name) for column in TABLES["coverage"].columns)


_DATED_BY_PART: Final = frozenset({"keyframe", "coverage"})


def time_places(table: Table) -> list[int]:
    """Return the indices of the instants that date a row: the block's, else its own."""
    names = [column.name for column in table.columns]
    return [names.index(name) for name in ("ts_event", "ts", "ts_recv") if name in names]


def _books_before(entries: Spool, before: Part, ledger: Ledger) -> list[Carried]:
    """Derive the books at a recorder's first part from what it received while joining."""
    found = []
    for topic in entries.topics():
        channel, _, rest = topic.partition(".")
        if channel == "book":
            *_, (of_market, _) = of_each_market(entries.entries(topic), None)
            track = Track(rest[:-1], before, None)
            track.walk(of_market)
            if (end := track.end(ledger.of(rest[:-1]).market_id)) is not None:
                found.append(end)
    return found


def _keep_markets(earlier: Spool, entries: Spool, root: Path) -> None:
    """Put how the markets were listed while the recorder joined into its first part."""
    if not manifest.sealed(manifest.read(root)):
        for topic in earlier.topics():
            if topic.startswith("markets."):
                entries.add(earlier.entries(topic))


def seal(root: Path, part: Part, *, ts: int) -> manifest.Line:
    """
    Seal a part; the caller holds `files.sealing`.

    Raises:
        OSError: If the disk is full or fails; the journal still has everything.

    """
    with _without_collector():
        return _seal(root, part, ts)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause Python's cycle collector: rows form no cycles, and it would visit each many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _seal(root: Path, part: Part, ts: int) -> manifest.Line:
    carried, before = load_books(root, part), Part(0, part.first - 1)
    parts = (part,) if carried else (part, before)
    (entries, *earlier), notes = spooling.gather_each(root, parts, root / layout.JOURNAL)
    try:
        ledger = Ledger()
        ledger.fold(notes)
        if earlier:
            carried = _books_before(earlier[0], before, ledger)
            _keep_markets(earlier[0], entries, root)
        sealer = Sealer(root, part, entries, ledger, carried=carried, ts=ts)
        files = sealer.run()
        save_books(root, Part(part.last + 1, 0), sealer.next)
        missing = {
            symbol: ranges
            for symbol in ledger.markets
            if (ranges := ledger.missing(symbol, part.first, part.last))
        }
    finally:
        for spool in (entries, *earlier):
            spool.close()
    line = manifest.Line(
        act="seal", first=part.first, last=part.last, files=files, missing=missing,
        channels=ledger.by_channel(part.first, part.last), writer=f"process {os.getpid()}", ts=ts,
    )  # fmt: skip
    manifest.append(root, line)
    return line


def end_as_orphan(arguments: Sequence[str]) -> None:
    """
    Exit if the recorder that started this process has died: its successor starts another child.

    Otherwise repeated kills would leave many children, and each would keep the next recorder from
    sealing while it works.
    """
    if len(arguments) > 2 and os.getppid() != int(arguments[2]):
        sys.exit()


def main(arguments: Sequence[str]) -> None:
    """Seal ``DIR FIRST [RECORDER]``; the recorder that holds the lock starts this."""
    root = Path(arguments[0])
    part = layout.part_of(int(arguments[1]), open_archive(root).span)
    with sealing(root):
        end_as_orphan(arguments)
        recover(root)
        if part in manifest.sealed(manifest.read(root)):
            sys.exit(ALREADY)
        seal(root, part, ts=time.time_ns())


if __name__ == "__main__":
    main(sys.argv[1:])
