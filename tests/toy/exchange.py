"""
A scripted exchange of one market, nothing like Injective: JSON lines over TCP, batches for blocks.

Its trades have names of their own (``T00017-a``), some are sent twice, and one batch is left
out of every stream, so that it has to be asked for.
"""

import asyncio
import contextlib
import json
from typing import Any

MARKET = "toy-1"
LEFT_OUT = 12
_EVERY_S = 0.02


def text(number: int) -> str:
    return f"{number}.{'0' * 18}"


def trades_of(batch: int) -> list[str]:
    """Names of the trades that a batch makes, without repeated ones."""
    return [f"T{batch:05}-{letter}" for letter in "ab"[: 1 + batch % 2]]


def levels_after(batch: int) -> list[tuple[str, str]]:
    """The bids as they stand after a batch."""
    return [(text(10 + n % 5), text(n)) for n in range(max(1, batch - 4), batch + 1)]


class Exchange:
    """The server; it makes batches until it is closed."""

    def __init__(self) -> None:
        self.batch = 0
        self.asked_again: list[int] = []
        self._streams: dict[asyncio.StreamWriter, int] = {}
        self._server: asyncio.Server | None = None
        self.endpoint = ""

    async def __aenter__(self) -> "Exchange":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.endpoint = f"{host}:{port}"
        self._making = asyncio.create_task(self._make())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._making.cancel()
        assert self._server is not None
        self._server.close()
        for writer in list(self._streams):
            writer.close()

    def told(self, batch: int) -> dict[str, Any]:
        again = trades_of(batch - 1)[-1:] if batch % 3 == 0 and batch > 1 else []
        price, size = levels_after(batch)[-1]
        return {
            "batch": batch,
            "trades": [*again, *trades_of(batch)],
            "sequence": batch,
            "bids": [(price, size)],
        }

    async def _make(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self.batch += 1
            if self.batch % 40 != LEFT_OUT:
                for writer, number in self._streams.items():
                    self._send(writer, {"for": number} | self.told(self.batch))

    def _send(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                asked = json.loads(line)
                if "subscribe" in asked:
                    self._streams[writer] = asked["subscribe"]
                    self._send(writer, {"for": asked["subscribe"], "accepted": True})
                elif "again" in asked:
                    self.asked_again.append(asked["again"])
                    self._send(writer, self.told(asked["again"]))
                elif "book" in asked:
                    book = {"batch": self.batch, "sequence": self.batch}
                    self._send(writer, book | {"bids": levels_after(self.batch)})
                elif "markets" in asked:
                    self._send(writer, {"markets": [{"id": MARKET, "name": "TOY/CASH"}]})
        self._streams.pop(writer, None)
        writer.close()
