"""
The archive beside what its peers write: ``python -m bench.archive --peers PYTHON [--runs 5]``.

PYTHON is an interpreter that has nautilus_trader and databento-dbn (``uv venv -p 3.12 peers`` and
``uv pip install nautilus_trader databento-dbn``). Each run makes one sample of about 35,000 book
updates of 20 markets and gives it to all writers. CPU is that of the whole process with its
threads, without the start of Python and imports, on both sides. What was written is read by a new
process: once, which is the first read, and nine times more, and the median of those nine counts. Most of a first
read is that Linux clears memory, on both sides.
"""

import argparse
import gc
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Writer
from collector.archive.reading.tables import read
from collector.archive.recording.intake import Intake
from collector.archive.recording.recorder import SYNC_S
from collector.archive.sealing import seal
from collector.archive.storage import files, layout, manifest
from collector.client.received import Received
from collector.client.topic_cursor import Position
from shards.protocol.events import Book, Level
from shards.protocol.frames import (
    EVENTS,
    KIND_BOOK,
    Header,
    decode_event,
    encode,
    prefix,
    read_header,
)

MARKETS: Final = 20
HEIGHTS: Final = 4_900
_AGAIN: Final = 9
_SPAN: Final = 5_000
_DAY: Final = 1_795_824_000_000_000_000
_BLOCKS: Final = 16
"""Received at once: asking for the CPU takes a microsecond."""
_PEERS: Final = Path(__file__).with_name("archive_peers.py")


class Budget(NamedTuple):
    """A line of the table: our figure divided by a peer's, and the required limit."""

    name: str
    ours: str
    peer: str
    most: float
    least: float = 0.0


BUDGETS: Final = (
    Budget("bytes an update / nautilus's writer", "bytes", "nautilus_bytes", 0.60),
    Budget("bytes an update / tardis csv.gz", "bytes", "tardis_bytes", 0.75),
    Budget("the same without ts_pub, source, shard", "bytes_as_peers", "tardis_bytes", 0.75),
    Budget("bytes an update / DBN zstd", "bytes", "dbn_bytes", 0.75),
    Budget("recorder's CPU / nautilus write_data", "record_us", "nautilus_write_us", 0.5),
    Budget("the same with a sync a block", "record_block_us", "nautilus_write_us", math.inf),
    Budget("sealing alone / nautilus write_data", "seal_us", "nautilus_write_us", math.inf),
    Budget("journal to events a CPU second / catalog", "events_per_s", "nautilus_per_s", 1e9, 2.0),
    Budget("stored to Arrow table / object list", "again_wall_us", "nautilus_again_wall_us", 0.1),
    Budget("the first read of a process", "arrow_wall_us", "nautilus_read_wall_us", math.inf),
    Budget("the same in CPU", "arrow_us", "nautilus_read_us", math.inf),
)


class _Frame(NamedTuple):
    """What a publisher sent, and when a subscriber read it."""

    topic: str
    symbol: str
    body: bytes
    ts_sub: int


def sample(seed: int) -> list[tuple[str, list[Book]]]:
    """
    Make changes like a busy exchange's: prices that wander on a grid, about seven levels a change.

    A block has one time, of whole milliseconds, as the chain's stream tells it, and prices rise on
    both sides of a change. Return, by market, its symbol, its whole book first and then each change.
    """
    rng = random.Random(seed)
    gaps = (rng.randint(560, 760) * 1_000_000 for _ in range(HEIGHTS))
    times = list(itertools.accumulate(gaps, initial=_DAY))
    return [_market(rng, number, times) for number in range(MARKETS)]


def _market(rng: random.Random, number: int, times: list[int]) -> tuple[str, list[Book]]:
    symbol, market_id = f"M{number:03}-USDT", f"0x{rng.getrandbits(256):064x}"
    middle, sequence = rng.randint(2_000, 900_000), 1
    whole = [_levels(rng, middle, side, 40) for side in (-1, 1)]
    events = [Book(market_id, 0, 1, _DAY, _DAY + 1, "chain-ws", True, *whole)]
    for height in range(1, HEIGHTS):
        ts = times[height]
        if rng.random() >= 0.353:
            continue
        sequence += 1
        middle += rng.choice((-2, -1, 0, 0, 1, 2))
        sides = [_levels(rng, middle, side, rng.randint(1, 6)) for side in (-1, 1)]
        sides[0].reverse()
        received = ts + rng.randint(80, 400) * 1_000_000 + rng.randint(0, 999_999)
        events.append(Book(market_id, height, sequence, ts, received, "chain-ws", False, *sides))
    return symbol, events


