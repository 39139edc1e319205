"""
The gate: CURVE on a publisher's sockets, and our own ZAP handler.

libzmq asks the handler about each connection with a valid handshake, over a socket inside the
process; without a handler it accepts every key. The handler has its own thread, away from the
publisher's loop and its frames. The same thread watches the file of authorized keys and reads
libzmq's monitors.

::

    handshake ── invalid ──▶ ended by libzmq, counted by its monitor
        │ valid
        ▼
    ZAP: is the key authorized for this socket, and does it have connections left?
        │ yes: named bob/17
        ▼
    each message: still authorized? ── no ──▶ the connection is closed
        │ yes
        ▼
    its rights: subscriptions by prefix, requests by topic
"""

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import zmq
from zmq.utils import z85

from collector.access import accept_filter
from collector.access.attempts import Attempts, Network, ShutOut, network_of
from collector.access.authorized_watch import NOBODY, AuthorizedFile
from collector.access.capacity import Capacity
from collector.access.connections import Connections, Grant, duplicate, inode_of
from collector.access.key_files import Keys
from collector.access.rates import Rates
from collector.access.report import AccessReport
from collector.access.rights import ALL_RIGHTS, NO_RIGHTS, Rights
from collector.settings.parts import AccessConfig
from shards.runtime import descriptors

log = logging.getLogger(__name__)

FRAMES: Final = "frames"
REQUESTS: Final = "requests"
ADMIN: Final = "admin"
_OWN: Final = "own"
"""The ZAP domain of endpoints that the file system protects; libzmq cannot reset it to empty."""

_THREADS: Final = ("", FRAMES, REQUESTS, ADMIN)
"""The doors, in the order of libzmq's threads; the first one is for our own processes."""

