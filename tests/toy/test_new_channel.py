"""
A new channel is an event, a row, and what its source does and promises: three files.

The program is copied, the channel ``volume`` is added to the copy, and it is collected there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

EVENT = '''class Volume(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was ever traded."""

    market_id: str
    height: int
    ts_event: int
    ts_recv: int
    source: Source
    total: str


Event: TypeAlias = Volume | '''
ROW = """CHANNELS: Final = (
    Channel(
        name="volume",
        kind=30,
        event=Volume,
        topic="volume.SYMBOL.",
        identity=Identity.HEIGHT,
        text=lambda event: event.total,
        is_state=True,
        is_replayed=False,
    ),
"""
PUBLISHED = """            self._pipeline.join(book, time.time_ns())
            volume = Volume(market_id, found["batch"], 0, time.time_ns(), "query", "17")
            self._pipeline.publish(market_id, volume)
"""
CHANGES = {
    "shards/protocol/events.py": [
        ("Event: TypeAlias = ", EVENT),
        ("OtherEvent: TypeAlias = ", "OtherEvent: TypeAlias = Volume | "),
    ],
    "shards/protocol/channels.py": [
        ("CHANNELS: Final = (\n", ROW),
        ("    Trades,\n)", "    Trades,\n    Volume,\n)"),
    ],
    "tests/toy/adapter.py": [
        ("            self._pipeline.join(book, time.time_ns())\n", PUBLISHED),
        ("import Block,", "import Volume, Block,"),
        ('promises = {"book"', 'promises = {"volume": "after each query", "book"'),
    ],
}  # fmt: skip
PROGRAM = """
import asyncio, pathlib, tempfile
from collector import Subscriber
from collector.client.formatting import json_line, text_line
from collector.markets.discovery import discover
from shards.adapters import registry
from shards.protocol.settings import Endpoints
from tests.toy.adapter import PLACE
from tests.toy.exchange import Exchange
from tests.toy.processes import collecting

async def main():
    registry.register("toy", PLACE)
    registry.adapter("toy").check(["volume"])
    folder = pathlib.Path(tempfile.mkdtemp(dir="."))
    async with Exchange() as toy, asyncio.timeout(60):
        endpoints = Endpoints(others={"toy": (toy.endpoint,)})
        markets = await asyncio.to_thread(discover, endpoints)
        with collecting(endpoints, markets, folder, channels=("book", "volume")) as publish:
            with Subscriber(publish, channels=["volume"]) as subscriber:
                async for received in subscriber:
                    if received.channel == "volume":
                        return print(text_line(received), json_line(received))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_new_channel_touches_three_files_and_arrives(tmp_path: Path) -> None:
    for name in ("collector", "shards", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "golden", "static", "simulator")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name, edits in CHANGES.items():
        file = tmp_path / name
        text = file.read_text()
        for before, after in edits:
            assert before in text, (name, before)
            text = text.replace(before, after, 1)
        file.write_text(text)
    assert len(CHANGES) == 3
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "volume   TOY-CASH" in done.stdout
    assert '"total":"17"' in done.stdout
