"""
The simulated exchange as a load: steady, in bursts, or as fast as the sockets take it.

``python -m bench.feeder OPTIONS`` (one JSON object) prints its endpoints, then obeys JSON
lines, each answered by one:

    {"do": "pace", "block_s": 0.028, "touched": 1.0}   blocks from now on at this pace
    {"do": "flood", "blocks": 200}                     so many, made in advance, at once
    {"do": "marks"}                                    when each block was sent; forgets them

Blocks are assembled before they are due, so that this work delays no block. A flood's blocks are
all assembled before the first is sent, so that sending costs almost nothing.
"""

import asyncio
import sys
import threading
import time
from typing import Any, Final

import msgspec
import uvloop

from tests.simulator.exchange import Activity, Exchange
from tests.simulator.markets import ALL_BUSY
from tests.simulator.venue import Options, Venue, running
from tests.simulator.ws_json import LevelsJson, WsBlock
from tests.simulator.ws_server import Connection, text_frame

_IDLE_S: Final = 0.65
_KEPT: Final = 300
_BEHIND_S: Final = 0.5
_AHEAD_S: Final = 0.1
"""How long before it is due a block is assembled: not while the last one is being measured."""


class Load:
    """A simulated exchange, and the pace of its blocks."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._exchange: Exchange = venue.exchange
        self._levels = LevelsJson()
        self._streams: list[Any] = [
            server
            for server in venue.servers
            if hasattr(server, "publish") and server is not venue.ws
        ]
        self._block_s = _IDLE_S
        self._woken = asyncio.Event()
        self._gate = asyncio.Lock()
        self._sent: object = None
        """The last block as it was sent: freed when the next one is assembled, not while it is measured."""
        self.marks: dict[int, tuple[int, int]] = {}
        """Height to when it was sent and how many updates it had."""

    async def run(self) -> None:
        """Make blocks at the pace that was last asked for."""
        due = time.monotonic()
        while True:
            # If a block is later than this, the pace does not catch up.
            due = max(due + self._block_s, time.monotonic() - _BEHIND_S)
            async with self._gate:
                await self._one(due)

    async def _one(self, due: float) -> None:
        await asyncio.sleep(due - time.monotonic() - _AHEAD_S)
        self._sent = None
        due_ms = int((time.time() + max(0.0, due - time.monotonic())) * 1000)
        block = self._exchange.next_block(due_ms)
        made = WsBlock(self._exchange.by_id, block, self._levels)
        bursts = [(c, burst(c, made)) for c in self._venue.ws.connections]
        await asyncio.sleep(due - time.monotonic())
        sent_at = time.time_ns()
        for connection, frames in bursts:
            connection.send(frames)
        for server in self._streams:
            # Making its messages takes 0.2 ms of a core, which the readers may need.
            if server.calls:
                server.publish(block)
        self.marks[block.height] = (sent_at, len(block.updates))
        self._sent = made, bursts

    def pace(self, block_s: float, touched: float) -> dict[str, Any]:
        """Change the pace and how many books change in a block."""
        self._block_s = block_s
        self._touch(touched)
        return {"height": self._exchange.height}

    def _touch(self, touched: float) -> None:
        activity = self._exchange.activity
        self._exchange.activity = msgspec.structs.replace(activity, touched=touched)

    async def flood(self, blocks: int) -> dict[str, Any]:
        """Make blocks that change every book, then write them as fast as the sockets take them."""
        async with self._gate:
            touched = self._exchange.activity.touched
            self._touch(1.0)
            connections = list(self._venue.ws.connections)
            now_ms = time.time_ns() // 1_000_000
            made = [self._exchange.next_block(now_ms + n) for n in range(blocks)]
            self._touch(touched)
            bursts = [
                [
                    burst(connection, WsBlock(self._exchange.by_id, block, self._levels))
                    for block in made
                ]
                for connection in connections
            ]
            first = time.time_ns()
            for n, block in enumerate(made):
                for connection, frames in zip(connections, bursts, strict=True):
                    await connection.writable.wait()
                    connection.transport.underlying_transport.write(frames[n])
                for server in self._streams:
                    server.publish(block)
                    await server.drained()
            updates = sum(len(block.updates) for block in made)
            return {"updates": updates, "first": first, "last": time.time_ns()}

    def take_marks(self) -> dict[str, Any]:
        """Return the marks and forget them."""
        marks, self.marks = self.marks, {}
        return {"marks": [(height, at, n) for height, (at, n) in marks.items()]}


def burst(connection: Connection, made: WsBlock) -> bytes:
    """Put a block together as one connection hears it: a frame per subscription."""
    return b"".join(
        text_frame(b"%b%b}" % (subscription.prefix, made.result(subscription.filter)))
        for subscription in connection.subscriptions.values()
        if not subscription.is_dead
    )


async def _obey(load: Load, venue: Venue, line: bytes) -> dict[str, Any]:
    command: dict[str, Any] = msgspec.json.decode(line)
    match command.pop("do"):
        case "pace":
            return load.pace(**command)
        case "flood":
            return await load.flood(**command)
        case "marks":
            return load.take_marks()
        case _:
            return {"subscriptions": venue.ws.subscriptions, "evicted": venue.ws.evicted}


async def _serve(options: dict[str, Any]) -> None:
    activity = Activity(
        touched=0.0,
        levels=options.pop("levels", 16),
        matches=options.pop("matches", 0.0),
        shares=ALL_BUSY,
    )
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    given: dict[str, Any] = {"block_time_s": _IDLE_S, "history": _KEPT} | options
    made = Options(activity=activity, **given)
    async with running(made, paced=False) as venue:
        if "history" in options:
            # The size is given in blocks, so updates must not limit it.
            venue.exchange._history_updates = 1 << 40
        load = Load(venue)
        running_load = asyncio.create_task(load.run())
        _say(venue.info())
        loop = asyncio.get_running_loop()
        threading.Thread(target=_read, args=(loop, lines), daemon=True).start()
        while line := await lines.get():
            _say(await _obey(load, venue, line))
        running_load.cancel()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.flush()


def _read(loop: asyncio.AbstractEventLoop, lines: "asyncio.Queue[bytes]") -> None:
    """Hand lines of stdin to the loop; an empty one is its end."""
    for line in sys.stdin.buffer:
        loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(lines.put_nowait, b"")


def main() -> None:
    """Serve until stdin ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(msgspec.json.decode(sys.argv[1])))


if __name__ == "__main__":
    main()
