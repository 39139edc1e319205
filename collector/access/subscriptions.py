"""
Subscriptions limited to a connection's rights, by a manual XPUB.

With ``XPUB_MANUAL`` a connection receives nothing before we set its prefixes. libzmq applies them to
the connection whose message was read last. It keeps two queues for that, messages and connections.
A message that is not a subscription is only in the first queue, so from there until both are empty
the queues do not match, and a grant could go to the wrong connection. The sender of such a message
is disconnected, and so are connections that subscribed at the same moment; these reconnect and
subscribe again by themselves.
"""

import contextlib
import time
from typing import Final

import zmq

from collector.access.connections import Grant
from collector.access.gate import Gate, descriptor_of
from collector.access.rights import Rights

MAX_SUBSCRIPTION: Final = 64 << 10
"""Bytes of a subscription: topics are short, and ZeroMQ keeps what it is sent."""
_TURN: Final = 256
"""Messages taken at once, so that frames get their turn."""
_SUBSCRIBE: Final = b"\x01"
_CANCEL: Final = b"\x00"


class Subscriptions:
    """The subscriptions of one publishing socket."""

    def __init__(self, socket: "zmq.Socket[bytes]", gate: Gate) -> None:
        self._socket = socket
        self._gate = gate
        self.number = 0
        """Subscriptions so far."""
        if gate.has_keys:
            socket.setsockopt(zmq.XPUB_MANUAL, 1)

    def drain(self) -> bool:
        """Take what there is, up to a bound; say whether there may be more."""
        with contextlib.suppress(zmq.Again):
            if self._gate.has_keys:
                self._drain_granting()
            else:
                self._drain_plain()
            return True
        return False

    def _drain_plain(self) -> None:
        """Take what libzmq has acted on by itself."""
        for _ in range(_TURN):
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            self._gate.connections.said(descriptor_of(frame), time.monotonic())
            self.number += bytes(frame.buffer[:1]) == _SUBSCRIBE

    def _drain_granting(self) -> None:
        """Take all there is if anything is out of step, or else a turn."""
        is_out_of_step = False
        taken = 0
        while is_out_of_step or taken < _TURN:
            taken += 1
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            kind, prefix = bytes(frame.buffer[:1]), bytes(frame.buffer[1:])
            if kind not in (_SUBSCRIBE, _CANCEL):
                is_out_of_step = True
                self._gate.connections.expel(descriptor_of(frame), "nonsense")
            elif not is_out_of_step:
                self.number += kind == _SUBSCRIBE
                self._take(frame, kind, prefix)
            elif kind == _SUBSCRIBE:
                self._gate.connections.expel(descriptor_of(frame), "out_of_step")

    def _take(self, frame: zmq.Frame, kind: bytes, prefix: bytes) -> None:
        descriptor = descriptor_of(frame)
        self._gate.connections.said(descriptor, time.monotonic())
        if len(prefix) > MAX_SUBSCRIPTION:
            self._gate.connections.expel(descriptor, "size")
            return
        rights, grant = self._gate.subscriber(frame)
        if grant is None:
            # Either our own process, which has no limits, or a revoked connection.
            changed, wanted = list(rights.granted(prefix)), kind
        else:
            changed, wanted = self._change(frame, grant, rights, kind, prefix), kind
        option = zmq.SUBSCRIBE if wanted == _SUBSCRIBE else zmq.UNSUBSCRIBE
        for one in changed:
            self._socket.setsockopt(option, one)

    def _change(
        self, frame: zmq.Frame, grant: Grant, rights: Rights, kind: bytes, prefix: bytes
    ) -> list[bytes]:
        granted = rights.granted(prefix)
        if kind == _CANCEL:
            return grant.unsubscribes(prefix, granted)
        try:
            return grant.subscribes(prefix, granted)
        except OverflowError:
            self._gate.connections.expel(descriptor_of(frame), "subscriptions")
            return []
