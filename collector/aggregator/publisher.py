"""
Publishing: frames are assembled, kept for late joiners, and sent in bursts.

Sending to libzmq wakes its I/O thread if that sleeps, and the thread gives the kernel at once what
it finds. Frames sent in immediate succession share both costs; frames sent as they are made pay
for each. Pure except for the socket's ``send``, which is passed as an argument.
"""

from typing import Final, Protocol

from collector.aggregator.replay_buffer import ReplayBuffer
from collector.aggregator.topic_state import TopicState
from shards.protocol import frames
from shards.protocol.frames import SNAPSHOT, BatchHeader, Record

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

    def begin_anew(self, generation: int) -> None:
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
