"""Questions to whichever cell answers, and how all cells stand beside each other."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from collector.client.requests import AsyncRequestClient
from collector.client.summary import Summary, read_summary
from shards.protocol.errors import ConfigError

_STATUS_S: Final = 1.5


class CellRequests:
    """
    The cells that publish at some endpoints; the first that answers is asked.

    A cell that does not answer is left for the next one, and stays left until that one is silent.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        """Raise ValueError if one is neither a tcp nor an ipc endpoint."""
        self.endpoints = tuple(endpoints)
        self._clients = [AsyncRequestClient.of(at) for at in self.endpoints]
        self._answered = [time.time()] * len(self._clients)
        self._summaries: list[Summary | None] = [None] * len(self._clients)
        self.chosen = 0
        """The place of the cell that is asked."""

    async def ask(self, what: str, *, within_s: float, **fields: Any) -> dict[str, Any]:
        """
        Return the reply's map, of the first cell that answers.

        Raises:
            TimeoutError: If none answers in time.
            Refused: If the cell refuses, with its sentence.

        """
        for _ in self._clients[1:]:
            try:
                return await self._clients[self.chosen].ask(what, within_s=within_s, **fields)
            except TimeoutError:
                self.chosen = (self.chosen + 1) % len(self._clients)
        return await self._clients[self.chosen].ask(what, within_s=within_s, **fields)

    async def ask_parts(
        self, what: str, *, within_s: float, **fields: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Like `ask`, but also return the bodies that follow the map."""
        client = self._clients[self.chosen]
        return await client.ask_parts(what, within_s=within_s, **fields)

    async def rows(self) -> list[dict[str, Any]]:
        """Ask every cell for its state, and describe each; empty for a single cell."""
        if len(self._clients) < 2:
            return []
        return list(await asyncio.gather(*map(self._row, range(len(self._clients)))))

    async def _row(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = {
            "endpoint": self.endpoints[place],
            "chosen": place == self.chosen,
            "silent_since": None,
        }
        try:
            answer = await self._clients[place].ask("status", within_s=_STATUS_S)
            summary = self._summaries[place] = read_summary(answer)
            self._answered[place] = time.time()
        except TimeoutError:
            row["silent_since"] = int(self._answered[place] * 1_000)
            return row
        except (ConfigError, ValueError) as error:
            return row | {"error": str(error)}
        return row | _figures(summary)

    def close(self) -> None:
        """Close the sockets."""
        for client in self._clients:
            client.close()


def _figures(summary: Summary) -> dict[str, Any]:
    return {
        "live": summary.markets.live,
        "wanted": summary.markets.wanted,
        "head": summary.blocks.head,
        "halted": summary.halted,
        "completeness": summary.completeness if summary.blocks.provable else None,
        "missing": summary.blocks.missing,
        "gaps": summary.gaps.open,
        "trades": summary.events.trades,
        "p99": summary.hop("recv_to_aggregator").p99,
        "part": summary.trade_proof.part or "",
        "version": summary.version,
    }
