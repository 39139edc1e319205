"""Ask the aggregator without standing in the event loop's way."""

import asyncio
from typing import Any, Final

import msgspec
import zmq
import zmq.asyncio

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any])


class Asker:
    """A DEALER to the aggregator's requests endpoint; one request at a time."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # No request waits for an aggregator that is away: it would be stale on its return.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.connect(endpoint)
        self._turn = asyncio.Lock()
        self._id = 0

    async def ask(
        self, what: str, *, within_s: float, **fields: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """
        Return the answer's map, and the bodies that follow it.

        Raises:
            TimeoutError: If none came in time.
            ValueError: If it was refused; the text is the aggregator's.

        """
        async with self._turn, asyncio.timeout(within_s):
            self._id += 1
            await self._socket.send(_encode({"ask": what, "id": self._id, **fields}))
            while True:
                first, *bodies = await self._socket.recv_multipart()
                answer = _decode.decode(first)
                if answer.get("id") == self._id:
                    break
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer, bodies

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)
