"""
The request client: a question to an aggregator, its reply, a deadline (docs/wire-format.md).

::

    RequestSocket        the DEALER: non-blocking send and receive
    RequestClient        one question at a time, blocking: commands, the coordinator
    AsyncRequestClient   many at once, on an event loop: the page, `top`, the HTTP server

A `Subscriber` drives a `RequestSocket` with the requests of its `Inbox`. Requests are never queued
while the aggregator is away. Replies are foreign bytes: unreadable ones, and replies to questions
already given up, are dropped.
"""

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import zmq

from collector.access.key_files import Keys
from collector.client.handshakes import Handshakes
from collector.client.sockets import chosen, connect, made
from collector.settings.parts import asked_at, requests_endpoint
from shards.protocol.errors import UNREADABLE, ConfigError

encode: Final = msgspec.msgpack.Encoder().encode
"""Encode a request."""
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode
_HWM: Final = 1_000


class Refused(ValueError):
    """The aggregator refused a request; the text is its sentence."""


def no_answer(endpoint: str, within_s: float, trouble: str = "") -> TimeoutError:
    """Create the error for a request without a reply: one sentence for the user."""
    return TimeoutError(
        trouble
        or f"no collector answered at {endpoint} within {within_s:g} s: "
        "is one running ('collector start'), and is this its endpoint (--connect)?"
    )


def read_reply(parts: Sequence[bytes]) -> dict[str, Any] | None:
    """Decode a reply's first part; None if it is not a map."""
    try:
        return _decode(parts[0])
    except (*UNREADABLE, IndexError):
        return None


