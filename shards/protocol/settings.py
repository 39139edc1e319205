"""The settings of one shard: frozen, picklable, validated before the process exists."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from shards.protocol.channels import DEFAULT_CHANNELS

LogFormat: TypeAlias = Literal["text", "json"]
SourceName: TypeAlias = str
"""The name of an adapter (adapters/registry.py)."""
MarketType = Literal["spot", "derivative", "binary", "chain"]
"""``chain`` is the feed of the chain itself, treated like a market (core/chain_track.py)."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
CountOrZero: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
# TOML can express infinity; a wait that never ends is never what was meant.
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
PositiveOrZero: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Market(msgspec.Struct, frozen=True):
    """One market of the exchange; ``market_id`` is its key on every source."""

    market_id: str
    """``0x`` and 64 lower-case hexadecimal digits."""
    ticker: str
    """The exchange's name for it, ``INJ/USDT``; two markets may share one."""
    symbol: str
    """The ticker as used in topics, ``INJ-USDT``; unique in one collector."""
    type: MarketType
    status: str = "Active"
    base_decimals: int = 0
    quote_decimals: int = 0
    price_tick: str = ""
    quantity_tick: str = ""
    base_denom: str = ""
    """Spot only."""
    quote_denom: str = ""
    min_notional: str = ""
    maker_fee_rate: str = ""
    taker_fee_rate: str = ""
    oracle_type: str = ""
    """Empty for spot markets, as are the two below."""
    oracle_base: str = ""
    oracle_quote: str = ""


CHAIN = Market("chain", "chain", "chain", "chain")
"""Represents the chain itself wherever markets are listed, assigned or subscribed."""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where one network is reached; each list is in order of preference."""

    chain_ws: tuple[str, ...] = ()
    """``ws://host:port/injstream-ws``."""
    chain_stream: tuple[str, ...] = ()
    """gRPC ``host:port`` of the chain stream."""
    chain_grpc: tuple[str, ...] = ()
    """gRPC ``host:port`` for queries: markets, order-book snapshots."""
    rpc: tuple[str, ...] = ()
    """CometBFT RPC, ``http://host:port``: lost blocks, and the node's height."""
    events: tuple[str, ...] = ()
    """gRPC ``host:port`` of an event provider: lost blocks that the RPC has pruned."""
    indexer: tuple[str, ...] = ()
    """gRPC ``host:port`` of an indexer: the source of indexer-grpc; other sources fetch from it
    the trades of lost blocks that no node has any more."""
    others: dict[str, tuple[str, ...]] = {}
    """Endpoints of other adapters, by the key that each adapter uses."""
    tls: bool = False
    """Whether gRPC endpoints without ``http://`` or ``https://`` use TLS."""
    ca: str = ""
    """PEM file of trusted certificates; empty: the system's."""
    certificate: str = ""
    """PEM file of our client certificate, for servers that require one."""
    key: str = ""
    """PEM file of its private key, if that is a separate file."""
    cookies: bool = True
    """Whether load balancers' cookies are returned to them."""
    requests_per_s: float | None = None
    """Requests per second that one chain host allows one address, over all shards; 0: no limit.
    Default: 20 for the public endpoints, no limit elsewhere."""
    indexer_requests_per_s: float | None = None
    """The same for an indexer host; default: 50 for the public endpoints."""

    def of(self, key: str) -> tuple[str, ...]:
        """Return one list by the key that adapters use for it."""
        found: tuple[str, ...] = getattr(self, key, ()) if key in self.__struct_fields__ else ()
        return found or self.others.get(key, ())

    def filtered(self, is_kept: Callable[[str, str], bool]) -> "Endpoints":
        """Return only the endpoints for which ``is_kept(key of the list, endpoint)`` is true."""
        lists = {
            key: found
            for key in self.__struct_fields__
            if isinstance(found := getattr(self, key), tuple)
        }
        kept = {
            key: tuple(at for at in found if is_kept(key, at))
            for key, found in (lists | self.others).items()
        }
        others = {key: kept.pop(key) for key in self.others}
        return msgspec.structs.replace(self, **kept, others=others)