def _levels(rng: random.Random, middle: int, side: int, count: int) -> list[Level]:
    steps = sorted({int(rng.expovariate(1 / 12)) + 1 for _ in range(count)})
    found = []
    for step in steps:
        quantity = 0 if rng.random() < 0.2 else int(rng.lognormvariate(6, 1.5)) + 1
        found.append((_amount(middle + side * step, 3), _amount(quantity, 1)))
    return found


def _amount(units: int, decimals: int) -> str:
    digits = str(units).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}{'0' * (18 - decimals)}"


def cpu_us(work: Callable[[], Any], updates: int) -> float:
    """Return the CPU that this takes, µs per update."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1000 / updates


def wall_us(work: Callable[[], Any], updates: int) -> float:
    """Return the time that this takes, µs per update."""
    began = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began) / 1000 / updates


def blocks(markets: list[tuple[str, list[Book]]]) -> list[list[_Frame]]:
    """Return the frames that a subscriber would receive, block by block."""
    by_height: dict[int, list[_Frame]] = {}
    for symbol, events in markets:
        for number, event in enumerate(events, 1):
            header = (7, number, event.ts_recv + 900, event.ts_recv + 500, 0, 9, number)
            body = prefix(KIND_BOOK, *header) + encode(event)
            one = _Frame(f"book.{symbol}.", symbol, body, event.ts_recv + 2000)
            by_height.setdefault(event.height, []).append(one)
    return [by_height[height] for height in sorted(by_height)]


def _received(frame: _Frame) -> Received:
    """Do what a subscriber does with a frame."""
    header: Header = read_header(frame.body)
    event = decode_event(frame.body)
    assert isinstance(event, Book)
    body = b"" if event.is_snapshot else frame.body
    what = (frame.topic, "book", frame.symbol)
    return Received(*what, event, *header, frame.ts_sub, False, "", body)


def record(
    root: Path, markets: list[tuple[str, list[Book]]], came: list[list[_Frame]]
) -> dict[str, int]:
    """
    Do the recorder's work: take, journal each block, sync as often as a recorder does, seal.

    Return the CPU of all of it, and of it of the syncs and of sealing, in ns, and the number of
    syncs. Receiving is not counted; it is done just before, some blocks at a time. Syncs are due
    by the chain's time: the sample's blocks come faster than a chain's.
    """
    spent, synced_at = {"record": 0, "sync": 0, "seal": 0, "syncs": 0}, 0
    writer, intake = Writer(root), Intake(_SPAN)
    intake.listed({"symbol": s, "market_id": e[0].market_id, "type": "spot"} for s, e in markets)
    intake.start([Position(f"book.{symbol}.", 7, 0, 0) for symbol, _ in markets], 0)
    writer.begin(intake.take_chunk() or Chunk())
    for start in range(0, len(came), _BLOCKS):
        delivered = [list(map(_received, block)) for block in came[start : start + _BLOCKS]]
        began = time.process_time_ns()
        for block in delivered:
            for received in block:
                intake.take(received)
            if (chunk := intake.take_chunk()) is not None:
                writer.append(chunk)
            if block[-1].ts_sub - synced_at >= SYNC_S * 10**9:
                synced_at, syncing = block[-1].ts_sub, time.process_time_ns()
                writer.sync()
                spent["sync"] += time.process_time_ns() - syncing
                spent["syncs"] += 1
        spent["record"] += time.process_time_ns() - began
    writer.close()
    began = time.process_time_ns()
    seal.seal(root, layout.part_of(0, _SPAN), ts=_DAY)
    spent["seal"] = time.process_time_ns() - began
    spent["record"] += spent["seal"]
    return spent


def events_of(root: Path) -> int:
    """Read the journal back as typed events."""
    count = 0
    for segment in segment_file.segments(root):
        for chunk in segment_file.read(segment):
            for entry in chunk.entries:
                EVENTS[entry.kind].decode(entry.event)
                count += 1
    return count


def ours(folder: Path, markets: list[tuple[str, list[Book]]], updates: int) -> dict[str, float]:
    """Measure the collector's archive."""
    root = folder / "archive"
    files.open_archive(root, span=_SPAN, create=True)
    came = blocks(markets)
    # As a recorder's sealing child does.
    pa.set_memory_pool(pa.system_memory_pool())
    # A recorder has no such sample in memory: Python's collector should not search it.
    gc.collect()
    gc.freeze()
    spent = record(root, markets, came)
    cpu = spent["record"] / 1000 / updates
    sizes = {f.channel: f.bytes for f in manifest.current(manifest.read(root)).values()}
    return {
        "bytes": sizes["book"] / updates,
        "bytes_as_peers": (sizes["book"] - _ours_alone(root)) / updates,
        "bytes_with_keyframes": (sizes["book"] + sizes["keyframe"]) / updates,
        "record_us": cpu,
        "sync_us": spent["sync"] / 1000 / spent["syncs"],
        "record_block_us": cpu + spent["sync"] / 1000 * (len(came) / spent["syncs"] - 1) / updates,
        "seal_us": spent["seal"] / 1000 / updates,
        **_last_line([sys.executable, "-m", "bench.archive", "--read", str(root)]),
    }


