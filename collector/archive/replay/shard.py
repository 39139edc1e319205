"""
The archive in the place of a shard: batches of records and reports, given to an aggregator.

It follows the books, so that a replay can begin anywhere with whole books, and so that late
joiners get one now and then.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from collector.aggregator.aggregator import Aggregator
from collector.archive.reading.holes import Covered
from collector.archive.replay.events_of import BookOf
from shards.protocol import frames
from shards.protocol.control import MarketReport, Report
from shards.protocol.events import Book
from shards.protocol.frames import KEYFRAME, KIND_BOOK, SNAPSHOT, BatchHeader, Record
from shards.protocol.ranges import RangeList, within

_REPORT_S: Final = 0.5
_decode_book: Final = msgspec.msgpack.Decoder(Book).decode


class ReplayShard:
    """Sends an archive's records to an aggregator, as shard 0 of a live collector would."""

    def __init__(self, aggregator: Aggregator, covered: Sequence[Covered], first: int) -> None:
        self._aggregator = aggregator
        self._covered = covered
        self._first = first
        self.height = 0
        """Height of the block whose records are being taken."""
        self.ts = 0
        """Its time, ns."""
        self._books: dict[str, BookOf] = {}
        self._states: dict[str, Record] = {}
        self._sequence = 0
        self.batch: list[Record] = []
        """Records that have not been sent."""
        self._reported_at = 0.0
        self._reported_block = (0, 0)
        """Height and time (ns) of the newest block of the last report."""
        self._block_time_s = 0.0

    def skip(self, record: Record, event: Book | None) -> None:
        """Take a record from before the start: only its effect on books and states counts."""
        if record.kind == KIND_BOOK:
            if not self._is_older(record):
                self._follow(record, event)
        elif record.flags & SNAPSHOT:
            self._states[record.topic] = record

    def begin(self, height: int) -> None:
        """Send every book, and the newest of each state, as they stood before this height."""
        self._first = self.height = height
        self.report()
        self.batch += self._states.values()
        for book in self._books.values():
            self.batch.append(book.whole(flags=SNAPSHOT, ts_recv=time.time_ns()))
        self.flush()

    def take(self, record: Record, event: Book | None) -> None:
        """Take the next record."""
        if record.kind != KIND_BOOK:
            self.batch.append(record)
            return
        if self._is_older(record):
            return
        symbol = record.topic[5:-1]
        known = self._books.get(symbol)
        if record.flags & SNAPSHOT:
            # Readers that have followed the book need no whole one.
            is_known = known is not None and known.book.sequence == record.sequence
            flags = SNAPSHOT | KEYFRAME if is_known else SNAPSHOT
            record = msgspec.structs.replace(record, flags=flags)
        self.batch.append(record)
        if self._follow(record, event):
            self.batch.append(self._books[symbol].whole(
                flags=SNAPSHOT | KEYFRAME, ts_recv=record.ts_recv))  # fmt: skip

    def _is_older(self, record: Record) -> bool:
        """
        Say whether this is a part's first book, and the changes up to here have led further.

        The blocks at the end of the part before were added after this one was sealed.
        """
        if not record.flags & KEYFRAME:
            return False
        known = self._books.get(record.topic[5:-1])
        if known is None or record.sequence >= known.book.sequence:
            return False
        return _decode_book(record.event).market_id == known.book.market_id

    def flush(self) -> None:
        """Send what was taken; report now and then."""
        if not self.batch:
            return
        epoch, number = self._aggregator.run.config.epoch, self._sequence + 1
        header = BatchHeader(frames.VERSION, 0, epoch, epoch, number, time.time_ns(), True)
        self._aggregator.forwarder.receive(frames.encode(header), frames.encode(self.batch))
        self._sequence += len(self.batch)
        self.batch.clear()
        if time.monotonic() - self._reported_at >= _REPORT_S:
            self.report()

    def report(self, *, fresh: bool = False) -> None:
        """Report every market live, and how far it is; with ``fresh`` only that there is a shard."""
        self._reported_at = time.monotonic()
        through = max(self._first, self.height)
        rows = [] if fresh else list(self._market_reports(through))
        self._aggregator.report(
            Report(
                shard=0, epoch=self._aggregator.run.config.epoch, pid=0, ts=time.time_ns(),
                fresh=fresh, head=through, head_ts_event=self.ts, block_time_s=self._block_time(), halted=False, markets=rows, endpoints=[],
                connects=0, payloads=0, frames=self._sequence, kept=0, kept_from=0, dropped=0,
                backlog_bytes=0, lag_us=0.0,
            ),
            time.monotonic(),
        )  # fmt: skip

    def _block_time(self) -> float:
        """Return the seconds between two blocks, by the chain's clock, over those since the last report."""
        height, ts = self._reported_block
        if self.ts and self.height > height:
            if ts:
                self._block_time_s = (self.ts - ts) / (self.height - height) / 1e9
            self._reported_block = self.height, self.ts
        return self._block_time_s

    def _follow(self, record: Record, event: Book | None) -> bool:
        """Bring a market's book up to date; return True if late joiners need a whole one."""
        event, symbol = event or _decode_book(record.event), record.topic[5:-1]
        book = self._books.get(symbol)
        if book is None:
            if not event.is_snapshot:
                return False
            book = self._books[symbol] = BookOf(symbol, event.market_id)
        return book.take(event)

    def _market_reports(self, through: int) -> Iterator[MarketReport]:
        missing: dict[str, RangeList] = {}
        for part in self._covered:
            missing.setdefault(part.market, []).extend(part.missing)
        for market in self._aggregator.run.config.markets:
            yield MarketReport(
                first=self._first,
                last=through,
                missing=within(missing.get(market.symbol, []), self._first, through),
                market_id=market.market_id,
                state="live",
            )