class Quota(NamedTuple):
    """The requests that hosts of one group allow one address; these hosts also share cookies."""

    group: str
    """Its name in the metrics."""
    setting: str = "requests_per_s"
    """The field of `Endpoints` with the requests per second that one host allows."""
    domain: str = ""
    """Public hosts under this domain count an address's requests together."""
    domain_per_s: float = 0.0
    """What they allow, unless it is set; 0: no limit."""
    lists: tuple[str, ...] = ()
    """The lists of `Endpoints` with the group's hosts."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and intervals of a shard; the defaults were chosen by measurement."""

    batch_age_s: PositiveOrZero = 0.002
    """Longest time that a frame waits for others in its batch."""
    batch_frames: Count = 256
    push_hwm: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1_000
    """Batches that ZeroMQ may queue for the aggregator; beyond, it refuses more."""
    backlog_bytes: CountOrZero = 8 << 20
    """Bytes of batches kept: sent ones for a restarted aggregator, and unsent ones."""
    backlog_s: PositiveOrZero = 60.0
    keyframe_every: Count = 64
    """Book deltas between two keyframes (whole books) sent to the aggregator."""
    held_blocks: CountOrZero = 2_000
    """Maximum lag (blocks) at which a market's live blocks are buffered during a replay; beyond it
    they are dropped and replayed. With many markets the limit is lower: 20,000 blocks are divided
    among them, with a minimum of 64 each."""
    mute_blocks: PositiveOrZero = 5.0
    """A subscription without a block for this many block times is considered dead."""
    mute_floor_s: Positive = 2.0
    confirm_s: Positive = 10.0
    """Longest time that a subscription may stay unconfirmed."""
    subscribe_per_s: Positive = 500.0
    snapshot_concurrency: Count = 8
    snapshot_per_s: Positive = 200.0
    replay_concurrency: Count = 4
    replay_per_s: Positive = 40.0
    replay_blocks: CountOrZero = 10_000
    """Most lost blocks that are replayed; the rest of a larger gap is announced as missing."""
    compare_every: Count = 8
    """With ``redundancy``: every how many blocks the nodes' copies are compared."""
    distrust_s: PositiveOrZero = 60.0
    """With ``redundancy``: how long a node is not read that the chain's record contradicts."""
    message_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=2**31 - 1)] = 64 << 20
    """Largest message accepted from a server. A lost block with a larger record is fetched from
    another source, or counts as missing."""
    return_s: Positive = 30.0
    """How often a connection to a fallback endpoint tries the preferred one."""
    report_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    streams_per_connection: Count = 50
    """For indexer-grpc: calls per connection. Calls over the server's limit stall silently; when
    that is detected, fewer are used from then on."""
    probe_s: Positive = 2.0
    """How often the indexer is asked for the sequence of its books."""
    probe_grace_s: PositiveOrZero = 2.0
    """How long the indexer's answers may be ahead of its streams."""
    audit_s: Positive = 3.0
    """How often received trades are compared with the indexer's list."""
    audit_back_s: PositiveOrZero = 10.0
    """How far before the newest listed trade a comparison begins: some are listed late."""
    trade_hold_s: PositiveOrZero = 0.05
    """How long a trade waits for others of its block, so that they are published in order."""
    fresh_s: Positive = 15.0
    """A market not confirmed as up to date for this long is stale."""


Priority: TypeAlias = Literal["auto", "normal", "realtime"]
"""How the kernel schedules the data path; ``auto`` is real time where the system allows it."""


class ShardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one shard process needs to know."""

    shard: int
    epoch: int
    """Grows with every start of this shard; frames with an older epoch are refused."""
    source: SourceName
    endpoints: Endpoints
    markets: tuple[Market, ...]
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    per_market: bool = False
    """For chain-grpc: one call per market instead of one for all."""
    redundancy: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Nodes at which each market is subscribed; the first copy of each block counts."""
    push: str
    """ZeroMQ endpoint of the aggregator's PULL."""
    link: str
    """ZeroMQ endpoint of the aggregator's ROUTER: reports out, resume points back."""
    budget: str = ""
    """Folder of the shared token buckets, one per host, used by all processes of a collector."""
    limits: Limits = Limits()
    realtime: int = 0
    """Its real-time priority; 0: scheduled like any other process."""
    spin: bool = False
    """Whether it polls for data instead of sleeping."""
    log_level: str = "INFO"
    log_format: LogFormat = "text"
