"""Markets that are not collected any more when the collector begins again: readers and archives know it."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from collector import Subscriber
from collector.archive.reading.overview import overview
from collector.archive.reading.tables import read
from shards.protocol.events import Gap
from shards.protocol.text import symbol_of
from tests.simulator.client import Simulator, simulator
from tests.system.recorders import ended, record, sealed_through, stop
from tests.system.running import collector, eventually, free_port_pair

SPAN = 10


@pytest.fixture
def exchange() -> Iterator[Simulator]:
    """Three markets that change in each block, ten times a second."""
    with simulator("--markets", "3", "--block-time", "0.1", "--touched", "all") as venue:
        yield venue


def _join(subscriber: Subscriber) -> None:
    """Read until the collector has answered."""
    eventually(lambda: subscriber.poll(0.2) is not None, within_s=60, what="an answer")


def _removed(subscriber: Subscriber) -> Gap:
    """Wait for the end of a market, as a reader is told."""

    def told() -> Gap | None:
        received = subscriber.poll(0.5)
        event = received.event if received is not None else None
        return event if isinstance(event, Gap) and event.cause == "removed" else None

    found = eventually(told, within_s=60, what="a gap with the cause removed")
    assert isinstance(found, Gap)
    return found


@pytest.mark.parametrize("is_delisted", [True, False])
def test_it_ends_for_readers_and_in_the_archive(
    exchange: Simulator, tmp_path: Path, is_delisted: bool
) -> None:
    root, publish = tmp_path / "archive", f"tcp://127.0.0.1:{free_port_pair()}"
    options = ("--config", str(exchange.config(tmp_path)), "--shards", "1")
    *others, gone = exchange.markets
    fewer: list[str] = []
    with (
        ended(record(root, publish, span=SPAN)) as recorder,
        Subscriber(publish, channels=("gap",)) as reader,
    ):
        with collector(tmp_path, *options, publish=publish) as running:
            running.await_live()
            _join(reader)
            eventually(lambda: sealed_through(root) > 0, within_s=60)
            assert running.stop(signal.SIGTERM) == 0
        if is_delisted:
            exchange.delist(gone["market_id"])
        else:
            fewer = [text for m in others for text in ("--market", m["ticker"])]
        with collector(tmp_path, *options, *fewer, publish=publish) as running:
            gap, head = _removed(reader), running.await_live()["blocks"]["head"]
            assert (gap.market_id, gap.state, gap.last) == (gone["market_id"], "open", 0)
            eventually(lambda: sealed_through(root) >= head + 2 * SPAN, within_s=60)
        stop(recorder)
    lasts = {day.market: day.last for day in overview(root).days}
    assert lasts.pop(symbol_of(gone["ticker"])) == gap.first - 1
    assert set(lasts.values()) == {sealed_through(root)}
    for channel in ("book", "trades"):
        assert not read(root, channel, holes="raise").holes
    told = read(root, "gap", holes="allow").arrow
    rows = zip(*(told[name].to_pylist() for name in ("market_id", "cause", "first")), strict=True)
    assert (gone["market_id"], "removed", gap.first) in list(rows)


def test_one_that_comes_back_goes_on(exchange: Simulator, tmp_path: Path) -> None:
    """What it missed is replayed, its gap closes, and it is announced once."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    options = ("--config", str(exchange.config(tmp_path)), "--shards", "1")
    one = ("--market", exchange.markets[0]["ticker"])
    gaps: list[Gap] = []
    with Subscriber(publish, channels=("gap",)) as reader:

        def ends(states: list[str]) -> bool:
            """Say whether each market but one has these gaps, by what came so far."""
            received = reader.poll(0.2)
            if received is not None and isinstance(received.event, Gap):
                gaps.append(received.event)
            ids = {market["market_id"] for market in exchange.markets[1:]}
            removed = [gap for gap in gaps if gap.cause == "removed"]
            found = {i: [gap.state for gap in removed if gap.market_id == i] for i in ids}
            return found == dict.fromkeys(ids, states)

        for chosen, states in (
            ((), []), (one, ["open"]), (one, ["open"]), ((), ["open", "closed"])
        ):  # fmt: skip
            with collector(tmp_path, *options, *chosen, publish=publish) as running:
                running.await_live()
                _join(reader)
                eventually(partial(ends, states), within_s=60, what=f"{states}, not {gaps}")
                assert running.stop(signal.SIGTERM) == 0
