"""
What an adapter is: everything that differs between upstreams, behind one object.

`Adapter` is all that the rest of the program knows of an upstream. It declares its guarantees and
its needs, and opens the parts of a shard::

    open_source    Source ──payloads──► Sink, which is the shard
    new_pipeline   payloads in, records and requests out
    open_recovery  carries out the requests, checks liveness, polls what no stream carries

An adapter's own module is light: it imports its libraries only when something is opened
(registry.py).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias

import msgspec

from shards.protocol import channels
from shards.protocol.chain import Role
from shards.protocol.errors import ConfigError
from shards.protocol.events import Block, Cause, Snapshot
from shards.protocol.settings import Endpoints, Market, Quota, ShardConfig
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    # These import asyncio, grpc and zmq, which readers of the declarations do not need.
    import asyncio

    from shards.core.pipeline import Decoder, Pipeline
    from shards.net.access import Access
    from shards.net.nodes import Nodes
    from shards.net.witness import Witness
    from shards.protocol.control import EndpointReport, PathReport
    from shards.protocol.ledger import MarketLedger
    from shards.push import Pusher


class Sink(Protocol):
    """The shard, as its source sees it. All calls are synchronous and short."""

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None:
        """A subscription is about to be requested."""

    def confirmed(self, subscription: int) -> None:
        """It was accepted; for sources whose payloads do not say so."""

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        """
        Take a payload; its memory is valid only during the call.

        ``last`` marks the last payload of one socket read. The subscription is 0 if the payload
        names its own.
        """

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        """One subscription has ended; the others continue."""

    def disconnected(self, cause: Cause, reason: str) -> None:
        """Every subscription has ended."""


class EndpointsInUse(Protocol):
    """The endpoints of a source, and their condition (net/endpoint_pool.py)."""

    @property
    def current(self) -> str:
        """The endpoint in use; empty if there is none."""

    @property
    def attempts(self) -> int:
        """Connections tried so far."""

    @property
    def is_behind(self) -> bool:
        """Whether the endpoint in use was behind when it was last compared."""

    def succeeded(self) -> None:
        """Data was received."""

    def unfit(self, reason: str) -> None:
        """Mark the endpoint in use unfit until it is seen at the head again."""

    def compare(self, height: int, head: int) -> None:
        """Compare the newest block received with the head of the nodes."""

    def cannot_compare(self) -> None:
        """Restart the comparison."""

    def reports(self) -> "list[EndpointReport]":
        """Describe the endpoints for a report."""


class Source(Protocol):
    """One connection, or a set of them, to an upstream API."""

    @property
    def endpoints(self) -> EndpointsInUse:
        """Its endpoints."""

    def paths(self) -> "list[PathReport]":
        """Describe the nodes that are read at once; empty if there is only one."""

    async def run(self) -> None:
        """Connect, subscribe, and start over whenever that ends; never returns."""

    def add(self, markets: Iterable[Market]) -> None:
        """Collect more markets without disturbing the others; may be called before `run`."""

    def remove(self, market_ids: Iterable[str]) -> None:
        """Stop collecting markets without disturbing the others; may be called before `run`."""

    def resubscribe(self, market_id: str) -> None:
        """Replace one market's subscription; unknown markets are ignored."""

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Close the connection and open a new one."""


class BlockSource(Source, Protocol):
    """A source whose payloads are blocks."""

    @property
    def decode(self) -> "Decoder":
        """The decoder of its payloads, for the pipeline."""


class Recovery(Protocol):
    """Runs beside the data path of a shard; slow, and never per message."""

    @property
    def halted(self) -> bool:
        """Whether the chain itself makes no blocks."""

    @property
    def waiting(self) -> int:
        """Snapshots and subscriptions currently requested."""

    @property
    def nodes(self) -> "Nodes | None":
        """The nodes and their chain; None if the upstream does not tell."""

    def dispatch(self) -> None:
        """Start everything that the pipeline requests now."""

    async def run(self) -> None:
        """Recover, and check liveness; never returns."""

    async def aclose(self) -> None:
        """Close its connections."""


class BlockGone(Exception):
    """A replay source no longer has the block, and never will."""


class Unable(Exception):
    """A replay source can never supply blocks; the text says why, and which setting decides it."""


class ReplaySource(Protocol):
    """Supplies lost blocks; `fetch` raises SourceError, BlockGone or Unable."""

    name: str

    async def fetch(self, height: int) -> Block:
        """Fetch one block."""

    async def aclose(self) -> None:
        """Close the connection."""


TimeOf: TypeAlias = Callable[[int], Awaitable[int]]
"""Returns a block's time, in ns; raises SourceError or BlockGone."""


class PastRecord(Protocol):
    """An upstream's record of past blocks, for `collector backfill`; all raise SourceError."""

    async def newest(self) -> int:
        """Return the height of the newest block."""

    async def time_of(self, height: int) -> int:
        """Return a block's time, in ns; raise BlockGone if it is not available any more."""

    async def book(self, market: Market, height: int) -> Snapshot | None:
        """Return a market's whole book after a block; None if no endpoint has such books."""

    async def aclose(self) -> None:
        """Close the connections."""


class EndpointKind(NamedTuple):
    """One list of `Endpoints` that an adapter reads."""

    name: str
    schemes: tuple[str, ...] = ()
    """The prefixes of its URLs; empty: gRPC ``host:port``."""
    role: Role | None = None
    """The role of its endpoints in the reports about nodes; None: they are not asked."""
    has_blocks: bool = False
    """Whether past blocks can be fetched from it."""


class RecoveryContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a shard that its recovery works with."""

    config: ShardConfig
    pipeline: "Pipeline[Any]"
    source: Source
    access: "Access"
    pusher: "Pusher"
    tasks: "asyncio.TaskGroup"
    push_new: Callable[[], None]
    """Pushes the new records and starts what was requested."""


class Evidence(msgspec.Struct, frozen=True):
    """What is known of one market before it is collected; None: unknown."""

    has_book: bool | None = None
    moved: bool | None = None
    """Whether its best prices or its traded volume changed within a minute."""
    volume: float | None = None
    """Traded in the last `blocks` blocks, counting both sides, in the quote token."""
    blocks: int = 0


class MarketList(NamedTuple):
    """The markets of a network, as one endpoint lists them."""

    markets: list[Market]
    """All of them, without symbols."""
    height: int = 0
    """The block after which they are listed so; 0 if the endpoint does not say."""


class Adapter:
    """One upstream API; a stateless object, one per adapter."""

    name: ClassVar[str]
    """Its name for ``--source``."""
    can_be_per_market: ClassVar[bool] = False
    """Whether ``--per-market`` applies: one call per market instead of one for all."""
    can_be_redundant: ClassVar[bool] = False
    """Whether ``--redundancy`` applies: its copies of a block can be told apart by height."""
    promises: ClassVar[Mapping[str, str]]
    """By channel: what is guaranteed, as text for users; only the channels it gives."""
    unprovable: ClassVar[str] = ""
    """Why its completeness cannot be proved; empty if its blocks prove it."""
    trade_identity: ClassVar[TradeIdentity] = TradeIdentity.HEIGHT
    origins: ClassVar[frozenset[str]]
    """The ``source`` values of its events."""
    stream: ClassVar[str]
    """The list of `Endpoints` that it reads."""
    needs: ClassVar[frozenset[str]]
    """All lists of `Endpoints` that it requires."""
    listing: ClassVar[str]
    """The list of `Endpoints` that it queries for markets and their activity."""
    endpoint_kinds: ClassVar[tuple[EndpointKind, ...]] = ()
    """The lists of `Endpoints` that belong to this upstream, in display order."""
    quota: ClassVar[Quota | None] = None
    """The requests that hosts in these lists allow; None: unknown."""
    replays: ClassVar[frozenset[str]] = frozenset()
    """Those of `origins` whose facts it fetches itself, besides ``replay``."""

    # ---- what it declares ------------------------------------------------------------

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it gives, in display order."""
        return tuple(name for name in channels.NAMES if name in self.promises)

    def check(self, wanted: Iterable[str], place: str = "--channel") -> None:
        """
        Check that these channels are available; ``place`` is where they were chosen.

        Raises:
            ConfigError: If a channel does not exist or is not available here.

        """
        for channel in wanted:
            if channel not in channels.NAMES:
                known = ", ".join(channels.NAMES)
                raise ConfigError(f"{place} {channel!r}: no such channel; there are {known}")
            if channel not in self.promises:
                raise ConfigError(
                    f"{place} {channel}: the source {self.name} does not give it, only "
                    f"{', '.join(self.channels)} "
                    "('collector capabilities' says what each source guarantees)"
                )

    # ---- the parts of a shard --------------------------------------------------------

    def preload(self) -> None:
        """
        Import and read what each shard of this source needs.

        The shards are forked from the process that calls this: no thread, socket or loop may
        come of it.
        """

    def open_source(self, config: ShardConfig, sink: Sink, access: "Access") -> Source:
        """Create the source of a shard."""
        raise NotImplementedError

    def new_pipeline(
        self,
        config: ShardConfig,
        source: Any,
        markets: Sequence[Market],
        ledgers: "Mapping[str, MarketLedger]",
    ) -> "Pipeline[Any]":
        """Create the pipeline of a shard; the caller resumes markets that have a ledger."""
        raise NotImplementedError

    def open_recovery(self, parts: RecoveryContext) -> Recovery:
        """Create what runs beside the data path."""
        raise NotImplementedError

    def past_blocks(
        self, endpoints: Endpoints, access: "Access", *, with_extras: bool
    ) -> list[ReplaySource]:
        """Create the sources of past blocks, best first; none by default."""
        return []

    def open_past(self, endpoints: Endpoints, access: "Access") -> PastRecord | None:
        """Open the record of past blocks; None if these endpoints have none."""
        return None

    def witnesses(self, endpoints: Endpoints, access: "Access") -> "list[Witness]":
        """Make what endpoints other than RPCs are asked with which chain they have."""
        return []

    def fallbacks(
        self, endpoints: Endpoints, markets: Mapping[str, Market], access: "Access", time_of: TimeOf
    ) -> list[ReplaySource]:
        """
        Create sources for blocks that other adapters' own sources no longer have.

        ``markets`` changes while the shard runs.
        """
        return []

    # ---- before anything is collected ------------------------------------------------

    def network(self, endpoint: str, access: "Access") -> str:
        """Ask an endpoint that lists markets for its network's id; empty if it cannot tell."""
        return ""

    def list_markets(self, endpoint: str, access: "Access") -> MarketList:
        """
        Ask an endpoint for all markets.

        Raises:
            SourceError: If the endpoint does not answer.

        """
        raise NotImplementedError

    def assess_activity(
        self, endpoint: str, access: "Access", markets: Sequence[Market]
    ) -> Mapping[str, Evidence]:
        """
        Return by market id what is known of how active markets are.

        Raises:
            SourceError: If the endpoint does not answer.

        """
        return {}
