"""
Many readers in one process: each counts and sums up the facts that it receives.

``python -m tests.system.relay_readers --connect ENDPOINT --count 50``. Prints ``joined`` once all
have joined; then takes ``FIRST LAST FACTS`` on stdin and prints, once each has so many facts of these
heights or after two minutes, one JSON list with ``[facts, digest]`` of them for each reader.
"""

import contextlib
import json
import select
import sys
import time
from collections import defaultdict
from zlib import crc32

import click
import msgspec

from collector import Book, Joined, Subscriber, Trades
from shards.protocol.events import Event

_PATIENCE_S = 120.0
_encode = msgspec.msgpack.Encoder().encode


def digest_of(event: Event) -> tuple[int, int] | None:
    """Return the height of a fact and a checksum over all that it says; None for anything else."""
    if isinstance(event, Trades):
        return event.height, crc32(_encode([event.market_id, event.height, event.trades]))
    if isinstance(event, Book) and not event.is_snapshot:
        said = [event.market_id, event.height, event.sequence, event.bids, event.asks]
        return event.height, crc32(_encode(said))
    return None


class Reader:
    """One subscriber and the sums of what it received, by height."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self.is_joined = False
        self.highest = 0
        self.sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])

    def take(self) -> None:
        """Take what is there."""
        while (received := self._subscriber.poll(0.0)) is not None:
            event = received.event
            if isinstance(event, Joined):
                self.is_joined = True
            elif (found := digest_of(event)) is not None:  # type: ignore[arg-type]
                height, checksum = found
                self.highest = max(self.highest, height)
                facts = self.sums[height]
                facts[0] += 1
                facts[1] = (facts[1] + checksum) & 0xFFFFFFFFFFFF

    def total(self, first: int, last: int) -> tuple[int, int]:
        """Add up some heights."""
        chosen = [self.sums[height] for height in range(first, last + 1) if height in self.sums]
        return sum(n for n, _ in chosen), sum(s for _, s in chosen) & 0xFFFFFFFFFFFF


@click.command()
@click.option("--connect", required=True)
@click.option("--keys", default=None)
@click.option("--count", default=50)
def main(connect: str, keys: str | None, count: int) -> None:
    """Read."""
    with contextlib.ExitStack() as stack:
        readers = [
            Reader(stack.enter_context(Subscriber(connect, channels=["book", "trades"], keys=keys)))
            for _ in range(count)
        ]
        _read_until(readers, lambda: all(reader.is_joined for reader in readers))
        print("joined", flush=True)  # noqa: T201
        _read_until(readers, lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
        first, last, facts = map(int, sys.stdin.readline().split())
        deadline = time.monotonic() + _PATIENCE_S

        def done() -> bool:
            # A reader that lost frames gets them again after later ones.
            whole = (r.highest > last and r.total(first, last)[0] >= facts for r in readers)
            return all(whole) or time.monotonic() > deadline

        _read_until(readers, done)
        print(json.dumps([reader.total(first, last) for reader in readers]), flush=True)  # noqa: T201


def _read_until(readers: list[Reader], done: object) -> None:
    while not done():  # type: ignore[operator]
        for reader in readers:
            reader.take()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
