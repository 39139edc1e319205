"""
Frames do not depend on the Python that made them: two collectors read one devnet, side by side.

    python -m tests.system.side_by_side .venv/bin/python /elsewhere/bin/python

Each argument is an interpreter in which the collector is installed. Of every block that both
published, every frame's event is compared byte for byte, its time of receipt set to zero (block
times stay). Prints what was compared; ends with 1 where a byte differs.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import zmq

from shards.protocol.channels import OFFERED
from shards.protocol.frames import EVENTS, PREFIX_SIZE
from tests.system.running import Running, collector, devnet

CHANNELS: Final = ("book", "trades", "ticker", "orders", "oracle", "blocks")
"""What is streamed; the others are asked for by each collector at moments of its own."""
BLOCKS: Final = 60
_DEADLINE_S: Final = 180.0
_WANTED: Final = [part for one in OFFERED for part in ("--channel", one.name)]


class Place(NamedTuple):
    """Where an event belongs: one frame a topic and block."""

    topic: str
    height: int


Facts = dict[Place, bytes]
"""Encoded events, without the time of their receipt."""


def main(pythons: Sequence[str]) -> int:
    """Compare; print; return the exit code."""
    with devnet("--block-time", "0.5") as node, contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in pythons]
        both = [
            stack.enter_context(
                collector(
                    folder,
                    *("--config", str(node.config(folder)), "--shards", "2", *_WANTED),
                    python=python,
                )
            )
            for folder, python in zip(folders, pythons, strict=True)
        ]
        ours, theirs = _gather(both)
    first, last = _in_common(ours, theirs)
    ours, theirs = (
        {k: v for k, v in one.items() if first < k.height < last} for one in (ours, theirs)
    )
    differ = sorted(
        place for place in ours.keys() | theirs.keys() if ours.get(place) != theirs.get(place)
    )
    counts = Counter(place.topic.split(".")[0] for place in ours)
    _say(" and ".join(_version(python) for python in pythons))
    _say(f"{last - first - 1} blocks, {len(ours)} frames, {sum(map(len, ours.values()))} bytes")
    _say(", ".join(f"{channel} {counts[channel]}" for channel in CHANNELS))
    for place in differ[:10]:
        _say(f"{place.topic} of {place.height}:\n  {ours.get(place)!r}\n  {theirs.get(place)!r}")
    _say(f"{len(differ)} differ" if differ else "identical")
    complete = all(counts[channel] for channel in CHANNELS)
    return 0 if complete and not differ else 1


def _gather(both: Sequence[Running]) -> list[Facts]:
    """Read both collectors until they have had enough blocks in common."""
    for running in both:
        running.await_live(60)
    facts: list[Facts] = [{} for _ in both]
    deadline = time.monotonic() + _DEADLINE_S
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_subscribed(running.publish)) for running in both]
        while not _enough(*facts):
            assert time.monotonic() < deadline, "too few blocks"
            for socket, found in zip(sockets, facts, strict=True):
                if socket.poll(20):
                    topic, body = socket.recv_multipart()
                    found.update(_fact(topic.decode(), body))
    return facts


@contextlib.contextmanager
def _subscribed(endpoint: str) -> "Iterator[zmq.Socket[bytes]]":
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.rcvhwm = 0
        socket.connect(endpoint)
        for channel in CHANNELS:
            socket.subscribe(f"{channel}.".encode())
        yield socket


def _fact(topic: str, body: bytes) -> Iterator[tuple[Place, bytes]]:
    """Yield an event as it was encoded, but for the time of receipt; nothing of a fetched book."""
    # For msgspec 0.23 it is no class, but any form of a type.
    kind: Any = EVENTS[body[2]].type
    fields = kind.__struct_fields__
    event = msgspec.msgpack.decode(memoryview(body)[PREFIX_SIZE:])
    named = dict(zip(fields, event, strict=True))
    if named.get("is_snapshot"):
        return
    event[fields.index("ts_recv")] = 0
    yield Place(topic, named["height"]), msgspec.msgpack.encode(event)


def _enough(ours: Facts, theirs: Facts) -> bool:
    if not ours or not theirs:
        return False
    first, last = _in_common(ours, theirs)
    return last - first - 1 >= BLOCKS


def _in_common(ours: Facts, theirs: Facts) -> tuple[int, int]:
    """Return the first and the last height that both may have in part only."""
    heights = [[place.height for place in one] for one in (ours, theirs)]
    return max(map(min, heights)), min(map(max, heights))


def _version(python: str) -> str:
    done = subprocess.run((python, "--version"), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:3]))
