"""Limits on requests per sender: token buckets, bounded in number. Pure."""

from collections import OrderedDict
from typing import Final

_MOST: Final = 10_000
"""Senders remembered. The one with the oldest request is forgotten, which gives it a full bucket."""


class Rates:
    """A token bucket for each sender."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()
        """By sender: remaining tokens, and the instant of that count."""

    def take(self, asker: object, now: float) -> bool:
        """Take one token; return False if there is none."""
        left, at = self._buckets.pop(asker, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        has_one = left >= 1.0
        self._buckets[asker] = (left - 1.0 if has_one else left, now)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return has_one
