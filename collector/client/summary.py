"""
What an aggregator answers to ``status`` and ``markets``, typed.

The fields, their names, their order and their types are a contract (docs/operations.md): add,
never change. The aggregator builds a `Summary`, and every part of the collector reads it as one.
Each field has a default, so that the answer of an older collector can be read too. Fields that
are `UNSET` are left out of the JSON. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from collector.access.report import AccessReport
from shards.net.token_bucket import Usage
from shards.protocol.settings import Endpoints

Heights: TypeAlias = list[tuple[int, int]]
"""Ranges of heights, first to last."""

_Read = TypeVar("_Read")


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the summary."""


class Markets(_Part, frozen=True, kw_only=True):
    """How many markets there are, by state; the chain's own feed is none."""

    requested: int = 0
    inactive: int = 0
    live: int = 0
    states: dict[str, int] = {}
    moving: int = 0
    """On their way to another shard, or not live there yet."""

    @property
    def wanted(self) -> int:
        """Markets that are to be live."""
        return self.requested - self.inactive


class ChainFeed(_Part, frozen=True, kw_only=True):
    """The feed of what belongs to no market."""

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
    """The same, and where the chain is."""

    head: int = 0
    provable: bool = True
    """Whether the source shows every block; without that there are no counts."""


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
    """Of the newest block that is remembered with its hash."""
    hash: str = ""
    former: list[FormerChain] = []
    nodes: list[Node] = []


class Hole(_Part, frozen=True, kw_only=True):
    """What is missing of one market."""

    symbol: str
    heights: Heights


class Proof(_Part, frozen=True, kw_only=True):
    """What the trades' ids prove."""

    provable: bool = False
    reason: str | UnsetType = UNSET
    """Why nothing is provable; only then."""
    whole: int | UnsetType = UNSET
    """Blocks all of whose trades came; this and what follows only where it is provable."""
    holes: int | UnsetType = UNSET
    heights: list[int] | UnsetType = UNSET
    """The newest of those with holes."""
    part: str | UnsetType = UNSET
    """The part of the markets that was collected, ``1/3``; this and what follows only with one."""
    since: int | UnsetType = UNSET
    """The first of the heights whose trades are counted in `blocks`."""
    through: int | UnsetType = UNSET
    """And the last one."""
    blocks: list[tuple[int, int, int]] | UnsetType = UNSET
    """The newest blocks with trades: height, number of trades, the highest n among them."""


class Events(_Part, frozen=True, kw_only=True):
    """Events published."""

    trades: int = 0
    book_updates: int = 0


class Frames(_Part, frozen=True, kw_only=True):
    """Frames by what became of them."""

    published: int = 0
    dropped: int = 0
    duplicates: int = 0
    fenced: int = 0
    lost: int = 0


class Latency(_Part, frozen=True, kw_only=True):
    """A histogram in figures, in microseconds."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


NO_LATENCY: Final = Latency()
"""Of a hop that no frame has passed."""

Hops: TypeAlias = dict[str, Latency]
"""By the name of the hop, in the order of a frame's way."""


class ChannelLatency(_Part, frozen=True, kw_only=True):
    """The latency of one channel's frames."""

    latency_us: Hops = {}


class Offset(_Part, frozen=True, kw_only=True):
    """Block time to our socket, in milliseconds."""

    min: float = 0.0
    p50: float = 0.0
    max: float = 0.0


class ClockCheck(_Part, frozen=True, kw_only=True):
    """Whether block times and our clock can be compared."""

    trusted: bool = False
    reason: str = ""
    blocks: int = 0
    offset_ms: Offset = Offset()


class Process(_Part, frozen=True, kw_only=True):
    """One process and what it uses; times and switches since it began."""

    name: str
    pid: int = 0
    restarts: int = 0
    cpu_percent: float = 0.0
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    threads: int = 0
    fds: int = 0
    switches_voluntary: int = 0
    switches_involuntary: int = 0
    lag_us: Latency | UnsetType = UNSET
    """This and the next only of a process that measures them."""
    gc_pause_us: Latency | UnsetType = UNSET
    scheduling: str | UnsetType = UNSET
    """``realtime`` or ``normal``; left out where the system does not tell."""


