"""
What an aggregator answers to ``status``, typed.

The fields, their names, their order and their types are a contract (docs/operations.md): add,
never change. The aggregator builds a `Summary`, and every part of the collector reads it as one.
Each field has a default, so that the answer of an older collector can be read too. Fields that
are `UNSET` are left out of the JSON. Pure.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from collector.access.report import AccessReport
from collector.client.answers import read
from collector.client.performance import (
    NO_LATENCY,
    ChannelLatency,
    ClockCheck,
    Hops,
    Latency,
    Process,
    Shard,
)
from shards.net.token_bucket import Usage
from shards.protocol.ranges import RangeList
from shards.protocol.settings import Endpoints


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the summary."""


class Markets(_Part, frozen=True, kw_only=True):
    """Numbers of markets, by state; the chain's own feed does not count as one."""

    requested: int = 0
    inactive: int = 0
    live: int = 0
    states: dict[str, int] = {}
    moving: int = 0
    """Moving to another shard, or not live there yet."""

    @property
    def wanted(self) -> int:
        """Markets that should be live."""
        return self.requested - self.inactive


class ChainFeed(_Part, frozen=True, kw_only=True):
    """The feed of blocks and oracle prices, which belong to no market."""

    state: str = ""
    shard: int = -1
    height: int = 0


class CoverageNow(_Part, frozen=True, kw_only=True):
    """Live ÷ (requested - inactive)."""

    now: float = 0.0
    mean: float = 0.0
    """Weighted by time, since the start."""


class BlockCounts(_Part, frozen=True, kw_only=True):
    """The ledgers added up, one count for each block of each market."""

    first: int = 0
    last: int = 0
    due: int = 0
    received: int = 0
    replayed: int = 0
    missing: int = 0

    @property
    def completeness(self) -> float:
        """(received + replayed) ÷ due; 0 before the first block."""
        return (self.received + self.replayed) / self.due if self.due else 0.0


class Blocks(BlockCounts, frozen=True, kw_only=True):
    """The same, with the chain's head."""

    head: int = 0
    provable: bool = True
    """Whether the source sends every block; otherwise there are no counts."""


class Gaps(_Part, frozen=True, kw_only=True):
    """Gaps announced, of all markets."""

    opened: int = 0
    closed: int = 0
    open: int = 0


class FormerChain(_Part, frozen=True, kw_only=True):
    """The ledger of a chain that was replaced, as it was closed."""

    id: str
    generation: int
    until: int
    """When it was closed, ns since 1970."""
    first: int
    last: int
    due: int
    received: int
    replayed: int
    missing: int
    gaps: Gaps


class Node(_Part, frozen=True, kw_only=True):
    """One endpoint that can be asked about the chain, as a shard judges it."""

    endpoint: str = ""
    height: int = 0
    fit: bool = False
    reason: str = ""
    role: str = "rpc"
    """``rpc``, ``queries``, ``events``, or ``stream``."""
    cause: str = ""
    """The reason in a word; empty where nothing speaks against it."""


class ChainIdentity(_Part, frozen=True, kw_only=True):
    """Which chain is collected, and the ledgers of those before it."""

    id: str = ""
    generation: int = 0
    height: int = 0
    """Height of the newest block whose hash is remembered."""
    hash: str = ""
    former: list[FormerChain] = []
    nodes: list[Node] = []


class Hole(_Part, frozen=True, kw_only=True):
    """One market's missing heights."""

    symbol: str
    heights: RangeList


class Proof(_Part, frozen=True, kw_only=True):
    """The proof by trade ids."""

    provable: bool = False
    reason: str | UnsetType = UNSET
    """Why nothing is provable; only in that case."""
    whole: int | UnsetType = UNSET
    """Blocks whose trades all came; this and the following fields only if it is provable."""
    holes: int | UnsetType = UNSET
    heights: list[int] | UnsetType = UNSET
    """The newest block with missing trades."""
    part: str | UnsetType = UNSET
    """The collected part of the markets, ``1/3``; this and the next fields only with a part."""
    since: int | UnsetType = UNSET
    """The lowest height whose trades are counted in `blocks`."""
    through: int | UnsetType = UNSET
    """The highest of them."""
    blocks: list[tuple[int, int, int]] | UnsetType = UNSET
    """The newest blocks with trades: height, number of trades, the highest n among them."""


class Events(_Part, frozen=True, kw_only=True):
    """Events published."""

    trades: int = 0
    book_updates: int = 0


