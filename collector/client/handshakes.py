"""
Why a server refused a client: libzmq reports it only through a socket's monitor.

The monitor's events must be read: after a thousand unread ones libzmq's I/O thread blocks, and with it
every socket of the context. So only sockets whose `trouble` is read have a monitor; those of a
`Subscriber`, which share one context, have none.
"""

from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from collector.access.key_files import Keys

_FAILED: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Handshakes:
    """The results of one connecting socket's handshakes."""

    def __init__(self, socket: "zmq.Socket[bytes]", endpoint: str, keys: Keys) -> None:
        self._socket = socket
        self._endpoint = endpoint
        self._keys = keys
        self._monitor = socket.get_monitor_socket(_FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._failed = 0

    def trouble(self) -> str:
        """Return one sentence about why the last handshake failed; empty if it did not."""
        while self._monitor.poll(0):
            event = int(recv_monitor_message(self._monitor)["event"])
            self._failed = 0 if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else event
        if not self._failed:
            return ""
        if not self._keys.secret:
            return f"the collector at {self._endpoint} asks for a key: give yours with --keys"
        if self._failed == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return f"what listens at {self._endpoint} takes no keys: leave out --keys"
        # The server gives no reason, so that it does not help intruders who guess keys.
        return (
            f"what listens at {self._endpoint} does not let in the key of {self._keys.name}: it is "
            "not authorized there, has too many connections, or names another server key"
        )

    def close(self) -> None:
        """Stop monitoring."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
