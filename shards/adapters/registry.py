"""
The adapters by name. Each is loaded when it is asked for, and with it only what it declares.

A new upstream is a folder beside this module and one line in `_ADAPTERS`.
"""

import importlib
from typing import TYPE_CHECKING, Final

from shards.adapters.interface import Adapter, Sink, Source
from shards.protocol import channels
from shards.protocol.errors import ConfigError
from shards.protocol.settings import ShardConfig

if TYPE_CHECKING:
    # It loads grpc, which the aggregator, a reader of the token buckets, has no use for.
    from shards.net.access import Access

_ADAPTERS: Final = {
    "chain-ws": "shards.adapters.injective_chain.adapter:ChainWs",
    "chain-grpc": "shards.adapters.injective_chain.adapter:ChainGrpc",
    "indexer-grpc": "shards.adapters.injective_indexer.adapter:InjectiveIndexer",
}
"""Name → ``module:class``, in the order in which they are shown and preferred."""
_loaded: Final[dict[str, Adapter]] = {}


def names() -> tuple[str, ...]:
    """Name the adapters that there are."""
    return tuple(_ADAPTERS)


def adapter(name: str) -> Adapter:
    """
    Return an adapter.

    Raises:
        ConfigError: If there is none of this name.

    """
    if name not in _loaded:
        if name not in _ADAPTERS:
            raise ConfigError(f"no source {name!r}: there are {', '.join(_ADAPTERS)}")
        module, _, kind = _ADAPTERS[name].partition(":")
        _loaded[name] = getattr(importlib.import_module(module), kind)()
    return _loaded[name]


def adapters() -> list[Adapter]:
    """Return all of them."""
    return [adapter(name) for name in _ADAPTERS]


def register(name: str, place: str) -> None:
    """Add an adapter that is not one of ours, as ``module:class``; call it in every process."""
    _ADAPTERS[name] = place


# ---- what they promise -------------------------------------------------------------------


def rows() -> list[dict[str, object]]:
    """Return what each source guarantees of each channel as plain data, its fields a contract."""
    return [
        {
            "channel": channel.name,
            "topic": channel.topic,
            "default": channel.is_default,
            "state": channel.is_state,
            "sources": {one.name: one.promises.get(channel.name) for one in adapters()},
            "lost_blocks": channel.lost,
        }
        for channel in channels.OFFERED
    ]


def table() -> list[list[str]]:
    """Return the same as cells, the head first; sources that promise the same share a column."""
    groups: list[list[Adapter]] = []
    for one in adapters():
        for group in groups:
            if group[0].promises == one.promises:
                group.append(one)
                break
        else:
            groups.append([one])
    head = [", ".join(one.name for one in group) for group in groups]
    return [["channel", "topic", *head, "lost blocks"]] + [
        [
            channel.name,
            channel.topic,
            *(group[0].promises.get(channel.name, "-") for group in groups),
            channel.lost,
        ]
        for channel in channels.OFFERED
    ]


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
