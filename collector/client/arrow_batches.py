"""
What a subscriber receives, as Arrow record batches with the schema of the archive's tables.

Needs pyarrow (extra `archive`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol, Self

import pyarrow as pa

from collector.client.received import ChainReplaced, Joined, Lost, Received, Unanswered
from collector.tables.arrow import Decimals, batch_of, converted
from collector.tables.rows import rows_of
from collector.tables.schema import TABLES, Row
from shards.protocol.events import Book

_KEYFRAME: Final = "keyframe"
_REASON: Final = ("joined",)
"""Reason of a whole book with which the stream of changes begins."""


class Source(Protocol):
    """Where the events come from: a `Subscriber`."""

    @property
    def is_open(self) -> bool:
        """Whether more events may come."""

    def poll(self, timeout_s: float | None = None) -> Received | None:
        """Return the next event, or None if none arrives in time or it is closed."""

    async def __anext__(self) -> Received:
        """Return the next event."""


class Batch:
    """
    Rows of one channel, in the order in which they came.

    It speaks Arrow's PyCapsule interface: ``polars.DataFrame(batch)``, ``pyarrow.table(batch)``
    and pandas take it; DuckDB takes ``batch.arrow``.
    """

    def __init__(self, channel: str, table: pa.Table, notices: tuple[Received, ...]) -> None:
        self.channel = channel
        """``book``, ``trades``, …; ``keyframe`` for whole books, as in the archive."""
        self.arrow = table
        """A `pyarrow.Table` of one record batch, n rows by the columns of docs/archive.md."""
        self.notices = notices
        """Notices before these rows: `Joined`, `Lost`, `Unanswered`, `ChainReplaced`. All rows that
        came before a notice are in earlier batches."""

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} rows of {self.channel}, {len(self.notices)} notices>"


class Batches:
    """Iterate it, with ``for`` or ``async for``, inside the ``with`` of its subscriber."""

    def __init__(self, source: Source, rows: int, every_s: float, decimals: Decimals) -> None:
        self._source = source
        self._most, self._every_s = rows, every_s
        self._collected = _Collected(decimals)
        self._ready: deque[Batch] = deque()
        self._due_at = time.monotonic() + every_s

    def __iter__(self) -> Iterator[Batch]:
        while True:
            received = self._source.poll(max(0.0, self._due_at - time.monotonic()))
            self._take(received)
            yield from self._drain()
            if received is None and not self._source.is_open:
                yield from self._collected.flush()
                return

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while not self._ready:
            received = None
            try:
                async with asyncio.timeout(self._due_at - time.monotonic()):
                    received = await self._source.__anext__()
            except TimeoutError:
                pass
            except StopAsyncIteration:
                self._ready.extend(self._collected.flush())
                if not self._ready:
                    raise
                break
            self._take(received)
        return self._ready.popleft()

    def _drain(self) -> Iterator[Batch]:
        while self._ready:
            yield self._ready.popleft()

    def _take(self, received: Received | None) -> None:
        """Add an event, or None if none came in time; batches that are full or due become ready."""
        if received is not None:
            if isinstance(received.event, Joined | Lost | Unanswered | ChainReplaced):
                self._ready.extend(self._collected.flush())
                self._collected.notices.append(received)
            else:
                channel = self._collected.take(received)
                if self._collected.waiting(channel) >= self._most:
                    self._ready.append(self._collected.batch(channel))
        if (now := time.monotonic()) >= self._due_at:
            self._due_at = now + self._every_s
            self._ready.extend(self._collected.flush())


class _Collected:
    """Rows that are not in a batch yet, by channel, and the notices before them."""

    def __init__(self, decimals: Decimals) -> None:
        self._decimals: Decimals = decimals
        self._rows: dict[str, list[Row]] = {}
        self.notices: list[Received] = []

    def take(self, received: Received) -> str:
        """Add the rows of an event; return their table."""
        event, channel = received.event, received.channel
        assert not isinstance(event, Joined | Lost | Unanswered | ChainReplaced)
        rows = rows_of(event, received.symbol, received)
        if isinstance(event, Book) and event.is_snapshot:
            channel, rows = _KEYFRAME, [(*row, *_REASON) for row in rows]
        self._rows.setdefault(channel, []).extend(rows)
        return channel

    def waiting(self, channel: str) -> int:
        """Return how many rows of a table are not in a batch yet."""
        return len(self._rows[channel])

    def batch(self, channel: str) -> Batch:
        """Make a batch of all rows of a table, with the notices before them."""
        rows, notices = self._rows.pop(channel, []), tuple(self.notices)
        self.notices = []
        made, _ = batch_of(TABLES[channel], rows)
        return Batch(channel, converted(pa.Table.from_batches([made]), self._decimals), notices)

    def flush(self) -> Iterator[Batch]:
        """Make batches of all rows; one without rows if there are only notices."""
        for channel in [name for name, rows in self._rows.items() if rows]:
            yield self.batch(channel)
        if self.notices:
            yield self.batch(next((n.channel for n in self.notices if n.channel), "book"))
