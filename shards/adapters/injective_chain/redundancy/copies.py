"""
Compare two nodes' copies of a block. Pure.

Copies that are equal to the byte need no decoding. But a node collects trades in a map, so their
order in the text is random: copies that differ are decoded and compared as facts.
"""

from collections.abc import Collection
from typing import Final, TypeAlias

import msgspec

from shards.core.pipeline import Decoder
from shards.protocol.events import Block, BookUpdate, OptionalEvents, Source

_RESULT: Final = b'"result"'
"""A WebSocket message carries its own subscription's number before this."""

Facts: TypeAlias = dict[str, object]
"""What a block says, by name: ``time``, ``trades``, ``book``, ``orders``, ``prices``."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two nodes say different things about one block."""

    height: int
    market_ids: tuple[str, ...]
    """The markets of the subscription."""
    first: str
    """The endpoint whose copy came first and was published."""
    second: str
    published: Block
    other: Block
    source: Source
    """The source name in events of live payloads."""


def same_bytes(one: bytes, other: bytes) -> bool:
    """Return whether two payloads are equal apart from their subscription's number."""
    return one[max(0, one.find(_RESULT)) :] == other[max(0, other.find(_RESULT)) :]


def decode_both(
    decode: Decoder, one: bytes, other: bytes, number: int, number_of_other: int
) -> tuple[Block, Block] | None:
    """
    Decode two payloads of these subscriptions; None if either is not a block.

    Raises:
        DecodeError: If one cannot be decoded.

    """
    first, second = decode(one, number)[1], decode(other, number_of_other)[1]
    if isinstance(first, Block) and isinstance(second, Block):
        return first, second
    return None


def differences(one: Block, other: Block, markets: Collection[str]) -> dict[str, list[str]]:
    """Return what differs, by market: ``time``, ``trades``, ``book``, ``orders`` or ``prices``."""
    found: dict[str, list[str]] = {}
    for market_id in markets:
        facts, others = _facts(one, market_id), _facts(other, market_id)
        names = [name for name in facts if facts[name] != others[name]]
        if names:
            found[market_id] = names
    return found


def is_contradicted(block: Block, record: Block, market_id: str) -> bool:
    """Return whether the chain's record says something else about this market's block."""
    said, recorded = _facts(block, market_id), _facts(record, market_id)
    if record.extras is None or block.extras is None:
        # Without optional events a record cannot contradict them.
        said |= {"orders": (), "prices": ()}
        recorded |= {"orders": (), "prices": ()}
    return said != recorded


def _facts(block: Block, market_id: str) -> Facts:
    extras = block.extras or OptionalEvents()
    is_chain = market_id == "chain"
    return {
        "time": block.ts_event,
        "trades": [trade for of, trade in block.trades if of == market_id],
        "book": [_sorted(update) for update in block.updates if update.market_id == market_id],
        "orders": [order for of, order in extras.orders if of == market_id],
        "prices": sorted(extras.prices, key=_symbol) if is_chain else (),
    }


def _symbol(price: tuple[str, object]) -> str:
    return price[0]


def _sorted(update: BookUpdate) -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
    return update.sequence, sorted(update.bids), sorted(update.asks)
