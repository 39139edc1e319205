"""
A subscriber that only counts and notes times; its cost does not count as the collector's.

``python -m bench.listener ENDPOINT [times | each]``: ``mark`` on stdin prints the counts since the
last mark and resets them; the end of stdin ends it.
"""

import sys
import time
from typing import Any, Final

import msgspec
import zmq

from shards.protocol.frames import KIND_BOOK, PREFIX_SIZE, read_header
from shards.protocol.histograms import Histogram


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The first fields of a book event; the levels are passed over."""

    market_id: str
    height: int
    sequence: int
    ts_event: int
    ts_recv: int
    source: str


_head: Final = msgspec.msgpack.Decoder(_Head).decode
_BATCH: Final = 512


class Counter:
    """What came since the last mark."""

    def __init__(self, *, times: bool, each: bool) -> None:
        self._times = times
        self._each = each
        self._sequences: dict[bytes, int] = {}
        self.clear()

    def clear(self) -> None:
        """Reset the counts."""
        self.books = 0
        self.others = 0
        self.lost = 0
        self.first = 0
        self.last = 0
        self.latency = Histogram()
        self.blocks: dict[int, tuple[int, int, int]] = {}
        self.seen: list[tuple[int, int, int]] = []

    def take(self, topic: bytes, body: bytes) -> None:
        """Count one frame."""
        if body[2] != KIND_BOOK:
            self.others += 1
            return
        self.books += 1
        if not self._times:
            return
        header = read_header(body)
        last = self._sequences.get(topic, header[1] - 1)
        self.lost += header[1] - last - 1
        self._sequences[topic] = header[1]
        head = _head(memoryview(body)[PREFIX_SIZE:])
        if head.source == "replay" or not head.ts_event:
            return
        self.latency.record(header[2] - head.ts_recv)
        if self._each:
            self.seen.append((head.height, 1, time.time_ns()))
        first, newest, count = self.blocks.get(head.height, (head.ts_recv, 0, 0))
        self.blocks[head.height] = min(first, head.ts_recv), max(newest, header[2]), count + 1

    def report(self) -> dict[str, Any]:
        """Return it all; times in ns."""
        return {
            "books": self.books,
            "updates": self.books,
            "seen": self.seen,
            "others": self.others,
            "lost": self.lost,
            "first": self.first,
            "last": self.last,
            "latency": list(self.latency.counts.items()),
            "blocks": [(height, *row) for height, row in self.blocks.items()],
        }


def _drain(socket: "zmq.Socket[bytes]", counter: Counter) -> None:
    receive = socket.recv
    before = counter.books
    for _ in range(_BATCH):
        try:
            topic = receive(zmq.NOBLOCK)
        except zmq.Again:
            break
        counter.take(topic, receive())
    if counter.books > before:
        counter.last = time.time_ns()
        counter.first = counter.first or counter.last


def main() -> None:
    """Listen until stdin ends."""
    counter = Counter(times=len(sys.argv) > 2, each="each" in sys.argv)
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.RCVHWM, 1_000_000)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(sys.argv[1])
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if socket in ready:
                _drain(socket, counter)
            if sys.stdin.fileno() in ready:
                if not sys.stdin.buffer.readline():
                    return
                sys.stdout.buffer.write(msgspec.json.encode(counter.report()) + b"\n")
                sys.stdout.flush()
                counter.clear()


if __name__ == "__main__":
    main()
