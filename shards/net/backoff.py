"""Reconnect delays: exponential with full jitter, so that shards never come back in step."""

import random


class Backoff:
    """
    The wait before each further attempt. Reset it on data, not on a connection: a server
    that accepts and closes must not be hammered.
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
        """Return how long to wait now: anything up to a doubling ceiling."""
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return self._random.uniform(0.0, ceiling)

    def brief_s(self, most_s: float) -> float:
        """Return how long to wait where nobody is asked too often; counts as no attempt."""
        return self._random.uniform(0.0, min(self._cap_s, most_s))

    def reset(self) -> None:
        """Data came: start over."""
        self._attempt = 0
