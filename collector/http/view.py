"""
What HTTP handlers may know: the aggregator's answers, each asked for once however many want it.

This process shares nothing with the data path but the aggregator's ROUTER. An answer is fresh
for a fifth of a second, so a hundred open pages cost the aggregator no more than one.
"""

import asyncio
import itertools
import time
from typing import Any, Final, TypeAlias

import msgspec
import zmq
import zmq.asyncio

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode
_WITHIN_S: Final = 2.0
_FRESH_S: Final = 0.2

_Key: TypeAlias = tuple[str, tuple[tuple[str, Any], ...]]


class Unanswered(Exception):
    """The aggregator is away; its text is a sentence for the user."""


class View:
    """A collector as its aggregator tells of it; read only. Close it when done."""

    def __init__(self, requests: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # No request waits for an aggregator that is away: it would be stale on its return.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self._socket.connect(requests)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked: dict[_Key, tuple[float, asyncio.Task[dict[str, Any]]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.answered_at = time.monotonic()
        """When the aggregator last answered; when this began, before it ever did."""

    async def status(self) -> dict[str, Any]:
        """Return the summary."""
        status: dict[str, Any] = (await self.ask("status"))["status"]
        return status

    async def markets(self) -> list[dict[str, Any]]:
        """Return every market with its state."""
        markets: list[dict[str, Any]] = (await self.ask("markets"))["markets"]
        return markets

    async def events(self, after: int = 0) -> dict[str, Any]:
        """Return ``{events, last}``: what the journal has after an entry."""
        return _pick(await self.ask("events", after=after), "events", "last")

    async def history(
        self, grain: str = "second", since: float = 0, symbol: str | None = None
    ) -> dict[str, Any]:
        """Return how it stood since an instant, or how one market did."""
        answer = await self.ask("history", grain=grain, since=since, symbol=symbol)
        return {name: value for name, value in answer.items() if name != "id"}

    async def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """
        Return the aggregator's answer to a request.

        Raises:
            Unanswered: If there is none in time.
            ValueError: If it refuses, with its sentence.

        """
        key = (what, tuple(sorted(fields.items())))
        now = time.monotonic()
        at, task = self._asked.get(key, (0.0, None))
        if task is None or (task.done() and now - at > _FRESH_S):
            self._asked = {k: v for k, v in self._asked.items() if now - v[0] < 10 * _FRESH_S}
            task = asyncio.create_task(self._ask(what, fields))
            # If nobody waits any more, nobody need hear that it failed.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked[key] = now, task
        # Whoever goes away does not take the answer from the others.
        answer: dict[str, Any] = await asyncio.shield(task)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    async def _ask(self, what: str, fields: dict[str, Any]) -> dict[str, Any]:
        id_ = next(self._ids)
        answer = self._waiting[id_] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._socket.send(_encode({"ask": what, "id": id_, **fields}), zmq.NOBLOCK)
                reply: dict[str, Any] = await answer
                return reply
        except (TimeoutError, zmq.Again):
            raise Unanswered(
                "the aggregator does not answer; it is restarted if it ended"
            ) from None
        finally:
            del self._waiting[id_]

    async def _read(self) -> None:
        while True:
            answer = _decode((await self._socket.recv_multipart())[0])
            self.answered_at = time.monotonic()
            waiting = self._waiting.get(answer.get("id", 0))
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def aclose(self) -> None:
        """Close the socket."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._context.destroy(linger=0)


def _pick(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: answer[name] for name in names}
