"""When the readers of a replay have joined, so that frames may go out as fast as they can. Pure."""

from typing import Final

_QUIET_S: Final = 0.7
"""Nobody has begun or gone on to join for so long: all have joined."""
_SILENT_S: Final = 5.0
"""A reader that asks for nothing at all, such as a bare SUB socket, is given so long."""


class Joining:
    """
    Readers that subscribe, ask what there is, and ask for what they lack.

    A reader's later questions, once a second, are no part of that: with a few readers there
    is one at every moment.
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
        """Say whether there are readers, and all of them have joined."""
        if not self._subscribed_at:
            return False
        quiet_s = _QUIET_S if self._senders else _SILENT_S
        return now - self._moved_at >= quiet_s
