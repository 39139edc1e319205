"""A WebSocket listener over picows that passes on complete text messages, synchronously."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from time import time_ns
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,
)

from shards.net.access import MESSAGE_BYTES, Access, Metadata, host_of
from shards.net.http_dates import instant
from shards.net.proxies import proxy_of
from shards.protocol.errors import DecodeError, SourceError

_TEXT: Final = WSMsgType.TEXT
_HANDSHAKE_S: Final = 5.0
_RETRY_LATER: Final = (429, 503)
"""HTTP statuses that may carry ``Retry-After``."""

Receiver = Callable[[memoryview | bytes, int, bool], None]
"""Takes ``(payload, ts_recv, last)``; ``last`` marks the last message of one socket read. The
payload's memory is valid only during the call."""


class Listener(WSListener):
    """Joins fragments, records the time of receipt, and keeps the reason of the end."""

    def __init__(self, receiver: Receiver, message_bytes: int = MESSAGE_BYTES) -> None:
        self._receiver = receiver
        self._message_bytes = message_bytes
        self._fragments: list[bytes] = []
        self._fragment_bytes = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves with the reason; raises if our own code failed."""
        self.opened = False
        self.too_large = False
        """Whether it ended because a message exceeded the size limit."""
        self.watching: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Note that the handshake succeeded."""
        self.opened = True

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one WebSocket frame; the data path begins here."""
        if frame.msg_type is _TEXT and frame.fin and not self._fragments:
            try:
                self._receiver(frame.get_payload_as_memoryview(), time_ns(), frame.last_in_buffer)
            # picows would only log the exception and continue.
            except Exception as error:  # noqa: BLE001
                self._failed(transport, error)
        else:
            self._take_other(transport, frame)

    def _take_other(self, transport: WSTransport, frame: WSFrame) -> None:
        """Handle rare frames: fragments and closes."""
        if frame.msg_type is WSMsgType.CLOSE:
            self._end(f"closed by the server with code {frame.get_close_code()}")
            transport.disconnect()
        elif frame.msg_type in (_TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            payload = frame.get_payload_as_bytes()
            self._fragments.append(payload)
            self._fragment_bytes += len(payload)
            if self._fragment_bytes > self._message_bytes:
                self._refuse_size()
                transport.disconnect(graceful=False)
            elif frame.fin:
                payload = b"".join(self._fragments)
                self._fragments.clear()
                self._fragment_bytes = 0
                try:
                    self._receiver(payload, time_ns(), frame.last_in_buffer)
                except Exception as error:  # noqa: BLE001
                    self._failed(transport, error)

    def _failed(self, transport: WSTransport, error: Exception) -> None:
        if isinstance(error, DecodeError):
            self._end(f"garbage: {error.reason}")
        elif not self.ended.done():
            # Our own bug: the owner raises it.
            self.ended.set_exception(error)
        transport.disconnect(graceful=False)

    async def watch(self, transport: WSTransport) -> None:
        """Wait until the connection ends, and keep the reason."""
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            if error.code == WSCloseCode.MESSAGE_TOO_BIG:
                self._refuse_size()
            self._end(f"WebSocket protocol error: {error.args[1]}")
        except (OSError, WSError) as error:
            self._end(f"connection lost: {error}")
        self._end("connection lost")

    def _refuse_size(self) -> None:
        self.too_large = True
        limit = f"limits.message_bytes ({self._message_bytes:,})"
        self._end(f"a message is larger than {limit}")

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


async def connect(
    url: str, receiver: Receiver, *, access: Access | None = None
) -> tuple[WSTransport, Listener]:
    """
    Open a WebSocket, in turn.

    Raises:
        SourceError: If the network or the server prevents it.

    """
    access = access or Access()
    listener = Listener(receiver, access.message_bytes)

    def accepted(request: WSUpgradeRequest, response: WSUpgradeResponse) -> Listener:
        access.answered(url, response.headers.items())
        return listener

    await access.turn(url)
    proxy = proxy_of(host_of(url))
    bare, credentials = _apart(url)
    try:
        async with asyncio.timeout(_HANDSHAKE_S + 1):
            transport, _ = await ws_connect(
                accepted,
                bare,
                ssl_context=access.ssl_context(url),
                extra_headers=(*access.metadata(url), *credentials),
                proxy=proxy.url if proxy else None,
                websocket_handshake_timeout=_HANDSHAKE_S,
                max_frame_size=access.message_bytes,
                read_buffer_init_size=256 << 10,
            )
    except WSHandshakeError as error:
        status, headers = _refusal(error)
        retry_after_s = retry_after(headers, time.time()) if status in _RETRY_LATER else 0.0
        raise access.failed(
            url, error, refused=status == 429, retry_after_s=retry_after_s
        ) from error
    except (OSError, WSError, TimeoutError, ValueError) as error:
        raise access.failed(url, error) from error
    # If the server closes before the handshake is complete, picows 2.3 still returns a
    # transport, and never calls on_ws_disconnected.
    if not listener.opened:
        transport.disconnect(graceful=False)
        raise SourceError(url, "closed by the server during the handshake")
    listener.watching = asyncio.create_task(listener.watch(transport))
    return transport, listener


def _apart(url: str) -> tuple[str, Metadata]:
    """Move user and password from a URL into a header, where servers expect them."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, ()
    user, _, host = parts.netloc.rpartition("@")
    token = base64.b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), (("Authorization", f"Basic {token}"),)


def _refusal(error: WSHandshakeError) -> tuple[int, Mapping[str, str]]:
    """Return status and headers of an HTTP answer that refused the handshake."""
    response = error.response
    return (0, {}) if response is None else (int(response.status), response.headers)


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Return ``Retry-After`` (seconds or a date) as seconds from now; 0 if absent."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    return max(0.0, (instant(text) or now) - now)
