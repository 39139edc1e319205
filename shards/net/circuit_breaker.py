"""
A circuit breaker per endpoint, which lets one probe through when half open.

::

    closed ──(failures in a row)──► open ──(its time is up)──► half-open
      ▲                               ▲                            │
      └────────── success ────────────┼────────────────────────────┤
                                      └── failure: twice as long ──┘

It first opens for only two seconds, because a server may merely be restarting. Each failed
probe doubles the delay, up to ten times. An unreachable host is retried every 1.5 s instead: such
a probe costs no server anything, and soon finds one that is back.
"""

from typing import Final, Literal

UNREACHABLE_S: Final = 1.5

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Decides whether an endpoint may be tried; ``now`` is monotonic seconds."""

    __slots__ = (
        "_answered",
        "_most_open_s",
        "_open_s",
        "_open_until",
        "_probing",
        "_threshold",
        "failures",
        "reason",
    )

    def __init__(
        self, *, threshold: int = 4, open_s: float = 2.0, most_open_s: float = 10.0
    ) -> None:
        self._threshold = threshold
        self._open_s = open_s
        self._most_open_s = most_open_s
        self.failures = 0
        """Consecutive failures."""
        self._answered = 0
        """Those of them in which a server answered."""
        self._open_until = 0.0
        self._probing = False
        self.reason = ""
        """The last failure; empty after a success."""

    def state(self, now: float) -> State:
        """Return the breaker's state."""
        if self.failures < self._threshold:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def allows(self, now: float) -> bool:
        """Return whether an attempt may start; only one at a time while half open."""
        state = self.state(now)
        if state == "half-open":
            if self._probing:
                return False
            self._probing = True
            return True
        return state == "closed"

    def wait_s(self, now: float) -> float:
        """Return how long until an attempt may start."""
        return max(0.0, self._open_until - now) if self.state(now) == "open" else 0.0

    def succeeded(self) -> None:
        """Data was received from the endpoint."""
        self.failures = self._answered = 0
        self._probing = False
        self.reason = ""

    def failed(self, now: float, reason: str, *, unreachable: bool = False) -> None:
        """The attempt failed; a failed probe opens the breaker again."""
        self.failures += 1
        self._answered += not unreachable
        self._probing = False
        self.reason = reason
        if self.failures >= self._threshold:
            longer = 2.0 ** min(max(0, self._answered - self._threshold), 16)
            open_s = UNREACHABLE_S if unreachable else self._open_s * longer
            self._open_until = now + min(self._most_open_s, open_s)
