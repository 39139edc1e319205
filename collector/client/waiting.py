"""Wait for any of several sockets, blocking or inside an event loop."""

import asyncio
import math
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


async def wait(awaited: Awaited, timeout_s: float) -> None:
    """Wait in the running loop; a ZeroMQ descriptor only signals that one should check."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    descriptors = [int(socket.getsockopt(zmq.FD)) for socket, _ in awaited]
    timer = loop.call_later(timeout_s, wake)
    for descriptor in descriptors:
        loop.add_reader(descriptor, wake)
    try:
        # The edge may already have passed, because sending and receiving consume it.
        if not any(int(socket.getsockopt(zmq.EVENTS)) & events for socket, events in awaited):
            await woken
    finally:
        timer.cancel()
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