def _accepted(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise Refused(str(answer["error"]))
    return answer


class RequestSocket:
    """
    A DEALER connected to an aggregator's requests endpoint.

    Raises:
        ValueError: If the endpoint is invalid.

    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        keys: Keys | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """``name`` is the endpoint's in sentences; None: `trouble` is not read, so there is no monitor."""
        keys = chosen(keys, endpoint)
        self.socket = made(context, zmq.DEALER, hwm=_HWM, keys=keys, immediate=True)
        # Before it connects: libzmq reports some refusals once, and does not try again.
        self._handshakes = None if name is None else Handshakes(self.socket, name or endpoint, keys)
        self.trouble = ""
        """Why the last handshake failed; empty while there is a connection."""
        try:
            connect(self.socket, endpoint)
        except ValueError:
            self.close()
            raise

    def send(self, request: bytes) -> bool:
        """Send an encoded request; return False if the aggregator is away or its queue is full."""
        # Also while connected: unread events would block every socket of the context.
        trouble = self._handshakes.trouble() if self._handshakes is not None else ""
        try:
            self.socket.send(request, zmq.NOBLOCK)
        except zmq.Again:
            self.trouble = trouble
            return False
        self.trouble = ""
        return True

    def receive(self) -> list[bytes] | None:
        """Return the parts of the next reply; None if there is none yet."""
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def awaited(self, *, unsent: bool) -> int:
        """Return the ZeroMQ events to wait for; with unsent requests, also for the connection."""
        return zmq.POLLIN | zmq.POLLOUT if unsent else zmq.POLLIN

    def close(self) -> None:
        """Close the socket."""
        if self._handshakes is not None:
            self._handshakes.close()
        self.socket.close(linger=0)


class RequestClient:
    """One question at a time, blocking. Close it when done, or use ``with``."""

    def __init__(self, endpoint: str, keys: Keys | None = None, *, name: str = "") -> None:
        """``name`` is the endpoint's in sentences; by default itself."""
        self._name = name or endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = RequestSocket(self._context, endpoint, keys, name=name)
        except (ValueError, ConfigError):
            self._context.destroy(linger=0)
            raise
        self._ids = itertools.count(1)

    @classmethod
    def of(cls, publish: str, keys: Keys | None = None) -> Self:
        """Return the client of the collector that publishes at an endpoint: sentences name that one."""
        return cls(requests_endpoint(publish), keys, name=asked_at(publish))

    def ask(self, what: str, *, within_s: float, **fields: Any) -> dict[str, Any]:
        """
        Return the reply's map.

        Raises:
            TimeoutError: If none arrives in time; the text is one sentence for the user.
            Refused: If the aggregator refuses, with its sentence.

        """
        number = next(self._ids)
        request = encode({"ask": what, "id": number, **fields})
        deadline = time.monotonic() + within_s
        sent = self._socket.send(request)
        while self._wait(deadline, unsent=not sent):
            sent = sent or self._socket.send(request)
            while (parts := self._socket.receive()) is not None:
                answer = read_reply(parts)
                # A late reply to an earlier question.
                if answer is not None and answer.get("id") == number:
                    return _accepted(answer)
        if not sent:
            # There is no connection: libzmq may know the reason.
            self._socket.send(request)
        raise no_answer(self._name, within_s, self._socket.trouble)

    def _wait(self, deadline: float, *, unsent: bool) -> bool:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        events = self._socket.awaited(unsent=unsent)
        return bool(self._socket.socket.poll(math.ceil(left_s * 1000), events))

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncRequestClient:
    """Many questions at once, on the running event loop. Close it there."""

    def __init__(self, endpoint: str, keys: Keys | None = None, *, name: str = "") -> None:
        """``name`` is the endpoint's in sentences; by default itself."""
        self._name = name or endpoint
        self.answered_at = time.monotonic()
        """When the last reply arrived; the time of construction before the first."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = RequestSocket(self._context, endpoint, keys, name=name)
        except (ValueError, ConfigError):
            self._context.destroy(linger=0)
            raise
        self._ids = itertools.count(1)
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[bytes]]]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.socket.FD, self._turn)

    @classmethod
    def of(cls, publish: str, keys: Keys | None = None) -> Self:
        """Return the client of the collector that publishes at an endpoint: sentences name that one."""
        return cls(requests_endpoint(publish), keys, name=asked_at(publish))

    async def ask(self, what: str, *, within_s: float, **fields: Any) -> dict[str, Any]:
        """
        Return the reply's map.

        Raises:
            TimeoutError: If none arrives in time; the text is one sentence for the user.
            Refused: If the aggregator refuses, with its sentence.

        """
        answer, _ = await self.ask_parts(what, within_s=within_s, **fields)
        return answer

    async def ask_parts(
        self, what: str, *, within_s: float, **fields: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Like `ask`, but also return the bodies that follow the map."""
        number = next(self._ids)
        request = encode({"ask": what, "id": number, **fields})
        reply = self._waiting[number] = self._loop.create_future()
        self._unsent.append((number, request))
        self._turn()
        try:
            async with asyncio.timeout(within_s):
                answer, bodies = await reply
        except TimeoutError:
            self._turn()
            raise no_answer(self._name, within_s, self._socket.trouble) from None
        finally:
            del self._waiting[number]
        return _accepted(answer), bodies

    def _turn(self) -> None:
        """Send and receive until nothing is left: the descriptor is edge-triggered."""
        while True:
            while self._unsent and (
                self._unsent[0][0] not in self._waiting or self._socket.send(self._unsent[0][1])
            ):
                self._unsent.popleft()
            parts = self._socket.receive()
            if parts is not None:
                self._take(parts)
            elif not self._can_send():
                return

    def _can_send(self) -> bool:
        return bool(self._unsent) and bool(
            int(self._socket.socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT
        )

    def _take(self, parts: list[bytes]) -> None:
        answer = read_reply(parts)
        if answer is None:
            return
        self.answered_at = time.monotonic()
        number = answer.get("id")
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is not None and not waiting.done():
            waiting.set_result((answer, parts[1:]))

    def close(self) -> None:
        """Close the socket; pending questions get no reply."""
        self._loop.remove_reader(self._socket.socket.FD)
        self._context.destroy(linger=0)
