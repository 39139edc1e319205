"""
Push frames to the aggregator: in order, without blocking; every drop is counted.

Sent batches are kept for a while. A restarted aggregator knows nothing, so it receives every
kept batch again, in order; it and its subscribers drop what they have already seen by height.
Batches that ZeroMQ refuses wait in the same buffer. When the buffer is full, *all* unsent
batches are dropped and counted, and their blocks are replayed from the chain. What was
delivered is therefore always a prefix, and nothing can arrive out of order.

======================  ==========================  ==================================
bound                   at the bound                shown as
======================  ==========================  ==================================
``push_hwm`` batches    ZeroMQ refuses, we keep     ``backlog_bytes``
``backlog_bytes``       unsent batches are dropped  ``dropped``, gap frames ``drop``
``backlog_s``           sent batches are forgotten  -
======================  ==========================  ==================================
"""

import time
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec
import zmq

from shards.protocol import frames
from shards.protocol.frames import BatchHeader, Record
from shards.protocol.settings import Limits


def plain_send(socket: "zmq.Socket[bytes]") -> Any:
    """
    Return the send of pyzmq's C extension, without the Python wrapper around it.

    The wrapper handles options that we never use, and costs 0.8 of the 1.0 µs per part.
    """
    return super(zmq.Socket, socket).send


_NOBLOCK: Final = int(zmq.NOBLOCK)
_NOBLOCK_SNDMORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)


class _Batch(msgspec.Struct, gc=False):
    first: int
    count: int
    height: int
    """Highest height among its records."""
    pushed_at: float
    payload: bytes


class _Queue:
    """Batches in order, and their bytes."""

    __slots__ = ("batches", "bytes")

    def __init__(self) -> None:
        self.batches: deque[_Batch] = deque()
        self.bytes = 0

    def clear(self) -> None:
        self.batches.clear()
        self.bytes = 0


_encode: Final = msgspec.msgpack.Encoder().encode
_height: Final = attrgetter("height")


class Pusher:
    """The PUSH socket of one shard, and its batches: unsent and recently sent."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        shard: int,
        epoch: int,
        limits: Limits,
        on_drop: Callable[[list[Record]], None],
    ) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, limits.push_hwm)
        # ZeroMQ queues only while the aggregator is connected; otherwise our backlog does.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.connect(endpoint)
        self._send = plain_send(self._socket)
        self._limits = limits
        self._on_drop = on_drop
        self._unsent = _Queue()
        self._sent = _Queue()
        self._header = BatchHeader(frames.VERSION, shard, epoch, 0, 0, 0, False)
        self._resent_below = 0
        self.frames = 0
        """Frames made so far; also the sequence of the last one."""
        self.dropped = 0
        self.kept_from = 0
        """Every frame from this height on is still kept; 0: all frames so far."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes waiting because ZeroMQ does not accept them."""
        return self._unsent.bytes

    @property
    def kept(self) -> int:
        """Frames that are unsent, or kept for a restarted aggregator."""
        batches = self._sent.batches or self._unsent.batches
        oldest = batches[0] if batches else None
        return self.frames - oldest.first + 1 if oldest else 0

    @property
    def stuck(self) -> bool:
        """Whether unsent frames are waiting for the aggregator."""
        return bool(self._unsent.batches)

    def link(self, publisher_epoch: int) -> bool:
        """
        Record which aggregator is listening; a new one receives every kept batch again.

        Return True if it is a new one: keyframes must follow.
        """
        if publisher_epoch == self._header.publisher_epoch:
            return False
        self._header.publisher_epoch = publisher_epoch
        self._unsent.batches.extendleft(reversed(self._sent.batches))
        self._unsent.bytes += self._sent.bytes
        self._sent.clear()
        self._resent_below = self.frames + 1
        return True

    def forget(self) -> None:
        """Discard everything unsent or kept: it belongs to a chain that was replaced."""
        self._unsent.clear()
        self._sent.clear()
        self.kept_from = 0

    def push(self, records: list[Record]) -> int:
        """Batch the records and send what can be sent; return when the last batch was sent (ns)."""
        size = self._limits.batch_frames
        for start in range(0, len(records), size):
            chunk = records if len(records) <= size else records[start : start + size]
            batch = _Batch(
                self.frames + 1,
                len(chunk),
                max(map(_height, chunk)),
                time.monotonic(),
                _encode(chunk),
            )
            self.frames += len(chunk)
            self._unsent.batches.append(batch)
            self._unsent.bytes += len(batch.payload)
        self.flush()
        return self._header.ts_push

    def flush(self) -> None:
        """Send waiting batches until ZeroMQ refuses."""
        unsent, sent = self._unsent, self._sent
        batches, header = unsent.batches, self._header
        if header.publisher_epoch:
            while batches:
                batch = batches[0]
                header.frame_sequence = batch.first
                header.ts_push = time.time_ns()
                header.resent = batch.first < self._resent_below
                try:
                    # Two sends cost a quarter of send_multipart. Once the first part is accepted,
                    # the second is never refused.
                    self._send(_encode(header), _NOBLOCK_SNDMORE)
                    self._send(batch.payload, _NOBLOCK)
                except zmq.Again:
                    break
                batches.popleft()
                size = len(batch.payload)
                unsent.bytes -= size
                sent.batches.append(batch)
                sent.bytes += size
        if unsent.bytes > self._limits.backlog_bytes:
            self._drop()
        self._forget()

    def _forget(self) -> None:
        """Discard sent batches that are too old or exceed the byte limit."""
        sent, unsent_bytes = self._sent, self._unsent.bytes
        batches = sent.batches
        oldest = time.monotonic() - self._limits.backlog_s
        while batches and (
            batches[0].pushed_at < oldest or sent.bytes + unsent_bytes > self._limits.backlog_bytes
        ):
            batch = batches.popleft()
            sent.bytes -= len(batch.payload)
            self.kept_from = max(self.kept_from, batch.height + 1)

    def _drop(self) -> None:
        unsent, self._unsent = self._unsent, _Queue()
        records: list[Record] = []
        for batch in unsent.batches:
            self.dropped += batch.count
            records += frames.decode_records(batch.payload)
        self._on_drop(records)

    def close(self) -> None:
        """Give ZeroMQ a moment to deliver queued batches, then close."""
        self._socket.close(linger=1000)
