"""The ``source`` values of the indexer's facts."""

from typing import Final

STREAMED: Final = "indexer-grpc"
LISTED: Final = "indexer-replay"
"""Trades that the streams missed, from the indexer's list."""
