"""Limits on requests per sender: token buckets, bounded in number. Pure."""

from collections import OrderedDict
from typing import Final

_MOST: Final = 10_000
"""Senders remembered. The one with the oldest request is forgotten, which gives it a full bucket."""


class Rates:
    """A token bucket for each sender."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()
        """By sender: remaining tokens, and the instant of that count."""

    def take(self, asker: object, now: float) -> bool:
        """Take one token; return False if there is none."""
        left, at = self._buckets.pop(asker, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        has_one = left >= 1.0
        self._remember(asker, left - 1.0 if has_one else left, now)
        return has_one

    def give_back(self, asker: object, now: float) -> None:
        """Undo a turn."""
        left, at = self._buckets.get(asker, (self._burst, now))
        self._buckets[asker] = (min(self._burst, left + 1.0), at)

    def charge(self, asker: object, amount: float, now: float) -> None:
        """Take for what was done already, beyond nothing if need be."""
        left, at = self._buckets.pop(asker, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        self._remember(asker, left - amount, now)

    def left(self, asker: object, now: float) -> float:
        """Return what is left; below nothing if more was charged."""
        left, at = self._buckets.get(asker, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_s)

    def _remember(self, asker: object, left: float, now: float) -> None:
        self._buckets[asker] = (left, now)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
