"""Wait for any of several sockets, blocking or inside an event loop."""

import asyncio
import math
from collections.abc import Callable
from typing import TypeAlias

import zmq

Awaited: TypeAlias = "list[tuple[zmq.Socket[bytes], int]]"
"""Sockets, and the events that are awaited of each."""


def wait_blocking(awaited: Awaited, timeout_s: float) -> None:
    """Wait until one of the events has happened, or the time is over."""
    poller = zmq.Poller()
    for socket, events in awaited:
        poller.register(socket, events)
    poller.poll(math.ceil(timeout_s * 1000))


class Waiting:
    """A reader's wait in its loop, which `end` ends: before the sockets are closed."""

    def __init__(self) -> None:
        self._end: Callable[[], None] | None = None

    async def wait(self, awaited: Awaited, timeout_s: float) -> None:
        """Wait in the running loop; a ZeroMQ descriptor only signals that one should check."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        descriptors = [int(socket.getsockopt(zmq.FD)) for socket, _ in awaited]

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        def end() -> None:
            while descriptors:
                loop.remove_reader(descriptors.pop())
            wake()

        timer = loop.call_later(timeout_s, wake)
        for descriptor in descriptors:
            loop.add_reader(descriptor, wake)
        self._end = end
        try:
            # The edge may already have passed, because sending and receiving consume it.
            if not any(int(socket.getsockopt(zmq.EVENTS)) & events for socket, events in awaited):
                await woken
        finally:
            timer.cancel()
            end()
            self._end = None

    def end(self) -> None:
        """End it, if there is one: the numbers of closed descriptors are given to others at once."""
        if self._end is not None:
            self._end()
