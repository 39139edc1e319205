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

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

from collector.aggregator.handover import Handover
from collector.aggregator.replay_buffer import ROOM, ReplayBuffer
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
    KIND_DIVERGENCE,
    KIND_GAP,
    KIND_TRADES,
    SNAPSHOT,
    BatchHeader,
    Record,
)

SNDMORE: Final = 2
"""The value of zmq.SNDMORE: another message part follows."""
BURST: Final = 32
"""Frames per burst: the first waits for the last about 0.1 ms."""
FLAGS: Final = (SNDMORE, 0) * BURST
"""The flags of each part of a burst: topic, body, topic, body …"""
_run: Final = deque[object](maxlen=0).extend
"""Exhausts an iterator in C."""
_LOW: Final = ROOM - 1
"""The bits that are zero in one of `ROOM` numbers."""
_assemble: Final = frames.assemble


class Send(Protocol):
    """The ``send`` of a publisher's socket."""

    def __call__(self, part: bytes, flags: int = 0, /) -> object:
        """Send one part of a message."""
        ...


Judge: TypeAlias = Callable[[TopicState, Record, BatchHeader, int, bytes], Record | None]
"""Takes a record with its topic, its batch's header, its frame sequence and the bytes that the
frames of its batch share. Returns the record to publish, or None."""


class Publisher:
    """Publishes frames, and keeps the newest of each topic."""

    def __init__(self, send: Send) -> None:
        self.published = 0
        """Frames published."""
        self._send = send
        self.replay = _replay_buffer(0)
        """The newest frames, for late joiners."""
        self._burst: list[bytes] = []
        """Topics and bodies of the current burst, in turn."""

    def start_over(self, generation: int) -> None:
        """Discard all kept frames: another chain begins."""
        self.replay = _replay_buffer(generation)

    def publish(
        self,
        records: list[Record],
        header: BatchHeader,
        first: int,
        middle: bytes,
        topics: Topics,
        judge: Judge,
    ) -> None:
        """
        Publish what is new in some records of a batch, as one burst.

        This loop is most of what a frame costs. So it calls nothing of ours in the common case, a
        book's next change. ``judge`` decides on the rest.

        Args:
            records: At most `BURST`, from the batch with this header.
            header: Of their batch.
            first: The frame sequence of the first record.
            middle: The part that the frames of the batch share.
            topics: The topics of all records.
            judge: Returns what to publish of any other record.

        """
        by_name, burst, shard, assemble = topics.by_name, self._burst, header.shard, _assemble
        for sequence, record in enumerate(records, first):
            try:
                topic = by_name[record.topic]
            except KeyError:
                topic = topics.open(record.topic)
            if (
                topic.shard != shard
                or record.flags
                or record.sequence <= topic.sequence
                or record.height < topic.next_from
            ):
                new = judge(topic, record, header, sequence, middle)
                if new is not None:
                    self._add(topic, new, middle, sequence)
                continue
            topic.sequence = record.sequence
            topic.height = height = record.height
            topic.topic_sequence = number = topic.topic_sequence + 1
            body = assemble(topic.head, number, middle, sequence) + record.event
            burst.append(topic.name)
            burst.append(body)
            keep = topic.keep
            keep((number, height, body, True, False))
            if not number & _LOW and topic.kept is not None:
                self.replay.make_room(topic.kept)
        self._send_burst()
        bodies = burst[1::2]
        self.published += len(bodies)
        self.replay.grow(sum(map(len, bodies)))
        burst.clear()

    def _add(self, topic: TopicState, record: Record, middle: bytes, sequence: int) -> None:
        """Add a record that was judged to the burst."""
        topic.more += record.count - 1
        topic.sequence, topic.height = record.sequence, record.height
        topic.topic_sequence = number = topic.topic_sequence + 1
        body = _assemble(topic.head, number, middle, sequence) + record.event
        self._burst += (topic.name, body)
        kept = topic.kept
        if kept is None:
            kept = self.replay.begin(record.topic, record.height)
            topic.begin(kept)
        whole = bool(record.flags & SNAPSHOT)
        if whole:
            kept.whole = number
        topic.keep((number, record.height, body, True, whole))
        if not number & _LOW:
            self.replay.make_room(kept)

    def _send_burst(self) -> None:
        # XPUB never blocks: only a subscriber whose queue is full loses a frame, and detects that
        # by the topic sequence.
        _run(map(self._send, self._burst, FLAGS))

    def keep(self, topic: TopicState, record: Record, middle: bytes, sequence: int) -> None:
        """Keep a record for late joiners without publishing it: a keyframe."""
        number = topic.topic_sequence
        body = _assemble(topic.head, number, middle, sequence) + record.event
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
        first, publish = header.frame_sequence, self.publisher.publish
        session.count(first, len(records))
        timed = not header.resent and self._latencies.receive(records, header, first, now)
        middle = middle_of(header, now)
        if len(records) <= BURST:
            publish(records, header, first, middle, self._topics, self._judge)
        else:
            for start in range(0, len(records), BURST):
                burst = records[start : start + BURST]
                publish(burst, header, first + start, middle, self._topics, self._judge)
        session.frame_sequence = first + len(records) - 1
        if timed:
            self._latencies.published(header.shard, now, self._clock())
        if session.unaccounted is not None:
            self.account(session)

    def _judge(
        self, topic: TopicState, record: Record, header: BatchHeader, sequence: int, middle: bytes
    ) -> Record | None:
        """Return what is to be published of a record: what its market's owner has, and is new."""
        if topic.shard not in (header.shard, UNOWNED):
            if not self._handover.hold_back(topic.market_id, record, header, sequence):
                self.duplicates += 1
            return None
        if record.flags & KEYFRAME:
            # For late joiners; it includes everything published up to now.
            if stands_for(topic, record):
                self.publisher.keep(topic, record, middle, sequence)
            return None
        new = unpublished(topic, record)
        if new is None:
            self.duplicates += 1
        elif new.kind == KIND_TRADES and not new.flags & BY_ID:
            self._proof.add(new.height, new.count, new.sequence)
        elif new.kind == KIND_GAP:
            event = frames.decode_gap(new.event)
            self._coverage.gap(event)
            self._changes.gap(event, header.shard)
        elif new.kind == KIND_DIVERGENCE:
            self._changes.divergence(frames.decode_divergence(new.event), header.shard)
        return new

    def account(self, session: ShardSession) -> None:
        """Apply a shard's ledgers once all frames made before its report have arrived."""
        found = session.account()
        if found is not None:
            report, moved_on = found
            self._coverage.account(report)
            self._coverage.move_on(report, moved_on)
            self._change_hands(report)

    def _change_hands(self, report: Report) -> None:
        """Publish the frames released by handovers and by markets that are no longer collected."""
        now = self._clock()
        for record, header, sequence in self._handover.change_hands(report, now):
            middle = middle_of(header, now)
            self.publisher.publish([record], header, sequence, middle, self._topics, self._judge)