def _read_back(root: Path) -> dict[str, float]:
    """Read the journal as typed events, then the sealed files as a table."""
    rows = sum(
        f.rows for f in manifest.current(manifest.read(root)).values() if f.channel == "book"
    )
    events_us = cpu_us(lambda: events_of(root), rows)
    for segment in segment_file.segments(root):
        segment.unlink()  # as a recorder does once everything is sealed
    times: list[float] = []

    def table() -> None:
        assert read(root, "book", holes="allow").arrow.num_rows == rows

    arrow_us = cpu_us(lambda: times.append(wall_us(table, rows)), rows)
    return {
        "events_per_s": 1e6 / events_us,
        "arrow_us": arrow_us,
        "arrow_wall_us": times[0],
        "again_wall_us": statistics.median(wall_us(table, rows) for _ in range(_AGAIN)),
    }


def _last_line(command: list[str]) -> dict[str, float]:
    """Run a program; return the JSON that it prints last."""
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def _ours_alone(root: Path) -> int:
    """Return the bytes of the columns that the peers' files do not have."""
    size = 0
    for path in root.glob("channel=book/*/*.parquet"):
        with pq.ParquetFile(path) as opened:
            found = opened.metadata
        for group in map(found.row_group, range(found.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if column.path_in_schema in ("ts_pub", "source", "shard"):
                    size += column.total_compressed_size
    return size


def run(seed: int, peers: str) -> dict[str, float]:
    """Measure all writers once, on one sample."""
    with tempfile.TemporaryDirectory() as name:
        folder, markets = Path(name), sample(seed)
        updates = sum(len(events) - 1 for _, events in markets)
        path = folder / "sample.msgpack"
        path.write_bytes(msgspec.msgpack.encode(markets))
        found: dict[str, float] = {"updates": updates} | ours(folder, markets, updates)
        command = [peers, str(_PEERS), str(path), str(folder)]
        return found | _last_line(command) | _last_line([*command, "read"])


def ratio(budget: Budget, found: dict[str, float]) -> float:
    """Return our figure divided by the peer's."""
    return found[budget.ours] / found[budget.peer]


def report(runs: list[dict[str, float]]) -> bool:
    """Print medians and ratios with their spread; say whether every budget is met."""
    for name in runs[0]:
        values = [found[name] for found in runs]
        print(
            f"{name:22} {statistics.median(values):12,.2f}   {min(values):,.2f} to {max(values):,.2f}"
        )
    met = True
    for budget in BUDGETS:
        values = [ratio(budget, found) for found in runs]
        middle = statistics.median(values)
        is_met = budget.least <= middle <= budget.most
        demanded = f">= {budget.least:g}" if budget.least else f"<= {budget.most:g}"
        demanded = demanded if math.isfinite(budget.most) else "for information"
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(
            f"{budget.name:42} {middle:6.3f} ({spread})  {demanded}  {'met' if is_met else 'MISSED'}"
        )
        met = met and is_met
    return met


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    if asked.read:
        print(json.dumps(_read_back(asked.read)))
        return
    if not asked.peers:
        parser.error("--peers is required")
    met = report([run(seed, asked.peers) for seed in range(1, asked.runs + 1)])
    sys.exit(0 if met else 4)


if __name__ == "__main__":
    main()
