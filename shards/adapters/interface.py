"""
What an adapter is: everything that differs between upstreams, behind one object.

`Adapter` is what the rest of the program knows of an upstream. It declares what can be promised
and what is needed, and opens the parts that a shard is made of::

    open_source    Source ──payloads──► Sink, which is the shard
    new_pipeline   payloads in, records and requests out
    open_recovery  carries the requests out, watches, and polls what no stream brings

An adapter's own module is light: it loads its libraries only when something is opened
(registry.py).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import msgspec

from shards.protocol import channels
from shards.protocol.errors import ConfigError
from shards.protocol.events import Block, Cause
from shards.protocol.settings import Endpoints, Market, ShardConfig
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    # They load asyncio, grpc and zmq, which those who only read what is declared have no use for.
    import asyncio

    from shards.core.pipeline import Decoder, Pipeline
    from shards.net.access import Access
    from shards.net.endpoints import EndpointPool
    from shards.net.nodes import Nodes
    from shards.net.witness import Witness
    from shards.protocol.ledger import MarketLedger
    from shards.push import Pusher


class Sink(Protocol):
    """The shard, as its source sees it. All calls are synchronous and short."""

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None:
        """A subscription is about to be asked for."""

    def confirmed(self, subscription: int) -> None:
        """It was accepted; for sources whose payloads do not say so themselves."""

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        """
        A payload came; its memory is only valid during the call.

        ``last`` says that it ends what one read of the socket brought; the subscription is 0
        where the payload names its own.
        """

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        """One subscription has ended; the others go on."""

    def disconnected(self, cause: Cause, reason: str) -> None:
        """Every subscription is gone."""


class Source(Protocol):
    """One connection, or a set of them, to an upstream API."""

    endpoints: "EndpointPool"

    async def run(self) -> None:
        """Connect, subscribe, and start over whenever that ends; never return."""

    def add(self, markets: Iterable[Market]) -> None:
        """Collect these markets too, without disturbing the others; also before `run`."""

    def remove(self, market_ids: Iterable[str]) -> None:
        """Collect these markets no more, without disturbing the others; also before `run`."""

    def resubscribe(self, market_id: str) -> None:
        """Replace one market's subscription; one that is not ours any more is no error."""

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Give the connection up and make another."""


class BlockSource(Source, Protocol):
    """A source whose payloads are blocks."""

    @property
    def decode(self) -> "Decoder":
        """What decodes its payloads; it is the pipeline that calls it."""


class Recovery(Protocol):
    """What runs beside the data path of a shard; slow, and never per message."""

    @property
    def halted(self) -> bool:
        """Whether the chain itself makes no blocks."""

    @property
    def waiting(self) -> int:
        """Books and subscriptions that are being asked for now."""

    @property
    def nodes(self) -> "Nodes | None":
        """What is known of the chain and of who has it; None where nobody tells."""

    def see_to(self) -> None:
        """Start on everything that the pipeline asks for now."""

    async def run(self) -> None:
        """Recover and watch; never return."""

    async def aclose(self) -> None:
        """Close the connections that were made."""


class BlockGone(Exception):
    """A replay source has the block no more, and never will."""


class Unable(Exception):
    """A replay source never has any block; the text says why, and which setting decides it."""


class ReplaySource(Protocol):
    """Where a lost block can be had; `fetch` raises SourceError, BlockGone or Unable."""

    name: str

    async def fetch(self, height: int) -> Block:
        """Fetch one block."""

    async def aclose(self) -> None:
        """Close the connection."""


TimeOf: TypeAlias = Callable[[int], Awaitable[int]]
"""Says when a block was made, in ns; raises SourceError or BlockGone."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a shard that its recovery works with."""

    config: ShardConfig
    pipeline: "Pipeline[Any]"
    source: Source
    access: "Access"
    pusher: "Pusher"
    tasks: "asyncio.TaskGroup"
    settle: Callable[[], None]
    """Pushes the records that were made, and carries on with what is asked for."""


class Evidence(msgspec.Struct, frozen=True):
    """What is known of one market before it is collected; None: nobody could say."""

    has_book: bool | None = None
    moved: bool | None = None
    """Whether its best prices or its traded volume differ from a minute before."""
    volume: float | None = None
    """Traded in the last `blocks` blocks, both sides of each trade, in the quote token."""
    blocks: int = 0


class Adapter:
    """One upstream API; there is one object of it, which keeps nothing."""

    name: ClassVar[str]
    """As ``--source`` spells it."""
    can_be_per_market: ClassVar[bool] = False
    """Whether ``--per-market`` means something here: a call for each market instead of for all."""
    promises: ClassVar[Mapping[str, str]]
    """By channel, in a sentence for its users, what is guaranteed; only of those it gives."""
    unprovable: ClassVar[str] = ""
    """Why nobody can prove that its data is complete; empty where its blocks do."""
    trade_identity: ClassVar[TradeIdentity] = TradeIdentity.HEIGHT
    origins: ClassVar[frozenset[str]]
    """What its events name as their ``source``."""
    stream: ClassVar[str]
    """The list of `Endpoints` that it reads from."""
    needs: ClassVar[frozenset[str]]
    """All lists of `Endpoints` that it cannot do without."""
    listing: ClassVar[str]
    """The list of `Endpoints` that it asks for markets, and how active they are."""

    # ---- what it declares ------------------------------------------------------------

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it gives, in the order in which they are shown."""
        return tuple(name for name in channels.NAMES if name in self.promises)

    def check(self, wanted: Iterable[str], place: str = "--channel") -> None:
        """
        Make sure that these channels can be had here; ``place`` is where they were asked for.

        Raises:
            ConfigError: If one of them cannot, or if there is no such channel.

        """
        for channel in wanted:
            if channel not in channels.NAMES:
                known = ", ".join(channels.NAMES)
                raise ConfigError(f"{place} {channel!r}: there is none, only {known}")
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
        """Make the source that a shard reads."""
        raise NotImplementedError

    def new_pipeline(
        self,
        config: ShardConfig,
        source: Any,
        markets: Sequence[Market],
        ledgers: "Mapping[str, MarketLedger]",
    ) -> "Pipeline[Any]":
        """Make the pipeline of a shard; markets with a ledger are resumed by the caller."""
        raise NotImplementedError

    def open_recovery(self, parts: Surroundings) -> Recovery:
        """Make what runs beside the data path."""
        raise NotImplementedError

    def past_blocks(
        self, endpoints: Endpoints, access: "Access", *, with_extras: bool
    ) -> list[ReplaySource]:
        """Make what whole blocks of the past can be had from, the best first; none by default."""
        return []

    def witnesses(self, endpoints: Endpoints, access: "Access") -> "list[Witness]":
        """Make what endpoints other than RPCs are asked with which chain they have."""
        return []

    def fallbacks(
        self, endpoints: Endpoints, markets: Mapping[str, Market], access: "Access", time_of: TimeOf
    ) -> list[ReplaySource]:
        """
        Offer other adapters what they cannot have any more: blocks that their sources forgot.

        ``markets`` changes while the shard runs.
        """
        return []

    # ---- before anything is collected ------------------------------------------------

    def list_markets(self, endpoint: str, access: "Access") -> Iterable[Market]:
        """
        Give all markets, without symbols.

        Raises:
            SourceError: If the endpoint does not answer.

        """
        raise NotImplementedError

    def assess_activity(
        self, endpoint: str, access: "Access", markets: Sequence[Market]
    ) -> Mapping[str, Evidence]:
        """
        Say by market id what is known of how active markets are.

        Raises:
            SourceError: If the endpoint does not answer.

        """
        return {}
