"""Watch the blocks: find silent subscriptions, and tell a dead one from a halted chain."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from shards.adapters.interface import Source
from shards.core.blocks import Blocks
from shards.core.pipeline import Pipeline
from shards.net.fitness import BEHIND
from shards.net.nodes import Nodes
from shards.protocol.errors import SourceError
from shards.push import Pusher
from shards.runtime.clock import SetClock

log = logging.getLogger(__name__)

_WATCH_S: Final = 0.25
_LOOK_S: Final = 15.0
"""How often all nodes are queried although nothing is wrong."""
_LAG_LOOK_S: Final = 2.0
"""How often while the stream is behind them."""
_LATE_S: Final = 1.0
"""Woken so late, this process may be what is behind, and not its stream."""
_ADMIT_S: Final = 2.0
"""How long a session waits for a node that shows its chain."""
_TURN_S: Final = 0.05
_BURST_S: Final = 1.0
"""Longest time between the subscriptions' first blocks after a silence."""


class Watchdog:
    """Checks the feeds four times per second, and acts on dead subscriptions."""

    def __init__(
        self,
        pipeline: Pipeline[Blocks],
        pusher: Pusher,
        source: Source,
        nodes: Nodes,
        *,
        push_new: Callable[[], None],
    ) -> None:
        self._pipeline = pipeline
        self._blocks = pipeline.liveness
        self._pusher = pusher
        self._source = source
        self._push_new = push_new
        self._nodes = nodes
        self._clock = SetClock()
        self._seen = 0
        self._heard_at = 0
        self._ahead_since = 0.0
        self._patient_until = 0.0
        self._shown_at_first = 0
        self._look_at = 0.0
        self.halted = False
        """The chain itself makes no blocks; the subscriptions are fine."""

    async def run(self) -> None:
        """Watch; never returns."""
        self._look_at = time.monotonic() + _LOOK_S
        while True:
            due = time.monotonic() + _WATCH_S
            await asyncio.sleep(_WATCH_S)
            if time.monotonic() - due > _LATE_S:
                self._source.endpoints.cannot_compare()
            self._pusher.flush()
            if self._pipeline.head > self._seen:
                self._advance()
            if self._pipeline.suspect:
                await self._look_into(self._pipeline.suspect)
            await self._look_now_and_then()
            now = time.monotonic()
            if self._clock.was_set():
                self._blocks.clock_set(time.time_ns())
                self._heard_at = self._blocks.head.at
            if now - due > _WATCH_S or now < self._patient_until:
                # This process was stopped or starved: what waits in the socket was not late.
                continue
            if mute := self._blocks.mute(time.time_ns()):
                await self._revive(mute)

    # ---- whether a session may begin (reconnecting.Guard) ----------------------------

    def head(self) -> int:
        """Return the highest block received."""
        return self._pipeline.head

    async def admit(self, endpoint: str) -> None:
        """
        Make sure that the chain is still ours before receiving its blocks again.

        If it was replaced, wait until the aggregator has switched to the new chain.

        Raises:
            SourceError: If every node that answers has another chain.

        """
        nodes = self._nodes
        deadline = time.monotonic() + _ADMIT_S
        while await nodes.look() is None:
            if nodes.replacement is not None:
                await nodes.begun.wait()
                return
            if foreign := nodes.foreign():
                raise SourceError(endpoint, f"not the chain being collected: {foreign}")
            if time.monotonic() > deadline:
                # Unknown for now. Blocks that contradict the chain are detected on arrival.
                return
            await asyncio.sleep(_TURN_S)

    async def check_block(self, endpoint: str, height: int, ts_event: int) -> None:
        """
        Compare a streamed block with the chain's record.

        Raises:
            SourceError: If it belongs to another chain.

        """
        nodes = self._nodes
        reason = await nodes.contradiction(height, ts_event)
        if reason is None and 0 < nodes.head < height - BEHIND:
            reason = f"its block {height} is unknown to every node; they are at {nodes.head}"
        nodes.refused(endpoint, reason or "")
        if reason:
            raise SourceError(endpoint, f"not the chain being collected: {reason}")

    async def check_head(self, endpoint: str, height: int) -> None:
        """
        Compare an endpoint's newest block, just received, with the head of all nodes.

        Raises:
            SourceError: If it is behind.

        """
        behind = (await self._nodes.look() or 0) - height
        if behind >= BEHIND:
            raise SourceError(endpoint, f"tried out: it is {behind} blocks behind the head")

    async def _look_into(self, height: int) -> None:
        """A block contradicts our chain: was the chain replaced, or is the endpoint wrong?"""
        self._pipeline.clear_suspect()
        await self._nodes.look()
        reason = f"block {height} is of another chain: it is lower than ours, and later"
        if self._nodes.replacement is None:
            log.warning("%s", reason)
        self._source.reconnect("chain_changed", reason)

    def _advance(self) -> None:
        """A subscription has received a new block."""
        self._seen = self._pipeline.head
        self._ahead_since = 0.0
        self._source.endpoints.succeeded()
        if self.halted:
            self.halted = False
            log.info("the chain makes blocks again, at height %d", self._seen)
        heard_at = self._blocks.head.at
        if heard_at - self._heard_at > self._blocks.mute_limit_s() * 1e9:
            # All were silent, and they cannot all receive the first block at the same instant.
            self._patient_until = time.monotonic() + _BURST_S
        self._heard_at = heard_at

    async def _revive(self, mute: list[str]) -> None:
        limit_s = self._blocks.mute_limit_s()
        silent_s = (time.time_ns() - self._blocks.head.at) / 1e9
        if silent_s > limit_s:
            # Not "all are silent": a refused or just reopened subscription is not.
            if not await self._chain_stands_still(patience_s=limit_s):
                reason = f"no block for {limit_s:.1f} s on any subscription"
                if self._nodes.head > self._pipeline.head:
                    self._source.endpoints.unfit(f"{reason}, while the chain goes on")
                self._source.reconnect("mute", reason)
            return
        if silent_s > limit_s / 2:
            # Perhaps all are silent, which will show soon.
            return
        for market_id in mute:
            log.warning(
                "%s: no block for %.1f s; resubscribing",
                self._pipeline.markets[market_id].symbol,
                limit_s,
            )
            reason = f"no block for {limit_s:.1f} s"
            self._pipeline.lose(market_id, "mute", time.time_ns(), reason)
            self._source.resubscribe(market_id)
        self._push_new()

    async def _chain_stands_still(self, *, patience_s: float) -> bool:
        """
        Ask a node whether there is a block that we did not receive.

        A node reports the next block before it has executed and streamed it. Only if that block stays
        away for this long as well do the two views differ.
        """
        height = await self._nodes.look()
        head = self._pipeline.head
        if head > self._seen:
            # A block arrived while we asked: it was late, as we may be.
            return True
        if height is None:
            return False
        if not head:
            # No block was received yet: use the node's first answer instead.
            if not self._shown_at_first:
                self._shown_at_first = height
                self._patient_until = time.monotonic() + patience_s
                return True
            head, self._shown_at_first = self._shown_at_first, 0
        if height == head + 1:
            self._ahead_since = self._ahead_since or time.monotonic()
            return time.monotonic() - self._ahead_since < patience_s
        if not 0 < height <= head:
            return False
        if not self.halted:
            log.warning("chain halted at height %d; the subscriptions are alive", head)
        self.halted = True
        return True

    async def _look_now_and_then(self) -> None:
        """Refresh what is known of the nodes, for the status and the chain's marks."""
        if time.monotonic() >= self._look_at:
            head = await self._nodes.look()
            self._judge_stream(head or 0)
            is_behind = self._source.endpoints.is_behind
            self._look_at = time.monotonic() + (_LAG_LOOK_S if is_behind else _LOOK_S)

    def _judge_stream(self, head: int) -> None:
        """Compare the stream with the nodes; one that is steadily behind is left for a better one."""
        endpoints, height = self._source.endpoints, self._pipeline.head
        silent_s = (time.time_ns() - self._blocks.head.at) / 1e9
        if not (head and height and endpoints.current) or silent_s > self._blocks.mute_limit_s():
            # Nothing to compare, or no blocks at all: `_revive` handles that.
            endpoints.cannot_compare()
        else:
            endpoints.compare(height, head)
