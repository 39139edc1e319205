"""
The adapters by name. Each is imported on demand, and with it only its declarations.

A new upstream is a folder beside this module and one line in `_ADAPTERS`.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from shards.adapters.interface import Adapter, EndpointKind, PastRecord, ReplaySource, TimeOf
from shards.protocol import channels
from shards.protocol.chain import Role
from shards.protocol.errors import ConfigError
from shards.protocol.events import REPLAY
from shards.protocol.settings import Endpoints, Market, Quota
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    # It imports grpc, which readers of the token buckets (the aggregator) do not need.
    from shards.net.access import Access
    from shards.net.witness import Witness

_ADAPTERS: Final = {
    "chain-ws": "shards.adapters.injective_chain.adapter:ChainWs",
    "chain-grpc": "shards.adapters.injective_chain.adapter:ChainGrpc",
    "indexer-grpc": "shards.adapters.injective_indexer.adapter:InjectiveIndexer",
}
"""Name → ``module:class``, in order of display and preference."""
_loaded: Final[dict[str, Adapter]] = {}


def names() -> tuple[str, ...]:
    """Return the adapters' names."""
    return tuple(_ADAPTERS)


def adapter(name: str) -> Adapter:
    """
    Return an adapter.

    Raises:
        ConfigError: If there is none with this name.

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
    """Add an external adapter, as ``module:class``; call it in every process."""
    _ADAPTERS[name] = place


def preferred(found: Endpoints) -> Adapter:
    """Return the default adapter for a network: the first whose needs are met."""
    return next((one for one in adapters() if found.of(one.stream)), adapters()[0])


def lister(found: Endpoints) -> Adapter:
    """Return the adapter that lists a network's markets: the first that can."""
    return next((one for one in adapters() if found.of(one.listing)), adapters()[0])


def trades_by_height() -> frozenset[str]:
    """
    Return the ``source`` values whose trades are deduplicated by height.

    Other sources may send trades late; those are deduplicated by id.
    """
    by_height = (one for one in adapters() if one.trade_identity is TradeIdentity.HEIGHT)
    return frozenset(origin for one in by_height for origin in one.origins)


def unprovable() -> frozenset[str]:
    """Return the ``source`` values of events whose completeness cannot be proved."""
    unproved = (one for one in adapters() if one.unprovable)
    return frozenset(origin for one in unproved for origin in one.origins)


def replays() -> frozenset[str]:
    """Return the ``source`` values of facts that were fetched, not streamed."""
    return frozenset({REPLAY}.union(*(one.replays for one in adapters())))


# ---- endpoints ---------------------------------------------------------------------------


def endpoint_kinds() -> dict[str, EndpointKind]:
    """Return all adapters' lists of endpoints by name, in display order."""
    return {kind.name: kind for one in adapters() for kind in one.endpoint_kinds}


def of_role(found: Endpoints, role: Role) -> tuple[str, ...]:
    """Return the endpoints that have a role, in order of preference."""
    kinds = endpoint_kinds().values()
    return tuple(at for kind in kinds if kind.role == role for at in found.of(kind.name))


def has_blocks(found: Endpoints) -> bool:
    """Return whether past blocks can be fetched from any of the endpoints."""
    return any(found.of(kind.name) for kind in endpoint_kinds().values() if kind.has_blocks)


def quotas() -> tuple[Quota, ...]:
    """Return each group of hosts once, with the lists of all adapters that declare it."""
    lists: dict[str, dict[str, None]] = {}
    made: dict[str, Quota] = {}
    for one in adapters():
        if one.quota is not None:
            names = dict.fromkeys(kind.name for kind in one.endpoint_kinds)
            lists.setdefault(one.quota.group, {}).update(names)
            made.setdefault(one.quota.group, one.quota)
    return tuple(quota._replace(lists=tuple(lists[group])) for group, quota in made.items())


def open_access(
    found: Endpoints, folder: str = "", *, message_bytes: int | None = None
) -> "Access":
    """
    Open the way to a network's servers, with the quotas of all adapters (shards/net/access.py).

    Raises:
        ConfigError: If a certificate cannot be read.

    """
    from shards.net.access import MESSAGE_BYTES, Access

    return Access(found, folder, message_bytes=message_bytes or MESSAGE_BYTES, quotas=quotas())


# ---- the past ----------------------------------------------------------------------------


def open_past(found: Endpoints, access: "Access") -> PastRecord:
    """
    Open the record of past blocks, of the first adapter that has one.

    Raises:
        ConfigError: If none of the endpoints has one.

    """
    opened = (one.open_past(found, access) for one in adapters())
    past = next(filter(None, opened), None)
    if past is None:
        lists = [kind.name for kind in endpoint_kinds().values() if kind.role == "rpc"]
        raise ConfigError(
            f"no endpoint in {' or '.join(lists)} is known, and past blocks are asked of it: "
            "name one"
        )
    return past


def past_blocks(found: Endpoints, access: "Access", *, with_extras: bool) -> list[ReplaySource]:
    """Return the sources of past blocks, from the first adapter that has any."""
    had = (one.past_blocks(found, access, with_extras=with_extras) for one in adapters())
    return next(filter(None, had), [])


def witnesses(found: Endpoints, access: "Access") -> "list[Witness]":
    """Return what endpoints are asked with which chain they have, by the first adapter that has any."""
    made = (one.witnesses(found, access) for one in adapters())
    return next(filter(None, made), [])


def fallbacks(
    found: Endpoints, markets: Mapping[str, Market], access: "Access", time_of: TimeOf
) -> list[ReplaySource]:
    """Return all adapters' fallbacks for blocks that other sources no longer have."""
    offered = (one.fallbacks(found, markets, access, time_of) for one in adapters())
    return [source for sources in offered for source in sources]


# ---- what they promise -------------------------------------------------------------------


def rows() -> list[dict[str, object]]:
    """Return each source's guarantees per channel as plain data; the fields are a contract."""
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
    """Return the same as table cells, header first; equal sources share a column."""
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
