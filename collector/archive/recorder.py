"""
The recorder's process: a subscriber, the journal, and what runs beside them.

One loop takes events and writes them down; beside it lost blocks are fetched, complete parts are
sealed by a child process, and once a second `_status.json` shows the state.
"""

import asyncio
import contextlib
import datetime
import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from collector.archive import journal, layout, manifest
from collector.archive.files import Info, open_archive, sealing, write_info, write_whole, writing
from collector.archive.filler import Filler, sources_of
from collector.archive.identity import meet
from collector.archive.intake import Intake, cursor_of
from collector.archive.journal import Chunk, Note, Writer
from collector.archive.layout import Part, part_of
from collector.archive.recovery import recover
from collector.archive.seal_codes import ALREADY
from collector.client.subscriber import Subscriber
from collector.client.summary import Summary, read_summary
from shards.net.access import Access
from shards.protocol.errors import EXIT_BUG, ConfigError
from shards.protocol.events import Block
from shards.protocol.frames import KIND_BY_CHANNEL
from shards.protocol.settings import Endpoints, LogFormat
from shards.runtime import child
from shards.runtime.child import Heartbeat

log = logging.getLogger(__name__)

_ROTATE_BYTES: Final = 64 << 20
_LOOK_S: Final = 1.0
_SETTLED_S: Final = 2.5
"""After so long every shard has reported a head that is not older than our subscription."""
_FULL_RETRY_S: Final = 2.0
_SEAL_RETRY_S: Final = 15.0
_HIDDEN: Final = "***"
"""What stands for a secret in an endpoint that is shown."""
_STATUS_BYTES: Final = 2_048
_NICE: Final = 10
_SPARING: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Arrow's own pool and an arena a thread would keep some 25 MB that a sealing child has freed."""
_EXTRAS: Final = frozenset({"orders", "oracle"})


class RecordConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a recorder."""

    to: str
    connect: str
    markets: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = tuple(KIND_BY_CHANNEL)
    sync: Literal["block", "second"] = "block"
    endpoints: Endpoints | None = None
    """Where lost blocks are fetched; by default what the collector reads from."""
    budget: str = ""
    """The folder of the hosts' token buckets."""
    per_s: float = 40.0
    """Lost blocks fetched a second, at most."""
    part_heights: int = 0
    duration_s: float = 0.0
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class Status(msgspec.Struct, kw_only=True):
    """The recorder's state: ``_status.json``."""

    state: Literal["joining", "recording", "full", "stopped"] = "joining"
    reason: str = ""
    pid: int = 0
    ts: int = 0
    head: int = 0
    """The newest height seen."""
    complete: int = 0
    """Everything through it is in the journal or sealed."""
    sealed: int = 0
    """Everything through it is in Parquet files."""
    facts: int = 0
    to_fetch: int = 0
    """Missed heights that are being fetched."""
    fetched: int = 0
    gone: int = 0
    """Heights that no source has any more."""
    journal_bytes: int = 0


