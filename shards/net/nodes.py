"""
The RPC nodes: which chain each has, where the head is, and which nodes are fit to use.

All endpoints that can be asked are queried at once: RPC, query servers, event providers. An
endpoint that contradicts our record of the chain (chain.py) is refused, and named in the log. The
head is the highest block of the others. A node is unfit for new data if it is behind the head, is
still catching up, or stands still (fitness.py). If a node that had our chain shows another one, and
no node shows ours any more, the chain itself was replaced.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

from shards.net.access import Access
from shards.net.fitness import BEHIND, Cause, Progress, Verdict, verdict
from shards.net.rpc import block_time
from shards.net.witness import RpcWitness, Witness
from shards.protocol.chain import SAME_NS, Chain, Mark, NodeView, Role
from shards.protocol.control import NodeReport
from shards.protocol.errors import SourceError
from shards.protocol.text import printable, without_secrets

log = logging.getLogger(__name__)

_WITHIN_S: Final = 5.0
"""Longest wait for one round of queries; a turn at a refusing host may be half a minute away."""
_TURN_S: Final = 0.05
_RECORDED_TURNS: Final = 20
"""How often the nodes are queried for a block that is very new."""
CANNOT_TELL: Final = frozenset({"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"})
"""gRPC statuses of an endpoint that serves other questions, but not this one."""


class Node:
    """One endpoint, and what is known about the node behind it."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.endpoint = witness.endpoint
        self.view: NodeView | None = None
        """The node's last answer; None if it did not answer."""
        self.foreign = ""
        """Why its chain is not ours; empty as long as nothing contradicts it."""
        self.was_ours = False
        self.verdict = Verdict(None, "")
        self.progress = Progress()
        self.untold = ""
        """Why its chain cannot be verified; it is then trusted."""
        self.proven = -1
        """Generation of the chain with which one of its blocks was compared; -1 for none."""
        self.asked_at = float("-inf")

    @property
    def reason(self) -> str:
        """Why it is unfit, for people; if it cannot be asked, the reason for that."""
        return self.verdict.reason

    def is_due(self, now: float) -> bool:
        """Return whether its last answer is too old to be used again."""
        return self.view is None or now - self.asked_at >= self.witness.every_s


