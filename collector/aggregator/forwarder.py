"""
The data path: batches in from every shard, frames out to every subscriber.

::

    batch ──► fenced? ──► its topic ──► its market's owner? ──► published before? ──► Publisher
                                             │ no
                                             └──► held for the handover (handover.py)

The `Forwarder` reads the records' headers and leaves the events encoded. Only two kinds are
decoded: gaps, for the coverage, and trades that are identified by id. The `Publisher` assembles
frames, keeps them for late joiners (replay_buffer.py), and sends them in bursts. Sending to libzmq
wakes its I/O thread if that sleeps, and the thread gives the kernel at once what it finds: frames
sent in immediate succession share both costs, and frames sent one by one pay for each.

Pure: the socket's ``send`` and the clock are passed as arguments.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from collector.aggregator.handover import Handover
from collector.aggregator.replay_buffer import ReplayBuffer
from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.market_state import UNOWNED
from collector.aggregator.state.shard_sessions import ShardSession
from collector.aggregator.state.trade_proof import TradeProof
from collector.aggregator.telemetry.change_detector import ChangeDetector
from collector.aggregator.telemetry.latency import Latencies
from collector.aggregator.topic_state import Topics, TopicState, stands_for, unpublished
from shards.protocol import frames
from shards.protocol.control import Report
from shards.protocol.frames import (
    BY_ID,
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TRADES,
    SNAPSHOT,
    BatchHeader,
    Record,
)

SNDMORE: Final = 2
"""The value of zmq.SNDMORE: another message part follows."""
_BURST: Final = 16
"""Frames per burst: the first waits for the last about 0.1 ms."""


class Send(Protocol):
    """The ``send`` of a publisher's socket."""

    def __call__(self, part: bytes, flags: int = 0, /) -> object:
        """Send one part of a message."""
        ...


class Publisher:
    """Publishes frames, and keeps the newest of each topic."""

    def __init__(self, send: Send) -> None:
        self.published = 0
        """Frames published."""
        self._send = send
        self.replay = _replay_buffer(0)
        """The newest frames, for late joiners."""
        self._ready: list[tuple[bytes, bytes]] = []
        """Topics and bodies of the current burst."""

    def start_over(self, generation: int) -> None:
        """Discard all kept frames: another chain begins."""
        self.replay = _replay_buffer(generation)

    def add(self, topic: TopicState, record: Record, middle: bytes, sequence: int) -> None:
        """Publish a record as its topic's next frame, with the burst that it belongs to."""
        topic.height = height = record.height
        topic.topic_sequence = number = topic.topic_sequence + 1
        topic.count += record.count
        body = frames.assemble(topic.head, number, middle, sequence) + record.event
        ready = self._ready
        ready.append((topic.name, body))
        kept = topic.kept
        if kept is None:
            kept = topic.kept = self.replay.begin(record.topic, height)
        self.replay.remember(kept, number, height, body, True, record.flags & SNAPSHOT != 0)
        if len(ready) >= _BURST:
            self.flush()

    def flush(self) -> None:
        """Send the burst."""
        send = self._send
        ready = self._ready
        for topic, body in ready:
            # XPUB never blocks: only a subscriber whose queue is full loses this frame,
            # and detects that by the topic sequence.
            send(topic, SNDMORE)
            send(body)
        self.published += len(ready)
        ready.clear()

    def keep(self, topic: TopicState, record: Record, middle: bytes, sequence: int) -> None:
        """Keep a record for late joiners without publishing it: a keyframe."""
        number = topic.topic_sequence
        body = frames.assemble(topic.head, number, middle, sequence) + record.event
        self.replay.add(record.topic, number, record.height, body, published=False, whole=True)


def _replay_buffer(generation: int) -> ReplayBuffer:
    buffer = ReplayBuffer(frames_per_topic=128, total_bytes=32 << 20)
    buffer.chain = generation
    return buffer


def middle_of(header: BatchHeader, ts_pub: int) -> bytes:
    """Pack the part that the frames of one batch share."""
    return frames.middle(ts_pub, header.ts_push, header.shard, header.epoch)


