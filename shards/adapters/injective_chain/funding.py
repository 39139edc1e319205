"""
Poll what no stream carries: the funding of perpetual markets.

Node v1.20.1 sends no funding on the chain stream (the filter is newer than the node), and reading
its events would need one ``block_results`` per block. The state is cumulative, so polling every
few seconds misses no payment, only the exact time of one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc.aio
import msgspec

from shards.adapters.injective_chain import grpc_decoder
from shards.adapters.injective_chain.heights import height_in
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.net.nodes import Nodes
from shards.protocol.errors import SourceError
from shards.protocol.events import Funding
from shards.protocol.settings import Market

log = logging.getLogger(__name__)

_EVERY_S: Final = 5.0
_TIMEOUT_S: Final = 5.0


class FundingPoll:
    """Repeats one query for all perpetual markets of a shard; publishes changes."""

    def __init__(
        self,
        endpoints: Sequence[str],
        access: Access,
        nodes: Nodes,
        *,
        markets: Callable[[], Iterable[Market]],
        tell: Callable[[Iterable[Funding]], None],
    ) -> None:
        self._endpoints = list(endpoints)
        self._access = access
        self._nodes = nodes
        self._markets = markets
        self._tell = tell
        self._known: dict[str, Funding] = {}
        self._query: Any = INJECTIVE.package("injective.exchange.v2")
        self._channel: grpc.aio.Channel | None = None

    async def run(self) -> None:
        """Poll every five seconds; never returns."""
        while True:
            ids = [market.market_id for market in self._markets() if market.type == "derivative"]
            # A market that was removed and added again is published again.
            self._known = {name: self._known[name] for name in ids if name in self._known}
            if ids:
                try:
                    self._tell(self._changed(await self._ask(ids)))
                except SourceError as error:
                    log.info("%s; trying again", error)
                    await self.aclose()
                    self._endpoints.append(self._endpoints.pop(0))
            await asyncio.sleep(_EVERY_S)

    async def _ask(self, market_ids: list[str]) -> list[Funding]:
        endpoint = self._endpoints[0]
        if reason := await self._nodes.vet(endpoint, "queries"):
            raise SourceError(endpoint, f"not the chain being collected: {reason}")
        if self._channel is None:
            self._channel = self._access.open_channel(endpoint)
        answer, said = await self._access.query(
            endpoint,
            INJECTIVE.stub("injective.exchange.v2.Query", self._channel).DerivativeMarkets,
            self._query.QueryDerivativeMarketsRequest(market_ids=market_ids),
            timeout_s=_TIMEOUT_S,
        )
        height = height_in(endpoint, said)
        return grpc_decoder.funding(endpoint, answer, height, time.time_ns())

    def _changed(self, answered: Iterable[Funding]) -> list[Funding]:
        """Keep the answers that differ by more than the time they were read."""
        changed = []
        for event in answered:
            bare = msgspec.structs.replace(event, height=0, ts_recv=0)
            if self._known.get(event.market_id) != bare:
                self._known[event.market_id] = bare
                changed.append(event)
        return changed

    async def aclose(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
