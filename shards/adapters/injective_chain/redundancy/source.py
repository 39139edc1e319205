"""
A source that reads several nodes at once (``redundancy = 2``).

Each path is an ordinary source with its own share of the endpoints, so that two paths never read
one node. Both see the same requests; what they bring is merged by the arbiter.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from shards.adapters.injective_chain.redundancy.arbiter import Arbiter, Path, RedundantSink
from shards.adapters.injective_chain.redundancy.peek import Peek
from shards.adapters.injective_chain.redundancy.pools import EndpointPools
from shards.adapters.injective_chain.trial import ChainSource
from shards.adapters.reconnecting import EndpointGuard
from shards.core.pipeline import Decoder
from shards.protocol.control import PathReport
from shards.protocol.errors import SourceError
from shards.protocol.events import Cause
from shards.protocol.settings import Market
from shards.protocol.text import without_secrets

log = logging.getLogger(__name__)

_REFUSED_S: Final = 2.0
"""Pause before a refused subscription is requested again, while another path serves its market."""

OpenPath = Callable[[Sequence[str], Path], ChainSource]


class _PathGuard:
    """Judges the endpoints of one path: as the chain's watch does, but not those in quarantine."""

    def __init__(self, guard: EndpointGuard, quarantine: "dict[str, tuple[float, str]]") -> None:
        self._guard = guard
        self._quarantine = quarantine

    async def admit(self, endpoint: str) -> None:
        until, reason = self._quarantine.get(endpoint, (0.0, ""))
        if asyncio.get_running_loop().time() < until:
            raise SourceError(endpoint, reason)
        await self._guard.admit(endpoint)

    async def check_block(self, endpoint: str, height: int, ts_event: int) -> None:
        await self._guard.check_block(endpoint, height, ts_event)

    async def check_head(self, endpoint: str, height: int) -> None:
        await self._guard.check_head(endpoint, height)

    def head(self) -> int:
        return self._guard.head()


class RedundantSource:
    """Several sources of the same blocks as one (interface.BlockSource)."""

    def __init__(
        self,
        endpoints: Sequence[str],
        sink: RedundantSink,
        open_path: OpenPath,
        *,
        paths: int,
        peek: Peek,
        compare_every: int,
        name: str,
    ) -> None:
        self.arbiter = Arbiter(
            sink,
            peek,
            self._decode,
            paths=paths,
            compare_every=compare_every,
            refused=self._refused,
            endpoint=lambda number: self.sources[number].endpoints.current,
            source=name,
        )
        each = list(dict.fromkeys(endpoints))
        self.sources = [open_path(each[path.number :: paths], path) for path in self.arbiter.paths]
        self.endpoints = EndpointPools([source.endpoints for source in self.sources])
        self._quarantine: dict[str, tuple[float, str]] = {}
        self._guard: EndpointGuard | None = None
        self._read = [source.endpoints.reports()[0].endpoint for source in self.sources]
        """What each path reads, or read last, without secrets."""

    def _decode(self, payload: bytes | memoryview, subscription: int) -> tuple[int, object]:
        """Decode a payload as its path does (pipeline.Decoder)."""
        sources = self.sources
        return sources[subscription % len(sources)].decode(payload, subscription)

    @property
    def decode(self) -> Decoder:
        """The decoder of all paths: their own if they share one, which saves a call."""
        first = self.sources[0].decode
        return first if all(source.decode is first for source in self.sources) else self._decode

    @property
    def guard(self) -> EndpointGuard | None:
        """The chain's watch."""
        return self._guard

    @guard.setter
    def guard(self, guard: EndpointGuard | None) -> None:
        self._guard = guard
        for source in self.sources:
            source.guard = None if guard is None else _PathGuard(guard, self._quarantine)

    async def run(self) -> None:
        """Run all paths; never returns."""
        async with asyncio.TaskGroup() as tasks:
            for source in self.sources:
                tasks.create_task(source.run())

    # ---- what is done to all paths ------------------------------------------------------

    def add(self, markets: Iterable[Market]) -> None:
        """Collect more markets on every path."""
        new = list(markets)
        for source in self.sources:
            source.add(new)

    def remove(self, market_ids: Iterable[str]) -> None:
        """Stop collecting markets on every path."""
        gone = list(market_ids)
        self.arbiter.forget(gone)
        for source in self.sources:
            source.remove(gone)

    def resubscribe(self, market_id: str) -> None:
        """Replace a market's subscription on every path."""
        self.arbiter.doubt(market_id)
        for source in self.sources:
            source.resubscribe(market_id)

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Close every path's connection and open others."""
        for source in self.sources:
            source.reconnect(cause, reason)

    # ---- what is done to one path -------------------------------------------------------

    def distrust(self, endpoint: str, reason: str, for_s: float) -> None:
        """Leave an endpoint whose blocks the chain's record contradicts, for a while."""
        until = asyncio.get_running_loop().time() + for_s
        self._quarantine[endpoint] = until, reason
        for source in self.sources:
            if source.endpoints.current == endpoint:
                log.warning("%s: %s; not read for %.0f s", endpoint, reason, for_s)
                source.endpoints.unfit(reason)
                source.reconnect("garbage", reason)

    def _refused(self, path: Path, market_ids: tuple[str, ...], reason: str) -> None:
        """A node refused a subscription that another path serves: ask it again later."""
        endpoint = self.sources[path.number].endpoints.current
        log.info("%s refused a subscription: %s; asking again", endpoint, reason)
        loop = asyncio.get_running_loop()
        for market_id in market_ids:
            loop.call_later(_REFUSED_S, self.sources[path.number].resubscribe, market_id)

    # ---- how the paths stand -------------------------------------------------------------

    def paths(self) -> list[PathReport]:
        """Describe the paths, for the reports."""
        found = []
        for path, source in zip(self.arbiter.paths, self.sources, strict=True):
            if current := source.endpoints.current:
                self._read[path.number] = without_secrets(current)
            found.append(
                PathReport(
                    path=path.number,
                    endpoint=self._read[path.number],
                    height=self.arbiter.height(path),
                    markets=sum(unit.is_confirmed for unit in path.of_market.values()),
                    first=path.first,
                    second=path.second,
                    late_us=max(0.0, path.late_ns / 1e3),
                    compared=path.compared,
                    differed=path.differed,
                    contradicted=path.contradicted,
                )
            )
        return found
