"""
The connections to a publisher's sockets: the key of each, and how much of its limits it has used.

libzmq identifies a connection in two ways. Its monitor reports the descriptor of each connection
that is accepted or ends. Messages carry that descriptor and the user id that our ZAP handler
assigned. The id is the key's name and a number (``bob/17``), so the first message shows which
open connection belongs to which key.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from collector.access.descriptors import bytes_received, inode_of, is_clear, shut
from collector.settings.parts import AccessLimits

_SUBSCRIBED_MOST: Final = 1 << 20
"""Bytes of prefixes that one connection may have subscribed to: libzmq keeps them as a tree."""
_CHANGES_PER_S: Final = 1_000
"""Subscriptions and cancellations of a connection, over a longer time."""
_CHANGES_BURST: Final = 30_000
_ENDLESS: Final = 8 << 20
"""Bytes that may come without a message: the parts of one that does not end."""
_SUBSCRIPTION: Final = 64
"""Bytes that a subscription counts for in addition to its prefix."""


class Counts(msgspec.Struct):
    """Counters by reason; docs/security.md explains each."""

    let_in: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    """Refused connections."""
    closed: Counter[str] = msgspec.field(default_factory=Counter)
    """Accepted connections that we closed later."""
    requests: Counter[str] = msgspec.field(default_factory=Counter)
    """Refused requests."""


class Connection:
    """One open connection."""

    __slots__ = (
        "calm", "came", "clear_at", "descriptor", "door", "grant", "inode", "looked_at", "messages", "owed",
        "since", "since_message",
    )  # fmt: skip

    def __init__(self, descriptor: int, inode: int, door: str, since: float) -> None:
        self.descriptor = descriptor
        self.inode = inode
        self.door = door
        self.since = since
        self.grant: Grant | None = None
        """Its grant; None until its first message."""
        self.messages = self.looked_at = 0
        """Messages that came, now and when `came` was taken."""
        self.came = 0
        """Bytes that had come by then."""
        self.calm = float(_CHANGES_BURST)
        """Messages that may still come at once, as of the last one."""
        self.since_message = since
        self.owed = 0
        """Bytes of replies since its queue was last seen empty."""
        self.clear_at = -1
        """Frames published when its queue was last seen empty."""


class Grant:
    """One connection that the ZAP handler accepted."""

    __slots__ = ("connection", "name", "prefixes", "since", "subscribed", "user")

    def __init__(self, user: str, name: str, since: float) -> None:
        self.user = user
        self.name = name
        self.since = since
        self.connection: Connection | None = None
        self.prefixes: Counter[bytes] = Counter()
        """Its subscriptions, within its rights; used by the publisher's loop only."""
        self.subscribed = 0

    def subscribes(self, prefix: bytes, granted: Iterable[bytes]) -> list[bytes]:
        """Note a subscription; return the prefixes to add, or raise if there are too many."""
        self.subscribed += len(prefix) + _SUBSCRIPTION
        if self.subscribed > _SUBSCRIBED_MOST:
            raise OverflowError
        new = [one for one in granted if not self.prefixes[one]]
        self.prefixes.update(granted)
        return new

    def unsubscribes(self, prefix: bytes, granted: Iterable[bytes]) -> list[bytes]:
        """Note the end of a subscription; return the prefixes to remove."""
        self.subscribed = max(0, self.subscribed - len(prefix) - _SUBSCRIPTION)
        gone = []
        for one in granted:
            if self.prefixes[one] > 1:
                self.prefixes[one] -= 1
            elif self.prefixes.pop(one, 0):
                gone.append(one)
        return gone


