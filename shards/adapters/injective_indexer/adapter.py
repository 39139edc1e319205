"""The indexer's streams (``indexer-grpc``): books and trades, without the blocks they are of."""

from typing import Final

from shards.adapters.interface import Adapter

_PROMISES: Final = {
    "book": "every change that its stream brings, in order, without its height; what was missed "
    "shows by sequence or at a query every 2 s, and a whole book follows",
    "trades": "every trade once, held every 3 s against the indexer's list, which brings what its "
    "stream did not; no proof by the chain",
    "ticker": "the same, from the indexer's book",
    "markets": "the same, from the chain's query or else the indexer's",
}


class InjectiveIndexer(Adapter):
    """The indexer of an exchange API."""

    name = "indexer-grpc"
    promises = _PROMISES
