"""An archive of one chain is refused for another: by its id, and by a block's hash where ids agree."""

import time
from pathlib import Path

import pytest

from collector.archive.recording.identity import meet
from collector.archive.storage.files import open_archive
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints
from tests.simulator.client import simulator
from tests.simulator.venue import Options, Venue, running
from tests.system.running import run


def options(**more: object) -> Options:
    clock_ms = int(time.time() * 1_000)
    return Options(markets=4, clock_ms=clock_ms, block_time_s=0.001, **more)  # type: ignore[arg-type]


def endpoints(*venues: Venue) -> Endpoints:
    return Endpoints(
        chain_ws=(),
        chain_stream=(),
        chain_grpc=tuple(venue.queries.endpoint for venue in venues),
        rpc=tuple(venue.rpc.url for venue in venues),
    )


async def test_what_a_node_shows_is_remembered_and_another_network_is_refused(
    tmp_path: Path,
) -> None:
    root = tmp_path / "archive"
    async with (
        running(options(), paced=False) as ours,
        running(options(chain_id="injective-888", seed=2), paced=False) as other,
    ):
        await meet(root, open_archive(root, create=True), endpoints(ours))
        info = open_archive(root)
        assert info.chain_id == "injective-777"
        assert [mark.height for mark in info.marks] == [ours.exchange.oldest, ours.exchange.height]
        left = await meet(root, info, endpoints(other, ours))
        assert left == endpoints(ours)
        with pytest.raises(ConfigError, match=r"holds the chain injective-777.*injective-888"):
            await meet(root, info, endpoints(other))


async def test_a_chain_of_the_same_id_that_was_begun_again_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    async with running(Options(markets=4, block_time_s=0.001), paced=False) as venue:
        await meet(root, open_archive(root, create=True), endpoints(venue))
        await venue.begin_again(9)
        with pytest.raises(
            ConfigError, match=r"holds the chain injective-777, and that is another"
        ):
            await meet(root, open_archive(root), endpoints(venue))


def test_backfill_and_verify_refuse_it_by_name(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    with simulator("--markets", "4", "--block-time", "0.1") as exchange:
        config = str(exchange.config(tmp_path))
        to = ("--to", str(root), "--config", config)
        first = exchange.head()
        exchange.await_height(first + 3)
        done = run("backfill", *to, "--from", str(first), "--until", str(first + 2))
        assert done.returncode == 0, done.stderr
        done = run("verify", "--archive", str(root), "--config", config)
        assert done.returncode == 0, done.stderr
        exchange.begin_again(2)
        exchange.await_height(5)
        done = run("backfill", *to, "--from", "1", "--until", "3")
        assert done.returncode == 3, done.stderr
        assert "holds the chain injective-777, and that is another one" in done.stderr
        done = run("verify", "--archive", str(root), "--config", config, "--patience", "0")
        assert done.returncode == 3, done.stderr
        assert "holds another chain named injective-777" in done.stderr
