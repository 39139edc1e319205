"""Every channel that can be collected is recorded, and asked with the tools and queries of the docs."""

import datetime
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final

import duckdb
import polars
import pytest

from collector.archive.reading.overview import overview
from collector.archive.reading.tables import read
from shards.protocol.channels import CHANNELS, OFFERED
from tests.simulator.client import simulator
from tests.system import chain_record
from tests.system.recorders import record, sealed_through
from tests.system.running import Devnet, collector, eventually, run

_SPAN: Final = 10
_DOC: Final = (Path(__file__).parents[2] / "docs" / "archive.md").read_text()
_OF_FAULTS: Final = ("gap", "divergence")
"""Channels in which nothing is published while all is well."""
_EVERY: Final = [part for channel in OFFERED for part in ("--channel", channel.name)]


def _recorded(folder: Path, *options: str, parts: int) -> Path:
    """Collect and record some parts."""
    root = folder / "archive"
    with collector(folder, *options) as running:
        running.await_live(90)
        recorder = record(root, running.publish, span=_SPAN)
        try:
            eventually(lambda: sealed_through(root) > 0, within_s=90, every_s=0.2)
            through = sealed_through(root) + parts * _SPAN
            eventually(lambda: sealed_through(root) >= through, within_s=90, every_s=0.2)
        finally:
            recorder.send_signal(signal.SIGTERM)
            assert recorder.wait(90) == 0
    return root


