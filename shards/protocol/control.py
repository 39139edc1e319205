"""
A shard's report to the aggregator, once a second, and the aggregator's answer.

A report describes the shard completely, except for its markets: of those it has the ones that
changed since the last report that was answered (`Report.since`). Any process may die at any moment,
and any report may be lost. So reports are numbered: the aggregator takes changes only if it has the
report that they follow, and otherwise asks for all markets (`Answer.whole`).
"""

from typing import Final

import msgspec

from shards.protocol.chain import Chain
from shards.protocol.events import Gap
from shards.protocol.histograms import ShardStats
from shards.protocol.ledger import LedgerState
from shards.protocol.settings import Market


class MarketReport(LedgerState, array_like=True, kw_only=True):
    """One market of a shard: its ledger and its state."""

    market_id: str
    state: str
    reason: str = ""
    resyncs: int = 0
    sequence: int = -1
    """Sequence of its book; -1 while the book is out of sync. It alone is no change that would be
    reported: the aggregator needs it while a market moves, and asks for all markets then."""


class EndpointReport(msgspec.Struct, array_like=True, gc=False):
    """One endpoint of the source, and its circuit breaker."""

    endpoint: str
    breaker: str
    reason: str
    in_use: bool


class NodeReport(msgspec.Struct, array_like=True, gc=False):
    """One endpoint that can be asked about the chain, as a shard judges it."""

    endpoint: str
    height: int
    """Its newest block; 0 if it did not answer."""
    fit: bool
    reason: str
    """Why it is not fit: silent, behind, of another chain. Or why it cannot be asked."""
    role: str = "rpc"
    """What it is asked for: ``rpc``, ``queries``, ``events``, or ``stream``."""
    cause: str = ""
    """The reason in a word, one of net/fitness.py's; empty where nothing speaks against it."""


class PathReport(msgspec.Struct, array_like=True, gc=False):
    """One of several nodes that a shard reads at once (redundancy)."""

    path: int
    endpoint: str
    """The one that it reads, or read last."""
    height: int
    """Its newest block; 0 without one."""
    markets: int
    """Markets whose subscription the node has accepted; 0 while it is not connected."""
    first: int
    """Blocks of subscriptions that this node brought first."""
    second: int
    """Blocks of subscriptions that another node had brought before."""
    late_us: float
    """Average time by which its copies came after the first ones."""
    compared: int
    """Its copies that were compared with the first ones."""
    differed: int
    contradicted: int
    """Blocks of markets in which the chain's record contradicts this node."""


class Report(msgspec.Struct, kw_only=True, gc=False):
    """The current state of one shard."""

    shard: int
    epoch: int
    pid: int
    ts: int
    fresh: bool
    """The shard has just started and asks where to resume."""
    head: int
    head_ts_event: int
    block_time_s: float
    halted: bool
    """The chain itself makes no blocks, as confirmed by a second look at the node."""
    markets: list[MarketReport]
    """All markets, or those that changed (`since`)."""
    endpoints: list[EndpointReport]
    connects: int
    payloads: int
    frames: int
    """Frame sequence of the last frame made before this report. The ledgers count only after that
    frame has arrived: frames travel separately and may be lost with the shard."""
    kept: int
    """Frames that are unsent, or would be sent again to a new aggregator."""
    kept_from: int
    """A new aggregator will receive every frame from this height on; 0: from the start."""
    dropped: int
    backlog_bytes: int
    lag_us: float
    """Highest lag of the event loop since the last report."""
    stats: ShardStats = msgspec.field(default_factory=ShardStats)
    assignment: int = 0
    """Version of the assignment last applied; 0: the one from the start."""
    chain: Chain = Chain()
    """The chain being collected; if `replaces` is not -1, the chain it would switch to."""
    replaces: int = -1
    """Generation of the chain that `chain` replaces; -1: none."""
    nodes: list[NodeReport] = []
    """The RPC endpoints."""
    paths: list[PathReport] = []
    """The nodes that are read at once, if there are several."""
    number: int = 0
    """Numbers the reports of this process."""
    since: int = 0
    """Number of the report since which ``markets`` has the changes; 0: it has all markets."""
    front: int = 0
    """Nearly all ledgers of a shard end at the same block, and move on together. One that ended at
    the front of the earlier report, and is not among the changes, now ends at this one."""


class ResumePoint(LedgerState, array_like=True, kw_only=True):
    """Where a process takes a market up: the ledger of the one before, and its open gap."""

    gap: Gap | None = None
    """Open when that process died: its successor closes it."""


class Assignment(msgspec.Struct, array_like=True, gc=False):
    """All markets that a shard must collect from now on; replaces the previous assignment."""

    version: int
    """Grows with each change; the shard reports it once it has applied the assignment."""
    markets: list[Market]


class Answer(msgspec.Struct, kw_only=True):
    """The aggregator's answer to a report."""

    id: int
    publisher_epoch: int
    fenced: bool = False
    """A newer process has this shard's number: stop."""
    assignment: Assignment | None = None
    """Set only if the report names another version."""
    chain: Chain | None = None
    """The chain being collected; set if the report names another one, or none."""
    resume: dict[str, ResumePoint] = {}
    """By market id, with an assignment and in the answer to a fresh report: where to resume the
    markets that the shard owns but does not collect yet."""
    whole: bool = False
    """The next report must have all markets. If this one had changes, they were not taken."""


class ReportRequest(msgspec.Struct, kw_only=True):
    """A report, in the format of the aggregator's other requests."""

    ask: str = "report"
    id: int
    report: Report


encode: Final = msgspec.msgpack.Encoder().encode
decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
