"""The indexer's streams (``indexer-grpc``): books and trades, without their blocks."""

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from shards.adapters.injective_indexer.origins import LISTED, STREAMED
from shards.adapters.interface import (
    Adapter,
    EndpointKind,
    Evidence,
    MarketList,
    Recovery,
    RecoveryContext,
    ReplaySource,
    Sink,
    Source,
    TimeOf,
)
from shards.protocol.settings import Endpoints, Market, Quota, ShardConfig
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    from shards.core.pipeline import Pipeline
    from shards.net.access import Access
    from shards.protocol.ledger import MarketLedger

_PROMISES: Final = {
    "book": "every change that its stream brings, in order, without its height; what was missed "
    "shows by sequence or at a query every 2 s, and a whole book follows",
    "trades": "every trade once, held every 3 s against the indexer's list, which brings what its "
    "stream did not; no proof by the chain",
    "ticker": "the same, from the indexer's book",
    "markets": "the same, from the chain's query or else the indexer's",
}


class InjectiveIndexer(Adapter):
    """The adapter of an Injective exchange indexer."""

    name = STREAMED
    promises = _PROMISES
    unprovable = "the indexer tells no blocks"
    trade_identity = TradeIdentity.ID
    origins = frozenset({STREAMED, LISTED})
    replays = frozenset({LISTED})
    stream = "indexer"
    # It also lists the markets, if no chain endpoint is configured.
    needs = frozenset({"indexer"})
    listing = "indexer"
    endpoint_kinds = (EndpointKind("indexer"),)
    quota = Quota("indexer", "indexer_requests_per_s", "injective.network", 50.0)

    def preload(self) -> None:
        """Import the parts of a shard, and what other sources' shards replay from; read the messages."""
        for name in ("source", "proofs", "reconciliation", "lost_trades"):
            importlib.import_module(f"shards.adapters.injective_indexer.{name}")
        from shards.adapters.messages import INJECTIVE

        INJECTIVE.read()

    def open_source(self, config: ShardConfig, sink: Sink, access: "Access") -> Source:
        """Create the source of a shard."""
        from shards.adapters.injective_indexer.source import IndexerGrpc

        return IndexerGrpc(
            config.endpoints.indexer,
            config.markets,
            sink,
            access,
            channels=config.channels,
            limits=config.limits,
        )

    def new_pipeline(
        self,
        config: ShardConfig,
        source: Any,
        markets: Sequence[Market],
        ledgers: "Mapping[str, MarketLedger]",
    ) -> "Pipeline[Any]":
        """Create a pipeline with liveness by probes and audits."""
        from shards.adapters.injective_indexer.proofs import Proofs
        from shards.adapters.messages import INJECTIVE
        from shards.core.pipeline import Pipeline

        proofs = Proofs(
            {
                name == "spot": INJECTIVE.package(f"injective_{name}_exchange_rpc")
                for name in ("spot", "derivative")
            },
            channels=config.channels,
            limits=config.limits,
        )
        return Pipeline(
            markets,
            proofs,
            source=config.source,
            decoder=proofs.reader.decode,
            trade_identity=self.trade_identity,
            limits=config.limits,
            channels=config.channels,
            ledgers=ledgers,
        )

    def open_recovery(self, parts: RecoveryContext) -> Recovery:
        """Create what fetches snapshots, audits trades and resubscribes."""
        from shards.adapters.injective_indexer.reconciliation import Reconciliation

        return Reconciliation(parts)

    def fallbacks(
        self, endpoints: Endpoints, markets: Mapping[str, Market], access: "Access", time_of: TimeOf
    ) -> list[ReplaySource]:
        """Offer the trades of blocks that no node has any more."""
        from shards.adapters.injective_indexer.lost_trades import IndexerReplay

        return [IndexerReplay(at, markets, time_of, access) for at in endpoints.indexer]

    def list_markets(self, endpoint: str, access: "Access") -> MarketList:
        """List markets through the indexer."""
        from shards.adapters.injective_indexer import markets

        return markets.list_markets(endpoint, access)

    def assess_activity(
        self, endpoint: str, access: "Access", markets: Sequence[Market]
    ) -> Mapping[str, Evidence]:
        """Judge activity by the dates of books, levels and trades."""
        from shards.adapters.injective_indexer import activity

        return activity.assess(endpoint, access, markets)
