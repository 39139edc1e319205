"""
Which endpoint of a source to try next, and when: breakers, backoff, failover and return.

Endpoints are in order of preference. An attempt goes to the first endpoint with the fewest
failures whose breaker allows it; if none does, wait for the breaker that opens first. Backoff
applies between attempts and is reset by data, not by a connection. For unreachable hosts it is
short and constant: only a server can be overloaded.

An endpoint is *unfit* if it is mute or steadily behind while the chain advances. It counts as if it
had failed once more, until it is seen at the head again. A stream that lags still brings blocks, so
it is left only for an endpoint whose trial showed it at the head: nothing flaps.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from shards.net.backoff import Backoff
from shards.net.circuit_breaker import UNREACHABLE_S, CircuitBreaker
from shards.net.fitness import AT_HEAD, Lag
from shards.protocol.control import EndpointReport
from shards.protocol.text import without_secrets

_UNFIT: Final = 1
"""Additional failures for being unfit, beside the one with which the endpoint was left."""


class EndpointState(msgspec.Struct, frozen=True):
    """One endpoint, as shown in the status."""

    endpoint: str
    breaker: str
    reason: str
    in_use: bool


class EndpointPool:
    """The endpoints of one source, and their condition."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not endpoints:
            raise ValueError("a source needs at least one endpoint")
        self._breakers = {endpoint: CircuitBreaker() for endpoint in endpoints}
        # No longer than a breaker stays open, because waiting for the breaker counts as well.
        self._backoff = backoff or Backoff(cap_s=10.0)
        self._unreachable = False
        """Whether the last failure was an unreachable host."""
        self._is_leaving = False
        self._clock = clock
        self._unfit: dict[str, str] = {}
        """The reason why an endpoint is unfit, by endpoint."""
        self._lag = Lag()
        self._news = asyncio.Event()
        """The current endpoint turned out unfit."""
        self._tried: dict[str, int] = {}
        """Number of the last attempt, by endpoint."""
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
            now = self._clock()
            # Fewest failures first, then preference: otherwise an endpoint that is down would be
            # tried four times while another could answer.
            for endpoint in sorted(self._breakers, key=self._rank):
                if self._breakers[endpoint].allows(now):
                    self.current = endpoint
                    self.attempts += 1
                    self._tried[endpoint] = self.attempts
                    self._lag.reset()
                    return endpoint
            wait_s = min(breaker.wait_s(now) for breaker in self._breakers.values())
            await asyncio.sleep(max(wait_s, 0.05))

    def _rank(self, endpoint: str) -> tuple[bool, int]:
        """
        Sort the endpoints: the fewest failures first.

        Once a breaker has opened, the number means nothing: an endpoint that was down for an hour
        has hundreds. Of those endpoints, the one whose last attempt is the oldest comes next.
        """
        breaker = self._breakers[endpoint]
        if breaker.state(self._clock()) == "closed":
            return False, breaker.failures + (_UNFIT if endpoint in self._unfit else 0)
        return True, self._tried.get(endpoint, 0)

    # ---- whether the current one keeps up ---------------------------------------------

    def unfit(self, reason: str) -> None:
        """Mark the current endpoint unfit until it is seen at the head again."""
        if self.current:
            self._unfit[self.current] = reason

    def compare(self, height: int, head: int) -> None:
        """Compare the newest block of the current endpoint's stream with the head of the nodes."""
        if head - height <= AT_HEAD:
            self._unfit.pop(self.current, None)
        if reason := self._lag.saw(height, head, self._clock()):
            if self.current not in self._unfit:
                self._news.set()
            self.unfit(reason)

    def cannot_compare(self) -> None:
        """Restart the comparison: there is no news of the head, or we were late ourselves."""
        self._lag.reset()

    @property
    def is_behind(self) -> bool:
        """Whether the current endpoint was behind when it was last compared."""
        return self._lag.is_watched

    # ---- whether another one is better -------------------------------------------------

    async def pause(self, seconds: float) -> None:
        """Wait this long before trials of others, or until the current one turns out unfit."""
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def alternatives(self) -> list[str]:
        """Return the endpoints to try out: preferred ones, or any if the current one is unfit."""
        now = self._clock()
        names = list(self._breakers)
        if self.current not in self._unfit:
            names = names[: names.index(self.current)] if self.current else []
        return [n for n in names if n != self.current and self._breakers[n].state(now) != "open"]

    # ---- what becomes of an attempt ----------------------------------------------------

    def preferred(self) -> str | None:
        """Return a preferred endpoint that may be probed now, if any."""
        now = self._clock()
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
            self._breakers[self.current].failed(self._clock(), reason, unreachable=unreachable)
        self.current, self._is_leaving = "", False

    def probed(self, endpoint: str, failure: str = "") -> None:
        """A probe of another endpoint succeeded, or failed with this reason."""
        if failure:
            self._breakers[endpoint].failed(self._clock(), failure)
        else:
            self._breakers[endpoint].succeeded()
            self._unfit.pop(endpoint, None)

    def states(self) -> list[EndpointState]:
        """Describe every endpoint, for the status."""
        now = self._clock()
        return [
            EndpointState(
                endpoint,
                breaker.state(now),
                breaker.reason or self._unfit.get(endpoint, ""),
                endpoint == self.current,
            )
            for endpoint, breaker in self._breakers.items()
        ]

    def reports(self) -> list[EndpointReport]:
        """Describe them for a shard's report, without secrets."""
        return [
            EndpointReport(without_secrets(s.endpoint), s.breaker, s.reason, s.in_use)
            for s in self.states()
        ]
