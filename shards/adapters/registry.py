"""Sources: sockets, one module per upstream. Here every transport error becomes a SourceError."""

from typing import TYPE_CHECKING

from shards.config import ShardConfig
from shards.sources.sink import Sink, Source

if TYPE_CHECKING:
    # It loads grpc, which the aggregator, a reader of the token buckets, has no use for.
    from shards.sources.access import Access


def open_source(config: ShardConfig, sink: Sink, access: "Access") -> Source:
    """Make the source that a shard reads; only that one's libraries are loaded."""
    if config.source == "chain-grpc":
        from shards.sources.chain_grpc import ChainGrpc

        return ChainGrpc(
            config.endpoints.chain_stream,
            config.markets,
            sink,
            channels=config.channels,
            grouped=not config.per_market,
            access=access,
        )
    if config.source == "indexer-grpc":
        from shards.sources.indexer_grpc import IndexerGrpc

        return IndexerGrpc(
            config.endpoints.indexer,
            config.markets,
            sink,
            access,
            channels=config.channels,
            limits=config.limits,
        )
    from shards.sources.chain_ws import ChainWs

    return ChainWs(
        config.endpoints.chain_ws,
        config.markets,
        sink,
        channels=config.channels,
        subscribe_per_s=config.limits.subscribe_per_s,
        return_s=config.limits.return_s,
        access=access,
    )
