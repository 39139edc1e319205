"""
Which endpoint of a source to try next, and when: breakers, backoff, failover and return.

Endpoints are in order of preference. An attempt goes to the first endpoint with the fewest
failures whose breaker allows it; if none does, wait for the breaker that opens first. Backoff
applies between attempts and is reset by data, not by a connection. For unreachable hosts it is
short and constant: only a server can be overloaded.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from shards.net.backoff import Backoff
from shards.net.circuit_breaker import UNREACHABLE_S, Breaker
from shards.protocol.control import EndpointReport
from shards.protocol.text import without_secrets


class EndpointState(msgspec.Struct, frozen=True):
    """One endpoint, as shown in the status."""

    endpoint: str
    breaker: str
    reason: str
    in_use: bool


class EndpointPool:
    """The endpoints of one source, and their condition."""

    def __init__(self, endpoints: Sequence[str], *, backoff: Backoff | None = None) -> None:
        if not endpoints:
            raise ValueError("a source needs at least one endpoint")
        self._breakers = {endpoint: Breaker() for endpoint in endpoints}
        # No longer than a breaker stays open, because waiting for the breaker counts as well.
        self._backoff = backoff or Backoff(cap_s=10.0)
        self._unreachable = False
        """Whether the last failure was an unreachable host."""
        self._is_leaving = False
        self.current = ""
        self.attempts = 0

    async def next(self) -> str:
        """Wait until the next attempt is due and return its endpoint."""
        if self._unreachable:
            await asyncio.sleep(self._backoff.brief_s(UNREACHABLE_S))
        elif self._backoff.attempt:
            await asyncio.sleep(self._backoff.next_s())
        else:
            self._backoff.next_s()
        while True:
            now = time.monotonic()
            # Fewest failures first, then preference: an endpoint that is down is not tried
            # four times while another would answer.
            for endpoint in sorted(self._breakers, key=lambda e: self._breakers[e].failures):
                if self._breakers[endpoint].allows(now):
                    self.current = endpoint
                    self.attempts += 1
                    return endpoint
            wait_s = min(breaker.wait_s(now) for breaker in self._breakers.values())
            await asyncio.sleep(max(wait_s, 0.05))

    def preferred(self) -> str | None:
        """Return a preferred endpoint that may be probed now, if any."""
        now = time.monotonic()
        for endpoint, breaker in self._breakers.items():
            if endpoint == self.current:
                return None
            if breaker.state(now) != "open":
                return endpoint
        return None

    def succeeded(self) -> None:
        """Data was received from the current endpoint."""
        if self.current:
            self._breakers[self.current].succeeded()
            self._backoff.reset()

    def leave(self) -> None:
        """The session is about to end for a better endpoint: the current one did not fail."""
        self._is_leaving = True

    def failed(self, reason: str, *, unreachable: bool = False) -> None:
        """
        The session at the current endpoint ended; `unreachable` if no server answered at all.

        That is a failure of the endpoint, unless we left it: otherwise a spare would count as no
        better than the endpoint that fails next.
        """
        self._unreachable = unreachable
        if self.current and not self._is_leaving:
            self._breakers[self.current].failed(time.monotonic(), reason, unreachable=unreachable)
        self.current, self._is_leaving = "", False

    def probed(self, endpoint: str, failure: str = "") -> None:
        """A probe of another endpoint succeeded, or failed with this reason."""
        if failure:
            self._breakers[endpoint].failed(time.monotonic(), failure)
        else:
            self._breakers[endpoint].succeeded()

    def states(self) -> list[EndpointState]:
        """Describe every endpoint, for the status."""
        now = time.monotonic()
        return [
            EndpointState(endpoint, breaker.state(now), breaker.reason, endpoint == self.current)
            for endpoint, breaker in self._breakers.items()
        ]

    def reports(self) -> list[EndpointReport]:
        """Describe them for a shard's report, without secrets."""
        return [
            EndpointReport(without_secrets(s.endpoint), s.breaker, s.reason, s.in_use)
            for s in self.states()
        ]