@pytest.fixture(scope="module")
def root(node: Devnet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of every channel of the real node."""
    folder = tmp_path_factory.mktemp("every")
    config = str(node.config(folder))
    return _recorded(folder, "--config", config, "--shards", "2", *_EVERY, parts=2)


@pytest.fixture(scope="module")
def heights(root: Path) -> tuple[int, int]:
    """The heights of its parts that are whole."""
    found = overview(root)
    assert all(day.is_whole for day in found.days)
    return found.first, found.last


@pytest.mark.node
@pytest.mark.parametrize("channel", [c.name for c in CHANNELS if c.name not in _OF_FAULTS])
def test_every_channel_that_is_collected_has_rows(root: Path, channel: str) -> None:
    table = read(root, channel).arrow
    assert table.num_rows > 0
    if channel == "blocks":
        found = table["height"].to_pylist()
        assert found == list(range(found[0], found[0] + len(found)))
    if "market" in table.column_names and channel != "oracle":
        assert all(table["market"].to_pylist())


Trades = dict[str, list[tuple[str, Decimal, Decimal]]]


@pytest.fixture(scope="module")
def truth(node: Devnet, root: Path, heights: tuple[int, int]) -> Trades:
    """Side, price and quantity of the chain's trades, by market id."""
    first, last = heights
    since: dict[str, int] = {}
    # What a market did between its first event and the first block that counts is kept as well.
    for market_id, height in _columns(read(root, "trades").arrow, "market_id", "height"):
        since[market_id] = min(since.get(market_id, last), height)
    found: Trades = defaultdict(list)
    for height in range(min(first, *since.values()), last + 1):
        for market_id, _, side, price, quantity, *_ in chain_record.block(
            node.rpc, height
        ).trades.values():
            if height >= min(first, since.get(market_id, last)):
                found[market_id].append((side, Decimal(price), Decimal(quantity)))
    return found


def _columns(table: Any, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _turnover(trades: list[tuple[str, Decimal, Decimal]], *sides: str) -> Decimal:
    with localcontext(prec=80):
        return sum((p * q for side, p, q in trades if side in sides), Decimal())


def _is_close(found: Decimal, true: Decimal) -> bool:
    return abs(found - true) <= true / 10**14


@pytest.mark.node
def test_the_queries_of_the_docs_give_the_chains_own_sums(root: Path, truth: Trades) -> None:
    names = {row["market_id"]: row["market"] for row in read(root, "coverage").arrow.to_pylist()}
    queries = [
        query.replace("ARCHIVE", str(root)) for query in re.findall(r"```sql\n(.*?)```", _DOC, re.S)
    ]
    turnover, whole, missing = (duckdb.execute(query).fetchall() for query in queries[:3])
    found = {market: (count, amount) for market, count, amount in turnover}
    assert set(found) == {names[market_id] for market_id in truth}
    for market_id, trades in truth.items():
        count, amount = found[names[market_id]]
        assert count == sum(side == "buy" for side, *_ in trades)
        assert _is_close(amount, _turnover(trades, "buy"))
    assert {is_whole for _, is_whole in whole} == {True}
    assert {lacking for *_, lacking in missing} == {0}
    assert sum(due for *_, due, _ in missing) > 0


@pytest.mark.node
def test_polars_and_duckdb_read_exact_amounts(root: Path, truth: Trades) -> None:
    where = f"{root}/channel=trades/**/*.parquet"
    query = f"SELECT market_id, side, price, quantity, notional FROM '{where}'"
    rows = duckdb.execute(query).fetchall()
    assert Counter(row[:4] for row in rows) == Counter(
        (market_id, *trade) for market_id, trades in truth.items() for trade in trades
    )
    exact: dict[str, Decimal] = defaultdict(Decimal)
    with localcontext(prec=80):
        for market_id, _, price, quantity, notional in rows:
            product = price * quantity
            is_short = product == product.quantize(Decimal("1e-18"))
            assert notional == (product if is_short else None)
            exact[market_id] += notional or 0
    query = f"SELECT market_id, sum(notional) FROM '{where}' GROUP BY 1"
    summed = duckdb.execute(query).fetchall()
    assert {market_id: amount or 0 for market_id, amount in summed} == exact
    frame = polars.read_parquet(where, hive_partitioning=True)
    by_market = frame.group_by("market_id").agg(polars.col("notional").sum())
    assert dict(by_market.iter_rows()) == exact
    turnover = polars.coalesce("notional", polars.col("price") * polars.col("quantity")).sum()
    for market_id, amount in frame.group_by("market_id").agg(turnover).iter_rows():
        assert _is_close(amount, _turnover(truth[market_id], "buy", "sell"))


@pytest.mark.node
def test_the_candles_of_the_examples_add_up_to_the_chains_trades(root: Path, truth: Trades) -> None:
    script = Path(__file__).parents[2] / "examples" / "candles.py"
    names = {row["market_id"]: row["market"] for row in read(root, "coverage").arrow.to_pylist()}
    market_id = max(truth, key=lambda market_id: len(truth[market_id]))
    done = subprocess.run(
        [sys.executable, str(script), str(root), names[market_id]],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    candles = [line.split() for line in done.stdout.splitlines()]
    turnover = sum((Decimal(candle[-1]) for candle in candles), Decimal())
    assert _is_close(turnover, _turnover(truth[market_id], "buy"))
    prices = [price for side, price, _ in truth[market_id] if side == "buy"]
    assert max(Decimal(candle[3]) for candle in candles) == max(prices)
    assert min(Decimal(candle[4]) for candle in candles) == min(prices)


def test_an_indexer_is_recorded_and_what_nothing_proves_is_said(tmp_path: Path) -> None:
    busy = ("--markets", "4", "--block-time", "0.25", "--touched", "1", "--matches", "2")
    with simulator(*busy, "--paused", "0", "--dead", "0") as exchange:
        config = tmp_path / "collector.toml"
        config.write_text(f'[network]\nindexer = ["{exchange.indexer}"]\n')
        options = ("--config", str(config), "--source", "indexer-grpc", "--shards", "1")
        root = _recorded(tmp_path, *options, parts=1)
        found = overview(root)
        table = read(root, "trades", holes="allow").arrow
        ids: dict[int, set[str]] = defaultdict(set)
        for height, trade_id in _columns(table, "height", "trade_id"):
            ids[height].add(trade_id)
        # What came while a market was joined may be in part.
        for height in sorted(ids)[len(ids) // 2 : -2]:
            assert ids[height] == {trade.trade_id for _, trade in exchange.block(height).trades}
    assert read(root, "book", holes="allow").arrow.num_rows > 0
    assert {day.provable for day in found.days} == {False}
    told = read(root, "coverage", holes="allow").arrow.to_pylist()
    assert {row["source"] for row in told} == {"indexer-grpc"}
    done = run("archive", "coverage", str(root))
    assert "nothing proves" in done.stdout
    day = datetime.datetime.now(datetime.UTC).date()
    assert str(day) in done.stdout or str(day - datetime.timedelta(days=1)) in done.stdout
