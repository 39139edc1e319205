"""Detect when the readers of a replay have joined, so that frames may go out at full speed. Pure."""

from typing import Final

_QUIET_S: Final = 0.7
"""If no reader joined within this time, all have joined."""
_SILENT_S: Final = 5.0
"""Time for a reader that sends no requests, for example a bare SUB socket."""


class Joining:
    """
    The joining of readers: each subscribes, asks for the topics, and asks for missing frames.

    Later requests, one a second per reader, do not count: with a few readers they never pause.
    """

    def __init__(self) -> None:
        self._subscribed_at = 0.0
        self._moved_at = 0.0
        self._senders: set[bytes] = set()

    def subscribed(self, now: float) -> None:
        """Note a subscription."""
        self._subscribed_at = self._subscribed_at or now
        self._moved_at = now

    def asked(self, sender: bytes, request: bytes, now: float) -> None:
        """Note a request, as it came."""
        if sender not in self._senders or b"replay" in request:
            self._senders.add(sender)
            self._moved_at = now

    def is_over(self, now: float) -> bool:
        """Return whether there are readers and all of them have joined."""
        if not self._subscribed_at:
            return False
        quiet_s = _QUIET_S if self._senders else _SILENT_S
        return now - self._moved_at >= quiet_s
