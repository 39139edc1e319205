"""What is fuzzed: each target takes any bytes, and raises only what is a fault of ours."""

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from collector.aggregator import requests
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.publisher import Publisher
from collector.aggregator.telemetry.process_table import Processes
from collector.cli import environment
from collector.client.formatting import json_line, text_line
from collector.client.requests import read_reply
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from collector.settings import config_file
from collector.settings.parts import AggregatorConfig
from shards.adapters.injective_chain import block_results, grpc_decoder, ws_extras_decoder
from shards.adapters.messages import INJECTIVE
from shards.protocol.errors import ConfigError, DecodeError
from shards.protocol.settings import Endpoints, Market
from shards.protocol.text import printable, symbol_of, without_secrets
from shards.push import plain_send
from shards.runtime.loop_monitor import Watched

Target = Callable[[bytes], None]

MARKET: Final = Market("0x" + "ab" * 32, "INJ/USDT", "INJ-USDT", "spot", base_decimals=18)
_TOPIC: Final = b"book.INJ-USDT."


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
        reply = requests.answer([b"", data], role, _aggregator(), Processes(), Watched())
        found = msgspec.msgpack.decode(reply[1], type=dict[str, Any])
        assert "failed to answer" not in str(found.get("error", "")), found


def reply(data: bytes) -> None:
    """A publisher's answers and frames, at a subscriber: cut at zero bytes of four."""
    inbox = Inbox(Wanted("*", ("book", "trades", "gap", "ticker", "blocks", "oracle")))
    inbox.tick(0.0)
    parts = data.split(b"\0\0\0\0")
    read_reply(parts)
    inbox.reply(parts, 0.1, 1)
    for number, part in enumerate(parts):
        with contextlib.suppress(ValueError):
            # Frames of another version are refused with a ValueError, by contract.
            inbox.receive(_TOPIC, part, number)
        inbox.tick(float(number))
        inbox.reply([part, *parts], float(number), number)


def frame(data: bytes) -> None:
    """A frame, from its topic to the line that `tail` prints."""
    topic, _, body = data.partition(b"\0")
    inbox = Inbox(Wanted("*", ("book", "trades", "gap", "ticker", "blocks", "oracle", "orders")))
    with contextlib.suppress(ValueError):
        inbox.receive(topic, body, 1)
        inbox.reply([msgspec.msgpack.encode(_joined(topic))], 0.0, 1)
        inbox.receive(topic, body, 2)
    for received in inbox.ready:
        if received.topic:
            assert text_line(received).isprintable()
            json_line(received)


def _joined(topic: bytes) -> dict[str, Any]:
    name = topic.decode("utf-8", "replace")
    return {"id": 1, "publisher_epoch": 1, "head": 1, "topics": {name: 0}}


@functools.cache
def _folder() -> Path:
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=shared if shared.is_dir() else None))


def configuration(data: bytes) -> None:
    """A configuration file: used, or refused with a sentence."""
    path = _folder() / "collector.toml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        config_file.read(str(path))


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


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        node_websocket, node_block_results, node_grpc, request, reply, frame, configuration,
        environment_names, text,
    )
}  # fmt: skip
