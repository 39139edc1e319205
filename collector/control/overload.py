"""Which shard has used too much CPU, or has been too late, for too long. Pure."""

from collections.abc import Mapping
from typing import Final

from collector.settings.parts import Supervision

_RELIEVED: Final = 0.8
"""Share of its budget below which a shard counts as relieved; in between nothing changes."""


class Overload:
    """How long each shard has been over its budget, and when the last one was relieved."""

    def __init__(self, limits: Supervision) -> None:
        self._limits = limits
        self._over_since: dict[int, float] = {}
        self._rests_until = 0.0

    def look(
        self, now: float, use: Mapping[int, tuple[float, float]], *, is_busy: bool
    ) -> int | None:
        """
        Return the shard that has been over its budget for long enough, if any.

        ``use`` is each shard's CPU in percent, and the lag of its event loop in seconds. None is
        returned while a command is carried out (``is_busy``), and for a while after `relieve`.
        """
        limits = self._limits
        for shard, (cpu, lag_s) in use.items():
            part = max(cpu / limits.cpu_budget_percent, lag_s / limits.lag_budget_s)
            if part > 1.0:
                self._over_since.setdefault(shard, now)
            elif part < _RELIEVED:
                self._over_since.pop(shard, None)
        self._over_since = {s: at for s, at in self._over_since.items() if s in use}
        if not limits.rebalance or is_busy or now < self._rests_until:
            return None
        late = [s for s, at in self._over_since.items() if now - at >= limits.over_budget_s]
        return max(late, key=lambda s: use[s], default=None)

    def relieve(self, now: float) -> None:
        """Note that markets are being moved away from a shard: wait for the effect."""
        self._rests_until = now + self._limits.rebalance_rest_s
