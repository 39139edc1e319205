"""
Decode an indexer's payloads by subscription number, because the payloads do not say what they are.

The number modulo `decoder.PARTS` means a stream of one market, or the probes of a service. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shards.adapters.injective_indexer.decoder import (
    PARTS,
    SPOT_PROBE,
    STREAMS,
    BookPosition,
    IndexerDecoder,
    Stream,
    StreamMessage,
    Units,
    streams_of,
)
from shards.protocol.errors import DecodeError
from shards.protocol.settings import Market


class _Reading(msgspec.Struct, gc=False):
    """The market of a subscription, and how to decode its payloads."""

    stream: Stream
    decoder: IndexerDecoder
    market: Market
    units: Units


class Probed(msgspec.Struct, frozen=True):
    """A probe's answer."""

    books: list[BookPosition]


class Garbled(msgspec.Struct, frozen=True):
    """An unreadable payload; it affects only its subscription."""

    reason: str


class Reader:
    """Decodes the payloads of one shard."""

    def __init__(self, messages: Mapping[bool, Any], channels: Sequence[str]) -> None:
        """``messages`` are the messages of the spot (True) and derivative service."""
        self.streams = frozenset(streams_of(channels))
        self._decoders = {
            spot: IndexerDecoder(module, spot=spot) for spot, module in messages.items()
        }
        self._readings: dict[int, _Reading] = {}

    def read(self, subscription: int, market: Market) -> None:
        """From now on, decode this subscription's payloads for this market."""
        stream = STREAMS[subscription % PARTS]
        decoder = self._decoders[market.type == "spot"]
        self._readings[subscription] = _Reading(stream, decoder, market, Units.of(market))

    def read_no_more(self, subscription: int) -> None:
        """Ignore this subscription's remaining payloads."""
        self._readings.pop(subscription, None)

    def decode(self, payload: bytes | memoryview, subscription: int) -> tuple[int, object]:
        """Decode a payload by its subscription's number (pipeline.Decoder)."""
        part = subscription % PARTS
        try:
            if part >= SPOT_PROBE:
                return subscription, Probed(list(self._decoders[part == SPOT_PROBE].seen(payload)))
            reading = self._readings.get(subscription)
            if reading is None:
                return subscription, None
            decoder = reading.decoder
            read = decoder.book if reading.stream == "book" else decoder.trade
            return subscription, read(payload, reading.market, reading.units)
        except DecodeError as error:
            return subscription, Garbled(error.reason)

    def past_trade(self, message: Any, market: Market) -> StreamMessage:
        """Decode a listed trade of a market; raises DecodeError."""
        return self._decoders[market.type == "spot"].past_trade(message, market, Units.of(market))