class Recorder:
    """One recorder at work on one archive, whose lock the caller holds."""

    def __init__(self, config: RecordConfig, root: Path, info: Info) -> None:
        self._config = config
        self._info = info
        self._root = root
        self._subscriber = Subscriber(
            config.connect, markets=config.markets, channels=config.channels
        )
        self._intake = Intake(info.span)
        self._journal = Writer(root)
        self._sealed = manifest.sealed(manifest.read(root))
        self._late: set[Part] = set()
        """Sealed parts that received late facts."""
        self._segments: dict[int, int] = {}
        """The highest height in each closed segment, by its number."""
        self._segment_height = 0
        self._part = Part(-1, -1)
        self._synced_height = 0
        self._endpoints = config.endpoints
        self._filler: Filler | None = None
        self.status = Status(pid=os.getpid())
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Record until `stop`."""
        subscriber = self._subscriber
        self._resume(subscriber)
        with subscriber:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._look(subscriber)),
                    tasks.create_task(self._fill()),
                    tasks.create_task(self._seal()),
                ]
                await self._take(subscriber)
                for task in beside:
                    task.cancel()
            await self._write(final=True)
        self._journal.close()
        if self._filler is not None:
            await self._filler.aclose()
        self._tell("stopped")

    # -- taking ------------------------------------------------------------------------

    def _resume(self, subscriber: Subscriber) -> None:
        """Continue from the journal."""
        intake, positions = self._intake, {}
        for path in journal.segments(self._root):
            chunks = list(journal.read(path))
            for position in intake.replay(chunks):
                positions[position.topic] = position
            heights = [entry.height for chunk in chunks for entry in chunk.entries]
            # Some may have come after their part was sealed: those that are there are left out.
            self._note_late(heights)
            self._segments[int(path.stem)] = max(heights, default=0)
        if positions:
            subscriber.inbox.resume(positions.values(), intake.head)
            log.info("taking up at height %d, %d topics", intake.head, len(positions))
        self._segment_height = 0
        self._begin_segment(subscriber)

    def _begin_segment(self, subscriber: Subscriber) -> None:
        """Begin a segment that says by itself where everything stands."""
        if self._journal.number:
            self._segments.setdefault(self._journal.number, self._segment_height)
        cursors = [cursor_of(position) for position in subscriber.inbox.positions()]
        notes = self._intake.ledger.notes()
        if complete := self._intake.complete:
            notes.append(Note("complete", "", complete, complete))
        self._journal.begin(Chunk([], notes, cursors))
        self._segment_height = 0

    async def _take(self, subscriber: Subscriber) -> None:
        """Take what comes and write it down whenever nothing more waits."""
        stopped = asyncio.create_task(self.stop.wait())
        taken = 0
        while not self.stop.is_set():
            coming = asyncio.ensure_future(subscriber.__anext__())
            await asyncio.wait((coming, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await coming
                break
            self._intake.take(coming.result())
            taken += 1
            while subscriber.pending:
                received = subscriber.poll(0)
                if received is None:
                    break
                self._intake.take(received)
            await self._write()
            self._rotate(subscriber)
        stopped.cancel()

    async def _write(self, *, final: bool = False) -> None:
        """Append what was taken; a full disk is waited for, and nothing is taken meanwhile."""
        chunk = self._intake.take_chunk()
        if chunk is None:
            return
        while True:
            try:
                self._journal.append(chunk)
                break
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                await self._full(error, final=final)
        if self.status.state == "full":
            log.info("the disk takes data again: recording goes on")
            self._tell("recording")
        heights = [entry.height for entry in chunk.entries]
        self._note_late(heights)
        self._segment_height = max(self._segment_height, max(heights, default=0))
        if final or (self._config.sync == "block" and self._segment_height > self._synced_height):
            self._journal.sync()
            self._synced_height = self._segment_height

    def _note_late(self, heights: list[int]) -> None:
        """Note what belongs to parts that are sealed already."""
        newest = max((part.last for part in self._sealed), default=-1)
        for height in heights:
            if height <= newest:
                part = part_of(height, self._intake.span)
                if part in self._sealed:
                    self._late.add(part)

    async def _full(self, error: OSError, *, final: bool) -> None:
        if self.status.state != "full":
            log.error(
                "the disk is full: %s takes nothing more; recording pauses, and what is missed "
                "meanwhile is fetched afterwards",
                self._root,
            )
        self._tell("full", f"{error.strerror}: {self._root}")
        if final or self.stop.is_set():
            raise ConfigError(f"{self._root}: {error.strerror}") from error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FULL_RETRY_S):
                await self.stop.wait()

    def _rotate(self, subscriber: Subscriber) -> None:
        part = part_of(self._intake.head, self._intake.span)
        if part.first > self._part.first or self._journal.bytes > _ROTATE_BYTES:
            if self._part.first >= 0:
                self._begin_segment(subscriber)
            self._part = part

    # -- beside ------------------------------------------------------------------------

    async def _look(self, subscriber: Subscriber) -> None:
        """Once a second: how far all is complete, how the markets are listed, what to say."""
        began, joined, met_at = time.monotonic(), False, 0.0
        while True:
            await asyncio.sleep(_LOOK_S)
            inbox = subscriber.inbox
            if inbox.publisher_epoch and not subscriber.pending:
                met_at = met_at or time.monotonic()
                if not joined and time.monotonic() - met_at >= _SETTLED_S:
                    joined = await self._join(subscriber)
                if joined:
                    self._intake.look(inbox.positions())
            if self._config.sync == "second":
                self._journal.sync()
            if self.status.state == "full":
                # Its reason is not known here.
                self._tell("full", self.status.reason)
            else:
                self._tell(_state(joined))
            if self._config.duration_s and time.monotonic() - began > self._config.duration_s:
                self.stop.set()

    async def _join(self, subscriber: Subscriber) -> bool:
        """Learn what the collector reads, and how it lists its markets."""
        try:
            answer = await asyncio.to_thread(subscriber.status)
            status = read_summary({"status": answer})
            markets = await asyncio.to_thread(subscriber.markets)
        except (TimeoutError, ValueError) as error:
            log.warning("%s; asking again", error)
            return False
        self._meet(status)
        if self._endpoints is None:
            self._endpoints = await meet(self._root, self._info, _open_ones(status.endpoints))
            if not (self._endpoints.rpc or self._endpoints.events):
                log.warning(
                    "no node is known of which lost blocks could be asked: what is lost stays "
                    "missing until `collector backfill --to %s` fetches it",
                    self._root,
                )
        self._intake.listed(markets)
        self._intake.start(subscriber.inbox.positions(), status.blocks.head)
        return True

    def _meet(self, status: Summary) -> None:
        """Remember whose facts these are; another chain's are not put beside them."""
        chain_id = status.chain.id
        if not chain_id or chain_id == self._info.chain_id:
            return
        if self._info.chain_id:
            raise ConfigError(
                f"{self._root}: holds the chain {self._info.chain_id}, and the collector collects "
                f"{chain_id}: record that into a folder of its own"
            )
        self._info.chain_id = chain_id
        write_info(self._root, self._info)

    async def _fill(self) -> None:
        """Fetch what was lost."""
        while True:
            await asyncio.sleep(_LOOK_S)
            ranges = self._intake.ledger.to_fetch()
            if not ranges or self._endpoints is None:
                continue
            if self._filler is None:
                access = Access(self._endpoints, self._config.budget)
                extras = not _EXTRAS.isdisjoint(self._intake.channels)
                sources = sources_of(self._endpoints, access, with_extras=extras)
                self._filler = Filler(sources, per_s=self._config.per_s)
            log.info("fetching lost blocks: %s", ", ".join(f"{a}-{b}" for a, b in ranges))
            await self._filler.fetch(_heights(ranges), self._fetched)

    async def _add(self) -> None:
        """Add to sealed parts what came after they were sealed."""
        while self._late:
            part = min(self._late)
            await self._write()
            self._journal.sync()
            if await self._in_child("additions", part):
                return
            self._late.discard(part)

    def _fetched(self, height: int, block: Block | None) -> None:
        self._intake.fetched(height, block, time.time_ns())
        self.status.fetched += block is not None
        self.status.gone += block is None

    async def _seal(self) -> None:
        """Seal parts that are whole, one after the other."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._add()
            for part in self._intake.due_parts(self._sealed):
                await self._write()
                self._journal.sync()
                code = await self._in_child("seal", part)
                if code == ALREADY:
                    # A child of a recorder that was killed had done it; what is new here is added.
                    self._late.add(part)
                elif code:
                    await asyncio.sleep(_SEAL_RETRY_S)
                    break
                self._sealed.add(part)
                self._intake.sealed(part)
                self._drop_segments(part)

    async def _in_child(self, module: Literal["seal", "additions"], part: Part) -> int:
        """Make files of a part in a process of its own; return its exit code."""
        name = f"collector.archive.{module}"
        command = (sys.executable, "-m", name, str(self._root), str(part.first))
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, env={**_SPARING, **os.environ}
        )
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICE)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        if code in (0, ALREADY):
            log.info("part %s: %s done", part, module)
        else:
            log.warning("part %s: %s failed (exit code %d); trying again", part, module, code)
        return code

    def _drop_segments(self, part: Part) -> None:
        """Remove the segments of which everything is sealed."""
        if self._late:
            # What is to be added is in the journal alone; they go with the next part.
            return
        for number, height in sorted(self._segments.items()):
            if height <= part.last and number < self._journal.number:
                (self._root / layout.JOURNAL / f"{number:012}.jnl").unlink(missing_ok=True)
                del self._segments[number]
        for path in (self._root / layout.JOURNAL).glob("books-*.msgpack"):
            if int(path.stem.partition("-")[2]) <= part.first:
                path.unlink(missing_ok=True)

    def _tell(
        self, state: Literal["joining", "recording", "full", "stopped"], reason: str = ""
    ) -> None:
        """Write the status file, if the disk has room."""
        status, intake = self.status, self._intake
        status.state = state
        status.reason = reason
        status.ts = time.time_ns()
        status.head, status.complete = intake.head, intake.complete
        status.sealed = max((part.last for part in self._sealed), default=0)
        status.facts = intake.facts
        status.to_fetch = sum(b - a + 1 for a, b in intake.ledger.to_fetch())
        status.journal_bytes = self._journal.bytes
        with contextlib.suppress(OSError):
            _write_in_place(self._root / layout.STATUS, msgspec.json.encode(status))


def _write_in_place(path: Path, content: bytes) -> None:
    """Write a small file over itself, which a full disk allows too."""
    if not path.exists():
        write_whole(path, content.ljust(_STATUS_BYTES))
        return
    with path.open("r+b", buffering=0) as file:
        file.write(content.ljust(_STATUS_BYTES))


def _state(joined: bool) -> Literal["joining", "recording"]:
    return "recording" if joined else "joining"


def _heights(ranges: list[tuple[int, int]]) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first, last + 1)


def _open_ones(endpoints: Endpoints) -> Endpoints:
    """Return what the collector reads from; without those whose secrets it does not show."""
    open_ones = {
        kind: tuple(at for at in getattr(endpoints, kind) if _HIDDEN not in at)
        for kind in ("rpc", "events", "chain_grpc")
    }
    return msgspec.structs.replace(endpoints, **open_ones)


async def record(config: RecordConfig, stop: asyncio.Event | None = None) -> None:
    """
    Record until asked to stop.

    Raises:
        ConfigError: If the folder cannot be used, or another recorder does.

    """
    root = Path(config.to)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    info = open_archive(root, span=config.part_heights, create=True, now=now)
    with writing(root):
        with sealing(root, wait=False) as is_held:
            # Where it is not, its holder has cleared up what a kill left.
            if is_held:
                recover(root)
        recorder = Recorder(config, root, info)
        if stop is not None:
            recorder.stop = stop
        try:
            await recorder.run()
        except* ConfigError as group:
            raise group.exceptions[0] from None


def main(config: RecordConfig, heartbeat: Heartbeat) -> None:
    """Be the recorder of `collector start --record`: entry point of the spawned child."""
    child.run(
        "record",
        lambda life: record(config, life.stop),
        heartbeat,
        log_level=config.log_level,
        log_format=config.log_format,
        # What is collected does not depend on it: it is tried again.
        exit_config=EXIT_BUG,
    )
