"""
Subscriptions within rights: a manual XPUB, and what each connection is granted.

With ``XPUB_MANUAL`` nothing is sent to a connection before we say which prefixes it is
subscribed to. libzmq applies that to the connection whose message was read last. It keeps two
queues for it, messages and connections, and a message that is no subscription is in the first
one only: from there until all is read they are out of step, and a grant could go to another
connection. So whoever sends such a message is cut off, and so are those who subscribed in the
same moment; they connect and subscribe again by themselves.
"""

import contextlib
from typing import Final

import zmq

from collector.access.connections import Grant
from collector.access.gate import Gate, descriptor_of
from collector.access.rights import Rights

_SUBSCRIBE: Final = b"\x01"
_CANCEL: Final = b"\x00"


class Subscriptions:
    """What comes from the subscribers of one publishing socket."""

    def __init__(self, socket: "zmq.Socket[bytes]", gate: Gate) -> None:
        self._socket = socket
        self._gate = gate
        self.has_any = False
        """Whether anybody has ever subscribed."""
        if gate.has_keys:
            socket.setsockopt(zmq.XPUB_MANUAL, 1)

    def drain(self) -> bool:
        """Take all there is; say whether somebody subscribed."""
        return self._drain_granting() if self._gate.has_keys else self._drain_plain()

    def _drain_plain(self) -> bool:
        """Take what libzmq has acted on by itself."""
        has_new = False
        with contextlib.suppress(zmq.Again):
            while True:
                has_new |= self._socket.recv(zmq.NOBLOCK)[:1] == _SUBSCRIBE
        return has_new

    def _drain_granting(self) -> bool:
        is_out_of_step = has_new = False
        with contextlib.suppress(zmq.Again):
            while True:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                kind, prefix = bytes(frame.buffer[:1]), bytes(frame.buffer[1:])
                if kind not in (_SUBSCRIBE, _CANCEL):
                    is_out_of_step = True
                    self._gate.connections.expel(descriptor_of(frame), "nonsense")
                elif not is_out_of_step:
                    has_new |= kind == _SUBSCRIBE
                    self._take(frame, kind, prefix)
                elif kind == _SUBSCRIBE:
                    self._gate.connections.expel(descriptor_of(frame), "out_of_step")
        return has_new

    def _take(self, frame: zmq.Frame, kind: bytes, prefix: bytes) -> None:
        rights, grant = self._gate.subscriber(frame)
        if grant is None:
            # Our own process, whose topics nobody counts; or one that is let in no more.
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
