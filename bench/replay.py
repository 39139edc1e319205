"""
How fast `collector replay --speed max` publishes, to a reader in a process of its own.

``python -m bench.replay``: an archive of some markets is made, then replayed; frames a second
from the first to the last that the reader has, and bytes an update of the archive.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from collector.archive.journal.segment_file import Chunk, Entry, Note, Writer
from collector.archive.sealing import seal
from collector.archive.storage import files, layout, manifest
from shards.protocol.events import Book, Trade, Trades
from shards.protocol.frames import KIND_BY_CHANNEL

_DAY: Final = 1_795_824_000_000_000_000
_encode: Final = msgspec.msgpack.encode


def amount(units: int) -> str:
    """Spell so many hundredths with 18 decimals."""
    return f"{units // 100}.{units % 100:02}{'0' * 16}"


def make(root: Path, markets: int, heights: int) -> int:
    """Make an archive: each block changes each book; every fourth trades. Say how many updates."""
    files.open_archive(root, span=heights, create=True)
    writer = Writer(root)
    names = [(f"M{n:03}-USDT", f"0x{n:064x}") for n in range(markets)]
    notes = [Note("source", "", 0, 0, "chain-ws")]
    for symbol, market_id in names:
        notes += [Note("market", symbol, 0, 0, f"{market_id} spot"), Note("start", symbol, 1, 1)]
    first = [_book(symbol, market_id, 0) for symbol, market_id in names]
    writer.begin(Chunk(first, notes))
    for height in range(1, heights):
        chunk = [_book(symbol, market_id, height) for symbol, market_id in names]
        chunk += [_trades(*name, height) for n, name in enumerate(names) if (n + height) % 4 == 0]
        writer.append(Chunk(chunk))
    writer.sync()
    writer.close()
    seal.seal(root, layout.part_of(0, heights), ts=_DAY)
    return markets * (heights - 1)


def _book(symbol: str, market_id: str, height: int) -> Entry:
    when = _DAY + height * 600_000_000
    step = height * 7919 % 400
    bids = [(amount(10_000 - step), amount(step * 3 % 900)), (amount(9_990 - step), amount(55))]
    asks = [(amount(10_100 + step), amount(step * 7 % 900))]
    head = (market_id, height, height, when, when + 300_000_000, "chain-ws", height == 0)
    event = _encode(Book(*head, bids, asks))
    return Entry(f"book.{symbol}.", KIND_BY_CHANNEL["book"], height, event, 7, height + 1, when, 1)


def _trades(symbol: str, market_id: str, height: int) -> Entry:
    when = _DAY + height * 600_000_000
    money = (amount(10_000 + height % 90), amount(150), amount(1))
    fill = Trade(
        f"{height}_{int(market_id, 16)}", "buy", *money, "Market", "0x" + "ab" * 32, "0x1", "inj"
    )
    event = _encode(Trades(market_id, height, when, when + 300_000_000, "chain-ws", [fill]))
    kind = KIND_BY_CHANNEL["trades"]
    return Entry(f"trades.{symbol}.", kind, height, event, 7, height + 1, when, 1)


_READER: Final = """
import sys, time
from collector import Subscriber
with Subscriber(sys.argv[1]) as subscriber:
    frames, through, began = 0, int(sys.argv[2]), 0.0
    while True:
        received = subscriber.poll(60)
        if received is None:
            sys.exit("nothing came for a minute")
        event = received.event
        if getattr(event, "height", 0) < 1:
            continue
        began = began or time.monotonic()
        frames += 1
        if event.height == through and received.topic == f"book.{sys.argv[3]}.":
            break
print(frames, time.monotonic() - began)
"""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--markets", type=int, default=60)
    parser.add_argument("--heights", type=int, default=5_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, publish = Path(folder) / "archive", f"ipc://{folder}/publish"
        updates = make(root, asked.markets, asked.heights)
        book = [f for f in manifest.current(manifest.read(root)).values() if f.channel == "book"]
        size = sum(file.bytes for file in book) / updates
        reader = [sys.executable, "-c", _READER, publish, str(asked.heights - 1)]
        last = f"M{asked.markets - 1:03}-USDT"
        replay = [sys.executable, "-m", "collector", "replay", str(root), "--speed", "max"]
        began = time.monotonic()
        with subprocess.Popen([*replay, "--publish", publish]) as publisher:
            done = subprocess.run([*reader, last], capture_output=True, text=True, check=True)
            publisher.wait(60)
        frames, seconds = done.stdout.split()
        rate = int(frames) / float(seconds)
        print(f"updates {updates:,}, {size:.1f} bytes an update, {time.monotonic() - began:.1f} s")
        print(f"replayed {int(frames):,} frames, {rate:,.0f} frames/s at the reader")


if __name__ == "__main__":
    main()
