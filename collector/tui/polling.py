"""Ask an aggregator, again and again, without standing in the way of the screen."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import zmq
import zmq.asyncio

from collector.tui.view_model import Answers, Watched

EVERY_S: Final = 0.5
"""A killed shard shall be seen within two seconds, and a screen be redrawn at most thrice in one."""
_ANSWER_S: Final = 1.5

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any])


async def poll(endpoint: str, watched: Watched, seen: Callable[[], None]) -> None:
    """Keep `watched` up to date until cancelled; call `seen` after every turn."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        # No question waits for an aggregator that is away: it would be stale on its return.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 10)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        socket.connect(endpoint)
        questions = _Questions(socket)
        while True:
            started = time.monotonic()
            try:
                answers = await _turn(questions.ask, watched)
            except TimeoutError:
                watched.silent()
            else:
                watched.take(answers, time.monotonic(), time.time())
            seen()
            await asyncio.sleep(max(0.0, started + EVERY_S - time.monotonic()))


async def _turn(ask: Callable[..., Awaitable[dict[str, Any]]], watched: Watched) -> Answers:
    """
    Ask for everything that is new.

    Raises:
        TimeoutError: If one question got no answer.

    """
    summary = (await ask("status"))["status"]
    markets = (await ask("markets"))["markets"]
    events = (await ask("events", after=watched.last_event))["events"]
    since = watched.since(time.time())
    points = (await ask("history", grain="second", since=since))["points"]
    return Answers(summary, markets, events, points)


class _Questions:
    """A DEALER that puts one question at a time."""

    def __init__(self, socket: zmq.asyncio.Socket) -> None:
        self._socket = socket
        self._id = 0

    async def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """
        Return the answer.

        Raises:
            TimeoutError: If there is none in time.

        """
        self._id += 1
        async with asyncio.timeout(_ANSWER_S):
            await self._socket.send(_encode({"ask": what, "id": self._id, **fields}))
            while True:
                parts = await self._socket.recv_multipart()
                with suppress(msgspec.DecodeError):
                    answer = _decode.decode(parts[0])
                    # What is late answers a question that was given up.
                    if answer.get("id") == self._id:
                        return answer
