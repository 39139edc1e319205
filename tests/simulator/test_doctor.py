"""`collector doctor` and a node that is behind, or of another network."""

import asyncio
import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from tests.simulator.venue import Options, Venue, running
from tests.system.running import free_port_pair


async def doctor(folder: Path, good: Venue, other: Venue) -> list[dict[str, Any]]:
    """Run it for a network of two nodes while the good one makes blocks; return what is wrong."""
    config = folder / "collector.toml"
    config.write_text(
        f'[network]\nchain_ws = ["{good.ws.url}"]\nchain_grpc = ["{good.queries.endpoint}"]\n'
        f'rpc = ["{good.rpc.url}", "{other.rpc.url}"]\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "collector", "doctor", "--json", "--config", str(config)),
        *("--publish", f"tcp://127.0.0.1:{free_port_pair()}"),
        stdout=asyncio.subprocess.PIPE,
    )
    going = asyncio.create_task(_go_on(good))
    output, _ = await process.communicate()
    going.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await going
    rows = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 4
    return [row for row in rows if row["verdict"] == "bad"]


async def _go_on(venue: Venue) -> None:
    while True:
        await venue.make_block()
        await asyncio.sleep(0.3)


def options(**more: Any) -> Options:
    return Options(markets=4, clock_ms=int(time.time() * 1_000), block_time_s=0.001, **more)


async def test_a_node_that_is_behind_is_named_with_how_far(tmp_path: Path):
    same = options()
    async with running(same, paced=False) as good, running(same, paced=False) as behind:
        for _ in range(120):
            await good.make_block()
        [row] = await doctor(tmp_path, good, behind)
        assert row["what"] == "rpc"
        url, blocks, rest = re.split(r" is (\d+) blocks behind", row["text"])
        assert url == behind.rpc.url
        # The good one goes on meanwhile.
        assert 120 <= int(blocks) < 300
        assert rest.startswith(": wait, or name another; block 1,00")


async def test_a_node_of_another_network_is_named(tmp_path: Path):
    async with (
        running(options(), paced=False) as good,
        running(options(chain_id="injective-888", seed=2), paced=False) as other,
    ):
        [row] = await doctor(tmp_path, good, other)
        assert row["text"] == (
            f"{other.rpc.url} is of network injective-888, not injective-777: name another"
        )
