"""The control client: sends a report each second, receives resume points, assignments, fencing."""

import asyncio
import itertools
from typing import Final

import zmq

from shards.protocol import control
from shards.protocol.control import Answer, Report
from shards.protocol.errors import UNREADABLE

_POLL_S: Final = 0.005


class ControlClient:
    """A DEALER to the aggregator's ROUTER. A report that cannot be sent is skipped."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, 4)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.connect(endpoint)
        self._ids = itertools.count(1)

    async def report(self, report: Report, *, wait_s: float) -> Answer | None:
        """Send a report and return its answer; None if the aggregator does not answer in time."""
        number = next(self._ids)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        request = control.encode(control.ReportRequest(id=number, report=report))
        sent = False
        while loop.time() < deadline:
            # Polling is cheap at this rate, and spares the socket's edge-triggered
            # descriptor, which loses wake-ups around sends (libzmq's own documentation).
            try:
                if not sent:
                    self._socket.send(request, zmq.NOBLOCK)
                    sent = True
                answer = self._answer(self._socket.recv(zmq.NOBLOCK))
                if answer is not None and answer.id == number:
                    return answer
            except zmq.Again:
                await asyncio.sleep(_POLL_S)
        return None

    @staticmethod
    def _answer(part: bytes) -> Answer | None:
        try:
            return control.decode_answer(part)
        except UNREADABLE:
            return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)