class BatchSizes(_Part, frozen=True, kw_only=True):
    """Frames per batch."""

    mean: float = 0.0
    p50: int = 0
    p99: int = 0
    max: int = 0


class Endpoint(_Part, frozen=True, kw_only=True):
    """One endpoint of a shard's source and its breaker."""

    endpoint: str = ""
    breaker: str = ""
    reason: str = ""
    in_use: bool = False


class Shard(_Part, frozen=True, kw_only=True):
    """One shard, by its last report."""

    shard: int
    epoch: int = 0
    markets: int = 0
    blocks: int = 0
    """The newest height that it has."""
    frames: int = 0
    lost: int = 0
    dropped: int = 0
    payloads: int = 0
    connects: int = 0
    backlog_bytes: int = 0
    lag_us: float = 0.0
    held_blocks: int = 0
    requests: int = 0
    batch_frames: BatchSizes = BatchSizes()
    latency_us: Hops = {}
    endpoints: list[Endpoint] = []

    @property
    def process(self) -> str:
        """The name of its process."""
        return process_name(self.shard)


def process_name(shard: int) -> str:
    """Name a shard's process."""
    return f"shard {shard}"


class TakenUp(_Part, frozen=True, kw_only=True):
    """What a run found of the run before it."""

    markets: int
    """How many had blocks accounted for."""
    lowest: int
    """The lowest of the heights through which they were."""
    highest: int
    """The highest of them."""
    saved_at: int
    """ns since 1970."""


class SavedState(_Part, frozen=True, kw_only=True):
    """How it stands with the ledger that outlives the process."""

    folder: str | None = None
    saved_s: float = 0.0
    """How long ago it was saved."""
    error: str | None = None
    """Why it cannot be saved at present."""
    taken_up: TakenUp | None = None


class Recorder(_Part, frozen=True, kw_only=True):
    """How the recorder of `start --record` stands; what it has not said yet is left out."""

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
    """How long ago it said so."""


class Summary(_Part, frozen=True, kw_only=True):
    """Everything that an aggregator knows, in figures."""

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
    web: str | None = None
    admin: str | None = None
    admin_remote: str | None = None
    """Where keys with the role operate give admin commands."""
    state: SavedState = SavedState()
    recorder: Recorder | None = None
    access: AccessReport = AccessReport()
    version: str = ""
    stale_s: float | UnsetType = UNSET
    """How old it is, in the summary that `collector start` writes; else left out."""

    def hop(self, name: str) -> Latency:
        """Return the latency of a hop, over all shards."""
        return self.latency_us.get(name, NO_LATENCY)

    @property
    def away_s(self) -> float:
        """For how long the aggregator has not answered, as far as that is known."""
        return self.stale_s or 0.0


class MarketStatus(_Part, frozen=True, kw_only=True):
    """One market of a running collector."""

    market_id: str
    ticker: str = ""
    symbol: str = ""
    type: str = ""
    status: str = ""
    shard: int = -1
    state: str = ""
    reason: str = ""
    height: int = 0
    trades: int | UnsetType = UNSET
    """This and the next two only once something of the market was published."""
    book_updates: int | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    """Of its book."""
    activity: str = ""
    changes_per_s: float = 0.0
    weight: float = 0.0
    """What it counts in a split over shards."""
    volume: float | None = None
    volume_blocks: int = 0


def read(answer: Mapping[str, Any], name: str, kind: type[_Read]) -> _Read:
    """
    Read one part of an aggregator's answer.

    Raises:
        ValueError: If it is of another form: a collector of another version answers there.

    """
    try:
        return msgspec.convert(answer.get(name), kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"the collector's answer to {name!r} cannot be read, it is of another version: {error}"
        ) from None


def read_summary(answer: Mapping[str, Any]) -> Summary:
    """Read the answer to ``status``; errors as in `read`."""
    return read(answer, "status", Summary)


def read_markets(answer: Mapping[str, Any]) -> list[MarketStatus]:
    """Read the answer to ``markets``; errors as in `read`."""
    return read(answer, "markets", list[MarketStatus])