class Frames(_Part, frozen=True, kw_only=True):
    """Frames by their fate."""

    published: int = 0
    dropped: int = 0
    duplicates: int = 0
    fenced: int = 0
    lost: int = 0


class TakenUp(_Part, frozen=True, kw_only=True):
    """The state that a run found from an earlier run."""

    markets: int
    """Number of markets with accounted blocks."""
    lowest: int
    """The lowest height through which one of them was accounted for."""
    highest: int
    """The highest of them."""
    saved_at: int
    """ns since 1970."""


class Path(_Part, frozen=True, kw_only=True):
    """One of several nodes that are read at once, over all shards."""

    path: int = 0
    endpoint: str = ""
    """The one that is read, or was read last."""
    shards: int = 0
    """Shards whose path reads this endpoint."""
    markets: int = 0
    """Markets whose subscription it has accepted; 0 while it is not connected."""
    height: int = 0
    first: int = 0
    """Blocks of subscriptions that it brought first, and those that another node had brought."""
    second: int = 0
    late_us: float = 0.0
    """Average time by which its copies came after the first ones."""
    compared: int = 0
    """Copies of blocks that were compared with the first ones, and those that differed."""
    differed: int = 0
    contradicted: int = 0
    """Blocks of markets in which the chain's record contradicts it."""
    worse: bool = False
    """Whether it is the worse one, and why."""
    reason: str = ""


class SavedState(_Part, frozen=True, kw_only=True):
    """The state of the saved ledger, which survives the process."""

    folder: str | None = None
    saved_s: float = 0.0
    """How long ago it was saved."""
    error: str | None = None
    """Why it cannot be saved now."""
    taken_up: TakenUp | None = None


class Recorder(_Part, frozen=True, kw_only=True):
    """The state of the recorder of `start --record`; values not reported yet are left out."""

    archive: str = ""
    state: str = ""
    reason: str = ""
    pid: int | UnsetType = UNSET
    ts: int | UnsetType = UNSET
    head: int | UnsetType = UNSET
    complete: int | UnsetType = UNSET
    sealed: int | UnsetType = UNSET
    facts: int | UnsetType = UNSET
    to_fetch: int | UnsetType = UNSET
    fetched: int | UnsetType = UNSET
    gone: int | UnsetType = UNSET
    journal_bytes: int | UnsetType = UNSET
    age_s: float | UnsetType = UNSET
    """The age of this report."""


class Summary(_Part, frozen=True, kw_only=True):
    """The state of a whole collector, in figures."""

    markets: Markets = Markets()
    chain_feed: ChainFeed | None = None
    coverage: CoverageNow = CoverageNow()
    completeness: float = 0.0
    blocks: Blocks = Blocks()
    block_time_s: float = 0.0
    halted: bool = False
    chain: ChainIdentity = ChainIdentity()
    holes: list[Hole] = []
    trade_proof: Proof = Proof()
    events: Events = Events()
    gaps: Gaps = Gaps()
    frames: Frames = Frames()
    requests: list[Usage] = []
    latency_us: Hops = {}
    channels: dict[str, ChannelLatency] = {}
    collected: list[str] = []
    """The channels that are collected."""
    clock: ClockCheck = ClockCheck()
    processes: list[Process] = []
    shards: list[Shard] = []
    endpoints: Endpoints = Endpoints()
    publisher_epoch: int = 0
    publish: list[str] = []
    """Where subscribers connect, as it was given."""
    web: str | None = None
    admin: str | None = None
    admin_remote: str | None = None
    """Where keys with the role operate give admin commands."""
    state: SavedState = SavedState()
    recorder: Recorder | None = None
    access: AccessReport = AccessReport()
    version: str = ""
    paths: list[Path] = []
    """The nodes that are read at once; empty without ``redundancy``."""
    stale_s: float | UnsetType = UNSET
    """Its age, in the summary that `collector start` writes; otherwise left out."""

    def hop(self, name: str) -> Latency:
        """Return the latency of a hop, over all shards."""
        return self.latency_us.get(name, NO_LATENCY)

    def covers(self, wanted: float) -> bool:
        """Return whether so much is covered; without any market: whether the chain is followed."""
        if self.markets.requested:
            return self.coverage.now >= wanted
        return self.chain_feed is None or self.chain_feed.state == "live"

    @property
    def away_s(self) -> float:
        """Seconds for which the aggregator has not answered, if known."""
        return self.stale_s or 0.0


def read_summary(answer: Mapping[str, Any]) -> Summary:
    """Read the answer to ``status``; errors as in `read`."""
    return read(answer, "status", Summary)
