"""A rate limiter: at most so many requests per second, with a small burst."""

import asyncio
import time


class RateLimiter:
    """Await `turn` before each request."""

    def __init__(self, per_s: float, *, burst: int = 4) -> None:
        self._interval_s = 1.0 / per_s
        self._credit_s = self._interval_s * burst
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the next request may be sent."""
        now = time.monotonic()
        self._next = max(self._next, now - self._credit_s) + self._interval_s
        wait_s = self._next - now
        if wait_s > 0:
            await asyncio.sleep(wait_s)
