"""One blocking HTTP GET that always ends: its time and the size of its answer are bounded as a whole."""

import contextlib
import http.client
import socket
import threading
from typing import Final

_PIECE: Final = 1 << 16


def get(
    connection: http.client.HTTPConnection, path: str, *, within_s: float, largest: int
) -> tuple[http.client.HTTPResponse, bytes]:
    """
    Request a path; return the answer's head and its body.

    The connection's own time-out counts from one piece of an answer to the next, so that a server
    which sends a byte now and then would never end it.

    Raises:
        TimeoutError: If the whole answer is not there in time.
        ValueError: If it is longer than `largest` bytes.
        OSError, http.client.HTTPException: As those of `http.client`.

    """
    late = threading.Event()
    # An answer without a length takes the socket away from its connection.
    held: list[socket.socket] = []

    def end() -> None:
        late.set()
        for one in held:
            # A read that waits in the other thread returns at once; that of TLS would forget its keys.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    timer = threading.Timer(within_s, end)
    timer.daemon = True
    timer.start()
    try:
        connection.request("GET", path)
        held.append(connection.sock)
        if late.is_set():
            raise _late(within_s)
        answer = connection.getresponse()
        body = _read(answer, largest)
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise _late(within_s) from None
        raise
    finally:
        timer.cancel()
    if late.is_set():
        # A body without a length ends where its connection does.
        raise _late(within_s)
    return answer, body


def _read(answer: http.client.HTTPResponse, largest: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > largest:
            raise ValueError(f"an answer of more than {largest:,} bytes")
    return b"".join(pieces)


def _late(within_s: float) -> TimeoutError:
    return TimeoutError(f"no whole answer within {within_s:g} s")
