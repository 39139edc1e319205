"""Two cells, one reader: the short form of `tests.system.two_cells`, and two parts."""

import contextlib
from pathlib import Path
from typing import Any

from collector.client.subscriber import Subscriber
from shards.protocol.events import Trades
from tests.simulator.client import simulator
from tests.system import two_cells
from tests.system.running import collector, eventually, run


def test_whatever_happens_to_either_every_fact_comes_once(tmp_path: Path) -> None:
    result = two_cells.run(tmp_path, seconds=20, seed=7, most=3)
    assert result.passed, result
    assert result.trades
    assert result.changes
    assert sum(result.faults.values()) >= 2


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

        def proof() -> str:
            return run("status", "--connect", connect).stdout

        said = eventually(
            lambda: said if "blocks are here" in (said := proof()) else "",
            within_s=40,
            every_s=1.0,
            what=proof,
        )
    assert "with trades missing" not in said
    assert "part 1/2" in said
