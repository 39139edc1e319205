"""
Publish an archive again: the frames, topics and requests of a live collector.

The archive takes the place of the shards (`shard.py`) and an `Aggregator` publishes
(`server.py`). One loop feeds it, answers requests, and waits: for the clock at a given
speed, and always for the slowest reader, because no frame may be lost to a full queue.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.archive.reading import holes
from collector.archive.reading.tables import read
from collector.archive.replay.events_of import CHANNELS, Timed, records
from collector.archive.replay.server import ReplayServer, Stopped
from collector.archive.replay.shard import ReplayShard
from collector.archive.storage import layout, manifest
from collector.archive.storage.by_channel import named
from collector.archive.storage.files import open_archive
from collector.archive.storage.layout import Part
from collector.archive.storage.part_file import read_file
from collector.settings.parts import AccessConfig, AggregatorConfig
from collector.tables.schema import TABLES
from shards.protocol.errors import ConfigError
from shards.protocol.settings import CHAIN, Endpoints, Market

_BATCH: Final = 256
"""Records published in one go at full speed, before the next look at the requests."""
_BACK: Final = 3
"""Parts before the start that are read at most, where the start's first books are of before them."""
_ENDS_S: Final = 1.0
"""How long readers may ask, after the last frame, whether they have everything."""


class ReplayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a replay."""

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
    """Keys, tokens and bounds for readers."""


class Outcome(msgspec.Struct, kw_only=True):
    """What was replayed."""

    frames: int = 0
    first: int = 0
    last: int = 0
    seconds: float = 0.0


class Replay:
    """One replay of one archive."""

    def __init__(self, config: ReplayConfig, stop: threading.Event | None = None) -> None:
        """
        Look up what the archive holds of the selection.

        Raises:
            ConfigError: If there is no archive, or it contains nothing of the selection.

        """
        self.config = config
        self.stop = stop or threading.Event()
        open_archive(config.root)
        lines = manifest.read(config.root)
        files, known = manifest.current(lines), manifest.by_channel(lines)
        self._files = list(files.values())
        self._named = {*named(known.values())}
        facts = (c for c in self._named & {*config.channels} if not TABLES[c].is_sampled)
        channels = (holes.InChannel(channel, known) for channel in facts)
        self._covered = holes.covered(config.root, files, config.markets, *channels)
        if not self._covered:
            raise ConfigError(f"{config.root}: nothing sealed of these markets is in this archive")
        self._first = config.first or min(part.first for part in self._covered)
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """
        Replay the selection, or until `stop`.

        Raises:
            ConfigError: If the endpoints cannot be bound.

        """
        with tempfile.TemporaryDirectory(prefix="collector-replay-") as folder:
            config = AggregatorConfig(
                epoch=time.time_ns(),
                publish=self.config.publish,
                pull="",
                link="",
                folder=folder,
                markets=tuple(self._markets()),
                endpoints=Endpoints(),
                every_market=False,
                channels=tuple(self._channels()),
            )
            with (
                ReplayServer.opened(config, self.config.access, self.stop) as server,
                contextlib.suppress(Stopped),
            ):
                self._replay(server)
        return self.outcome

    def _channels(self) -> Iterator[str]:
        """Yield the channels that are published: those of the selection that the archive has."""
        had = {file.channel for file in self._files} | self._named
        for channel in self.config.channels:
            if channel in had and channel != "gap":
                yield channel

    def _markets(self) -> Iterator[Market]:
        """Describe the markets as the archive's newest listing of them does."""
        listed = read(self.config.root, "markets", decimals="text", holes="allow").arrow.to_pylist()
        rows = {row["market_id"]: row for row in listed}
        ids = {part.market: part.market_id for part in self._covered}
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

    def _replay(self, server: ReplayServer) -> None:
        """Publish the selection, each block when it is due."""
        config, stream, outcome = self.config, self._stream(), self.outcome
        shard = ReplayShard(server.aggregator, self._covered, self._first)
        shard.report(fresh=True)
        first = self._skip(shard, stream)
        if first is None:
            raise ConfigError(
                f"{config.root}: nothing of the selection is in this archive, which has heights "
                f"{min(part.first for part in self._covered)} to {newest(config.root)}"
            )
        if first.height > config.last or first.ts >= config.until:
            raise ConfigError(
                f"{config.root}: the selection ends before it begins, at height {first.height}"
            )
        outcome.first = first.height
        shard.begin(first.height)
        if not config.speed:
            server.wait_for_readers()
        began = time.monotonic()
        self._publish(server, shard, _chained(first, stream), began)
        shard.flush()
        shard.report()
        outcome.seconds = time.monotonic() - began
        outcome.frames = server.aggregator.publisher.published
        outcome.last = shard.height
        server.serve_until(time.monotonic() + _ENDS_S)

    def _publish(
        self, server: ReplayServer, shard: ReplayShard, stream: Iterable[Timed], began: float
    ) -> None:
        """Publish records up to the end of the selection; ``began`` is a monotonic instant."""
        config, ts_began = self.config, 0
        for timed in stream:
            if timed.height > config.last or timed.ts >= config.until:
                break
            if timed.height != shard.height:
                if config.speed or len(shard.batch) >= _BATCH:
                    # A report says through which height everything has gone out.
                    shard.flush()
                    server.serve(0)
                shard.height = timed.height
            # Some records have no time of their own.
            ts_began = ts_began or timed.ts
            if timed.ts > shard.ts:
                shard.ts = timed.ts
                if config.speed:
                    server.serve_until(began + (timed.ts - ts_began) / 1e9 / config.speed)
            shard.take(timed.record, timed.event)

    def _stream(self) -> Iterator[Timed]:
        config = self.config
        since = layout.date_of(config.since)
        dates: dict[Part, str] = {}
        for file in self._files:
            part = Part(file.first, file.last)
            dates[part] = max(dates.get(part, ""), file.date)
        parts = [
            part
            for part in sorted(dates)
            if part.last >= self._first and part.first <= config.last and dates[part] >= since
        ]
        if parts:
            # A part begins with whole books, so earlier ones need not be read.
            low = self._books_since(parts[0])
            parts = [p for p in sorted(dates) if low < p.last < parts[0].first][-_BACK:] + parts
        for part in parts:
            try:
                yield from records(
                    config.root, self._files_of(part), config.channels, config.markets
                )
            except FileNotFoundError as error:
                raise ConfigError(
                    f"{error.filename}: was replaced or removed while it was replayed: "
                    f"begin again with --from {part.first}"
                ) from None

    def _books_since(self, part: Part) -> int:
        """Return the height of the oldest of the books with which a part begins."""
        found = part.first - 1
        for file in self._files_of(part) if "book" in self.config.channels else ():
            if file.channel == layout.KEYFRAME:
                columns = read_file(self.config.root, file, ["height", "reason"]).to_pydict()
                for height, reason in zip(columns["height"], columns["reason"], strict=True):
                    if reason == "part" and height is not None:
                        found = min(found, height)
        return found

    def _files_of(self, part: Part) -> list[manifest.File]:
        """Return a part's files as they are now: compaction may have replaced them."""
        root = self.config.root
        files = manifest.current(manifest.read(root)).values()
        found = [file for file in files if (file.first, file.last) == part]
        if not found:
            raise ConfigError(f"{root}: part {part} was removed while the archive was replayed")
        return found

    def _skip(self, shard: ReplayShard, stream: Iterator[Timed]) -> Timed | None:
        """Skip everything before the start, and return the first record after it."""
        config = self.config
        for timed in stream:
            if timed.height >= self._first and (not config.since or timed.ts >= config.since):
                return timed
            shard.skip(timed.record, timed.event)
        return None


def _chained(first: Timed, rest: Iterable[Timed]) -> Iterator[Timed]:
    yield first
    yield from rest


def newest(root: Path) -> int:
    """Return the highest height that is sealed; 0 without any."""
    files = manifest.current(manifest.read(root)).values()
    return max((file.last for file in files if file.channel == layout.COVERAGE), default=0)
