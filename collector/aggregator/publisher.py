"""
Frames on their way out: assembled, remembered for late joiners, sent in bursts.

libzmq wakes its own thread for a message that comes while that thread sleeps, and what it
finds it gives to the kernel at once. Frames that are sent one right after the other share
both; frames that are made in between each pay for them.
"""

from typing import Final

import zmq

from collector.aggregator.replay_buffer import History
from collector.aggregator.topic_state import Lane
from shards.protocol import frames
from shards.protocol.frames import KIND_BY_CHANNEL, SNAPSHOT, BatchHeader, Record
from shards.push import plain_send

_SNDMORE: Final = int(zmq.SNDMORE)
_BURST: Final = 16
"""Frames that may wait for each other: what making them takes, a tenth of a millisecond."""


class Publishing:
    """The publisher's socket, and what everybody who joins late is told."""

    def __init__(self, publisher: "zmq.Socket[bytes]", epoch: int) -> None:
        self.published = 0
        self._send = plain_send(publisher)
        self._heads: dict[int, bytes] = {}
        self.begin_anew(epoch, 0)
        self._ready: list[tuple[bytes, bytes]] = []
        """Topics and bodies of the burst."""

    def begin_anew(self, epoch: int, generation: int) -> None:
        """Publish under another epoch, and remember nothing of what was published before."""
        self.history = History(frames_per_topic=128, total_bytes=32 << 20)
        self.history.chain = generation
        self._heads = {kind: frames.head(kind, epoch) for kind in KIND_BY_CHANNEL.values()}

    def add(self, lane: Lane, record: Record, middle: bytes, sequence: int) -> None:
        """Publish a record as its topic's next frame, with the burst that it belongs to."""
        lane.height = height = record.height
        lane.topic_sequence = topic_sequence = lane.topic_sequence + 1
        lane.count += record.count
        body = (
            frames.assemble(self._heads[record.kind], topic_sequence, middle, sequence)
            + record.event
        )
        ready = self._ready
        ready.append((lane.topic, body))
        kept = lane.kept
        if kept is None:
            kept = lane.kept = self.history.begin(record.topic, height)
        self.history.remember(
            kept, topic_sequence, height, body, True, record.flags & SNAPSHOT != 0
        )
        if len(ready) >= _BURST:
            self.flush()

    def flush(self) -> None:
        """Send the burst."""
        send = self._send
        ready = self._ready
        for topic, body in ready:
            # XPUB never blocks: a subscriber whose queue is full loses this frame, alone,
            # and sees it by the topic sequence.
            send(topic, _SNDMORE)
            send(body)
        self.published += len(ready)
        ready.clear()

    def keep(self, lane: Lane, record: Record, middle: bytes, sequence: int) -> None:
        """Remember a record that is not published: a keyframe, for late joiners."""
        body = frames.assemble(self._heads[record.kind], lane.topic_sequence, middle, sequence)
        body += record.event
        self.history.add(
            record.topic, lane.topic_sequence, record.height, body, published=False, whole=True
        )


def middle_of(header: BatchHeader, ts_pub: int) -> bytes:
    """Pack what the frames of one batch share."""
    return frames.middle(ts_pub, header.ts_push, header.shard, header.epoch)
