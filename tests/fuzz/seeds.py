"""Write the first kept inputs of each target: ``python -m tests.fuzz.seeds``."""

import base64
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from collector.archive.journal import segment_file
from collector.archive.storage import manifest
from collector.tables.arrow import ParquetFile, batch_of
from collector.tables.schema import TABLES
from shards.adapters.messages import INJECTIVE
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import Script, delta, gap, snapshot, ticker, trades
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.targets import SEPARATOR
from tests.hostile import HOSTILE
from tests.shards import golden

_encode = msgspec.msgpack.encode


def _asked() -> Iterable[bytes]:
    fields: dict[str, dict[str, Any]] = {
        "topics": {"prefixes": ["book."]},
        "replay": {"topic": "book.INJ-USDT.", "publisher_epoch": 0, "after": 0},
        "markets": {"symbols": ["INJ-USDT"]},
        "events": {"after": 1},
        "history": {"grain": "second", "since": 1, "symbol": "INJ-USDT"},
        "metrics": {"markets": 1},
        "order": {"token": "t", "order": {"kind": "drain", "number": 0}},
    }
    for what in (*fields, "status", "grid", "report", "processes"):
        yield _encode({"ask": what, "id": 1, **fields.get(what, {})})


def _short(document: Any) -> Any:
    """Cut a document's lists to two members each, also within texts that are JSON."""
    if isinstance(document, dict):
        return {key: _short(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_short(value) for value in document[:2]]
    if isinstance(document, str) and document[:1] in ("[", "{"):
        return json.dumps(_short(json.loads(document)))
    return document


def _results(line: dict[str, Any]) -> Iterable[bytes]:
    """Each event of a recorded block as the answer of a block that had it alone."""
    whole = json.loads(golden.block_results(line))
    result = whole["result"]
    events = [*(result["finalize_block_events"] or ())]
    for transaction in result["txs_results"] or ():
        events += transaction["events"]
    for event in {event["type"]: event for event in events}.values():
        alone = {"height": result["height"], "finalize_block_events": [_short(event)]}
        yield json.dumps({"id": 1, "result": alone}).encode()


def _frames() -> list[tuple[bytes, bytes]]:
    """A topic and a frame of some kinds, as a publisher makes them."""
    script, name = Script(), "INJ-USDT"
    book = OrderBook(name)
    book.load(10, [("1.0", "2.0")], [("3.0", "4.0")])
    told = (
        snapshot(name, 100, book), delta(name, 101, 11), trades(name, 101, 2),
        ticker(name, 101, 11), gap(name, 1, 101),
    )  # fmt: skip
    return [script.publish(name, event) for event in told]


def _replies(told: list[tuple[bytes, bytes]]) -> Iterable[bytes]:
    """The answer with a topic, and one with its frames: all of them, or some, or another chain's."""
    for topic in dict.fromkeys(topic for topic, _ in told):
        bodies = [body for name, body in told if name == topic]
        topics = {topic.decode(): len(bodies) - 1}
        joined = {"id": 1, "publisher_epoch": 1, "head": 99, "topics": topics, "chain": 1}
        for complete, chain in ((True, 1), (False, 1), (True, 2)):
            replay = {
                "id": 2, "publisher_epoch": 1, "complete": complete, "last": len(bodies),
                "from_height": 1, "chain": chain,
            }  # fmt: skip
            yield SEPARATOR.join((_encode(joined), _encode(replay), *bodies))


def _block(line: dict[str, Any]) -> bytes:
    """A recorded block as gRPC tells it, its lists cut short."""
    parse = INJECTIVE.package("injective.stream.v2").StreamResponse.FromString
    message = parse(base64.b64decode(line["grpc_b64"]))
    for _, value in message.ListFields():
        if hasattr(value, "append") or hasattr(value, "add"):
            del value[2:]
    return bytes(message.SerializeToString())


def _of_indexer() -> Iterable[bytes]:
    for path in sorted(golden.DIRECTORY.glob("pb_indexer_*_stream_*.json")):
        yield bytes.fromhex(json.loads(path.read_text())["wire_hex"])


def _archived() -> Iterable[bytes]:
    entry = segment_file.Entry("book.INJ-USDT.", 1, 7, b"\x91\x01", 1, 1, 1, 1, 0)
    cursor = segment_file.Cursor("book.INJ-USDT.", 1, 1, 1, 1, 1, in_sync=True)
    note = segment_file.Note("lost", "INJ-USDT", 3, 4)
    yield _encode(segment_file.Chunk([entry], [note], [cursor]))


def _manifest() -> bytes:
    file = manifest.File(
        path="book/2026-11-28/1-10.parquet", channel="book", date="2026-11-28", first=1, last=10,
        rows=1, bytes=1, file_sha256="ab",
    )  # fmt: skip
    line = manifest.Line(act="seal", first=1, last=10, files=[file], missing={"A": [(1, 2)]})
    return msgspec.json.encode(line) + b"\n"


def _parts() -> Iterable[bytes]:
    """A sealed file with checksums as we write it, and one as anybody may."""
    table = TABLES["coverage"]
    values = {"market": "INJ-USDT", "first_height": 1, "missing_ranges": [(2, 3)]}
    row = tuple(values.get(column.name) for column in table.columns)
    batch, _ = batch_of(table, [row, row])
    with tempfile.TemporaryDirectory() as folder:
        ours, other = Path(folder, "ours"), Path(folder, "other")
        file = ParquetFile(ours, table)
        file.add(batch)
        file.close()
        pq.write_table(pa.Table.from_batches([batch]), other, compression="none")
        yield from (ours.read_bytes(), other.read_bytes())


def seeds() -> dict[str, list[bytes]]:
    """Return a few inputs a target that get far into it."""
    lines = [golden.busiest(), *golden.orders()[:2]]
    told = _frames()
    return {
        "node_websocket": [
            *(json.dumps(_short(json.loads(line["ws"]))).encode() for line in lines),
            *(HOSTILE.values()),
        ],
        "node_block_results": [*_results(golden.busiest()), *_results(golden.orders()[0])],
        "node_grpc": [_block(line) for line in lines if line["grpc_b64"]],
        "indexer": list(_of_indexer()),
        "request": [*_asked(), *HOSTILE.values()],
        "reply": [
            *_replies(told),
            *HOSTILE.values(),
        ],
        "frame": [topic + b"\0" + body for topic, body in told],
        "configuration": [
            b'shards = 2\n[network]\nrpc = ["http://h:1"]\n[limits]\nmute_blocks = 1\n'
        ],
        "environment_names": [b"COLLECTOR_START_SHARD=2\nCOLLECTOR_X="],
        "text": [b"INJ/USDT.", b"https://u:p@h/x?k=v", "\u202eא".encode()],
        "archive_journal": list(_archived()),
        "archive_manifest": [_manifest()],
        "archive_part": list(_parts()),
        "book_sides": list(_sides()),
    }


def _sides() -> Iterable[bytes]:
    """Sides as a chain has them, in another order, of doubled prices, and long ones."""
    up = [(f"{price}.{0:018}", f"{price % 7}.5") for price in range(8, 12)]
    long = [(str(price), "1") for price in range(17)]
    yield _encode([up, up[:1], [], [], up[2:], up])
    yield _encode([up[::-1], [*up, *up], up[:2], up[::-1]])
    yield _encode([long, up, up, long])
    yield _encode([[("1" * 40, "1")], []])


def write() -> None:
    """Write them, numbered."""
    for name, inputs in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, payload in enumerate(dict.fromkeys(inputs)):
            (folder / f"seed-{number:02}").write_bytes(payload)


if __name__ == "__main__":
    write()
