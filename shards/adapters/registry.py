"""Sources: sockets, one module per upstream. Here every transport error becomes a SourceError."""

from typing import TYPE_CHECKING

from shards.adapters.interface import Sink, Source
from shards.protocol.settings import ShardConfig

if TYPE_CHECKING:
    # It loads grpc, which the aggregator, a reader of the token buckets, has no use for.
    from shards.net.access import Access


def open_source(config: ShardConfig, sink: Sink, access: "Access") -> Source:
    """Make the source that a shard reads; only that one's libraries are loaded."""
    if config.source == "chain-grpc":
        from shards.adapters.injective_chain.grpc_source import ChainGrpc

        return ChainGrpc(
            config.endpoints.chain_stream,
            config.markets,
            sink,
            channels=config.channels,
            grouped=not config.per_market,
            access=access,
        )
    if config.source == "indexer-grpc":
        from shards.adapters.injective_indexer.source import IndexerGrpc

        return IndexerGrpc(
            config.endpoints.indexer,
            config.markets,
            sink,
            access,
            channels=config.channels,
            limits=config.limits,
        )
    from shards.adapters.injective_chain.ws_source import ChainWs

    return ChainWs(
        config.endpoints.chain_ws,
        config.markets,
        sink,
        channels=config.channels,
        subscribe_per_s=config.limits.subscribe_per_s,
        return_s=config.limits.return_s,
        access=access,
    )
