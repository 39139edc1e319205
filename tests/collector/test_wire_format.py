"""docs/wire-format.md is true: its example, its tables, its readers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from shards.protocol import frames
from shards.protocol.events import (
    ZERO,
    Book,
    Funding,
    Gap,
    Metadata,
    Oracle,
    Order,
    Orders,
    Price,
    Pulse,
    Ticker,
    Trade,
    Trades,
)
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import (
    ScriptedPublisher,
    delta,
    gap,
    market_id,
    publishing,
    snapshot,
    ticker,
    trades,
)
from tests.needs import NODE_JS
from tests.system.running import eventually

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "wire-format.md").read_text()
EXAMPLES = ROOT / "examples"

EXAMPLE = Book(
    market_id="0xa508cb32923323679f29a032c70342c147c17d0145625922b0ef22e955c844c0",
    height=123456789,
    sequence=4211,
    ts_event=1700000000123000000,
    ts_recv=1700000000234567890,
    source="chain-ws",
    is_snapshot=False,
    bids=[("10.013000000000000000", "2.500000000000000000")],
    asks=[("10.020000000000000000", ZERO)],
)
HEADER = {
    "publisher_epoch": 7,
    "topic_sequence": 42,
    "ts_pub": 1700000000235100000,
    "ts_push": 1700000000234900000,
    "shard": 3,
    "epoch": 5,
    "frame_sequence": 9001,
}


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", DOC, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def documented_body() -> bytes:
    """The example's bytes, each line at the offset that it claims."""
    body = b""
    for line in re.search(r"```wire\n(.*?)```", DOC, re.DOTALL)[1].splitlines():  # type: ignore[index]
        offset, digits = re.match(r" *(\d+)  ((?:[0-9a-f]{2}\b ?)+)", line).groups()  # type: ignore[union-attr]
        assert int(offset) == len(body)
        body += bytes.fromhex(digits)
    return body


def test_the_example_is_what_the_code_writes_and_reads() -> None:
    body = documented_body()
    assert body == frames.prefix(frames.KIND_BOOK, **HEADER) + frames.encode(EXAMPLE)
    frame, event = frames.decode(body)
    assert event == EXAMPLE
    assert {name: getattr(frame, name) for name in HEADER} == HEADER


def test_the_examples_remarks_name_the_fields() -> None:
    for name, value in HEADER.items():
        assert f"{name} {value}\n" in DOC
    assert frames.topic("book", "INJ-USDT") == "book.INJ-USDT."
    assert "Topic `book.INJ-USDT.`" in DOC


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Book", Book),
        ("Trades", Trades),
        ("Trades", Trade),
        ("Gap", Gap),
        ("Ticker", Ticker),
        ("Oracle", Oracle),
        ("Oracle", Price),
        ("Funding", Funding),
        ("Markets", Metadata),
        ("Blocks", Pulse),
        ("Orders", Orders),
        ("Orders", Order),
    ],
)
def test_every_field_of_every_event_is_documented_in_order(
    title: str, kind: type[msgspec.Struct]
) -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section(title), re.MULTILINE)
    expected = [(str(i), name) for i, name in enumerate(kind.__struct_fields__)]
    assert "|".join(map(str, expected)) in "|".join(map(str, rows))


def test_the_headers_offsets_are_the_codes() -> None:
    rows = re.findall(
        r"^\| (\d+) \| `?(\w\w)?`?[^|]*\| \d* \| (\w*) \|", section("Body"), re.MULTILINE
    )
    offsets = {name: int(offset) for offset, _, name in rows if name}
    body = documented_body()
    for name, value in HEADER.items():
        size = 2 if name == "shard" else 8
        start = offsets[name] + 1
        assert int.from_bytes(body[start : start + size], "big") == value
    assert offsets["event"] == frames.PREFIX_SIZE


def test_the_documented_kinds_are_the_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", section("Topics"), re.MULTILINE)
    assert {channel: int(kind) for channel, kind in rows} == frames.KIND_BY_CHANNEL


@pytest.mark.parametrize(
    ("name", "language"), [("subscriber.py", "python"), ("subscriber.mjs", "js")]
)
def test_the_documented_readers_are_the_examples(name: str, language: str) -> None:
    assert f"```{language}\n{(EXAMPLES / name).read_text()}```\n" in DOC


# -- the readers run ---------------------------------------------------------------------

SYMBOL = "INJ-USDT"
EXPECTED = """\
book.INJ-USDT. 100 7 0
book.INJ-USDT. 101 8 101000000000
trades.INJ-USDT. 101 3 101000000000
gap.INJ-USDT. 102 5 102000000000
trades.INJ-USDT. 1700000000 1 1700000000000000000
"""


def publish_everything(publisher: ScriptedPublisher) -> None:
    book = OrderBook(market_id(SYMBOL))
    book.load(7, [("1.500000000000000000", "2.000000000000000000")], [])
    publisher.send(SYMBOL, snapshot(SYMBOL, 100, book))
    publisher.send(SYMBOL, delta(SYMBOL, 101, 8))
    publisher.send(SYMBOL, trades(SYMBOL, 101, 3))
    publisher.send(SYMBOL, ticker(SYMBOL, 101, 8))
    publisher.send(SYMBOL, gap(SYMBOL, 5, 102))
    publisher.send(SYMBOL, trades(SYMBOL, 1_700_000_000))


def output_of(command: list[str]) -> str:
    """Run a reader, publish once it has subscribed, and return what it printed."""
    with publishing() as publisher:
        reader = subprocess.Popen(
            [*command, publisher.endpoint, "5", ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(
                lambda: publisher.subscriptions or reader.poll() is not None,
                within_s=60,
                what="a subscription of the reader",
            )
            publish_everything(publisher)
            out, error = reader.communicate(timeout=60)
        finally:
            reader.kill()
            reader.wait()
    assert reader.returncode == 0, error
    return out


def test_the_python_reader_reads_every_kind() -> None:
    pytest.importorskip("msgpack", reason="the example needs the package msgpack")
    assert output_of([sys.executable, str(EXAMPLES / "subscriber.py")]) == EXPECTED


@pytest.mark.network
def test_the_node_reader_prints_the_same(tmp_path: Path) -> None:
    NODE_JS.require()
    for name in ("package.json", "subscriber.mjs"):
        shutil.copy(EXAMPLES / name, tmp_path)
    # Where there is no registry, that is known at once and not after two minutes.
    hurry = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000")
    install = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", *hurry],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if install.returncode != 0:
        pytest.skip(f"npm install failed: {install.stderr[-300:]}")
    assert output_of(["node", str(tmp_path / "subscriber.mjs")]) == EXPECTED
