"""
Publish an archive again: the frames, topics and requests of a live collector.

An `Aggregator` publishes as usual; the archive takes the place of the shards. One loop feeds it,
answers requests, and waits: for the clock at a given speed, and always for the slowest reader,
because no frame may be lost to a full queue.
"""

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from collector.access.gate import FRAMES, REQUESTS, Gate
from collector.access.subscriptions import Subscriptions
from collector.aggregator import requests
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.binding import MAX_REQUEST, MAX_SUBSCRIPTION, bind
from collector.aggregator.publisher import Publisher, Send
from collector.aggregator.status.sampling import Sampler
from collector.aggregator.telemetry.process_table import Processes
from collector.archive import holes, layout, manifest
from collector.archive.events_of import CHANNELS, BookOf, Timed, records
from collector.archive.files import open_archive
from collector.archive.joining import Joining
from collector.archive.ranges import Ranges, within
from collector.archive.reading import read
from collector.settings.parts import AccessConfig, AggregatorConfig, requests_endpoint
from shards.protocol import frames
from shards.protocol.control import MarketReport, Report
from shards.protocol.errors import ConfigError
from shards.protocol.events import Book
from shards.protocol.frames import KEYFRAME, KIND_BOOK, KIND_TRADES, SNAPSHOT, BatchHeader, Record
from shards.protocol.settings import CHAIN, Endpoints, Market
from shards.push import plain_send
from shards.runtime.loop_monitor import Watched

log = logging.getLogger(__name__)

_BATCH: Final = 256
"""Records published in one go at full speed, between two looks at the requests."""
_REPORT_S: Final = 1.0
_HWM: Final = 20_000
_LINGER_MS: Final = 60_000
_decode_book: Final = msgspec.msgpack.Decoder(Book).decode
_SNDMORE: Final = int(zmq.SNDMORE | zmq.NOBLOCK)
_NOBLOCK: Final = int(zmq.NOBLOCK)


class ReplayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a replay needs to know."""

    root: Path
    publish: tuple[str, ...]
    speed: float = 1.0
    """Times as fast as it was; 0: as fast as the slowest reader takes it."""
    first: int = 0
    """The first height; 0: that of the archive."""
    last: int = 1 << 62
    since: int = 0
    """The first instant, ns; blocks before it are passed over."""
    until: int = 1 << 62
    """The instant at which it ends, ns."""
    markets: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = CHANNELS
    access: AccessConfig = AccessConfig()
    """Who is let in."""


class Outcome(msgspec.Struct, kw_only=True):
    """What was replayed."""

    frames: int = 0
    first: int = 0
    last: int = 0
    seconds: float = 0.0


class _Patient(Publisher):
    """A publisher that waits for a reader whose queue is full, instead of passing it over."""

    def __init__(self, send: Send, wait: Callable[[], None]) -> None:
        """``wait`` is called while a queue is full."""
        super().__init__(send)
        self._wait = wait

    def flush(self) -> None:
        """Send the burst."""
        send = self._send
        for name, body in self._ready:
            try:
                send(name, _SNDMORE)
            except zmq.Again:
                self._give(name, _SNDMORE)
            try:
                send(body, _NOBLOCK)
            except zmq.Again:
                self._give(body, _NOBLOCK)
        self.published += len(self._ready)
        self._ready.clear()

    def _give(self, part: bytes, flags: int) -> None:
        while True:
            self._wait()
            with contextlib.suppress(zmq.Again):
                self._send(part, flags)
                return


class Stopped(Exception):
    """The replay was asked to stop."""


class Replay:
    """One replay of one archive."""

    def __init__(self, config: ReplayConfig, stop: threading.Event | None = None) -> None:
        """
        Find out what there is.

        Raises:
            ConfigError: If there is no archive, or it contains nothing of the selection.

        """
        self.config = config
        self.stop = stop or threading.Event()
        open_archive(config.root)
        files = manifest.current(manifest.read(config.root))
        self._files = list(files.values())
        self._covered = holes.covered(config.root, files, config.markets)
        if not self._covered:
            raise ConfigError(f"{config.root}: nothing sealed of these markets is in this archive")
        self._first = config.first or min(part.first for part in self._covered)
        self._books: dict[str, BookOf] = {}
        self._states: dict[str, Record] = {}
        self._counts: dict[str, list[int]] = {}
        """Trades and book updates, by symbol."""
        self._sequence = self._height = self._ts = 0
        self._batch: list[Record] = []
        self.outcome = Outcome()

    # -- the sockets ---------------------------------------------------------------------

    def run(self) -> Outcome:
        """
        Replay all that was asked for, or until `stop`.

        Raises:
            ConfigError: If the endpoints cannot be bound.

        """
        with tempfile.TemporaryDirectory(prefix="collector-replay-") as folder:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            self._gate = Gate(self.config.access)
            try:
                self._gate.start(context)
                self._open(context, folder)
                with contextlib.suppress(Stopped):
                    self._replay()
            finally:
                self._gate.stop()
                linger = 0 if self.stop.is_set() else _LINGER_MS
                context.destroy(linger=linger)
        return self.outcome

    def _open(self, context: "zmq.Context[zmq.Socket[bytes]]", folder: str) -> None:
        publisher = self._publisher = context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.SNDHWM, _HWM)
        publisher.setsockopt(zmq.XPUB_NODROP, 1)
        publisher.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION)
        door = self._door = context.socket(zmq.ROUTER)
        door.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        gate = self._gate
        self._subscriptions = Subscriptions(publisher, gate)
        for socket, name in ((publisher, FRAMES), (door, REQUESTS)):
            gate.watch(context, socket, name)
            gate.prepare(name, socket, is_public=True)
        for endpoint in self.config.publish:
            bind(publisher, endpoint)
            bind(door, requests_endpoint(endpoint))
        config = AggregatorConfig(
            epoch=time.time_ns(),
            publish=self.config.publish,
            pull="",
            link="",
            folder=folder,
            markets=tuple(self._markets()),
            endpoints=Endpoints(),
            every_market=False,
            channels=tuple(c for c in self.config.channels if c != "gap"),
        )
        self._epoch = config.epoch
        self._poller = zmq.Poller()
        self._poller.register(publisher, zmq.POLLIN)
        self._poller.register(door, zmq.POLLIN)
        patient = _Patient(plain_send(publisher), self._serve_a_moment)
        self._aggregator = Aggregator(config, patient, clock=time.time_ns)
        self._processes, self._watched = Processes(), Watched()
        self._sampler = Sampler(self._aggregator, self._processes)
        self._joining, self._reported_at = Joining(), 0.0

    def _markets(self) -> Iterator[Market]:
        """Describe the markets as the archive's newest listing of them does."""
        listed = read(self.config.root, "markets", decimals="text", holes="allow").arrow.to_pylist()
        rows = {row["market_id"]: row for row in listed}
        ids = {part.market: part.row["market_id"] for part in self._covered}
        for symbol, market_id in sorted(ids.items()):
            if symbol == CHAIN.symbol:
                continue
            row = rows.get(market_id, {})
            kind = "perpetual" if "PERP" in symbol else "spot"
            known: dict[str, Any] = {"ticker": symbol, "type": kind}
            names = {field.name for field in msgspec.structs.fields(Market)} - {
                "market_id",
                "symbol",
            }
            known |= {name: row[name] for name in names & row.keys() if row[name] is not None}
            yield Market(market_id=market_id, symbol=symbol, **known)
        if {"blocks", "oracle"} & {file.channel for file in self._files}:
            yield CHAIN

    # -- serving -------------------------------------------------------------------------

    def _serve_a_moment(self) -> None:
        self._serve(2)

    def _serve(self, timeout_ms: int) -> None:
        """Answer what is asked; wait for it so long, if nothing is."""
        if self.stop.is_set():
            raise Stopped
        for socket, _ in self._poller.poll(timeout_ms):
            if socket is self._publisher:
                self._take_subscriptions()
            else:
                self._answer()
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_S:
            self._reported_at = now
            for _ in self._sampler.look(now, time.time_ns()):
                pass
            self._aggregator.telemetry.access = self._gate.report()

    def _take_subscriptions(self) -> None:
        if self._subscriptions.drain():
            self._joining.subscribed(time.monotonic())

    def _answer(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                came = self._door.recv_multipart(zmq.NOBLOCK, copy=False)
                asker = self._gate.asker(came[0], REQUESTS)
                if asker is None or len(came) < 2:
                    continue
                sender, *parts = (frame.bytes for frame in came)
                self._joining.asked(sender, parts[-1], time.monotonic())
                reply = requests.answer(
                    parts, "read", self._aggregator, self._processes, self._watched, asker
                )
                with contextlib.suppress(zmq.ZMQError):
                    self._door.send_multipart([sender, *reply], zmq.NOBLOCK)
                    asker.owes(sum(map(len, reply)))

    def _wait_for_a_reader(self) -> None:
        """Let somebody subscribe and join before frames go out as fast as they can."""
        while not self._joining.is_over(time.monotonic()):
            self._serve(50)

    # -- replaying -----------------------------------------------------------------------

    def _replay(self) -> None:
        config, stream = self.config, self._stream()
        self._report(fresh=True)
        first = self._skip(stream)
        if first is None:
            raise ConfigError(f"{config.root}: nothing that is asked for is in this archive")
        self.outcome.first = self._first = self._height = first.height
        self._report()
        self._begin()
        if not config.speed:
            self._wait_for_a_reader()
        began, ts_began = time.monotonic(), 0
        for timed in _chained(first, stream):
            if timed.height > config.last or timed.ts >= config.until:
                break
            if timed.height != self._height:
                self._end_block(timed.height)
            # Not everything in a block has an instant of its own.
            ts_began = ts_began or timed.ts
            if timed.ts > self._ts:
                self._ts = timed.ts
                if config.speed:
                    self._await(began + (timed.ts - ts_began) / 1e9 / config.speed)
            self._take(timed.record, timed.event)
        self._flush()
        self._report()
        self.outcome.seconds = time.monotonic() - began
        self.outcome.frames = self._aggregator.publisher.published
        self.outcome.last = self._height
        ends = time.monotonic() + _REPORT_S
        while time.monotonic() < ends:
            # Readers may ask whether they have all.
            self._serve(50)

    def _stream(self) -> Iterator[Timed]:
        parts = sorted({(f.first, f.last) for f in self._files})
        config = self.config
        for first, last in parts:
            if last >= self._first and first <= config.last:
                files = [f for f in self._files if (f.first, f.last) == (first, last)]
                yield from records(config.root, files, config.channels, config.markets)

    def _skip(self, stream: Iterator[Timed]) -> Timed | None:
        """Skip everything before the start; track the books and states up to there."""
        config = self.config
        for timed in stream:
            if timed.height >= self._first and (not config.since or timed.ts >= config.since):
                return timed
            record = timed.record
            if record.kind == KIND_BOOK:
                self._follow(record, timed.event)
            elif record.flags & SNAPSHOT:
                self._states[record.topic] = record
        return None

    def _begin(self) -> None:
        """Publish every book, and the newest of each state, as the start found them."""
        for record in self._states.values():
            self._batch.append(record)
        for of in self._books.values():
            self._batch.append(of.whole(flags=SNAPSHOT, ts_recv=time.time_ns()))
        self._flush()

    def _end_block(self, height: int) -> None:
        """Publish the block that ends where this height begins."""
        self._height = height
        if self.config.speed or len(self._batch) >= _BATCH:
            self._flush()
            self._serve(0)

    def _await(self, due: float) -> None:
        """Answer requests until an instant of the monotonic clock."""
        while (wait_s := due - time.monotonic()) > 0:
            self._serve(min(50, max(1, int(wait_s * 1000))))

    def _take(self, record: Record, event: Book | None) -> None:
        if record.kind != KIND_BOOK:
            self._count(record, trades=record.count if record.kind == KIND_TRADES else 0)
            self._batch.append(record)
            return
        symbol = record.topic[5:-1]
        known = self._books.get(symbol)
        if record.flags & SNAPSHOT:
            # Who has followed the book so far needs no whole one.
            is_known = known is not None and known.book.sequence == record.sequence
            flags = SNAPSHOT | KEYFRAME if is_known else SNAPSHOT
            record = msgspec.structs.replace(record, flags=flags)
        self._batch.append(record)
        self._count(record, updates=not record.flags & SNAPSHOT)
        if self._follow(record, event):
            self._batch.append(self._books[symbol].whole(
                flags=SNAPSHOT | KEYFRAME, ts_recv=record.ts_recv))  # fmt: skip

    def _follow(self, record: Record, event: Book | None) -> bool:
        """Bring a market's book up to date; say whether late joiners need a whole one."""
        event, symbol = event or _decode_book(record.event), record.topic[5:-1]
        of = self._books.get(symbol)
        if of is None:
            if not event.is_snapshot:
                return False
            of = self._books[symbol] = BookOf(symbol, event.market_id)
        return of.take(event)

    def _count(self, record: Record, *, trades: int = 0, updates: int = 0) -> None:
        if trades or updates:
            counts = self._counts.setdefault(record.topic.partition(".")[2][:-1], [0, 0])
            counts[0] += trades
            counts[1] += updates

    def _flush(self) -> None:
        if not self._batch:
            return
        header = BatchHeader(
            frames.VERSION, 0, self._epoch, self._epoch, self._sequence + 1, time.time_ns(), True
        )
        self._aggregator.forwarder.receive(frames.encode(header), frames.encode(self._batch))
        self._sequence += len(self._batch)
        self._batch.clear()
        if time.monotonic() - self._reported_at >= _REPORT_S / 2:
            self._report()

    def _report(self, *, fresh: bool = False) -> None:
        """Say what a shard would: every market live, and how far it is."""
        through = max(self._first, self._height)
        rows = [] if fresh else list(self._market_reports(through))
        self._aggregator.report(
            Report(
                shard=0, epoch=self._epoch, pid=0, ts=time.time_ns(), fresh=fresh, head=through,
                head_ts_event=self._ts, block_time_s=0.0, halted=False, markets=rows, endpoints=[],
                connects=0, payloads=0, frames=self._sequence, kept=0, kept_from=0, dropped=0,
                backlog_bytes=0, lag_us=0.0,
            ),
            time.monotonic(),
        )  # fmt: skip

    def _market_reports(self, through: int) -> Iterator[MarketReport]:
        missing: dict[str, Ranges] = {}
        for part in self._covered:
            missing.setdefault(part.market, []).extend(part.missing)
        for market in self._aggregator.run.config.markets:
            trades, updates = self._counts.get(market.symbol, (0, 0))
            lacking = within(missing.get(market.symbol, []), self._first, through)
            yield MarketReport(
                first=self._first,
                last=through,
                missing=lacking,
                market_id=market.market_id,
                state="live",
                trades=trades,
                book_updates=updates,
            )


def _chained(first: Timed, rest: Iterable[Timed]) -> Iterator[Timed]:
    yield first
    yield from rest


def newest(root: Path) -> int:
    """Return the highest height that is sealed; 0 without any."""
    files = manifest.current(manifest.read(root)).values()
    return max((file.last for file in files if file.channel == layout.COVERAGE), default=0)
