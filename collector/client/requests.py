"""Ask a running aggregator one thing, with a deadline."""

from types import TracebackType
from typing import Any, Final, Self

import msgspec
import zmq

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any])


class Asker:
    """A DEALER to an aggregator's requests endpoint; blocking, for commands and the coordinator."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.connect(endpoint)
        self._id = 0

    def ask(self, what: str, *, within_s: float, **fields: Any) -> dict[str, Any]:
        """
        Return the answer's map.

        Raises:
            TimeoutError: If none came in time; the text is one sentence for the user.

        """
        self._id += 1
        self._socket.send(_encode({"ask": what, "id": self._id, **fields}))
        while self._socket.poll(int(within_s * 1000)):
            answer = _decode.decode(self._socket.recv_multipart()[0])
            if answer.get("id") == self._id:
                return answer
        raise TimeoutError(
            f"no collector answered at {self.endpoint} within {within_s:.0f} s: "
            "is one running ('collector start'), and is this its endpoint (--connect)?"
        )

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
