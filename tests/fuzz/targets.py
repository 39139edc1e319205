"""What is fuzzed: each target takes any bytes, and raises only what is a fault of ours."""

import contextlib
import functools
import io
import itertools
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pyarrow as pa
import zmq
import zstandard

from collector.aggregator import requests
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.forwarder import Publisher
from collector.aggregator.telemetry.process_table import Processes
from collector.archive.journal import segment_file
from collector.archive.storage import manifest, part_file
from collector.cli import environment
from collector.client.formatting import json_line, text_line
from collector.client.received import Received
from collector.client.requests import read_reply
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from collector.settings import config_file
from collector.settings.parts import AggregatorConfig, Supervision
from collector.settings.start_options import ROWS
from collector.tables.book_sides import sides_of
from collector.tables.rows import canonical
from shards.adapters.injective_chain import block_results, grpc_decoder, ws_extras_decoder
from shards.adapters.injective_indexer.decoder import IndexerDecoder, Units
from shards.adapters.messages import INJECTIVE
from shards.protocol import channels
from shards.protocol.errors import UNREADABLE, ConfigError, DecodeError
from shards.protocol.events import Level
from shards.protocol.frames import PREFIX_SIZE, is_readable, read_header
from shards.protocol.settings import Endpoints, Limits, Market
from shards.protocol.text import printable, symbol_of, without_secrets
from shards.push import plain_send
from shards.runtime.loop_monitor import LoopMonitor
from tests.fuzz.mutation import Mutate, Mutator, documents

Target = Callable[[bytes], None]

MARKET: Final = Market("0x" + "ab" * 32, "INJ/USDT", "INJ-USDT", "spot", base_decimals=18)
_TOPIC: Final = b"book.INJ-USDT."
_TOPICS: Final = {
    row.kind: f"{row.name}.INJ-USDT.".encode() for row in channels.BY_NAME.values() if row.kind
}
SEPARATOR: Final = b"\xc1\xc1\xc1\xc1"
"""Between the parts of one message; no MessagePack has that byte outside a text."""


def node_websocket(data: bytes) -> None:
    """A message of a node's chain stream."""
    with contextlib.suppress(DecodeError):
        ws_extras_decoder.decode(data)


def node_block_results(data: bytes) -> None:
    """An answer of ``block_results``."""
    with contextlib.suppress(DecodeError):
        block_results.decode(data, 1, with_extras=True)


@functools.cache
def _stream(version: str) -> grpc_decoder.StreamDecoder:
    parse = INJECTIVE.package(f"injective.stream.{version}").StreamResponse.FromString
    return grpc_decoder.StreamDecoder(parse, [MARKET] if version == "v1beta1" else [])


def node_grpc(data: bytes) -> None:
    """A message of the chain stream over gRPC, of either version."""
    for version in ("v2", "v1beta1"):
        with contextlib.suppress(DecodeError):
            _stream(version).decode(data)


@functools.cache
def _aggregator() -> Aggregator:
    publisher: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    config = AggregatorConfig(
        epoch=1, publish=(), pull="", link="", folder="", markets=(MARKET,),
        endpoints=Endpoints(), every_market=False,
    )  # fmt: skip
    return Aggregator(config, Publisher(plain_send(publisher)), clock=time.time_ns)


def request(data: bytes) -> None:
    """A request at the public and at the admin endpoint: whatever comes, the reply is a map."""
    for role in ("read", "operate"):
        reply = requests.answer([b"", data], role, _aggregator(), Processes(), LoopMonitor())
        found = msgspec.msgpack.decode(reply[1], type=dict[str, Any])
        assert "failed to answer" not in str(found.get("error", "")), found


_CHANNELS: Final = ("book", "trades", "gap", "ticker", "blocks", "oracle", "orders")
_WANTED: Final = Wanted("*", _CHANNELS)
_PARTS: Final = 6
"""More parts of one input find nothing more, and take their time."""


def reply(data: bytes) -> None:
    """A publisher's answers and frames at a subscriber: topics, then a replay with its frames."""
    replied(data)


def replied(data: bytes) -> list[Received]:
    """Give a subscriber the parts of an input; return what it delivers."""
    inbox = Inbox(_WANTED)
    inbox.tick(0.0)
    parts = data.split(SEPARATOR)[:_PARTS]
    read_reply(parts)
    inbox.reply(parts[:1], 1)
    for number, part in enumerate(parts[2:], start=1):
        with contextlib.suppress(ValueError):
            # Frames of another version are refused with a ValueError, by contract.
            inbox.receive(_TOPICS.get(part[2] if len(part) > 2 else 0, _TOPIC), part, number)
    inbox.tick(0.2)
    inbox.reply(parts[1:], 2)
    inbox.tick(5.0)
    return list(inbox.ready)


def frame(data: bytes) -> None:
    """A frame, from its topic to the line that `tail` prints."""
    for received in framed(data):
        assert text_line(received).isprintable()
        json_line(received)


def framed(data: bytes) -> list[Received]:
    """Give a subscriber the topic and the frame of an input; return what it delivers."""
    topic, _, body = data.partition(b"\0")
    inbox = Inbox(_WANTED)
    inbox.tick(0.0)
    epoch, number = read_header(body)[:2] if is_readable(body) else (1, 1)
    joined = {"id": 1, "publisher_epoch": epoch, "head": 0, "topics": {}}
    inbox.reply([msgspec.msgpack.encode(joined)], 1)
    replay = {"id": 2, "publisher_epoch": epoch, "complete": True, "last": number, "from_height": 0}
    with contextlib.suppress(ValueError):
        inbox.receive(topic, body, 1)
        inbox.tick(0.2)
        # If it does not follow, it comes again in a replay.
        inbox.reply([msgspec.msgpack.encode(replay), body], 2)
    return [received for received in inbox.ready if received.topic]


