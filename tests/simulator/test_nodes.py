"""All nodes judged together: whose chain is ours, where its head is, who is behind."""

import time

from shards.net.access import Access
from shards.net.nodes import Nodes
from shards.protocol.chain import Chain
from tests.simulator import faults
from tests.simulator.venue import Options, Venue, running


def options(**more: object) -> Options:
    clock_ms = int(time.time() * 1_000)
    return Options(markets=4, clock_ms=clock_ms, block_time_s=0.001, **more)  # type: ignore[arg-type]


def replacement(nodes: Nodes) -> Chain:
    assert nodes.replacement is not None
    return nodes.replacement


async def grow(venue: Venue, count: int) -> None:
    for _ in range(count):
        await venue.make_block()


async def test_the_highest_head_counts_and_who_is_behind_is_named() -> None:
    same = options()
    async with running(same, paced=False) as still, running(same, paced=False) as going:
        nodes = Nodes([still.rpc.url, going.rpc.url], Access())
        await grow(still, 3)
        await grow(going, 3)
        assert await nodes.look() == still.exchange.height
        assert [node.reason for node in nodes.nodes] == ["", ""]
        await grow(going, 7)
        assert await nodes.look() == going.exchange.height
        assert [node.reason for node in nodes.nodes] == ["7 blocks behind", ""]
        await grow(still, 7)
        await nodes.look()
        assert [node.reason for node in nodes.nodes] == ["", ""]
        await nodes.aclose()


async def test_a_node_of_another_network_is_refused_by_name_and_moves_no_head() -> None:
    async with (
        running(options(), paced=False) as ours,
        running(options(chain_id="injective-888", seed=2), paced=False) as other,
    ):
        nodes = Nodes([ours.rpc.url, other.rpc.url], Access())
        await grow(other, 50)
        assert await nodes.look() == ours.exchange.height
        assert "network injective-888" in nodes.is_foreign(other.rpc.url)
        assert nodes.is_foreign(ours.rpc.url) == ""
        # Alone it is no reason to believe that ours was replaced.
        await ours.inject(faults.Stop(protocol="rpc"))
        assert await nodes.look() is None
        assert nodes.replacement is None
        await nodes.aclose()


async def test_a_chain_begun_anew_replaces_ours_only_when_nobody_has_ours() -> None:
    same = options()
    async with running(same, paced=False) as one, running(same, paced=False) as two:
        nodes = Nodes([one.rpc.url, two.rpc.url], Access())
        await nodes.look()
        known = nodes.chain
        await one.begin_again(7)
        assert await nodes.look() == two.exchange.height
        assert nodes.replacement is None
        assert nodes.is_foreign(one.rpc.url)
        await two.begin_again(7)
        assert await nodes.look() is None
        assert replacement(nodes).generation > known.generation
        nodes.knows(replacement(nodes))
        assert await nodes.look() == 1
        await nodes.aclose()
