"""Endpoints on trial: a stream's blocks are held against the chain before they are believed."""

import abc
import logging
from collections.abc import Callable, Iterable
from typing import Final

from shards.adapters.reconnecting import EndpointGuard, Reconnecting
from shards.core.pipeline import Decoder
from shards.net.fitness import AT_HEAD
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, Cause
from shards.protocol.settings import Market

log = logging.getLogger(__name__)

TRY_S: Final = 5.0
"""How long a block at the head may take to come from an endpoint that is tried out."""


class ChainSource(Reconnecting):
    """A source of blocks that tries endpoints out, and changes to a better one."""

    decode: Decoder
    """Decodes its payloads."""

    @abc.abstractmethod
    def add(self, markets: Iterable[Market]) -> None:
        """Collect more markets."""

    @abc.abstractmethod
    def remove(self, market_ids: Iterable[str]) -> None:
        """Stop collecting some markets."""

    @abc.abstractmethod
    def resubscribe(self, market_id: str) -> None:
        """Replace one market's subscription."""

    @abc.abstractmethod
    async def _try_out(self, endpoint: str, *, since: Callable[[], int]) -> Block:
        """
        Hear one market at an endpoint until a block comes that is at the head; return the block.

        ``since`` returns the lowest height that is at the head now. It is asked for each block:
        a stream that lags reaches any fixed height, but never the head.

        Raises:
            SourceError: If none does in time.

        """

    @abc.abstractmethod
    def reconnect(self, cause: Cause, reason: str) -> None:
        """Give the connection up; `run` makes another."""

    @property
    @abc.abstractmethod
    def _has_markets(self) -> bool:
        """Whether there is a market to hear."""

    async def _prove(self, endpoint: str, guard: EndpointGuard) -> None:
        """Hear one block of an endpoint on trial, and hold it against the chain."""
        if self._has_markets:
            block = await self._try_out(endpoint, since=lambda: 0)
            await guard.check_block(endpoint, block.height, block.ts_event)

    async def _look_for_better(self, endpoint: str, *, every_s: float) -> None:
        """Leave for a preferred endpoint at the head; if this one lags, for any that is there."""
        while True:
            await self.endpoints.pause(every_s)
            for better in self.endpoints.alternatives():
                try:
                    await self._try_at_head(better)
                except SourceError as error:
                    self.endpoints.probed(better, error.reason)
                    continue
                self.endpoints.probed(better)
                log.info("%s %s is at the head: leaving %s", self._name, better, endpoint)
                self.endpoints.leave()
                self.reconnect("disconnect", f"changing to {better}, which is at the head")
                break

    async def _try_at_head(self, endpoint: str) -> None:
        """
        Hear a block of an endpoint, and hold it against the head and the chain.

        Raises:
            SourceError: If it is behind, or of another chain.

        """
        guard = self.guard
        if guard is None or not self._has_markets:
            return
        await guard.admit(endpoint)
        # Two endpoints are not told of a block in the same instant.
        block = await self._try_out(endpoint, since=lambda: guard.head() - AT_HEAD)
        # The stream in use may lag as well, and is then no measure.
        await guard.check_head(endpoint, block.height)
        await guard.check_block(endpoint, block.height, block.ts_event)
