"""A WebSocket listener over picows that hands whole text messages on, synchronously."""

import asyncio
import ssl
from collections.abc import Callable
from time import time_ns
from typing import Final

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from shards.errors import DecodeError, SourceError

_TEXT: Final = WSMsgType.TEXT
_MAX_FRAME: Final = 64 << 20
_HANDSHAKE_S: Final = 5.0

Receiver = Callable[[memoryview | bytes, int, bool], None]
"""Gets ``(payload, ts_recv, last)``; last of what one read of the socket brought. The
memory of the payload is only valid during the call."""


class Listener(WSListener):
    """Joins fragments, stamps the time of receipt, and remembers why it ended."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._fragments: list[bytes] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves with the reason; raises where our own code failed."""
        self.opened = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Note that the handshake succeeded."""
        self.opened = True

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one WebSocket frame; the data path begins here."""
        if frame.msg_type is _TEXT and frame.fin and not self._fragments:
            try:
                self._receiver(frame.get_payload_as_memoryview(), time_ns(), frame.last_in_buffer)
            # picows would log it and go on.
            except Exception as error:  # noqa: BLE001
                self._failed(transport, error)
        else:
            self._take_other(transport, frame)

    def _take_other(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take what is rare: a fragment, a close."""
        if frame.msg_type is WSMsgType.CLOSE:
            self._end(f"closed by the server with code {frame.get_close_code()}")
            transport.disconnect()
        elif frame.msg_type in (_TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._fragments.append(frame.get_payload_as_bytes())
            if frame.fin:
                payload = b"".join(self._fragments)
                self._fragments.clear()
                try:
                    self._receiver(payload, time_ns(), frame.last_in_buffer)
                except Exception as error:  # noqa: BLE001
                    self._failed(transport, error)

    def _failed(self, transport: WSTransport, error: Exception) -> None:
        if isinstance(error, DecodeError):
            self._end(f"garbage: {error.reason}")
        elif not self.ended.done():
            # A bug of ours: let the owner raise it.
            self.ended.set_exception(error)
        transport.disconnect(graceful=False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note the end of the connection."""
        self._end("connection lost")

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


async def connect(
    url: str, receiver: Receiver, *, ssl_context: ssl.SSLContext | None = None
) -> tuple[WSTransport, Listener]:
    """
    Open a WebSocket.

    Raises:
        SourceError: If that fails, for whatever reason of the network or the server.

    """
    listener = Listener(receiver)
    try:
        async with asyncio.timeout(_HANDSHAKE_S + 1):
            transport, _ = await ws_connect(
                lambda: listener,
                url,
                ssl_context=ssl_context,
                websocket_handshake_timeout=_HANDSHAKE_S,
                max_frame_size=_MAX_FRAME,
                read_buffer_init_size=256 << 10,
            )
    except (OSError, WSError, TimeoutError, ValueError) as error:
        raise SourceError(url, str(error) or type(error).__name__) from error
    # picows 2.3 returns a transport, and never calls on_ws_disconnected, where the server
    # closes before the handshake is over.
    if not listener.opened:
        transport.disconnect(graceful=False)
        raise SourceError(url, "closed by the server during the handshake")
    return transport, listener
