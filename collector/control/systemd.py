"""
Notifications to systemd (sd_notify(3)): ready, status, stopping.

The watchdog is fed only while ``/healthz`` would be positive. If the aggregator is away for longer,
systemd sees no sign of life and restarts the service.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

from collector.client.summary import Summary
from collector.settings.parts import AWAY_S


class ServiceManager:
    """The socket named by ``NOTIFY_SOCKET``; without one every call does nothing."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self._is_ready = False
        self._answered_at = 0.0
        self._last = ""

    def answered(self, summary: Summary) -> None:
        """The aggregator has answered: the service is up, and this is its status."""
        self._answered_at = self._clock()
        markets = summary.markets
        status = f"{markets.live} of {markets.requested} markets live"
        lines = [] if self._is_ready else ["READY=1"]
        if status != self._last:
            lines.append(f"STATUS={status}")
            self._last = status
        self._is_ready = True
        self._send("WATCHDOG=1", *lines)

    def waiting(self) -> None:
        """The aggregator has not answered; for a while that is still healthy."""
        if self._is_ready and self._clock() - self._answered_at <= AWAY_S:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The shards begin to drain."""
        self._send("STOPPING=1", "STATUS=draining")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # An abstract socket is written with an @ in place of its first byte.
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        # A manager that does not listen must not end what it manages.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
            it.setblocking(False)
            it.sendto("\n".join(lines).encode(), address)
