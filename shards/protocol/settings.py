"""What one shard is told when it starts: frozen, picklable, checked before the process exists."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from shards.protocol.channels import DEFAULT_CHANNELS

LogFormat: TypeAlias = Literal["text", "json"]
SourceName: TypeAlias = str
"""The name of an adapter (adapters/registry.py)."""
MarketType = Literal["spot", "derivative", "binary", "chain"]
"""``chain`` is the feed of the chain itself, which is handled like a market's (core/chain_track.py)."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
CountOrZero: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
# TOML knows an infinity; a wait that never ends is none that anybody means.
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
PositiveOrZero: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Market(msgspec.Struct, frozen=True):
    """One market of the exchange; ``market_id`` is its key on every source."""

    market_id: str
    """``0x`` and 64 lower-case hexadecimal digits."""
    ticker: str
    """The exchange's own name, ``INJ/USDT``; two markets may share one."""
    symbol: str
    """The ticker as topics spell it, ``INJ-USDT``; unique in one collector."""
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
    """Not of spot markets, as the two below."""
    oracle_base: str = ""
    oracle_quote: str = ""


CHAIN = Market("chain", "chain", "chain", "chain")
"""What stands for the chain itself where markets are listed, assigned and subscribed."""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where one network is reached; each list in order of preference."""

    chain_ws: tuple[str, ...] = ()
    """``ws://host:port/injstream-ws``."""
    chain_stream: tuple[str, ...] = ()
    """gRPC ``host:port`` of the chain stream."""
    chain_grpc: tuple[str, ...] = ()
    """gRPC ``host:port`` for queries: markets, order-book snapshots."""
    rpc: tuple[str, ...] = ()
    """CometBFT RPC, ``http://host:port``: lost blocks, the node's height."""
    events: tuple[str, ...] = ()
    """gRPC ``host:port`` of an event provider: lost blocks that the RPC has no more."""
    indexer: tuple[str, ...] = ()
    """gRPC ``host:port`` of an indexer: the source indexer-grpc, and for the others trades of
    lost blocks that nobody else has any more."""
    others: dict[str, tuple[str, ...]] = {}
    """Those of adapters that are not ours, by the name that each gives its list."""
    tls: bool = False
    """Whether gRPC endpoints that do not say ``http://`` or ``https://`` themselves speak TLS."""
    ca: str = ""
    """PEM file of the certificates to trust; those of the system if empty."""
    certificate: str = ""
    """PEM file of the certificate that servers know us by, for those that ask."""
    key: str = ""
    """PEM file of its private key, where that is a file of its own."""
    cookies: bool = True
    """Whether the balancers' cookies are sent back to them."""
    requests_per_s: float | None = None
    """What a host of the chain allows one address, all shards together; 0: no limit. Left
    out, 20 at the public endpoints and no limit elsewhere."""
    indexer_requests_per_s: float | None = None
    """The same for a host of the indexer; left out, 50 at the public endpoints."""

    def of(self, key: str) -> tuple[str, ...]:
        """Return one list by its name, as adapters name those that they use."""
        found: tuple[str, ...] = getattr(self, key, ()) if key in self.__struct_fields__ else ()
        return found or self.others.get(key, ())


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and paces of a shard; the defaults are the measured best."""

    batch_age_s: PositiveOrZero = 0.0005
    """How long a frame may wait for others in its batch."""
    batch_frames: Count = 256
    push_hwm: Count = 1_000
    """Batches ZeroMQ may queue for the aggregator before it refuses more."""
    backlog_bytes: CountOrZero = 8 << 20
    """Pushed frames kept for a restarted aggregator, and refused ones for later."""
    backlog_s: PositiveOrZero = 60.0
    keyframe_every: Count = 64
    """Book deltas after which a market's whole book goes to the aggregator again."""
    held_blocks: CountOrZero = 2_000
    """How far behind the newest block a market may be and still hold what comes, while earlier
    blocks are replayed; what comes behind a larger hole is replayed too. Where markets are many
    it is less: 20,000 shared out among them, but 64 at least."""
    mute_blocks: PositiveOrZero = 5.0
    """A subscription without a block for so many block times is dead."""
    mute_floor_s: Positive = 2.0
    confirm_s: Positive = 10.0
    """How long a subscription may stay unconfirmed."""
    subscribe_per_s: Positive = 500.0
    snapshot_concurrency: Count = 8
    snapshot_per_s: Positive = 200.0
    replay_concurrency: Count = 4
    replay_per_s: Positive = 40.0
    replay_blocks: CountOrZero = 10_000
    """Lost blocks beyond which the rest of the hole is announced, not fetched."""
    message_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=2**31 - 1)] = 64 << 20
    """The largest message taken from a server. A lost block whose record is larger is had from
    another source, or counts as missing."""
    return_s: Positive = 30.0
    """How often a connection to a second-choice endpoint looks for the first."""
    report_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    streams_per_connection: Count = 50
    """On indexer-grpc: calls on one connection. Over a server's limit they wait in silence;
    where that is seen, there are fewer from then on."""
    probe_s: Positive = 2.0
    """How often the indexer is asked how far its books are."""
    probe_grace_s: PositiveOrZero = 2.0
    """The indexer may be ahead of its own streams for so long."""
    audit_s: Positive = 3.0
    """How often the trades that came are compared with those that the indexer lists."""
    audit_back_s: PositiveOrZero = 10.0
    """How far before the newest trade listed an audit begins: the indexer may list some late."""
    trade_hold_s: PositiveOrZero = 0.05
    """How long a trade waits for others of its block, so that they go out in order."""
    fresh_s: Positive = 15.0
    """A market of which nobody could say for so long that it is up to date is stale."""


class ShardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one shard process needs to know."""

    shard: int
    epoch: int
    """Grows with every start of this shard; frames of an older one are refused."""
    source: SourceName
    endpoints: Endpoints
    markets: tuple[Market, ...]
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    per_market: bool = False
    """On chain-grpc: a call per market instead of one for all."""
    push: str
    """ZeroMQ endpoint of the aggregator's PULL."""
    link: str
    """ZeroMQ endpoint of the aggregator's ROUTER: reports out, resume points back."""
    budget: str = ""
    """The folder of the hosts' token buckets, shared by all processes of a collector."""
    limits: Limits = Limits()
    log_level: str = "INFO"
    log_format: LogFormat = "text"
