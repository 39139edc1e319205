"""Log lines about the cap on connections: when a door is full, and when it has room again."""

import logging
from typing import Final

log = logging.getLogger(__name__)

_CALM_S: Final = 5.0
"""A door has room again when no connection was refused for this long: clients try all the time."""


class _Full:
    """A door at its cap."""

    __slots__ = ("last", "refused")

    def __init__(self) -> None:
        self.refused = 0
        self.last = 0.0


class Capacity:
    """Which doors are full. Each time, one warning at the first refusal, and one line at its end."""

    def __init__(self, most: int, *, has_keys: bool, by_descriptors: bool) -> None:
        """
        Note the cap.

        Args:
            most: Connections of a door.
            has_keys: Whether a connection without a message makes room for a new one.
            by_descriptors: Whether the limit of open files sets the cap, not the configuration.

        """
        self._most = most
        self._has_keys = has_keys
        self._advice = (
            "raise the limit of open files (ulimit -n)" if by_descriptors
            else "raise max_connections of [access]"
        )  # fmt: skip
        self._full: dict[str, _Full] = {}

    def refused(self, door: str, now: float) -> None:
        """Note a connection refused at the cap."""
        full = self._full.get(door)
        if full is None:
            full = self._full[door] = _Full()
            log.warning(
                "all %d connections for %s are in use: %s; %s",
                self._most, door, self._effect(door), self._advice,
            )  # fmt: skip
        full.refused += 1
        full.last = now

    def _effect(self, door: str) -> str:
        who = _clients(door)
        if self._has_keys:
            return f"no more {who} may connect, unless one that has sent nothing makes room"
        return f"no more {who} may connect"

    def look(self, connections: dict[str, int], now: float) -> None:
        """Look for doors that have room again; takes the connections of each."""
        for door, full in list(self._full.items()):
            if connections.get(door, 0) < self._most and now - full.last >= _CALM_S:
                del self._full[door]
                were = "connection was" if full.refused == 1 else "connections were"
                log.info(
                    "there is room for %s again; %d %s refused", _clients(door), full.refused, were
                )


def _clients(door: str) -> str:
    return "subscribers" if door == "frames" else "clients"
