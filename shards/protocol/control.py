"""
What a shard tells the aggregator about itself once a second, and what it hears back.

A report is whole, never a change: any process may die at any instant, and the next
report puts everything right again.
"""

from typing import Final

import msgspec

from shards.protocol.chain import Chain
from shards.protocol.events import Gap
from shards.protocol.histograms import ShardStats
from shards.protocol.settings import Market


class MarketReport(msgspec.Struct, array_like=True, gc=False):
    """One market of a shard."""

    market_id: str
    state: str
    reason: str
    first: int
    last: int
    replayed: list[tuple[int, int]]
    missing: list[tuple[int, int]]
    trades: int
    book_updates: int
    duplicates: int
    resyncs: int
    audited_to: int = 0
    """On indexer-grpc: the instant up to which its trades were compared, in ns."""
    sequence: int = -1
    """Of its book; -1 while that is not in step."""


class EndpointReport(msgspec.Struct, array_like=True, gc=False):
    """One endpoint of the source and its breaker."""

    endpoint: str
    breaker: str
    reason: str
    in_use: bool


class NodeReport(msgspec.Struct, array_like=True, gc=False):
    """One endpoint that can be asked about the chain, as a shard judges it."""

    endpoint: str
    height: int
    """Its newest block; 0 where it did not answer."""
    fit: bool
    reason: str
    """Why it is not fit: silent, behind, of another chain. Or why it cannot be asked."""
    role: str = "rpc"
    """What it is asked for: ``rpc``, ``queries``, ``events``, or ``stream``."""
    cause: str = ""
    """The reason in a word, one of net/fitness.py's; empty where nothing speaks against it."""


class Report(msgspec.Struct, kw_only=True, gc=False):
    """One shard, now."""

    shard: int
    epoch: int
    pid: int
    ts: int
    fresh: bool
    """The shard has just started and asks where to take up."""
    head: int
    head_ts_event: int
    block_time_s: float
    halted: bool
    """The chain itself makes no blocks; seen from a second view of the node."""
    markets: list[MarketReport]
    endpoints: list[EndpointReport]
    connects: int
    payloads: int
    frames: int
    """Frame sequence of the last frame made before this report. The ledgers count only
    once that frame has arrived: it travels another way and may die with the shard."""
    kept: int
    """Frames that are still on their way or would be sent again."""
    kept_from: int
    """Height from which a new aggregator will have everything; 0: from the beginning."""
    dropped: int
    backlog_bytes: int
    lag_us: float
    """Worst lateness of the event loop since the last report."""
    stats: ShardStats = msgspec.field(default_factory=ShardStats)
    assignment: int = 0
    """Version of the assignment that the shard has carried out; 0: what it was started with."""
    chain: Chain = Chain()
    """The chain that it collects; where `replaces` is not -1, the one that it would begin with."""
    replaces: int = -1
    """Generation of the chain that is no more, and whose place `chain` has taken."""
    nodes: list[NodeReport] = []
    """The RPC endpoints."""


class ResumePoint(msgspec.Struct, array_like=True, gc=False):
    """How far a market's blocks are accounted for, by whichever process saw to it."""

    first: int
    last: int
    replayed: list[tuple[int, int]]
    missing: list[tuple[int, int]]
    gap: Gap | None = None
    """Open when that process died: its successor closes it."""
    audited_to: int = 0
    """On indexer-grpc: its trades are to be listed again from this instant on, in ns."""


class Assignment(msgspec.Struct, array_like=True, gc=False):
    """All markets that a shard has to collect from now on, in place of those it had."""

    version: int
    """Grows; the shard repeats it in its reports once it has carried the assignment out."""
    markets: list[Market]


class Answer(msgspec.Struct, kw_only=True):
    """The aggregator's answer to a report."""

    id: int
    publisher_epoch: int
    fenced: bool = False
    """A younger process has this shard's number: stop."""
    assignment: Assignment | None = None
    """Only where the shard's report names another version."""
    chain: Chain | None = None
    """Which chain is collected, where the report knows another one, or none."""
    resume: dict[str, ResumePoint] = {}
    """By market id, beside an assignment and in answer to a fresh report: where to take up a
    market that the shard owns and does not collect yet."""


class ReportRequest(msgspec.Struct, kw_only=True):
    """A report on its way, in the form of the aggregator's other requests."""

    ask: str = "report"
    id: int
    report: Report


encode: Final = msgspec.msgpack.Encoder().encode
decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
