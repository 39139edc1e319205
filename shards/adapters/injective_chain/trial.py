"""Endpoints on trial: a stream's blocks are held against the chain before they are believed."""

import abc
import asyncio
import logging
from typing import Final

from shards.adapters.reconnecting import Guard, Reconnecting
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, Cause

log = logging.getLogger(__name__)

TRY_S: Final = 5.0
"""How long a block at the head may take to come from an endpoint that is tried out."""


class ChainSource(Reconnecting):
    """A source of blocks that tries an endpoint out, and returns to its first choice."""

    @abc.abstractmethod
    async def _try_out(self, endpoint: str, *, since: int) -> Block:
        """
        Hear one market at an endpoint until a block as high as this comes, and return it.

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

    async def _prove(self, endpoint: str, guard: Guard) -> None:
        """Hear one block of an endpoint on trial, and hold it against the chain."""
        if self._has_markets:
            block = await self._try_out(endpoint, since=0)
            await guard.check_block(endpoint, block.height, block.ts_event)

    async def _look_for_better(self, endpoint: str, *, every_s: float) -> None:
        """While on a second choice, return to the first once it brings blocks at the head."""
        while True:
            await asyncio.sleep(every_s)
            better = self.endpoints.preferred()
            if better is None:
                continue
            try:
                if self.guard is not None and self._has_markets:
                    await self.guard.admit(better)
                    # Two endpoints are not told of a block in the same instant.
                    block = await self._try_out(better, since=self.guard.head() - 1)
                    await self.guard.check_block(better, block.height, block.ts_event)
            except SourceError as error:
                self.endpoints.probed(better, error.reason)
                continue
            self.endpoints.probed(better)
            log.info("%s %s brings blocks again: leaving %s", self._name, better, endpoint)
            self.endpoints.leave()
            self.reconnect("disconnect", f"returning to {better}")