def configuration(data: bytes) -> None:
    """A configuration file: used, or refused with a sentence."""
    with contextlib.suppress(ConfigError):
        config_file.parse("collector.toml", data)


def environment_names(data: bytes) -> None:
    """Names and values of environment variables."""
    pairs = (line.partition("=") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    known = ("COLLECTOR_START_SHARDS", "COLLECTOR_START_MARKET", "COLLECTOR_CONNECT")
    environment.unknown({name: value for name, _, value in pairs}, known)


def text(data: bytes) -> None:
    """A name or a sentence of others."""
    name = data.decode("utf-8", "surrogateescape")
    symbol = symbol_of(name)
    assert symbol.isascii()
    assert "." not in symbol
    assert symbol_of(symbol) == symbol
    assert printable(without_secrets(name)).isprintable()


@functools.cache
def _indexer(kind: str) -> tuple[IndexerDecoder, Market, Units]:
    package = INJECTIVE.package(f"injective_{kind}_exchange_rpc")
    market = msgspec.structs.replace(MARKET, type=kind)
    return IndexerDecoder(package, spot=kind == "spot"), market, Units.of(market)


def indexer(data: bytes) -> None:
    """A message of the indexer's streams, of spot and of derivative markets."""
    for kind in ("spot", "derivative"):
        decoder, market, units = _indexer(kind)
        with contextlib.suppress(DecodeError):
            decoder.book(data, market, units)
        with contextlib.suppress(DecodeError):
            decoder.trade(data, market, units)
        with contextlib.suppress(DecodeError):
            list(decoder.seen(data))


_HEAD: Final = struct.Struct(">II")
_pack: Final = zstandard.ZstdCompressor(level=1).compress


def archive_journal(data: bytes) -> None:
    """A segment of an archive's journal: as it is, and as the whole chunk that it could be."""
    list(segment_file.chunks_of(io.BytesIO(data)))
    payload = _pack(data)
    whole = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
    list(segment_file.chunks_of(io.BytesIO(whole + whole[:-1])))


_raw_items: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_levels: Final = msgspec.msgpack.Decoder(list[Level]).decode
_encode: Final = msgspec.msgpack.encode


def book_sides(data: bytes) -> None:
    """Both sides of a book's changes, as a journal has them: as columns the same as level by level."""
    try:
        sides = _raw_items(data)
    except UNREADABLE:
        return
    half = len(sides) // 2
    bids, asks = sides[:half], sides[half : 2 * half]
    told = []
    with contextlib.suppress(*UNREADABLE):
        told = [[*map(_levels, bids)], [*map(_levels, asks)]]
    try:
        found = sides_of(bids, asks)
        newest = [*map(dict, found.newest())]
    except UNREADABLE:
        assert not told
        return
    if not told:
        # A recorder decodes an event before it keeps it: what is no text does not come this far.
        return
    for levels, of_side, last, highest_first in zip(
        told, found.facts(), newest, (True, False), strict=True
    ):
        ordered = [canonical(of_one, highest_first=highest_first) for of_one in levels]
        assert _encode(list(of_side)) == _encode(ordered)
        assert last == dict(itertools.chain.from_iterable(levels))


def archive_manifest(data: bytes) -> None:
    """An archive's manifest: a line is one, or none."""
    lines = list(manifest.lines_of(data))
    manifest.current(lines)
    manifest.sealed(lines)


def archive_part(data: bytes) -> None:
    """A sealed file of an archive: a table of its channel, or an error that names it."""
    with contextlib.suppress(*part_file.FAULTS):
        part_file.table_of(pa.BufferReader(data), "coverage").to_pylist()


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        node_websocket, node_block_results, node_grpc, indexer, request, reply, frame,
        configuration, environment_names, text, archive_journal, archive_manifest,
        archive_part, book_sides,
    )
}  # fmt: skip


_JSON: Final = frozenset(("node_websocket", "node_block_results", "archive_manifest"))
_MSGPACK: Final = frozenset(("request", "reply", "archive_journal", "book_sides"))

WORDS: Final[dict[str, tuple[str, ...]]] = {
    "configuration": (
        *ROWS, *Endpoints.__struct_fields__, *Limits.__struct_fields__,
        *Supervision.__struct_fields__, "[network]", "[networks.a]", "[limits]", "[supervision]",
        " = ", "based_on", "true", "1e9", "nan", "inf", "0x", '"""', "[[", "]]", "1979-05-27",
    ),
    "environment_names": (
        "COLLECTOR_", "COLLECTOR_START_SHARDS", "_SERVICE_HOST", "_PORT_", "_TCP_ADDR", "=",
    ),
    "text": ("https://", "wss://", "socks5h://", "@", "?", "&", "=", "/v1/", "a1b2c3d4e5f6a7b8"),
}  # fmt: skip
"""Words of which an input may be made, by target."""


def mutator_of(name: str, mutate: Mutate) -> Mutator:
    """Return how a target's inputs are changed: as documents where that is what they are."""
    if name == "archive_manifest":
        return documents(msgspec.json, mutate, separator=b"\n")
    if name in _JSON:
        return documents(msgspec.json, mutate)
    if name in _MSGPACK:
        return documents(msgspec.msgpack, mutate, separator=SEPARATOR if name == "reply" else b"")
    if name == "frame":
        return documents(msgspec.msgpack, mutate, head=len(_TOPIC) + 1 + PREFIX_SIZE)
    return lambda data, most, _seed: mutate(data, most)