_TURN_MS: Final = 200
"""Interval between looks at the file of authorized keys. Two equal looks are needed, and a revoked
key must be out within a second."""
_SWEEP_S: Final = 1.0
_ASKING_SHARE: Final = 0.1
"""Of a core, for the requests of one key."""
_ASKING_BURST_S: Final = 2.0
_HOURLY_S: Final = 3_600.0
_SPARE: Final = 256
"""Descriptors reserved for the rest of the process."""
_ZAP: Final = "inproc://zeromq.zap.01"
_EVENTS: Final = (
    zmq.EVENT_LISTENING
    | zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_REASONS: Final = {0x11000001: "cryptography", 0x11000002: "mechanism"}
"""Reasons by libzmq's protocol error; any other error is "protocol"."""
_LET_IN: Final = b"200"
_REFUSED: Final = b"404"
"""No status of ZAP, on purpose: libzmq then closes the connection at once, and its client connects
again. After 400 a client of libzmq never would, also when its key is authorized a moment later;
after 300 libzmq keeps the connection until its handshake has taken too long."""
_FROM_US: Final = 0x20000000
"""From here on, libzmq's protocol errors repeat the handler's answer, which is already counted."""
_event: Final = struct.Struct("=hi")


class Requester:
    """The sender of a request: its rights, and its limits."""

    __slots__ = ("_gate", "descriptor", "rights", "who")

    def __init__(self, gate: "Gate", who: object, rights: Rights, descriptor: int) -> None:
        self._gate = gate
        self.who = who
        """The key's name; without keys, the connection's identity. None: our own process."""
        self.rights = rights
        self.descriptor = descriptor

    def may_replay(self) -> bool:
        """Take a turn for a resend; return False if the limit is reached."""
        return self._gate.replays.take(self.who, time.monotonic())

    def may_ask(self) -> bool:
        """Say whether any of the time for its requests is left."""
        return not self._is_timed() or self._gate.asking.left(self.who, time.monotonic()) > 0.0

    def took(self, seconds: float) -> None:
        """Count the CPU of an answer, during which no frame was published."""
        if self._is_timed():
            self._gate.asking.charge(self.who, seconds, time.monotonic())

    def _is_timed(self) -> bool:
        """Whether it is a key that asks; without one, another connection is another asker."""
        return self._gate.has_keys and self.who is not None

    def owes(self, size: int) -> None:
        """Count the bytes of a reply, which waits until it is read."""
        self._gate.connections.owes(self.descriptor, size)

    def is_too_much(self, request: Sequence[zmq.Frame], most: int) -> bool:
        """Say whether a request is too long, or one too many; then its connection is closed."""
        now = time.monotonic()
        if sum(map(len, request)) > most:
            reason = "size"
        elif self._is_timed() and self._gate.asking.left(self.who, now) < -_ASKING_BURST_S:
            # It goes on although it has been refused for long.
            reason = "requests"
        else:
            return False
        self._gate.connections.expel(self.descriptor, reason)
        return True

    def refuse(self, reason: str) -> None:
        """Count a refused request."""
        self._gate.connections.counts.requests[reason] += 1


class Gate:
    """Access control for one publisher's sockets. Stop it when done."""

    def __init__(self, config: AccessConfig) -> None:
        """
        Read the keys.

        Raises:
            ConfigError: If a file cannot be used.

        """
        self.config = config
        self.has_keys = bool(config.keys)
        self._keys = Keys.read(config.keys) if config.keys else None
        self._file = AuthorizedFile(Path(config.authorized)) if config.keys else None
        most = max(16, (descriptors.limit() - _SPARE) // 3)
        limits = config.limits
        if limits.max_connections > most:
            log.warning(
                "%d connections need more open files than the %d that are allowed (ulimit -n): "
                "at most %d may connect", limits.max_connections, descriptors.limit(), most,
            )  # fmt: skip
        self._limits = limits
        self.connections = Connections(_bounded(config, most).limits, has_keys=self.has_keys)
        self._capacity = Capacity(
            min(limits.max_connections, most), has_keys=self.has_keys,
            by_descriptors=limits.max_connections > most,
        )  # fmt: skip
        self.replays = Rates(limits.replays_per_s, limits.replay_burst)
        self.asking = Rates(_ASKING_SHARE, _ASKING_BURST_S)
        """Seconds of CPU that the requests of each key may take."""
        self._attempts = Attempts(limits.failures_per_s, limits.all_failures_per_s)
        self._shut_out = ShutOut()
        """What the kernel was told last."""
        self._listening: dict[int, int] = {}
        """The inodes of the public listening sockets, by descriptor."""
        self._monitors: dict[zmq.Socket[bytes], tuple[str, str]] = {}
        """For each socket: its name, and the endpoint whose connections are not counted."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- making the sockets --------------------------------------------------------------

    def new_context(self) -> "zmq.Context[zmq.Socket[bytes]]":
        """Make a context; with keys, libzmq has a thread for each door, and one for the rest."""
        # A handshake takes libzmq's thread: those at the request endpoint must not delay frames.
        return zmq.Context(len(_THREADS) if self.has_keys else 1)

    def assign(self, socket: "zmq.Socket[bytes]", door: str) -> None:
        """Have a door's connections served by its own thread; call it before anything is bound."""
        if self.has_keys:
            socket.setsockopt(zmq.AFFINITY, 1 << _THREADS.index(door))

    def prepare(self, door: str, socket: "zmq.Socket[bytes]", *, is_public: bool) -> None:
        """Set what connections to the next bound endpoint must prove."""
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(self._limits.handshake_s * 1000))
        if self._keys is None:
            return
        socket.setsockopt(zmq.CURVE_SERVER, int(is_public))
        socket.setsockopt_string(zmq.ZAP_DOMAIN, door if is_public else _OWN)
        if is_public:
            socket.setsockopt_string(zmq.CURVE_SECRETKEY, self._keys.secret)

    def watch(
        self, context: "zmq.Context[zmq.Socket[bytes]]", socket: "zmq.Socket[bytes]", door: str,
        own: str = "",
    ) -> None:  # fmt: skip
        """Monitor the connections of a socket that is about to be bound, except to its ``own`` endpoint."""
        address = f"inproc://monitor-of-{door}-{id(socket)}"
        socket.monitor(address, _EVENTS)
        monitor = context.socket(zmq.PAIR)
        # With a bounded queue, libzmq would stop sending frames until the monitor is read.
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.connect(address)
        self._monitors[monitor] = (door, own)

    def start(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        """Start the handler; call it before anything is bound."""
        handler = context.socket(zmq.REP)
        handler.setsockopt(zmq.LINGER, 0)
        handler.bind(_ZAP)
        self._thread = threading.Thread(target=self._run, args=(handler,), name="gate", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the handler; call it before the context is destroyed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    # -- the thread ----------------------------------------------------------------------

    def _run(self, handler: "zmq.Socket[bytes]") -> None:
        poller = zmq.Poller()
        poller.register(handler, zmq.POLLIN)
        swept = warned = followed = time.monotonic()
        self._warn()
        while not self._stop.is_set():
            for monitor in list(self._monitors):
                poller.register(monitor, zmq.POLLIN)
            ready = dict(poller.poll(_TURN_MS))
            if handler in ready:
                self._handle(handler)
            for monitor in ready.keys() & self._monitors.keys():
                self._read_events(monitor)
            now = time.monotonic()
            if now - followed >= _TURN_MS / 1000:
                followed = now
                self._follow()
                self._tell_kernel(now)
                self.connections.look_for_endless()
            if now - swept >= _SWEEP_S:
                swept = now
                self.connections.sweep(now)
                self._capacity.look(self.connections.by_door(), now)
            if now - warned >= _HOURLY_S:
                warned = now
                self._warn()
        handler.close(linger=0)
        for monitor in self._monitors:
            monitor.close(linger=0)

    def _warn(self) -> None:
        for address in self.config.insecure:
            log.warning("insecure: anyone who reaches %s can read everything there", address)

    def _handle(self, handler: "zmq.Socket[bytes]") -> None:
        """Answer libzmq's questions about connections (RFC 27, ZAP)."""
        with contextlib.suppress(zmq.Again):
            while True:
                version, number, *asked = handler.recv_multipart(zmq.NOBLOCK)
                # Its connection is to be counted before it shows its key.
                for monitor in self._monitors:
                    self._read_events(monitor)
                code, user = self._judge(asked)
                text = b"" if code == _LET_IN else b"refused"
                handler.send_multipart([version, number, code, text, user.encode(), b""])

    def _judge(self, asked: list[bytes]) -> tuple[bytes, str]:
        """Return the ZAP status and the connection's user id."""
        if asked[:1] == [_OWN.encode()] and asked[3:4] == [b"NULL"]:
            # The file system has checked it already.
            return _LET_IN, ""
        if len(asked) < 5 or asked[3] != b"CURVE" or self._file is None:
            self.connections.refuse("mechanism")
            return _REFUSED, ""
        domain = asked[0].decode("latin-1")
        public = _z85(asked[4])
        key = self._file.current.by_public.get(public)
        if key is None:
            self.connections.refuse("unknown_key")
            return _REFUSED, ""
        if domain == ADMIN and key.role != "operate":
            self.connections.refuse("role")
            return _REFUSED, ""
        now = time.monotonic()
        user = self.connections.grant(key.name, key.max_connections, now)
        if not user:
            return _REFUSED, ""
        self._attempts.proved(network_of(asked[1].decode("latin-1")), now)
        return _LET_IN, user

    def _read_events(self, monitor: "zmq.Socket[bytes]") -> None:
        door, own = self._monitors[monitor]
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
            self.connections.ended(value)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            if value < _FROM_US:
                self.connections.refuse(_REASONS.get(value, "protocol"))
        else:
            self.connections.refuse("unfinished")

    def _accepted(self, descriptor: int, door: str) -> None:
        now = time.monotonic()
        if not self.has_keys:
            self._admit(descriptor, door, now)
            return
        try:
            # Its number may be another's at any moment; the duplicate stays the same connection.
            copy = os.dup(descriptor)
        except OSError:
            # It has ended, and cost something all the same.
            if reason := self._attempts.came(b"", now):
                self.connections.refuse(reason)
            return
        with contextlib.suppress(OSError), socket.socket(fileno=copy) as own:
            reason = self._attempts.came(_network_of(own), now)
            if not reason:
                self._admit(descriptor, door, now)
                return
            self.connections.refuse(reason)
            own.shutdown(socket.SHUT_RDWR)
            self._tell_kernel(now)

    def _admit(self, descriptor: int, door: str, now: float) -> None:
        """Add a connection to its door, if it has room."""
        if not self.connections.accepted(descriptor, door, now):
            self._capacity.refused(door, now)

    def _tell_kernel(self, now: float) -> None:
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

    def _follow(self) -> None:
        """Apply changed authorized keys; close connections whose rights have changed."""
        if self._file is None:
            return
        before = self._file.current
        if self._file.look():
            after = self._file.current.by_name
            self.connections.revoke(
                name for name, key in before.by_name.items() if after.get(name) != key
            )

    # -- for the publisher's loop --------------------------------------------------------

    def subscriber(self, frame: zmq.Frame) -> "tuple[Rights, Grant | None]":
        """Return the rights of a subscription's sender; close the connection if it was revoked."""
        if not self.has_keys:
            return ALL_RIGHTS, None
        user, descriptor = user_of(frame), descriptor_of(frame)
        if user is None:
            # Either from the endpoint that the file system protects, or the connection has ended.
            return (ALL_RIGHTS if is_local(descriptor) else NO_RIGHTS), None
        grant = self.connections.heard(user, descriptor, FRAMES, time.monotonic())
        if grant is None:
            self.connections.expel(descriptor, "revoked")
            return NO_RIGHTS, None
        return self.rights(grant.name), grant

    def asker(self, frame: zmq.Frame, door: str) -> Requester | None:
        """Return the sender of a request; None, after closing the connection, if it was revoked."""
        descriptor = descriptor_of(frame)
        self.connections.said(descriptor, time.monotonic())
        if not self.has_keys:
            return Requester(self, frame.bytes, ALL_RIGHTS, descriptor)
        user = user_of(frame)
        if user is None:
            return Requester(self, None, ALL_RIGHTS, descriptor) if is_local(descriptor) else None
        grant = self.connections.heard(user, descriptor, door, time.monotonic())
        if grant is None:
            self.connections.expel(descriptor, "revoked")
            return None
        return Requester(self, grant.name, self.rights(grant.name), descriptor)

    def rights(self, name: str) -> Rights:
        """Return a key's present rights."""
        current = NOBODY if self._file is None else self._file.current
        return current.rights.get(name, NO_RIGHTS)

    def report(self) -> AccessReport:
        """Return the summary's part about access."""
        counts = self.connections.counts
        return AccessReport(
            keys=self.has_keys,
            insecure=list(self.config.insecure),
            error=(self._file.error if self._file is not None else "") or None,
            connections=self.connections.number(),
            by_key=self.connections.by_key(),
            let_in=counts.let_in,
            refused=dict(counts.refused),
            closed=dict(counts.closed),
            requests_refused=dict(counts.requests),
        )


def _bounded(config: AccessConfig, most: int) -> AccessConfig:
    limits = config.limits
    connections = min(limits.max_connections, most)
    limits = msgspec.structs.replace(limits, max_connections=connections)
    return msgspec.structs.replace(config, limits=limits)


def _network_of(connection: socket.socket) -> Network:
    """Return where a connection comes from; empty if it has gone."""
    with contextlib.suppress(OSError, IndexError):
        return network_of(str(connection.getpeername()[0]))
    return b""


def _z85(key: bytes) -> str:
    return z85.encode(key).decode() if len(key) == 32 else ""


def user_of(frame: zmq.Frame) -> str | None:
    """Return the user id of a message's connection; None where the ZAP handler is not asked."""
    try:
        # It is empty for our own endpoints.
        return str(frame.get("User-Id")) or None
    except zmq.ZMQError:
        return None


def descriptor_of(frame: zmq.Frame) -> int:
    """Return the descriptor of a message's connection; -1 without one."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def is_local(descriptor: int) -> bool:
    """Return whether a connection uses a Unix socket."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as own:
            return own.family == socket.AF_UNIX
    except OSError:
        return False
