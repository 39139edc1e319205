"""
Watch which chain the indexers show, and propose that ours was replaced if they show another one.

An indexer does not name its chain. Its list of trades is compared with an RPC's blocks, if an RPC
is configured and answers, and else with what was listed before (shown_chain.py): every few seconds,
before a session, and at once if a stream names a block that cannot be ours.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final, Protocol

from shards.adapters.injective_indexer.proofs import Proofs
from shards.adapters.injective_indexer.shown_chain import OURS, Found, ShownChain
from shards.adapters.injective_indexer.trade_lists import TradeLists, is_same
from shards.adapters.interface import EndpointsInUse
from shards.core.pipeline import Pipeline
from shards.net.nodes import Nodes
from shards.protocol.chain import Mark
from shards.protocol.errors import SourceError
from shards.protocol.events import Cause
from shards.protocol.text import without_secrets

log = logging.getLogger(__name__)

_WATCH_S: Final = 0.25
_LOOK_S: Final = 15.0
_FIRST_LOOKS_S: Final = 3.0
"""How often at first, until some blocks are remembered."""
_ENOUGH: Final = 3
_WITHIN_S: Final = 8.0
"""Longest wait for an endpoint's lists."""
_AGAIN_S: Final = 0.5
_AGAIN: Final = 2
"""How often a finding is repeated before the chain counts as replaced: of several servers behind
one address, one may be behind."""
_PEACE_S: Final = 600.0
"""After a false alarm, streams raise none for this long; the looks go on."""


class ReadIndexer(Protocol):
    """What is needed of the source (source.py)."""

    cuts: int

    @property
    def endpoints(self) -> EndpointsInUse:
        """Its endpoints."""

    def reconnect(self, cause: Cause, reason: str) -> None:
        """End the session."""


