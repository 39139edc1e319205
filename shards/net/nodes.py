"""
The nodes' own word: which chain they have, where its head is, and which of them are fit.

All RPC endpoints are asked at once. A node that contradicts what is remembered of the chain
(chain.py) is refused by name. The head is the highest block of all that are left, and one that is
behind it is not fit to be asked for what is new. When a node that had our chain shows another one,
and none shows ours any more, then the chain itself was replaced.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from shards.net.access import Access
from shards.net.rpc import Rpc, block_hash, block_time, view_of
from shards.protocol.chain import Chain, Mark, NodeView
from shards.protocol.control import NodeReport
from shards.protocol.errors import SourceError
from shards.protocol.text import without_secrets

log = logging.getLogger(__name__)

_ASK_S: Final = 2.0
_WITHIN_S: Final = 5.0
"""Our turn at a host that refuses may be half a minute away."""
BEHIND: Final = 3
"""Blocks behind the highest head from which on a node is not fit."""


class Node:
    """One RPC endpoint, and what is known of who answers there."""

    def __init__(self, endpoint: str, access: Access) -> None:
        self.endpoint = endpoint
        self.rpc = Rpc(endpoint, access, timeout_s=_ASK_S)
        self.view: NodeView | None = None
        """What it showed last; None where it did not answer."""
        self.foreign = ""
        """Why it has another chain than ours; empty where it has ours, for all we know."""
        self.was_ours = False
        self.reason = ""
        """Why it is not fit, for people."""
        self.advanced_at = 0.0
        """When its head was last seen to move, monotonic."""


class Nodes:
    """All RPC endpoints of one shard, judged together."""

    def __init__(self, endpoints: Sequence[str], access: Access) -> None:
        self.nodes = [Node(endpoint, access) for endpoint in endpoints]
        self.chain = Chain()
        self.replacement: Chain | None = None
        """The chain that has taken the place of ours, until the aggregator has begun with it."""
        self.begun = asyncio.Event()
        """Set whenever it has."""
        self.head = 0
        """The highest block of all nodes that have our chain."""
        self.head_time = 0
        """Its time, ns since 1970."""

    async def look(self) -> int | None:
        """Ask all nodes; return the highest head of those that have our chain, None without one."""
        await asyncio.gather(*(self._ask(node) for node in self.nodes))
        self._judge()
        heads = [node.view.latest for node in self._ours() if node.view is not None]
        if not heads:
            return None
        newest = max(heads, key=lambda mark: mark.height)
        self.head, self.head_time = newest.height, newest.time
        return newest.height

    def _ours(self) -> list["Node"]:
        return [node for node in self.nodes if node.view is not None and not node.foreign]

    async def _ask(self, node: Node) -> None:
        before, node.view = node.view, None
        try:
            async with asyncio.timeout(_WITHIN_S):
                view = await view_of(node.rpc)
                foreign = self.chain.contradiction(view, await self._known_block(node, view))
        except (SourceError, TimeoutError) as error:
            node.reason = str(error) or "no answer"
            return
        if before is None or view.latest.height != before.latest.height:
            node.advanced_at = time.monotonic()
        node.view = view
        if foreign and not node.foreign:
            log.warning("%s does not have our chain: %s", node.endpoint, foreign)
        node.foreign = node.reason = foreign

    async def _known_block(self, node: Node, view: NodeView) -> Mark | None:
        """Ask for the newest remembered block that a node should have; None where it has none."""
        for mark in reversed(self.chain.marks):
            if view.earliest.height <= mark.height < view.latest.height:
                return Mark(mark.height, await block_hash(node.rpc, mark.height), 0)
        return None

    def _judge(self) -> None:
        """Learn from the nodes that have our chain, or find that it was replaced."""
        ours = self._ours()
        highest = max((n.view.latest.height for n in ours if n.view), default=0)
        for node in ours:
            assert node.view is not None
            # The first to answer, in order of preference, says which chain it is.
            if reason := self.chain.contradiction(node.view):
                node.foreign = node.reason = reason
                continue
            self.chain = self.chain.learned(node.view)
            node.was_ours = True
            behind = highest - node.view.latest.height
            node.reason = f"{behind} blocks behind" if behind >= BEHIND else ""
        if ours or self.replacement is not None:
            return
        for node in self.nodes:
            view = node.view
            if view is not None and node.was_ours and view.network == self.chain.id:
                generation = max(time.time_ns(), self.chain.generation + 1)
                self.begun.clear()
                self.replacement = Chain(view.network, generation).learned(view)
                log.warning(
                    "the chain %s was replaced: at %s %s",
                    view.network, node.endpoint, node.foreign,
                )  # fmt: skip
                return

    def knows(self, chain: Chain) -> None:
        """Take what the aggregator remembers of the chain; another generation begins anew."""
        if chain.generation > self.chain.generation:
            self.chain, self.replacement = chain, None
            self.begun.set()
            for node in self.nodes:
                node.foreign = node.reason = ""
        elif chain.generation == self.chain.generation and chain.marks and not self.chain.marks:
            self.chain = chain
        for node in self.nodes:
            # A successor cannot know which of them had it, only that this is our chain.
            node.was_ours = node.was_ours or bool(self.chain.marks)

    async def block_time(self, height: int) -> int | None:
        """Return when a block of our chain was made, in ns; None where no node can say."""
        for node in self._ours():
            try:
                if found := await block_time(node.rpc, height):
                    return found
            except SourceError:
                continue
        return None

    def foreign(self) -> str:
        """Say why the nodes that answer have another chain; empty if one of them has ours."""
        answered = [node for node in self.nodes if node.view is not None]
        if any(not node.foreign for node in answered):
            return ""
        return "; ".join(f"{node.endpoint}: {node.foreign}" for node in answered)

    def reports(self) -> list[NodeReport]:
        """Describe every node for the status."""
        return [
            NodeReport(
                without_secrets(node.endpoint),
                node.view.latest.height if node.view is not None else 0,
                not node.reason,
                node.reason,
            )
            for node in self.nodes
        ]

    def is_foreign(self, endpoint: str) -> str:
        """Say why an RPC endpoint has another chain than ours; empty if it does not."""
        return next((node.foreign for node in self.nodes if node.endpoint == endpoint), "")

    def close(self) -> None:
        """Drop the connections."""
        for node in self.nodes:
            node.rpc.close()