class Connections:
    """All connections and counters; shared by the gate's thread and the publisher's loop."""

    def __init__(self, limits: AccessLimits, *, has_keys: bool) -> None:
        self.counts = Counts()
        self._limits = limits
        self._has_keys = has_keys
        self._open: dict[int, Connection] = {}
        self._of_door: Counter[str] = Counter()
        self._unknown: dict[str, dict[Connection, None]] = {}
        """Connections without a message so far, by socket, oldest first."""
        self._grants: dict[str, Grant] = {}
        self._held: Counter[str] = Counter()
        """Connections of each key."""
        self._number = 0
        self._lock = threading.Lock()

    # -- from the monitor ----------------------------------------------------------------

    def accepted(self, descriptor: int, door: str, now: float) -> bool:
        """Note a connection; close one, perhaps this, and return False if there are too many."""
        inode = inode_of(descriptor)
        if not inode:
            return True
        with self._lock:
            known = self._open.get(descriptor)
            if known is not None and known.inode == inode:
                # Its first message came before the monitor's event.
                return True
            if known is not None:
                self._forget(known)
            new = self._add(Connection(descriptor, inode, door, now))
            if self._of_door[door] <= self._limits.max_connections:
                return True
            # With keys, a connection without a message makes room: a flood cannot keep others out.
            surplus = next(iter(self._unknown[door])) if self._has_keys else new
            if not shut(surplus.descriptor, surplus.inode) and _is_open(surplus):
                # No descriptor is left to close it with: it stays, and is counted.
                return True
            self._forget(surplus)
            self.counts.refused["connections"] += 1
            return False

    def ended(self, descriptor: int) -> None:
        """Note that a connection ended, unless its descriptor belongs to another one already."""
        with self._lock:
            known = self._open.get(descriptor)
            if known is not None and not _is_open(known):
                self._forget(known)

    def refuse(self, reason: str) -> None:
        """Count a refused connection."""
        with self._lock:
            self.counts.refused[reason] += 1

    # -- from the ZAP handler ------------------------------------------------------------

    def grant(self, name: str, most: int, now: float) -> str:
        """Accept a connection of a key; return its user id, or "" if the key has too many."""
        with self._lock:
            if self._held[name] >= most:
                self.counts.refused["key_connections"] += 1
                return ""
            self._number += 1
            user = f"{name}/{self._number}"
            self._grants[user] = Grant(user, name, now)
            self._held[name] += 1
            self.counts.let_in += 1
            return user

    # -- from the publisher's loop -------------------------------------------------------

    def heard(self, user: str, descriptor: int, door: str, now: float) -> Grant | None:
        """Return the grant of a message's connection; None if it was revoked."""
        grant = self._grants.get(user)
        if grant is None or grant.connection is not None:
            return grant
        inode = inode_of(descriptor)
        with self._lock:
            known = self._open.get(descriptor)
            if known is None or known.inode != inode:
                if known is not None:
                    self._forget(known)
                known = self._add(Connection(descriptor, inode, door, now))
            grant.connection, known.grant = known, grant
            self._unknown[door].pop(known, None)
        return grant

    def said(self, descriptor: int, now: float) -> None:
        """Count a message; close a subscriber that sends too many."""
        known = self._open.get(descriptor)
        if known is None:
            return
        known.messages += 1
        known.calm = min(_CHANGES_BURST, known.calm + (now - known.since_message) * _CHANGES_PER_S)
        known.since_message = now
        known.calm -= 1.0
        if known.calm < 0.0 and known.door == "frames":
            self.expel(descriptor, "subscriptions")

    def expel(self, descriptor: int, reason: str) -> None:
        """Close a connection that broke a rule."""
        with self._lock:
            self.counts.closed[reason] += 1
            known = self._open.get(descriptor)
            inode = known.inode if known is not None else inode_of(descriptor)
            if known is not None:
                self._drop_grant(known)
            shut(descriptor, inode)

    def owes(self, descriptor: int, size: int) -> None:
        """Count a reply's bytes; close a connection that has not read any for too long."""
        known = self._open.get(descriptor)
        if known is None:
            return
        known.owed += size
        if known.owed > self._limits.queued_bytes:
            if is_clear([known.descriptor]):
                known.owed = size
            else:
                self.expel(descriptor, "slow")

    def look_for_slow(
        self, door: str, published: int, queue: int, mean_bytes: Callable[[], float]
    ) -> None:
        """
        Close readers whose queue may hold more bytes than allowed.

        Args:
            published: Frames published so far.
            queue: Frames that ZeroMQ queues for one of them, at most.
            mean_bytes: Returns the present mean size of a frame.

        """
        with self._lock:
            readers = [one for one in self._open.values() if one.door == door]
            clear = is_clear([one.descriptor for one in readers])
            waiting = [one for one in readers if one.descriptor not in clear]
            for one in readers:
                if one.descriptor in clear or one.clear_at < 0:
                    one.clear_at = published
            if not waiting:
                return
            size = mean_bytes()
            for one in waiting:
                if min(queue, published - one.clear_at) * size > self._limits.queued_bytes:
                    self.counts.closed["slow"] += 1
                    self._close(one)

    # -- once a second -------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Forget ended connections; with keys, close those that were silent for too long."""
        silent_s = self._limits.silent_s
        with self._lock:
            for one in list(self._open.values()):
                if not _is_open(one):
                    self._forget(one)
                elif self._has_keys and one.grant is None and now - one.since > silent_s:
                    self.counts.closed["silent"] += 1
                    self._close(one)
            for grant in list(self._grants.values()):
                # Its connection was closed before it sent a message.
                if grant.connection is None and now - grant.since > silent_s + 2.0:
                    self._end_grant(grant)

    def look_for_endless(self) -> None:
        """
        Close connections that send and send, and never end a message.

        libzmq bounds each part of a message, but not how many there are, and hands out whole
        messages only: it would keep the parts of one that does not end in memory.
        """
        with self._lock:
            for one in self._open.values():
                came = bytes_received(one.descriptor)
                if one.messages != one.looked_at or not came:
                    one.looked_at, one.came = one.messages, came
                elif came - one.came > _ENDLESS:
                    self.counts.closed["size"] += 1
                    self._close(one)
                    one.came = came

    def revoke(self, names: Iterable[str]) -> None:
        """Close all connections of some keys."""
        gone = frozenset(names)
        with self._lock:
            for grant in list(self._grants.values()):
                if grant.name in gone:
                    self.counts.closed["revoked"] += 1
                    self._end_grant(grant)
                    if grant.connection is not None:
                        self._close(grant.connection)

    def by_key(self) -> dict[str, int]:
        """Count the connections of each key."""
        with self._lock:
            return {name: number for name, number in self._held.items() if number}

    def by_door(self) -> dict[str, int]:
        """Count the connections of each door."""
        with self._lock:
            return dict(self._of_door)

    def number(self) -> int:
        """Count the connections, including those in their handshake."""
        return len(self._open)

    def _add(self, one: Connection) -> Connection:
        self._open[one.descriptor] = one
        self._of_door[one.door] += 1
        self._unknown.setdefault(one.door, {})[one] = None
        return one

    def _close(self, one: Connection) -> None:
        self._drop_grant(one)
        shut(one.descriptor, one.inode)

    def _forget(self, one: Connection) -> None:
        self._drop_grant(one)
        if self._open.get(one.descriptor) is one:
            del self._open[one.descriptor]
            self._of_door[one.door] -= 1
            self._unknown[one.door].pop(one, None)

    def _drop_grant(self, one: Connection) -> None:
        if one.grant is not None:
            self._end_grant(one.grant)
            one.grant = None

    def _end_grant(self, grant: Grant) -> None:
        if self._grants.pop(grant.user, None) is not None:
            self._held[grant.name] -= 1


def _is_open(one: Connection) -> bool:
    return inode_of(one.descriptor) == one.inode
