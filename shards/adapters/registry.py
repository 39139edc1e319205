"""
The adapters by name. Each is loaded when it is asked for, and with it only what it declares.

A new upstream is a folder beside this module and one line in `_ADAPTERS`.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from shards.adapters.interface import Adapter, ReplaySource, TimeOf
from shards.protocol import channels
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints, Market
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    # It loads grpc, which the aggregator, a reader of the token buckets, has no use for.
    from shards.net.access import Access
    from shards.net.witness import Witness

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


def preload() -> None:
    """Import what a shard of any source needs; no thread, socket or loop comes of it."""
    for one in adapters():
        one.preload()


def register(name: str, place: str) -> None:
    """Add an adapter that is not one of ours, as ``module:class``; call it in every process."""
    _ADAPTERS[name] = place


def preferred(found: Endpoints) -> Adapter:
    """Return the adapter to read a network with, where none is named: the first it can."""
    return next((one for one in adapters() if found.of(one.stream)), adapters()[0])


def lister(found: Endpoints) -> Adapter:
    """Return the adapter that lists the markets of a network: the first that can."""
    return next((one for one in adapters() if found.of(one.listing)), adapters()[0])


def trades_by_height() -> frozenset[str]:
    """
    Name the ``source`` of every event of which a height that was had makes the trades known.

    What another source brings may be late: there ids tell trades apart.
    """
    by_height = (one for one in adapters() if one.trade_identity is TradeIdentity.HEIGHT)
    return frozenset(origin for one in by_height for origin in one.origins)


def unprovable() -> frozenset[str]:
    """Name the ``source`` of every event of which nothing proves that all came."""
    unproved = (one for one in adapters() if one.unprovable)
    return frozenset(origin for one in unproved for origin in one.origins)


def past_blocks(found: Endpoints, access: "Access", *, with_extras: bool) -> list[ReplaySource]:
    """Return what whole blocks of the past can be had from, by the first adapter that has any."""
    had = (one.past_blocks(found, access, with_extras=with_extras) for one in adapters())
    return next(filter(None, had), [])


def witnesses(found: Endpoints, access: "Access") -> "list[Witness]":
    """Return what endpoints are asked with which chain they have, by the first adapter that has any."""
    made = (one.witnesses(found, access) for one in adapters())
    return next(filter(None, made), [])


def fallbacks(
    found: Endpoints, markets: Mapping[str, Market], access: "Access", time_of: TimeOf
) -> list[ReplaySource]:
    """Return everything that any adapter offers for blocks that others have lost."""
    offered = (one.fallbacks(found, markets, access, time_of) for one in adapters())
    return [source for sources in offered for source in sources]


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
