"""
The chain itself, read over a node's WebSocket (``chain-ws``) or the chain stream over gRPC
(``chain-grpc``): every block with everything in it.
"""

from typing import Final

from shards.adapters.interface import Adapter

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
    """One of the two ways to read the chain."""

    promises = _PROMISES


class ChainWs(InjectiveChain):
    """A node's own WebSocket."""

    name = "chain-ws"


class ChainGrpc(InjectiveChain):
    """The chain stream over gRPC."""

    name = "chain-grpc"
