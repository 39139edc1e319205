"""Delays before new attempts: exponential with full jitter, so that shards do not reconnect together."""

import random


class Backoff:
    """
    The delay before each attempt. Reset it on data, not on a connection: a server that accepts
    connections and closes them must not be hammered.
    """

    __slots__ = ("_attempt", "_base_s", "_cap_s", "_random")

    def __init__(
        self, *, base_s: float = 0.5, cap_s: float = 15.0, rng: random.Random | None = None
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = rng or random.Random()
        self._attempt = 0

    @property
    def attempt(self) -> int:
        """Attempts since the last reset."""
        return self._attempt

    def next_s(self) -> float:
        """Return how long to wait now: random, up to a ceiling that doubles."""
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return self._random.uniform(0.0, ceiling)

    def brief_s(self, most_s: float) -> float:
        """Return a short delay, for hosts that cannot be overloaded; does not count as an attempt."""
        return self._random.uniform(0.0, min(self._cap_s, most_s))

    def reset(self) -> None:
        """Data was received: start over."""
        self._attempt = 0


class Backoffs:
    """A backoff for each market, which starts over once the market has got further."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = rng
        self._of: dict[str, tuple[int, Backoff]] = {}
        """By market: how far it was at its last attempt, and its backoff."""

    def next_s(self, market_id: str, progress: int) -> float:
        """Return how long to wait now; ``progress`` is any number that changes with data."""
        before, backoff = self._of.get(market_id, (progress, Backoff(rng=self._random)))
        if progress != before:
            backoff.reset()
        self._of[market_id] = progress, backoff
        return backoff.next_s()
