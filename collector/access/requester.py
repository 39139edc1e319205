"""The sender of a request: its rights, and how much of its limits is left."""

import time
from collections.abc import Sequence
from typing import Final

import zmq

from collector.access.connections import Connections
from collector.access.rates import Rates
from collector.access.rights import Rights
from collector.settings.parts import AccessLimits

_ASKING_SHARE: Final = 0.1
"""Of a core, for the requests of one key."""
_ASKING_BURST_S: Final = 2.0


class RequestBudgets:
    """The limits of all senders of requests to one publisher."""

    def __init__(self, limits: AccessLimits, connections: Connections, *, has_keys: bool) -> None:
        self.has_keys = has_keys
        self.connections = connections
        self.replays = Rates(limits.replays_per_s, limits.replay_burst)
        self.cpu = Rates(_ASKING_SHARE, _ASKING_BURST_S)
        """Seconds of CPU that the requests of each key may take."""


class Requester:
    """The sender of a request: its rights, and its limits."""

    __slots__ = ("_budgets", "descriptor", "rights", "who")

    def __init__(
        self, budgets: RequestBudgets, who: object, rights: Rights, descriptor: int
    ) -> None:
        self._budgets = budgets
        self.who = who
        """The key's name; without keys, the connection's identity. None: our own process."""
        self.rights = rights
        self.descriptor = descriptor

    def may_replay(self) -> bool:
        """Take a turn for a resend; return False if the limit is reached."""
        return self._budgets.replays.take(self.who, time.monotonic())

    def may_ask(self) -> bool:
        """Say whether any of the time for its requests is left."""
        return not self._is_timed() or self._budgets.cpu.left(self.who, time.monotonic()) > 0.0

    def took(self, seconds: float) -> None:
        """Count the CPU of an answer, during which no frame was published."""
        if self._is_timed():
            self._budgets.cpu.charge(self.who, seconds, time.monotonic())

    def _is_timed(self) -> bool:
        """Whether it is a key that asks; without one, another connection is another asker."""
        return self._budgets.has_keys and self.who is not None

    def owes(self, size: int) -> None:
        """Count the bytes of a reply, which waits until it is read."""
        self._budgets.connections.owes(self.descriptor, size)

    def is_too_much(self, request: Sequence[zmq.Frame], most: int) -> bool:
        """Say whether a request is too long, or one too many; then its connection is closed."""
        now = time.monotonic()
        if sum(map(len, request)) > most:
            reason = "size"
        elif self._is_timed() and self._budgets.cpu.left(self.who, now) < -_ASKING_BURST_S:
            # It goes on although it has been refused for long.
            reason = "requests"
        else:
            return False
        self._budgets.connections.expel(self.descriptor, reason)
        return True

    def refuse(self, reason: str) -> None:
        """Count a refused request."""
        self._budgets.connections.counts.requests[reason] += 1
