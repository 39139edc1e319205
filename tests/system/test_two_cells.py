"""Two cells, one reader: the short form of `tests.system.two_cells`, and two parts."""

import contextlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from collector.client.subscriber import Subscriber
from shards.protocol.events import Trades
from tests.simulator.client import simulator
from tests.system import two_cells
from tests.system.drill.clocks import Clock
from tests.system.reader import Reader
from tests.system.running import collector, eventually, proven


def test_whatever_happens_to_either_every_fact_comes_once(tmp_path: Path) -> None:
    result = two_cells.run(tmp_path, seconds=20, seed=7, most=3)
    assert result.passed, result
    assert result.trades
    assert result.changes
    assert sum(result.faults.values()) >= 2


def test_clocks_an_hour_apart_that_step_back_while_running_harm_nothing(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        options = ("--markets", "6", "--block-time", "0.3", "--touched", "all")
        exchange = two_cells.Simulated(stack.enter_context(simulator(*options)))
        cells, clocks = [], []
        for name, offset in (("a", "+0"), ("b", "+1h")):
            (tmp_path / f"clock {name}").mkdir()
            clock = Clock(tmp_path / f"clock {name}")
            clock.set(offset)
            clocks.append(clock)
            cell = two_cells.Cell(name, tmp_path, exchange, stack, clock.environment)
            cell.running.await_live(60)
            cells.append(cell)
        reader = stack.enter_context(Reader(two_cells.subscriber_of(cells)))
        record = two_cells.Record(two_cells.settled(exchange, [reader]))
        epochs = [_epoch(cells[0])]
        clocks[0].set("-1h")
        clocks[1].set("-2h")
        for name in ("shard 0", "aggregator"):
            for cell in cells:
                os.kill(cell.running.pid(name), signal.SIGKILL)
                cell.running.await_live(60)
            record.take(exchange, two_cells.settled(exchange, [reader]))
        epochs.append(_epoch(cells[0]))
        # The next run finds the last epoch in the state folder.
        cells[0].running.stop()
        cells[0].end()
        cells[0].start().await_live(60)
        epochs.append(_epoch(cells[0]))
        last = two_cells.settled(exchange, [reader])
        record.take(exchange, last)
        result = two_cells.Result(Counter())
        two_cells.compare(record, reader, last, result)
    assert epochs == sorted(set(epochs)), "an epoch went back"
    assert result.passed, result
    assert result.trades
    assert result.changes


def _epoch(cell: two_cells.Cell) -> int:
    return int(cell.running.status()["publisher_epoch"])


def test_two_parts_are_everything_and_a_new_market_is_in_one(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(
            simulator("--markets", "6", "--block-time", "0.3", "--touched", "all")
        )
        cells = []
        for part in ("1/2", "2/2"):
            folder = tmp_path / part[0]
            folder.mkdir()
            config = exchange.config(folder, extra="[supervision]\nlisting_s = 0.5\n")
            options = ("--config", str(config), "--part", part)
            cells.append(stack.enter_context(collector(folder, *options)))
        for cell in cells:
            cell.await_live(60)
        added = exchange.list_market()["market_id"]

        def shares() -> list[set[Any]]:
            return [{row["market_id"] for row in cell.markets()} for cell in cells]

        eventually(lambda: added in set.union(*shares()), within_s=30, what="the new market")
        one, other = shares()
        assert not one & other
        assert len(one | other) == 7
        connect = ",".join(cell.publish for cell in cells)
        with Subscriber(connect, channels="trades") as subscriber:
            seen: set[str] = set()
            for received in subscriber:
                if isinstance(received.event, Trades):
                    seen.add(received.event.market_id)
                if seen & one and seen & other:
                    break

        said = proven(*cells)
    assert "with trades missing" not in said
    assert "part 1/2" in said
