"""
The floor: picows receives, bare msgspec decodes, one ZeroMQ hop, nothing else.

``python -m bench.floor receive OPTIONS`` and ``python -m bench.floor sink ENDPOINT``. It checks no
sequence, keeps no book and survives no fault: the collector's cost above this floor is the price of
those. ``batched`` sends one ZeroMQ message per read of the socket instead of one per update, as the
collector does.
"""

import asyncio
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import uvloop
import zmq
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench import bare
from bench.tally import Tally, obey, say, until_told
from shards.adapters.injective_chain.ws_source import subscribe_request
from shards.protocol.settings import Market

_HEAD: Final = struct.Struct(">QQ")
Consumer = Callable[[memoryview, Any, bool], None]
"""Gets a payload, its decoded content, and whether it is the last of one read."""


class Listener(WSListener):
    """Decodes messages and passes them on."""

    def __init__(self, consume: Consumer) -> None:
        self._consume = consume

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one message."""
        payload = frame.get_payload_as_memoryview()
        self._consume(payload, bare.decode(payload), frame.last_in_buffer)


async def listen(options: dict[str, Any], consume: Consumer) -> None:
    """Subscribe as the collector does, one subscription per market."""
    transport, _ = await ws_connect(
        lambda: Listener(consume),
        options["ws"],
        max_frame_size=64 << 20,
        read_buffer_init_size=256 << 10,
    )
    for number, market in enumerate(options["markets"], start=1):
        asked = Market(market["market_id"], market["ticker"], "", market["type"])
        transport.send(WSMsgType.TEXT, subscribe_request(number, asked))
        await asyncio.sleep(0)


def forwarder(socket: "zmq.Socket[bytes]", *, batched: bool) -> Consumer:
    """Return a consumer that forwards updates."""
    waiting: list[bytes] = []
    head = [0, 0]

    def one(payload: memoryview, message: Any, last: bool) -> None:
        n = bare.updates_in(message)
        if n:
            socket.send(_HEAD.pack(message.result.block_height, n) + payload)

    def many(payload: memoryview, message: Any, last: bool) -> None:
        n = bare.updates_in(message)
        if n:
            head[0], head[1] = message.result.block_height, head[1] + n
            waiting.append(bytes(payload))
        if last and waiting:
            socket.send(_HEAD.pack(*head) + b"".join(waiting))
            waiting.clear()
            head[1] = 0

    return many if batched else one


async def receive(options: dict[str, Any]) -> None:
    """Run as the receiving process."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(options["push"])
        await listen(options, forwarder(socket, batched=options.get("batched", False)))
        say({"ready": True})
        await until_told(Tally())


def drain(socket: "zmq.Socket[bytes]", tally: Tally) -> None:
    """Receive a bounded part of the waiting messages."""
    for _ in range(512):
        try:
            message = socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        tally.note(*_HEAD.unpack_from(message))


def count(socket: "zmq.Socket[bytes]", tally: Tally) -> None:
    """Receive waiting messages in a foreign format: each is one update."""
    for _ in range(512):
        try:
            socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        tally.note(0, 1)


def sink(endpoint: str, *, times: bool, subscribes: bool) -> None:
    """Run as the process at the other end of the hop."""
    tally = Tally(times=times)
    take = count if subscribes else drain
    with zmq.Context() as context, context.socket(zmq.SUB if subscribes else zmq.PULL) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if subscribes:
            socket.setsockopt(zmq.RCVHWM, 1_000_000)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.bind(endpoint)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(0, zmq.POLLIN)
        say({"ready": time.time_ns()})
        while True:
            ready = dict(poller.poll())
            if socket in ready:
                take(socket, tally)
            if 0 in ready and not obey(sys.stdin.buffer.readline(), tally):
                return


def main() -> None:
    """Run as one of the two processes."""
    if sys.argv[1] == "sink":
        sink(sys.argv[2], times="times" in sys.argv, subscribes="sub" in sys.argv)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(receive(msgspec.json.decode(sys.argv[2])))


if __name__ == "__main__":
    main()
