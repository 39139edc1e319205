"""A part of the markets that has none: it waits for a listing, and the proof over parts still adds up."""

import contextlib
import json
import urllib.request
from pathlib import Path

from collector.markets.parts import Part
from shards.protocol.settings import Market
from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector, eventually, free_port_pair, proven

PARTS = (Part(1, 2), Part(2, 2))


def part_of(market_id: str) -> Part:
    market = Market(market_id, "", "", "spot")
    return next(part for part in PARTS if part.has(market))


def list_market_of(exchange: Simulator, part: Part) -> str:
    """List markets until one belongs to this part."""
    listed = ""
    while not listed or part_of(listed) != part:
        listed = str(exchange.list_market()["market_id"])
    return listed


def is_following(cell: Running) -> bool:
    return bool((cell.peek().get("chain_feed") or {}).get("state") == "live")


def is_ready(port: int) -> bool:
    """Whether the probe says so; not while nothing listens there yet."""
    url = f"http://127.0.0.1:{port}/readyz"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return bool(json.load(answer)["ready"])
    return False


def test_a_part_without_a_market_waits_for_one_to_be_listed(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(
            simulator("--markets", "1", "--block-time", "0.3", "--touched", "all")
        )
        cells: dict[Part, Running] = {}
        port = free_port_pair()
        for part in PARTS:
            folder = tmp_path / str(part.number)
            folder.mkdir()
            config = exchange.config(folder, extra="[supervision]\nlisting_s = 0.5\n")
            options = ("--config", str(config), "--part", str(part), "--shards", "2")
            http = ("--http", f"127.0.0.1:{port + part.number - 1}")
            wanted = ("--min-coverage", "1")
            cells[part] = stack.enter_context(collector(folder, *options, *http, *wanted))
        full = part_of(run_markets(cells))
        empty = next(part for part in PARTS if part != full)
        cells[full].await_live(60)
        eventually(lambda: is_following(cells[empty]), within_s=60, what=lambda: cells[empty].log)
        assert f"part {empty} has no market yet" in cells[empty].log
        status = cells[empty].status()
        assert status["markets"]["requested"] == status["events"]["trades"] == 0
        assert status["coverage"]["now"] == 0.0
        probe = port + empty.number - 1
        eventually(lambda: is_ready(probe), within_s=30, what="readiness")
        said = proven(*cells.values())
        assert "with trades missing" not in said
        listed = list_market_of(exchange, empty)
        eventually(
            lambda: listed in {row["market_id"] for row in cells[empty].markets()},
            within_s=30,
            what=lambda: cells[empty].log,
        )
        cells[empty].await_live(60)
        for cell in cells.values():
            assert cell.stop() == 0, cell.log


def run_markets(cells: dict[Part, Running]) -> str:
    """Return the only market's id, from the cell that has it."""

    def found() -> str:
        rows = [row for cell in cells.values() if cell.peek() for row in cell.markets()]
        return str(rows[0]["market_id"]) if rows else ""

    return eventually(found, within_s=60, what=lambda: [cell.log for cell in cells.values()])