class Forwarder:
    """Takes batches, publishes what is new in them, and counts the rest."""

    def __init__(
        self,
        publisher: Publisher,
        topics: Topics,
        sessions: Mapping[int, ShardSession],
        handover: Handover,
        *,
        coverage: Coverage,
        proof: TradeProof,
        changes: ChangeDetector,
        latencies: Latencies,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` returns ns since the epoch."""
        self.publisher = publisher
        self.publisher_epoch = 0
        """Batches for other epochs are refused."""
        self.duplicates = 0
        """Frames published before, or superseded by another shard's."""
        self.fenced = 0
        """Frames refused: from an older process of a shard, or for another aggregator."""
        self._topics = topics
        self._sessions = sessions
        self._handover = handover
        self._coverage = coverage
        self._proof = proof
        self._changes = changes
        self._latencies = latencies
        self._clock = clock

    def receive(self, header_part: bytes, records_part: bytes) -> None:
        """Take one batch and publish what is new in it."""
        now = self._clock()
        header = frames.decode_header(header_part)
        records = frames.decode_records(records_part)
        session = self._sessions.get(header.shard)
        if (
            session is None
            or header.epoch != session.epoch
            or header.publisher_epoch != self.publisher_epoch
        ):
            self.fenced += len(records)
            return
        first = header.frame_sequence
        session.count(first, len(records))
        timed = not header.resent and self._latencies.receive(records, header, first, now)
        self._forward_all(records, header, middle_of(header, now))
        self.publisher.flush()
        session.frame_sequence = first + len(records) - 1
        if timed:
            self._latencies.published(header.shard, now, self._clock())
        if session.unaccounted is not None:
            self.account(session)

    def _forward_all(self, records: list[Record], header: BatchHeader, middle: bytes) -> None:
        topics, add = self._topics.by_name, self.publisher.add
        shard, sequence = header.shard, header.frame_sequence
        for record in records:
            topic = topics.get(record.topic)
            if topic is None:
                topic = self._topics.open(record.topic)
            owner = topic.shard
            if owner != shard and owner != UNOWNED:
                self._hold_back(topic, record, header, sequence)
            elif (
                # The common case: a book's next change.
                record.kind == KIND_BOOK
                and record.sequence > topic.sequence
                and record.height >= topic.began_at
                and not record.flags & KEYFRAME
            ):
                topic.sequence = record.sequence
                add(topic, record, middle, sequence)
            else:
                self._forward(topic, record, shard, sequence, middle)
            sequence += 1

    def _forward(
        self, topic: TopicState, record: Record, shard: int, sequence: int, middle: bytes
    ) -> None:
        """Publish a frame from the shard that owns its market, unless it was published before."""
        if record.flags & KEYFRAME:
            # For late joiners; it includes everything published up to now.
            if stands_for(topic, record):
                self.publisher.keep(topic, record, middle, sequence)
            return
        new = unpublished(topic, record)
        if new is None:
            self.duplicates += 1
            return
        if new.kind == KIND_TRADES and not new.flags & BY_ID:
            self._proof.add(new.height, new.count, new.sequence)
        elif new.kind == KIND_GAP:
            event = frames.decode_gap(new.event)
            self._coverage.gap(event)
            self._changes.gap(event, shard)
        self.publisher.add(topic, new, middle, sequence)

    def _hold_back(
        self, topic: TopicState, record: Record, header: BatchHeader, sequence: int
    ) -> None:
        """Take a frame from a shard that does not own its market."""
        if not self._handover.hold_back(topic.market_id, record, header, sequence):
            self.duplicates += 1

    def account(self, session: ShardSession) -> None:
        """Apply a shard's ledgers once all frames made before its report have arrived."""
        report = session.account()
        if report is not None:
            self._coverage.account(report)
            self._change_hands(report)

    def _change_hands(self, report: Report) -> None:
        """Publish the frames released by handovers and by markets that are no longer collected."""
        now = self._clock()
        for record, header, sequence in self._handover.change_hands(report, now):
            topic = self._topics.open(record.topic)
            middle = middle_of(header, now)
            if topic.shard in (header.shard, UNOWNED):
                self._forward(topic, record, header.shard, sequence, middle)
            else:
                self._hold_back(topic, record, header, sequence)
        self.publisher.flush()
