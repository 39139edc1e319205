"""
The chain itself, over a node's WebSocket (``chain-ws``) or the chain stream over gRPC
(``chain-grpc``): every block, complete.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from shards.adapters.interface import (
    Adapter,
    BlockSource,
    EndpointKind,
    Evidence,
    MarketList,
    PastRecord,
    Recovery,
    RecoveryContext,
    ReplaySource,
    Sink,
    Source,
)
from shards.protocol.settings import Endpoints, Market, Quota, ShardConfig
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    from shards.adapters.injective_chain.redundancy.peek import Peek
    from shards.adapters.injective_chain.trial import ChainSource
    from shards.core.pipeline import Pipeline
    from shards.net.access import Access
    from shards.net.witness import Witness
    from shards.protocol.ledger import MarketLedger

_PROMISES: Final = {
    "book": "every change of every block, once, in order; sequence goes up by one",
    "trades": "every trade of every block, once, in the chain's order; ids without a hole",
    "ticker": "every change of the best bid or ask, read from the book after each change of it",
    "orders": "every update of a resting order (L3) of every block, once; fills are in trades",
    "oracle": "every price of every block, type and price as told; of pyth the EMA, by feed id",
    "funding": "the chain's state as asked for every 5 s, when it changed; cumulative, so a payment "
    "may be told late but is never missed",
    "markets": "how the chain lists a market: at the start, and within 30 s of a change",
    "blocks": "every block, once, in order, with the instant of its first payload",
}


class InjectiveChain(Adapter):
    """Common to both ways of reading the chain: everything but the source."""

    promises = _PROMISES
    trade_identity = TradeIdentity.HEIGHT
    can_be_redundant = True
    listing = "chain_grpc"
    endpoint_kinds = (
        EndpointKind("chain_ws", ("ws://", "wss://")),
        EndpointKind("chain_stream", role="stream"),
        EndpointKind("chain_grpc", role="queries"),
        EndpointKind("rpc", ("http://", "https://"), "rpc", has_blocks=True),
        EndpointKind("events", role="events", has_blocks=True),
    )
    quota = Quota("chain", "requests_per_s", "injective.network", 20.0)

    def preload(self) -> None:
        """Import the parts of a shard, whichever the source; read the messages."""
        for name in ("ws_source", "grpc_source", "recovery", "lost_blocks", "snapshots"):
            importlib.import_module(f"shards.adapters.injective_chain.{name}")
        importlib.import_module("shards.core.blocks")
        from shards.adapters.messages import INJECTIVE

        INJECTIVE.read()

    def new_pipeline(
        self,
        config: ShardConfig,
        source: BlockSource,
        markets: Sequence[Market],
        ledgers: "Mapping[str, MarketLedger]",
    ) -> "Pipeline[Any]":
        """Create a block-based pipeline."""
        from shards.core.blocks import block_pipeline

        return block_pipeline(
            markets,
            source=config.source,
            decoder=source.decode,
            trade_identity=self.trade_identity,
            limits=config.limits,
            channels=config.channels,
            ledgers=ledgers,
            paths=config.redundancy,
        )

    def _redundant(
        self,
        config: ShardConfig,
        endpoints: Sequence[str],
        sink: Any,
        opened: "Callable[[Sequence[str], Sink, int], ChainSource]",
        peek: "Peek",
    ) -> Source:
        """Create a source that reads several nodes at once."""
        from shards.adapters.injective_chain.redundancy.source import RedundantSource

        return RedundantSource(
            endpoints,
            sink,
            lambda share, path: opened(share, path, path.number),
            paths=config.redundancy,
            peek=peek,
            compare_every=config.limits.compare_every,
            name=self.name,
        )

    def open_recovery(self, parts: RecoveryContext) -> Recovery:
        """Create what replays, watches, resubscribes, and polls for funding."""
        from shards.adapters.injective_chain.recovery import ChainRecovery

        return ChainRecovery(parts)

    def past_blocks(
        self, endpoints: Endpoints, access: "Access", *, with_extras: bool
    ) -> list[ReplaySource]:
        """Return the nodes' record first, then the event providers'."""
        from shards.adapters.injective_chain.lost_blocks import EventProviderReplay, RpcReplay
        from shards.net.rpc import Rpc

        found: list[ReplaySource] = [
            RpcReplay(Rpc(url, access), with_extras=with_extras) for url in endpoints.rpc
        ]
        events = endpoints.events
        return found + [EventProviderReplay(at, access, with_extras=with_extras) for at in events]

    def open_past(self, endpoints: Endpoints, access: "Access") -> PastRecord | None:
        """Read the record of the first node, and books of the servers of queries."""
        from shards.adapters.injective_chain.past import ChainPast

        return ChainPast(endpoints, access) if endpoints.rpc else None

    def witnesses(self, endpoints: Endpoints, access: "Access") -> "list[Witness]":
        """Ask servers of queries and event providers, each in its own way."""
        from shards.adapters.injective_chain.witnesses import EventWitness, QueryWitness

        return [
            *(QueryWitness(at, access) for at in endpoints.chain_grpc),
            *(EventWitness(at, access) for at in endpoints.events),
        ]

    def network(self, endpoint: str, access: "Access") -> str:
        """Ask a server of queries."""
        from shards.adapters.injective_chain import markets

        return markets.network(endpoint, access)

    def list_markets(self, endpoint: str, access: "Access") -> MarketList:
        """List markets by the chain's v2 queries."""
        from shards.adapters.injective_chain import markets

        return markets.list_markets(endpoint, access)

    def assess_activity(
        self, endpoint: str, access: "Access", markets: Sequence[Market]
    ) -> Mapping[str, Evidence]:
        """Compare the chain's state now with its past state."""
        from shards.adapters.injective_chain import activity

        return activity.assess(endpoint, access, markets)