class ChainWatch:
    """One shard's judgement of its indexers. It is the source's guard (reconnecting.py)."""

    def __init__(
        self,
        endpoints: Sequence[str],
        nodes: Nodes,
        source: ReadIndexer,
        pipeline: Pipeline[Proofs],
        lists: TradeLists,
    ) -> None:
        """``endpoints`` are the indexers, ``nodes`` the RPCs, if any is configured."""
        self.nodes = nodes
        self._endpoints = endpoints
        self._source = source
        self._pipeline = pipeline
        self._lists = lists
        self._generation = -1
        self._shown = ShownChain()
        self._had_ours: set[str] = set()
        """Endpoints that have listed our chain's trades."""
        self._listed: list[Mark] = []
        """What the endpoint judged last lists, latest first."""
        self._look_at = 0.0
        self._peace_until = 0.0
        self._unclear = ""
        self._admitted = 0
        """Number of the last episode that was admitted."""

    async def run(self) -> None:
        """Watch; never returns."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if time.monotonic() >= self._peace_until:
                self._pipeline.liveness.trust(False)
            if self._pipeline.suspect:
                await self._look_into(self._pipeline.suspect)
            elif time.monotonic() >= self._look_at:
                await self._look()

    async def _look(self) -> None:
        """Judge the endpoint that is read; at once when there is one."""
        endpoint = self._source.endpoints.current
        if not endpoint:
            return
        await self.nodes.look()
        if self.nodes.replacement is None:
            found = await self._judge(endpoint)
            self._mention(endpoint, found)
            if found is not None and found.kind == "foreign":
                self._source.reconnect("chain_changed", found.reason)
        is_known = len(self._shown.marks) >= _ENOUGH
        self._look_at = time.monotonic() + (_LOOK_S if is_known else _FIRST_LOOKS_S)

    def _mention(self, endpoint: str, found: Found | None) -> None:
        reason = found.reason if found is not None and found.kind == "unclear" else ""
        if reason and reason != self._unclear:
            log.warning("%s may show another chain: %s", without_secrets(endpoint), reason)
        self._unclear = reason

    async def _look_into(self, height: int) -> None:
        """A stream names a block that cannot be ours; nothing is published until that is clear."""
        endpoint = self._source.endpoints.current
        if not endpoint:
            # `admit` is about to decide.
            return
        found = await self._judge(endpoint)
        reason = f"block {height} contradicts the blocks before it"
        if found is not None and found.kind == "ours":
            log.warning("%s: %s, but it lists our trades", without_secrets(endpoint), reason)
            self._peace_until = time.monotonic() + _PEACE_S
            self._pipeline.liveness.trust(True)
        self._source.reconnect("chain_changed", reason)

    @property
    def session(self) -> int:
        """The number of what may be believed; 0 from the end of any stream until `admit`."""
        is_admitted = self._source.endpoints.current and self._admitted == self._episode
        return self._admitted if is_admitted else 0

    @property
    def _episode(self) -> int:
        return self._source.endpoints.attempts + self._source.cuts

    # ---- whether a session may begin (reconnecting.EndpointGuard) ---------------------

    def head(self) -> int:
        """Return the highest block named."""
        return self._pipeline.head

    async def admit(self, endpoint: str) -> None:
        """
        Make sure that an endpoint shows our chain before it is read again.

        If the chain was replaced, wait until the aggregator has switched to the new one.

        Raises:
            SourceError: If it shows another chain, while others show ours or nothing shows that
                ours is gone.

        """
        episode = self._episode
        self._meet_generation()
        if self._pipeline.head or self._shown.marks:
            await self._vet(endpoint)
        # Otherwise nothing is known yet: what is read first is our chain.
        self._pipeline.clear_suspect()
        self._admitted = episode
        self.nodes.refused(endpoint, "")

    async def _vet(self, endpoint: str) -> None:
        # The nodes may have another chain by now, and would find the indexer's blocks in it.
        await self.nodes.look()
        found = await self._judge(endpoint)
        if self.nodes.replacement is None and found is not None and found.kind == "foreign":
            await self._replace(endpoint, found)
        if self.nodes.replacement is not None:
            await self.nodes.begun.wait()
            # Have it show the new chain's trades now: the former one may come back at any time.
            found = await self._judge(endpoint)
        if found is not None and found.kind != "ours":
            self.nodes.refused(endpoint, found.reason)
            raise SourceError(endpoint, f"not the chain being collected: {found.reason}")
        if found is None and self._had_ours and endpoint not in self._had_ours:
            raise SourceError(endpoint, "it lists no trades now, and never listed one of our chain")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._lists.aclose()
        await self.nodes.aclose()

    async def check_block(self, endpoint: str, height: int, ts_event: int) -> None:
        """Never called: an indexer's streams are not tried out."""

    async def check_head(self, endpoint: str, height: int) -> None:
        """Never called, for the same reason."""

    async def _replace(self, endpoint: str, found: Found) -> None:
        """Propose that our chain was replaced, if no endpoint and no node shows it any more."""
        if found.is_proved or endpoint not in self._had_ours or await self.nodes.look() is not None:
            return
        for other in self._endpoints:
            if other != endpoint and await self._shows_ours(other):
                return
        for _ in range(_AGAIN):
            await asyncio.sleep(_AGAIN_S)
            again = await self._judge(endpoint)
            if again is None or again.kind != "foreign":
                return
        if self._listed:
            marks = {mark.height: mark for mark in (self._listed[-1], self._listed[0])}
            at = without_secrets(endpoint)
            self.nodes.replace(tuple(marks.values()), f"at {at}, {found.reason}")

    async def _shows_ours(self, endpoint: str) -> bool:
        found = await self._judge(endpoint)
        return found is not None and found.kind == "ours" and endpoint in self._had_ours

    # ---- judging ---------------------------------------------------------------------

    async def _judge(self, endpoint: str) -> Found | None:
        """Return what an endpoint shows; None if it does not answer."""
        self._meet_generation()
        generation = self._generation
        try:
            async with asyncio.timeout(_WITHIN_S):
                listed = await self._lists.newest(endpoint)
            found = await self._compare(endpoint, listed)
        except (SourceError, TimeoutError) as error:
            why = str(error) or f"no answer in {_WITHIN_S:.0f} s"
            log.info("%s: its trades are not listed: %s", without_secrets(endpoint), why)
            return None
        if generation != self.nodes.chain.generation:
            return None
        self._listed = listed
        if found.kind == "ours" and listed:
            self._shown.learn(listed)
            self._had_ours.add(endpoint)
            self.nodes.remember(self._shown.marks[-1])
        return found

    async def _compare(self, endpoint: str, listed: list[Mark]) -> Found:
        """Compare with an RPC's blocks, or else with what was listed before."""
        if (found := await self._compare_with_nodes(listed)) is not None:
            return found
        async with asyncio.timeout(_WITHIN_S):
            has_ours = await self._lists_ours(endpoint, listed)
        return self._shown.judge(listed, has_ours=has_ours)

    async def _compare_with_nodes(self, listed: list[Mark]) -> Found | None:
        """
        Compare the latest and the highest listed block with an RPC's; None if that is not clear.

        They differ if a single trade is listed with a wrong time. One of them is ours then.
        """
        if not listed or not self.nodes.nodes:
            return None
        latest, highest = listed[0], max(listed, key=lambda mark: mark.height)
        try:
            async with asyncio.timeout(_WITHIN_S):
                reason = again = await self.nodes.contradiction(latest.height, latest.time)
                if highest != latest:
                    again = await self.nodes.contradiction(highest.height, highest.time)
        except TimeoutError:
            return None
        if reason and again:
            return Found("foreign", reason, is_proved=True)
        return OURS if reason == again == "" else None

    async def _lists_ours(self, endpoint: str, listed: list[Mark]) -> bool:
        """Return whether an endpoint lists a block that was listed before, or cannot tell."""
        newest_first = self._shown.marks[::-1]
        if any(is_same(mark, other) for mark in newest_first for other in listed):
            return True
        for mark in newest_first:
            if await self._lists.lists(endpoint, mark):
                return True
        # If it does not find its own newest trade either, it cannot be asked in this way.
        return bool(listed) and not await self._lists.lists(endpoint, listed[0])

    def _meet_generation(self) -> None:
        """Forget what was shown of a replaced chain."""
        chain = self.nodes.chain
        if chain.generation != self._generation:
            self._generation = chain.generation
            self._shown = ShownChain(chain.marks)
            self._had_ours.clear()
            if self._shown.is_inherited:
                # Which of them showed these blocks to an earlier process is unknown.
                self._had_ours.update(self._endpoints)
