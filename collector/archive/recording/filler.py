"""Fetch lost blocks from the chain's record, until each is here or known to be unavailable."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from shards.adapters import registry
from shards.adapters.interface import BlockGone, ReplaySource, Unable
from shards.net.access import Access
from shards.net.backoff import Backoff
from shards.net.rate_limiter import RateLimiter
from shards.protocol.channels import EXTRAS
from shards.protocol.errors import SourceError
from shards.protocol.events import Block
from shards.protocol.settings import Endpoints

log = logging.getLogger(__name__)

_AT_ONCE: Final = 4


def sources_of(network: Endpoints, access: Access, *, with_extras: bool) -> list[ReplaySource]:
    """Make the sources of past blocks, the best first."""
    return registry.past_blocks(network, access, with_extras=with_extras)


class Filler:
    """Fetches several heights at a time, rate limited; waits for a node that is away."""

    def __init__(
        self, sources: Sequence[ReplaySource], *, per_s: float, with_extras: bool = False
    ) -> None:
        self._sources = sources
        self.with_extras = with_extras
        """Whether the blocks have orders and oracle prices."""
        self._pace = RateLimiter(per_s)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.asked = 0
        """Blocks that were asked for."""
        self.reason = ""
        """Why the last block did not come at once."""

    async def fetch(
        self, heights: Iterable[int], take: Callable[[int, Block | None], None]
    ) -> None:
        """Fetch heights and pass each on; None if no source has it any more."""
        async with asyncio.TaskGroup() as tasks:
            for height in heights:
                await self._slots.acquire()
                tasks.create_task(self._one(height, take))

    async def _one(self, height: int, take: Callable[[int, Block | None], None]) -> None:
        try:
            take(height, await self._block(height))
        finally:
            self._slots.release()

    async def _block(self, height: int) -> Block | None:
        backoff = Backoff(base_s=0.2, cap_s=10.0)
        self.asked += 1
        while True:
            gone = 0
            await self._pace.turn()
            for source in self._sources:
                try:
                    return await source.fetch(height)
                except (BlockGone, Unable) as error:
                    gone += 1
                    self.reason = f"{source.name}: {error}"
                except SourceError as error:
                    self.reason = f"{source.name}: {error}"
            if gone == len(self._sources):
                self.reason = self.reason or "no node is known to ask"
                log.warning("block %d is not available any more (%s)", height, self.reason)
                return None
            await asyncio.sleep(backoff.next_s())

    async def aclose(self) -> None:
        """Close the connections."""
        for source in self._sources:
            with contextlib.suppress(SourceError):
                await source.aclose()


async def filler_of(
    former: Filler | None,
    network: Endpoints,
    budget: str,
    channels: Iterable[str],
    *,
    per_s: float,
) -> Filler:
    """Return what fetches blocks with the facts of some channels: the former one, if it does."""
    extras = not EXTRAS.isdisjoint(channels)
    if former is not None:
        if former.with_extras == extras:
            return former
        await former.aclose()
    sources = sources_of(network, registry.open_access(network, budget), with_extras=extras)
    return Filler(sources, per_s=per_s, with_extras=extras)
