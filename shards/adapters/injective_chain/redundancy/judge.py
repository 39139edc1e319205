"""
Find out which of two nodes is wrong: ask the chain's record about each block they disagree on.

Every RPC endpoint is asked. If their records agree, they decide; a node that they contradict is
not read for a while. If they disagree as well, or if none has the block, both nodes are named.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from shards.adapters.injective_chain.redundancy import copies
from shards.adapters.injective_chain.redundancy.copies import Difference
from shards.adapters.injective_chain.redundancy.source import RedundantSource
from shards.adapters.interface import BlockGone, ReplaySource, Unable
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, Divergence
from shards.protocol.text import without_secrets

log = logging.getLogger(__name__)

_TRIES: Final = 20
_TRY_S: Final = 0.1
"""A block's record may appear shortly after the block."""
_WAITING: Final = 1_000
"""Differences that wait; beyond, the oldest are only counted."""


class Judge:
    """Looks into the differences of one shard."""

    def __init__(
        self,
        source: RedundantSource,
        records: Sequence[ReplaySource],
        publish: Callable[[list[Divergence]], None],
        *,
        distrust_s: float,
    ) -> None:
        """
        ``records`` are the nodes' records, one source each; a node that they contradict is not
        read for ``distrust_s``.
        """
        self._distrust_s = distrust_s
        self._source = source
        self._records = records
        self._publish = publish
        self._waiting: deque[Difference] = deque(maxlen=_WAITING)
        self._due = asyncio.Event()
        source.arbiter.on_difference = self._take

    def _take(self, difference: Difference) -> None:
        self._waiting.append(difference)
        self._due.set()

    async def run(self) -> None:
        """Look into differences, block by block; never returns."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._waiting:
                height = self._waiting[0].height
                same = [found for found in self._waiting if found.height == height]
                for found in same:
                    self._waiting.remove(found)
                self._decide(same, await self._recorded(height))

    async def _recorded(self, height: int) -> list[Block]:
        """Return the block from every record that has it."""
        asked = [self._ask(source, height) for source in self._records]
        return [block for block in await asyncio.gather(*asked) if block is not None]

    async def _ask(self, source: ReplaySource, height: int) -> Block | None:
        for _ in range(_TRIES):
            try:
                return await source.fetch(height)
            except SourceError:
                await asyncio.sleep(_TRY_S)
            except (BlockGone, Unable):
                return None
        return None

    def _decide(self, found: list[Difference], records: list[Block]) -> None:
        """Publish the differences of one block."""
        events = []
        reasons: dict[str, str] = {}
        for difference in found:
            differing = copies.differences(
                difference.published, difference.other, difference.market_ids
            )
            for market_id, names in differing.items():
                wrong = verdict(difference, records, market_id)
                for endpoint in wrong:
                    reason = f"block {difference.height} is not as in the chain's record"
                    reasons.setdefault(endpoint, f"{reason}: {', '.join(names)}")
                    self._count(endpoint)
                events.append(_event(difference, market_id, names, wrong))
        self._publish(events)
        if len(reasons) == 1:
            # Of two wrong nodes, one is read on.
            for endpoint, reason in reasons.items():
                self._source.distrust(endpoint, reason, self._distrust_s)

    def _count(self, endpoint: str) -> None:
        for path, source in zip(self._source.arbiter.paths, self._source.sources, strict=True):
            if source.endpoints.current == endpoint:
                path.contradicted += 1

    async def aclose(self) -> None:
        """Close the connections to the records."""
        for source in self._records:
            await source.aclose()


def verdict(difference: Difference, records: Sequence[Block], market_id: str) -> list[str]:
    """Return the endpoints that all records contradict; none if the records do not agree."""
    found = {
        (
            copies.is_contradicted(difference.published, record, market_id),
            copies.is_contradicted(difference.other, record, market_id),
        )
        for record in records
    }
    if len(found) != 1:
        return []
    (is_first_wrong, is_second_wrong) = found.pop()
    return [difference.first] * is_first_wrong + [difference.second] * is_second_wrong


def _event(
    difference: Difference, market_id: str, names: list[str], wrong: list[str]
) -> Divergence:
    return Divergence(
        market_id,
        difference.height,
        difference.published.ts_event,
        time.time_ns(),
        difference.source,
        without_secrets(difference.first),
        without_secrets(difference.second),
        names,
        [without_secrets(endpoint) for endpoint in wrong],
    )