class Nodes:
    """All endpoints of one shard that can be asked about the chain, judged together."""

    def __init__(
        self, endpoints: Sequence[str], access: Access, also: Iterable[Witness] = ()
    ) -> None:
        """``endpoints`` are the RPCs, ``also`` are the witnesses of the other endpoints."""
        witnesses: list[Witness] = [RpcWitness(endpoint, access) for endpoint in endpoints]
        self.nodes = [Node(witness) for witness in (*witnesses, *also)]
        self.chain = Chain()
        self.replacement: Chain | None = None
        """The chain that replaced ours, until the aggregator switches to it."""
        self.begun = asyncio.Event()
        """Set whenever the aggregator has switched."""
        self.head = 0
        """The highest block of all nodes with our chain."""
        self.head_time = 0
        """Its time, ns since the epoch; 0 if only endpoints that report no times know it."""
        self._refused: dict[str, str] = {}
        """Endpoints of streams whose blocks are of another chain, and how that was seen."""

    # ---- asking ----------------------------------------------------------------------

    async def look(self) -> int | None:
        """Ask all nodes; return the highest head of those that have our chain, None without one."""
        now = time.monotonic()
        due = [node for node in self.nodes if node.is_due(now)]
        await asyncio.gather(*(self._ask(node) for node in due))
        if any(node.foreign and node.was_ours for node in due):
            # An endpoint that is asked less often may still have an answer from the former chain.
            await asyncio.gather(*(self._ask(node) for node in self.nodes if node not in due))
        self._learn()
        self._find_replacement()
        heads = [node.view.latest for node in self._ours() if node.view is not None]
        if not heads:
            self._judge(0)
            return None
        newest = max(heads, key=lambda mark: mark.height)
        self.head, self.head_time = newest.height, newest.time
        self._judge(newest.height)
        return newest.height

    def _ours(self) -> list["Node"]:
        """Return the nodes that name our network, or that had a block of our chain."""
        return [
            node
            for node in self.nodes
            if node.view is not None
            and not node.foreign
            and (node.view.network or self._is_proven(node))
        ]

    def _is_proven(self, node: Node) -> bool:
        return node.proven == self.chain.generation

    async def _ask(self, node: Node) -> None:
        before, node.view, node.asked_at = node.view, None, time.monotonic()
        try:
            async with asyncio.timeout(_WITHIN_S):
                view = await node.witness.view()
                if before is None or view.latest.height < before.latest.height:
                    node.proven = -1
                known = await self._known_block(node, view)
                foreign = self.chain.contradiction(view, known)
        except (SourceError, TimeoutError) as error:
            self._note_silence(node, error)
            return
        node.view, node.untold = view, ""
        node.progress.saw(view.latest, time.monotonic())
        if foreign and not node.foreign:
            log.warning("%s does not have our chain: %s", without_secrets(node.endpoint), foreign)
        node.foreign = foreign
        if foreign:
            node.proven = -1
        elif known is not None and any(mark.height == known.height for mark in self.chain.marks):
            node.proven = self.chain.generation

    def _note_silence(self, node: Node, error: SourceError | TimeoutError) -> None:
        reason = printable(str(error)) or "no answer"
        node.proven, node.untold = -1, ""
        if isinstance(error, SourceError) and error.status in CANNOT_TELL:
            node.untold = f"it cannot be asked which chain it has ({error.status})"
            node.verdict = Verdict("untold", node.untold)
        else:
            node.verdict = Verdict("silent", reason)

    async def _known_block(self, node: Node, view: NodeView) -> Mark | None:
        """
        Ask for a block that identifies the chain; None if no block can.

        That is the newest remembered block that the node should have. If all remembered blocks are
        higher than the node's head, it is the node's own newest block, for its time.
        """
        marks, latest = self.chain.marks, view.latest
        if not marks or (node.witness.is_costly and self._is_proven(node)):
            return None
        known = [m for m in marks if view.earliest.height <= m.height < latest.height]
        if not known and latest.time:
            return None
        height = known[-1].height if known else latest.height
        return await node.witness.block(height)

    async def vet(self, endpoint: str, role: Role) -> str:
        """
        Ensure that an endpoint was asked which chain it has; return why it is refused.

        Raises:
            SourceError: If it should be able to answer, and does not.

        """
        node = self._node(endpoint, role)
        if node is None:
            return ""
        if not self._is_known(node):
            await self._ask(node)
        if self._is_known(node):
            return node.foreign
        reason = "none of its blocks could be held against our chain"
        if node.view is None:
            reason = f"it does not say which chain it has: {node.reason}"
        raise SourceError(endpoint, reason)

    def _node(self, endpoint: str, role: Role) -> Node | None:
        return next(
            (n for n in self.nodes if n.endpoint == endpoint and n.witness.role == role), None
        )

    def _is_known(self, node: Node) -> bool:
        """
        Return whether a node's chain is known, or cannot be asked for.

        It is known if the node has named its network, or has shown a block that we know. If we
        know no block yet, any answer is enough.
        """
        if node.foreign or node.untold:
            return True
        if node.view is None:
            return False
        return bool(node.view.network) or self._is_proven(node) or not self.chain.marks

    # ---- judging ---------------------------------------------------------------------

    def _learn(self) -> None:
        """Learn from the nodes that have our chain."""
        for node in self._ours():
            assert node.view is not None
            # The first to answer, in order of preference, defines the chain.
            if reason := self.chain.contradiction(node.view):
                node.foreign = reason
                continue
            self.chain = self.chain.learned(node.view)
            node.was_ours = True

    def _judge(self, head: int) -> None:
        """Determine for each node whether it is fit to provide new data."""
        now, ts = time.monotonic(), time.time_ns()
        for node in self.nodes:
            if node.view is not None:
                node.verdict = verdict(node.view, node.foreign, node.progress, head, now, ts)

    def _find_replacement(self) -> None:
        """Detect a replaced chain: a node that had ours shows another one, and none shows ours."""
        if self._ours() or self.replacement is not None:
            return
        for node in self.nodes:
            view = node.view
            # Only an RPC shows enough for a new record of the chain.
            if view is None or node.witness.role != "rpc":
                continue
            if node.was_ours and view.network == self.chain.id:
                marks = Chain().learned(view).marks
                self.replace(marks, f"at {without_secrets(node.endpoint)} {node.foreign}")
                return

    def replace(self, marks: tuple[Mark, ...], reason: str) -> None:
        """Propose to the aggregator that another chain, with these known blocks, replaced ours."""
        generation = max(time.time_ns(), self.chain.generation + 1)
        self.begun.clear()
        self.replacement = Chain(self.chain.id, generation, marks)
        log.warning("%s was replaced: %s", self.chain.name, reason)

    def remember(self, mark: Mark) -> None:
        """Learn a block of our chain from a source that has no hashes, if no RPC has any."""
        if not any(known.hash for known in self.chain.marks):
            self.chain = self.chain.extended(mark)

    def knows(self, chain: Chain) -> None:
        """Take the aggregator's record of the chain; on another generation start over."""
        if chain.generation > self.chain.generation:
            self.chain, self.replacement = chain, None
            self._refused.clear()
            self.begun.set()
            for node in self.nodes:
                node.foreign, node.verdict, node.progress = "", Verdict(None, ""), Progress()
                if node.witness.every_s:
                    # Its last answer was compared with the former chain.
                    node.view = None
        elif chain.generation == self.chain.generation and chain.marks and not self.chain.marks:
            self.chain = chain
        for node in self.nodes:
            # We know that this is our chain, but not which of the nodes had it.
            node.was_ours = node.was_ours or bool(self.chain.marks)

    # ---- what others want to know ----------------------------------------------------

    async def block_time(self, height: int) -> int | None:
        """Return the time of a block of our chain, in ns; None if no node can tell."""
        for node in self._ours():
            if not isinstance(node.witness, RpcWitness):
                continue
            try:
                if found := await block_time(node.witness.rpc, height):
                    return found
            except SourceError:
                continue
        return None

    async def contradiction(self, height: int, ts_event: int) -> str | None:
        """
        Compare a block, as a stream or an indexer shows it, with the chain's record.

        Return why it belongs to another chain; empty: it is ours; None: no node can tell.
        """
        for _ in range(_RECORDED_TURNS):
            # A block's record may appear shortly after the block.
            recorded = await self.block_time(height)
            if recorded is not None:
                same = abs(recorded - ts_event) <= SAME_NS
                reason = f"its block {height} was made at another time than that of our chain"
                return "" if same else reason
            head = await self.look()
            if head is None or height + BEHIND < head:
                break
            await asyncio.sleep(_TURN_S)
        return None

    def foreign(self) -> str:
        """Return why the answering nodes' chain is not ours; empty if one has ours."""
        answered = [node for node in self.nodes if node.view is not None]
        if any(not node.foreign for node in answered):
            return ""
        return "; ".join(f"{without_secrets(n.endpoint)}: {n.foreign}" for n in answered)

    def is_foreign(self, endpoint: str, role: Role = "rpc") -> str:
        """Say why an endpoint has another chain than ours; empty if it does not."""
        node = self._node(endpoint, role)
        return node.foreign if node is not None else ""

    def is_fit(self, endpoint: str, role: Role) -> bool:
        """Return whether nothing speaks against an endpoint; nothing does if it is unknown."""
        node = self._node(endpoint, role)
        return node is None or node.verdict.is_fit

    def refused(self, endpoint: str, reason: str) -> None:
        """Note the result of a stream's trial: why its blocks are of another chain; empty: ours."""
        if reason:
            self._refused[endpoint] = reason
        else:
            self._refused.pop(endpoint, None)

    def reports(self) -> list[NodeReport]:
        """Describe every node, and the refused streams, for the status."""
        found = [
            _report(node.endpoint, node.witness.role, node.view, node.verdict)
            for node in self.nodes
        ]
        for endpoint, reason in self._refused.items():
            found.append(_report(endpoint, "stream", None, Verdict("foreign", reason)))
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        for node in self.nodes:
            await node.witness.close()


def _report(endpoint: str, role: Role, view: NodeView | None, found: Verdict) -> NodeReport:
    cause: Cause | None = found.cause
    height = view.latest.height if view is not None else 0
    reason = without_secrets(found.reason)
    return NodeReport(without_secrets(endpoint), height, found.is_fit, reason, role, cause or "")
