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
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import zmq
from zmq.utils import z85

from collector.access.attempt_limits import Attempts, network_of
from collector.access.authorized_watch import NOBODY, AuthorizedFile
from collector.access.capacity_log import Capacity
from collector.access.connections import Connections, Grant
from collector.access.key_files import Keys
from collector.access.monitors import Monitors
from collector.access.report import AccessReport
from collector.access.requester import RequestBudgets, Requester
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
_HOURLY_S: Final = 3_600.0
_SPARE: Final = 256
"""Descriptors reserved for the rest of the process."""
_ZAP: Final = "inproc://zeromq.zap.01"
_LET_IN: Final = b"200"
_REFUSED: Final = b"404"
"""No status of ZAP, on purpose: libzmq then closes the connection at once, and its client connects
again. After 400 a client of libzmq never would, also when its key is authorized a moment later;
after 300 libzmq keeps the connection until its handshake has taken too long."""


class Gate:
    """Access control for one publisher's sockets. Stop it when done."""

    def __init__(self, config: AccessConfig, *, is_restart: bool = False) -> None:
        """
        Read the keys.

        Args:
            config: The settings.
            is_restart: Whether the publisher takes the place of one that ended. Then a mistake in the
                authorized keys shuts readers out, but does not end it.

        Raises:
            ConfigError: If a file cannot be used.

        """
        self.config = config
        self.has_keys = bool(config.keys)
        self._keys = Keys.read(config.keys) if config.keys else None
        self._file = (
            AuthorizedFile(Path(config.authorized), must_be_valid=not is_restart)
            if config.keys
            else None
        )
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
        self._budgets = RequestBudgets(limits, self.connections, has_keys=self.has_keys)
        self._attempts = Attempts(limits.failures_per_s, limits.all_failures_per_s)
        self._monitors = Monitors(
            self.connections, self._capacity, self._attempts, has_keys=self.has_keys
        )
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
        self._monitors.watch(context, socket, door, own)

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
            for monitor in self._monitors.sockets():
                poller.register(monitor, zmq.POLLIN)
            ready = dict(poller.poll(_TURN_MS))
            if handler in ready:
                self._handle(handler)
            for monitor in self._monitors.sockets():
                if monitor in ready:
                    self._monitors.read(monitor)
            now = time.monotonic()
            if now - followed >= _TURN_MS / 1000:
                followed = now
                self._follow()
                self._monitors.tell_kernel(now)
                self.connections.look_for_endless()
            if now - swept >= _SWEEP_S:
                swept = now
                self.connections.sweep(now)
                self._capacity.look(self.connections.by_door(), now)
            if now - warned >= _HOURLY_S:
                warned = now
                self._warn()
        handler.close(linger=0)
        self._monitors.close()

    def _warn(self) -> None:
        for address in self.config.insecure:
            log.warning("insecure: anyone who reaches %s can read everything there", address)

    def _handle(self, handler: "zmq.Socket[bytes]") -> None:
        """Answer libzmq's questions about connections (RFC 27, ZAP)."""
        with contextlib.suppress(zmq.Again):
            while True:
                version, number, *asked = handler.recv_multipart(zmq.NOBLOCK)
                # Its connection is to be counted before it shows its key.
                self._monitors.read_all()
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
            return Requester(self._budgets, frame.bytes, ALL_RIGHTS, descriptor)
        user = user_of(frame)
        if user is None:
            return (
                Requester(self._budgets, None, ALL_RIGHTS, descriptor)
                if is_local(descriptor)
                else None
            )
        grant = self.connections.heard(user, descriptor, door, time.monotonic())
        if grant is None:
            self.connections.expel(descriptor, "revoked")
            return None
        return Requester(self._budgets, grant.name, self.rights(grant.name), descriptor)

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
