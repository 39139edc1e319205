"""
libzmq's monitors: which connections come, fail their handshake, and end.

An address that fails too often is shut out: first here, by closing its connections, then in the
kernel, at the listening sockets.
"""

import contextlib
import os
import socket
import struct
import time
from typing import Final

import zmq

from collector.access import accept_filter
from collector.access.attempt_limits import Attempts, Network, ShutOut, network_of
from collector.access.capacity_log import Capacity
from collector.access.connections import Connections
from collector.access.descriptors import duplicate, inode_of

_EVENTS: Final = (
    zmq.EVENT_LISTENING
    | zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_REASONS: Final = {0x11000001: "cryptography", 0x11000002: "mechanism"}
"""Reasons by libzmq's protocol error; any other error is "protocol"."""
_FROM_US: Final = 0x20000000
"""From here on, libzmq's protocol errors repeat the handler's answer, which is already counted."""
_event: Final = struct.Struct("=hi")


class Monitors:
    """The monitors of one publisher's sockets; used by the gate's thread only, except `watch`."""

    def __init__(
        self, connections: Connections, capacity: Capacity, attempts: Attempts, *, has_keys: bool
    ) -> None:
        self._connections = connections
        self._capacity = capacity
        self._attempts = attempts
        self._has_keys = has_keys
        self._shut_out = ShutOut()
        """The last filter that was given to the kernel."""
        self._listening: dict[int, int] = {}
        """The inodes of the public listening sockets, by descriptor."""
        self._doors: dict[zmq.Socket[bytes], tuple[str, str]] = {}
        """For each monitor: its socket's door, and the endpoint whose connections are not counted."""

    def watch(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        socket: "zmq.Socket[bytes]",
        door: str,
        own: str,
    ) -> None:
        """Monitor the connections of a socket that is about to be bound, except to its ``own`` endpoint."""
        address = f"inproc://monitor-of-{door}-{id(socket)}"
        socket.monitor(address, _EVENTS)
        monitor = context.socket(zmq.PAIR)
        # With a bounded queue, libzmq would stop sending frames until the monitor is read.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.connect(address)
        self._doors[monitor] = (door, own)

    def sockets(self) -> "list[zmq.Socket[bytes]]":
        """Return the monitors, to be polled."""
        return list(self._doors)

    def read_all(self) -> None:
        """Take the events of all monitors."""
        for monitor in self.sockets():
            self.read(monitor)

    def close(self) -> None:
        """Close the monitors."""
        for monitor in self._doors:
            monitor.close(linger=0)

    def read(self, monitor: "zmq.Socket[bytes]") -> None:
        """Take the events that one monitor has reported."""
        door, own = self._doors[monitor]
        with contextlib.suppress(zmq.Again):
            while True:
                head, endpoint = monitor.recv_multipart(zmq.NOBLOCK)
                if own and endpoint.decode("latin-1") == own:
                    continue
                event, value = _event.unpack(head)
                self._happened(event & 0xFFFF, value, door)

    def _happened(self, event: int, value: int, door: str) -> None:
        """Take one event of a monitor; the value is a descriptor or an error."""
        if event == zmq.EVENT_LISTENING:
            self._listening[value] = inode_of(value)
        elif event == zmq.EVENT_ACCEPTED:
            self._accepted(value, door)
        elif event == zmq.EVENT_DISCONNECTED:
            self._connections.ended(value)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            if value < _FROM_US:
                self._connections.refuse(_REASONS.get(value, "protocol"))
        else:
            self._connections.refuse("unfinished")

    def _accepted(self, descriptor: int, door: str) -> None:
        now = time.monotonic()
        if not self._has_keys:
            self._admit(descriptor, door, now)
            return
        try:
            # Its number may be another's at any moment; the duplicate stays the same connection.
            copy = os.dup(descriptor)
        except OSError:
            # It has ended, and cost something all the same.
            if reason := self._attempts.came(b"", now):
                self._connections.refuse(reason)
            return
        with contextlib.suppress(OSError), socket.socket(fileno=copy) as own:
            reason = self._attempts.came(_network_of(own), now)
            if not reason:
                self._admit(descriptor, door, now)
                return
            self._connections.refuse(reason)
            own.shutdown(socket.SHUT_RDWR)
            self.tell_kernel(now)

    def _admit(self, descriptor: int, door: str, now: float) -> None:
        """Add a connection to its door, if it has room."""
        if not self._connections.accepted(descriptor, door, now):
            self._capacity.refused(door, now)

    def tell_kernel(self, now: float) -> None:
        """Have the listening sockets refuse those who are shut out, if that has changed."""
        shut_out = self._attempts.shut_out(now)
        if shut_out.key() == self._shut_out.key():
            return
        self._shut_out = shut_out
        for descriptor, inode in self._listening.items():
            copy = duplicate(descriptor, inode)
            if copy >= 0:
                accept_filter.apply(copy, shut_out)
                os.close(copy)


def _network_of(connection: socket.socket) -> Network:
    """Return where a connection comes from; empty if it has gone."""
    with contextlib.suppress(OSError, IndexError):
        return network_of(str(connection.getpeername()[0]))
    return b""
