"""
The recorder's process: a subscriber, the journal, and its background tasks.

One loop takes events and appends them to the journal. Tasks fetch lost blocks, have complete parts
sealed in a child process, and write the state to `_status.json` once a second.
"""

import asyncio
import contextlib
import datetime
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from collector.archive.journal import segment_file
from collector.archive.journal.damage import read_all
from collector.archive.journal.segment_file import Chunk, Note
from collector.archive.journal.segments import Segments
from collector.archive.recording import status_file
from collector.archive.recording.cursors import cursor_of
from collector.archive.recording.filler import Filler, filler_of
from collector.archive.recording.identity import meet, open_ones
from collector.archive.recording.intake import Intake
from collector.archive.recording.meeting import Meeting, ask
from collector.archive.recording.selection import ends_of
from collector.archive.recording.status_file import State, Status
from collector.archive.sealing.child import SealedParts
from collector.archive.storage.files import Info, open_archive, sealing, write_info, writing
from collector.archive.storage.place import check_place, place_of
from collector.archive.storage.recovery import recover
from collector.client.subscriber import Subscriber
from collector.client.summary import Summary
from collector.client.topic_filter import Wanted
from shards.adapters import registry
from shards.protocol.errors import ConfigError
from shards.protocol.events import Block
from shards.protocol.frames import KIND_BY_CHANNEL
from shards.protocol.settings import CHAIN, Endpoints, LogFormat
from shards.runtime import child, groups
from shards.runtime.child import Heartbeat
from shards.runtime.exit_codes import EXIT_BUG

log = logging.getLogger(__name__)

SYNC_S: Final = 5.0
"""
A power cut takes the facts of so many seconds from the journal, and they are fetched again. A sync
takes some 80 µs of CPU and wears a disk. One for each block, 130,000 a day, would save little: after
a power cut the blocks of minutes are missing anyway.
"""
_LOOK_S: Final = 1.0
_FULL_RETRY_S: Final = 2.0
_SEAL_RETRY_S: Final = 15.0


class RecordConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a recorder."""

    to: str
    connect: str
    cluster: str | None = None
    """Instead of `connect`: a few cells of a cluster, which tell where the others are."""
    markets: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = tuple(KIND_BY_CHANNEL)
    sync_s: float = SYNC_S
    """Seconds until received facts are on the disk, at most; 0: after each block."""
    endpoints: Endpoints | None = None
    """Where lost blocks are fetched; by default the collector's endpoints."""
    budget: str = ""
    """The folder of the hosts' token buckets."""
    per_s: float = 40.0
    """Lost blocks fetched a second, at most."""
    part_heights: int = 0
    duration_s: float = 0.0
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class Recorder:
    """One recorder at work on one archive, whose lock the caller holds."""

    def __init__(self, config: RecordConfig, root: Path, info: Info) -> None:
        self._config = config
        self._info = info
        self._root, self._place = root, place_of(root)
        self._subscriber = Subscriber(
            config.connect,
            markets=config.markets,
            channels=config.channels,
            cluster=config.cluster,
        )
        self._intake = Intake(info.span)
        self._segments = Segments(root, info.span)
        self._sealed = SealedParts(root, info.span)
        self._endpoints = config.endpoints
        self._filler: Filler | None = None
        self.status = Status(pid=os.getpid())
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Record until `stop`."""
        subscriber = self._subscriber
        self._resume(subscriber)
        await self._begin_next_segment(subscriber)
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
        self._segments.close()
        if self._filler is not None:
            await self._filler.aclose()
        self._report("stopped")

    # -- taking ------------------------------------------------------------------------

    def _resume(self, subscriber: Subscriber) -> None:
        """Continue from the journal."""
        intake, positions = self._intake, {}
        for path, chunks in read_all(segment_file.segments(self._root)):
            for position in intake.replay(chunks):
                positions[position.topic] = position
            heights = [entry.height for chunk in chunks for entry in chunk.entries]
            # Some may have come after their part was sealed. Adding leaves out what is there.
            self._sealed.note_late(heights)
            self._segments.note_segment(path, max(heights, default=0))
        self._sealed.note_parts(self._intake.take_caught())
        intake.recorded(positions.values())
        wanted = Wanted(self._config.markets, self._config.channels).matches
        if chosen := intake.choose(positions.values(), wanted):
            subscriber.resume(chosen, intake.head)
            log.info("resuming at height %d, %d topics", intake.head, len(chosen))

    def _begin_segment(self, subscriber: Subscriber) -> None:
        """Begin a segment that does not need the earlier ones."""
        cursors = [cursor_of(position) for position in subscriber.positions()]
        notes = self._intake.ledger.notes()
        if complete := self._intake.complete:
            notes.append(Note("complete", "", complete, complete))
        self._segments.begin(Chunk([], notes, cursors))

    async def _begin_next_segment(self, subscriber: Subscriber) -> None:
        """Begin the next segment; while the disk is full, wait and take nothing."""
        while True:
            try:
                self._begin_segment(subscriber)
                return
            except OSError as error:
                await self._wait_for_room(error)

    async def _take(self, subscriber: Subscriber) -> None:
        """Take events, and write them to the journal whenever no more are waiting."""
        stopped = asyncio.create_task(self.stop.wait())
        while not self.stop.is_set():
            coming = asyncio.ensure_future(subscriber.__anext__())
            try:
                await asyncio.wait((coming, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                coming.cancel()
            if not coming.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await coming
                break
            self._intake.take(coming.result())
            while subscriber.pending:
                received = subscriber.poll(0)
                if received is None:
                    break
                self._intake.take(received)
            await self._write()
            if self._segments.is_due(self._intake.head):
                await self._begin_next_segment(subscriber)
        stopped.cancel()

    async def _write(self, *, final: bool = False) -> None:
        """Append what was taken; while the disk is full, wait and take nothing."""
        chunk = self._intake.take_chunk()
        if chunk is None:
            return
        while True:
            try:
                self._segments.append(chunk)
                break
            except OSError as error:
                await self._wait_for_room(error, final=final)
        if self.status.state == "full":
            log.info("the disk has space again: recording continues")
            self._report("recording")
        self._sealed.note_late([entry.height for entry in chunk.entries])
        if final or any(note.kind == "start" for note in chunk.notes):
            # Where an archive begins does not change any more.
            self._segments.sync()
        elif not self._config.sync_s:
            self._segments.sync_block()

    async def _wait_for_room(self, error: OSError, *, final: bool = False) -> None:
        """Wait a while if the disk is full, and end with anything else."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            check_place(self._root, self._place)
            raise ConfigError(f"{self._root}: cannot be written: {error.strerror}") from error
        if self.status.state != "full":
            log.error(
                "the disk is full: %s takes nothing more; recording pauses, and what is missed "
                "meanwhile is fetched afterwards",
                self._root,
            )
        self._report("full", f"{error.strerror}: {self._root}")
        if final or self.stop.is_set():
            raise ConfigError(f"{self._root}: {error.strerror}") from error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FULL_RETRY_S):
                await self.stop.wait()

    # -- beside ------------------------------------------------------------------------

    async def _look(self, subscriber: Subscriber) -> None:
        """Once a second: update how far everything is complete, join, and write the status."""
        began, joined, meeting = time.monotonic(), False, Meeting()
        while True:
            await asyncio.sleep(_LOOK_S)
            check_place(self._root, self._place)
            for said in self._intake.notices:
                log.info("%s %s", subscriber.connect, said)
            self._intake.notices.clear()
            if subscriber.is_joined and not subscriber.pending:
                if meeting.is_due([inbox.publisher.epoch for inbox in subscriber.inboxes()]):
                    meeting.is_over = await self._join(subscriber, is_first=not joined)
                    joined = joined or meeting.is_over
                if meeting.is_over:
                    self._intake.look(subscriber.positions())
                    self._sealed.note_parts(self._intake.take_caught())
            self._segments.sync_older(max(0.0, self._config.sync_s - _LOOK_S))
            if self.status.state == "full":
                # Keep the reason.
                self._report("full", self.status.reason)
            else:
                self._report("recording" if joined else "joining")
            if self._config.duration_s and time.monotonic() - began > self._config.duration_s:
                self.stop.set()

    async def _join(self, subscriber: Subscriber, *, is_first: bool) -> bool:
        """Ask the collector for its channels and its markets, and at first for its endpoints."""
        try:
            status, collected = await asyncio.to_thread(ask, subscriber)
            markets = await asyncio.to_thread(subscriber.markets)
        except (TimeoutError, ValueError) as error:
            log.warning("%s; asking again", error)
            return False
        try:
            if is_first:
                self._meet(status)
                await self._meet_nodes(status)
        except OSError as error:
            log.warning("the chain's identity cannot be stored: %s; trying again", error)
            return False
        self._intake.listed(markets)
        collected &= {*self._config.channels}
        self._intake.collects(collected, status.blocks.head, ends_of(subscriber.positions()))
        if not is_first:
            return True
        # A topic is followed because of its name alone, whether or not anything is collected there.
        known = {str(market["symbol"]) for market in markets}
        known |= {CHAIN.symbol} if {"blocks", "oracle"} & collected else set()
        positions = (p for p in subscriber.positions() if p.symbol in known)
        self._intake.start(positions, status.blocks.head)
        return True

    def _meet(self, status: Summary) -> None:
        """Store the chain's id; refuse to add another chain's facts."""
        chain_id = status.chain.id
        if not chain_id or chain_id == self._info.chain_id:
            return
        if self._info.chain_id:
            raise ConfigError(
                f"{self._root}: holds the chain {self._info.chain_id}, and the collector collects "
                f"{chain_id}: record that into a folder of its own"
            )
        write_info(self._root, msgspec.structs.replace(self._info, chain_id=chain_id))
        self._info.chain_id = chain_id

    async def _meet_nodes(self, status: Summary) -> None:
        """Find the nodes from which lost blocks are fetched: those of this archive's chain."""
        if self._endpoints is None:
            self._endpoints = await meet(self._root, self._info, open_ones(status.endpoints))
        if not registry.has_blocks(self._endpoints):
            log.warning(
                "no node is known that has past blocks: what is lost stays missing until "
                "`collector backfill --to %s` fetches it", self._root,
            )  # fmt: skip

    async def _fill(self) -> None:
        """Fetch lost blocks."""
        while True:
            await asyncio.sleep(_LOOK_S)
            ranges = self._intake.ledger.to_fetch()
            if not ranges or self._endpoints is None:
                continue
            budget, per_s = self._config.budget, self._config.per_s
            self._filler = await filler_of(
                self._filler, self._endpoints, budget, self._intake.channels, per_s=per_s
            )
            log.info("fetching lost blocks: %s", ", ".join(f"{a}-{b}" for a, b in ranges))
            await self._filler.fetch(_heights(ranges), self._fetched)

    async def _add(self) -> bool:
        """Add late facts to their sealed parts; return False if one failed."""
        is_done = True
        for part in sorted(self._sealed.late):
            await self._write()
            self._segments.sync()
            is_done = await self._sealed.add(part) and is_done
        return is_done

    def _fetched(self, height: int, block: Block | None) -> None:
        self._intake.fetched(height, block, time.time_ns())
        self.status.fetched += block is not None
        self.status.gone += block is None

    async def _seal(self) -> None:
        """Seal complete parts, one after the other."""
        add_at = 0.0
        while True:
            await asyncio.sleep(_LOOK_S)
            if time.monotonic() >= add_at and not await self._add():
                add_at = time.monotonic() + _SEAL_RETRY_S
            for part in self._intake.due_parts(self._sealed.parts):
                await self._write()
                self._segments.sync()
                if not await self._sealed.seal(part):
                    await asyncio.sleep(_SEAL_RETRY_S)
                    break
                self._intake.sealed(part)
                # Late facts are in the journal alone: keep it until they are added.
                if not self._sealed.late:
                    self._segments.drop(part)

    def _report(self, state: State, reason: str = "") -> None:
        """Write the status file, if the disk has room."""
        status, intake = self.status, self._intake
        status.state, status.reason = state, reason
        status.ts = time.time_ns()
        status.head, status.complete = intake.head, intake.complete
        status.sealed = self._sealed.through
        status.facts = intake.facts
        status.to_fetch = sum(b - a + 1 for a, b in intake.ledger.to_fetch())
        status.journal_bytes = self._segments.bytes
        status_file.write(self._root, status)


def _heights(ranges: list[tuple[int, int]]) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first, last + 1)


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
            # Otherwise the holder of the lock has cleaned up after a kill.
            if is_held:
                recover(root)
        recorder = Recorder(config, root, info)
        if stop is not None:
            recorder.stop = stop
        with groups.alone(ConfigError):
            await recorder.run()


def main(config: RecordConfig, heartbeat: Heartbeat) -> None:
    """Be the recorder of `collector start --record`: entry point of the spawned child."""
    child.run(
        "record",
        lambda life: record(config, life.stop),
        heartbeat,
        log_level=config.log_level,
        log_format=config.log_format,
        # Collecting does not depend on the recorder: the supervisor tries again.
        exit_config=EXIT_BUG,
    )