class ChainWs(InjectiveChain):
    """A node's own WebSocket."""

    name = "chain-ws"
    origins = frozenset({"chain-ws", "replay"})
    stream = "chain_ws"
    needs = frozenset({"chain_ws", "rpc", "chain_grpc"})

    def open_source(self, config: ShardConfig, sink: Sink, access: "Access") -> Source:
        """Create the source of a shard."""
        from shards.adapters.injective_chain import ws_source

        def opened(endpoints: Sequence[str], to: Sink, path: int = 0) -> ws_source.ChainWs:
            return ws_source.ChainWs(
                endpoints,
                config.markets,
                to,
                channels=config.channels,
                subscribe_per_s=config.limits.subscribe_per_s,
                return_s=config.limits.return_s,
                access=access,
                path=path,
                paths=config.redundancy,
            )

        if config.redundancy == 1:
            return opened(config.endpoints.chain_ws, sink)
        from shards.adapters.injective_chain.redundancy import peek

        return self._redundant(config, config.endpoints.chain_ws, sink, opened, peek.ws)


class ChainGrpc(InjectiveChain):
    """The chain stream over gRPC."""

    name = "chain-grpc"
    can_be_per_market = True
    origins = frozenset({"chain-grpc", "replay"})
    stream = "chain_stream"
    needs = frozenset({"chain_stream", "rpc", "chain_grpc"})

    def open_source(self, config: ShardConfig, sink: Sink, access: "Access") -> Source:
        """Create the source of a shard."""
        from shards.adapters.injective_chain import grpc_source

        def opened(endpoints: Sequence[str], to: Sink, path: int = 0) -> grpc_source.ChainGrpc:
            return grpc_source.ChainGrpc(
                endpoints,
                config.markets,
                to,
                channels=config.channels,
                return_s=config.limits.return_s,
                grouped=not config.per_market,
                access=access,
                path=path,
                paths=config.redundancy,
            )

        if config.redundancy == 1:
            return opened(config.endpoints.chain_stream, sink)
        from shards.adapters.injective_chain.redundancy import peek

        return self._redundant(config, config.endpoints.chain_stream, sink, opened, peek.grpc)
