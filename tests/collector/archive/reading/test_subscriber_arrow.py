"""`Subscriber.arrow`: what comes live is, row for row, what the archive has."""

import asyncio
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from collector.archive.reading.tables import read
from collector.client.arrow_batches import Batch
from collector.client.received import Joined, Lost
from collector.client.subscriber import Subscriber
from tests.collector.archive.replay.test_replay import Replayed
from tests.collector.archive.written import MARKET, SYMBOL, sealed
from tests.collector.client.scripted_publisher import publishing, trades
from tests.collector.client.test_subscriber import INJ, opened

_FIRST, _LAST = 101, 199
_LOCAL = ("ts_recv", "ts_pub", "source", "shard")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrow") / "archive"
    sealed(path, _FIRST, _LAST)
    return path


def _is_done(found: list[Batch]) -> bool:
    """Whether the last height of both channels is there."""
    last = {b.channel: b.arrow["height"][-1].as_py() for b in found if len(b)}
    return last.get("book") == last.get("trades") == _LAST


def _replayed(root: Path, **given: Any) -> list[Batch]:
    found: list[Batch] = []
    with Replayed(root, speed=0.0) as one, Subscriber(one.publish) as subscriber:
        deadline = time.monotonic() + 30
        for batch in subscriber.arrow(**{"every": 0.2, **given}):
            found.append(batch)
            assert time.monotonic() < deadline
            if _is_done(found):
                break
    return found


def _table(found: list[Batch], channel: str) -> pa.Table:
    return pa.concat_tables([batch.arrow for batch in found if batch.channel == channel])


@pytest.mark.parametrize("decimals", ["exact", "float", "text"])
def test_the_rows_are_those_of_the_archive(root: Path, decimals: Any) -> None:
    found = _replayed(root, rows=50, decimals=decimals)
    for channel in ("book", "trades"):
        stored = read(root, channel, decimals=decimals).arrow
        came = _table(found, channel)
        assert came.schema == stored.schema
        # How it came is another way here, so those columns may differ; all facts are equal.
        assert came.drop(list(_LOCAL)).equals(stored.drop(list(_LOCAL)))
    wholes = _table(found, "keyframe")
    assert wholes.schema == read(root, "keyframe", decimals=decimals).arrow.schema
    assert wholes["sequence"][0].as_py() == _FIRST - 1


def test_a_channel_is_handed_out_once_it_has_enough_rows(root: Path) -> None:
    found = _replayed(root, rows=10, every=1.0)
    sizes = {len(batch) for batch in found if batch.channel == "trades" and len(batch)}
    # A block's two trades stay together.
    assert sizes <= {10, 11, *range(1, 10)}
    assert 10 in sizes


def test_async_has_the_same(root: Path) -> None:
    async def take(publish: str) -> list[Batch]:
        found: list[Batch] = []
        async with Subscriber(publish) as subscriber:
            async with asyncio.timeout(30):
                async for batch in subscriber.arrow(rows=50, every=0.2):
                    found.append(batch)
                    if _is_done(found):
                        break
        return found

    with Replayed(root, speed=0.0) as one:
        found = asyncio.run(take(one.publish))
    stored = read(root, "trades").arrow
    assert _table(found, "trades").drop(list(_LOCAL)).equals(stored.drop(list(_LOCAL)))


def test_polars_and_pyarrow_take_a_batch(root: Path) -> None:
    polars = pytest.importorskip("polars")
    batch = next(b for b in _replayed(root) if b.channel == "trades")
    assert polars.DataFrame(batch)["price"][0] == Decimal(20)
    assert pa.table(batch).equals(batch.arrow)
    assert set(batch.arrow["market_id"].to_pylist()) == {MARKET}
    assert set(batch.arrow["market"].to_pylist()) == {SYMBOL}


def test_what_is_lost_stands_between_the_rows_before_and_after_it() -> None:
    with publishing() as publisher:
        opened(publisher)
        with Subscriber(publisher.endpoint, markets=[INJ], channels=["trades"]) as subscriber:
            batches = iter(subscriber.arrow(every=0.1))
            first = next(batches)
            assert isinstance(first.notices[0].event, Joined)
            assert len(first) == 0
            publisher.send(INJ, trades(INJ, 101, 3))
            assert next(batches).arrow["height"].to_pylist() == [101] * 3
            # Two frames that neither came nor can be asked for any more.
            publisher.script.history.begin("trades.INJ-USDT.", 99)
            publisher.script.sequences["trades.INJ-USDT."] = 3
            publisher.send(INJ, trades(INJ, 104))
            found: list[Batch] = []
            while not any(len(batch) for batch in found):
                found.append(next(batches))
            lost = [n.event for batch in found for n in batch.notices]
            assert [(e.unit, e.first) for e in lost if isinstance(e, Lost)] == [("height", 102)]
            assert found[-1].arrow["height"].to_pylist() == [104]
        assert list(batches) == []


def test_what_cannot_be_is_said_at_once() -> None:
    subscriber = Subscriber()
    with pytest.raises(ValueError, match="rows is 1 or more"):
        subscriber.arrow(rows=0)
    with pytest.raises(ValueError, match="every above 0"):
        subscriber.arrow(every=float("nan"))
    with pytest.raises(ValueError, match="choose exact, float or text"):
        subscriber.arrow(decimals="binary")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="inside `with"):
        next(iter(subscriber.arrow()))
