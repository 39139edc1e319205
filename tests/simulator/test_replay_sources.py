"""Where lost blocks are fetched if a node does not keep them or they are too large."""

import asyncio
import time

import pytest

from shards.adapters.injective_chain.lost_blocks import Replayer, RpcReplay
from shards.net.access import Access
from shards.net.rpc import Rpc
from tests.simulator import faults
from tests.simulator.scripted import BUSY
from tests.simulator.venue import Venue, running

TEXTS = ("not available", "not persisting", "not found")


async def blocks(venue: Venue, count: int = 4) -> list[int]:
    for _ in range(count):
        await venue.make_block()
    head = venue.exchange.height
    return list(range(head - count, head))


@pytest.mark.parametrize("text", TEXTS)
async def test_a_node_without_block_results_is_known_at_once_and_the_next_source_is_asked(
    venue: Venue, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await blocks(venue)
    async with running(BUSY, paced=False) as other:
        await blocks(other)
        await venue.inject(faults.NoResults(text=text))  # type: ignore[arg-type]
        sources = [RpcReplay(Rpc(url)) for url in (venue.rpc.url, other.rpc.url)]
        replayer = Replayer(sources)
        begun = time.monotonic()
        found = await asyncio.gather(*map(replayer.fetch, lost))
        took_s = time.monotonic() - begun
        await replayer.aclose()
    assert [block.height for block in found if block is not None] == lost
    # Asking again and again would take more than half a minute.
    assert took_s < 10.0
    said = [r.message for r in caplog.records if "discard_abci_responses" in r.message]
    if text == "not persisting":
        assert said
        assert list(replayer.unable()) == [f"rpc {venue.rpc.url}"]


@pytest.mark.parametrize("text", TEXTS)
async def test_blocks_that_nobody_keeps_are_given_up_at_once(
    venue: Venue, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await blocks(venue)
    await venue.inject(faults.NoResults(text=text))  # type: ignore[arg-type]
    replayer = Replayer([RpcReplay(Rpc(venue.rpc.url))])
    begun = time.monotonic()
    assert await asyncio.gather(*map(replayer.fetch, lost)) == [None] * len(lost)
    assert time.monotonic() - begun < 10.0
    await replayer.aclose()
    assert len([r for r in caplog.records if "not available" in r.message]) == 1
    said = [r for r in caplog.records if "discard_abci_responses" in r.message]
    assert len(said) == (text != "not available"), "it was said again, or not at all"
    assert "asking the next source" not in caplog.text


async def test_a_method_that_is_not_there_is_not_asked_for_again_and_again() -> None:
    class Without(RpcReplay):
        async def _results(self, rpc: Rpc, height: int) -> bytes:
            return await rpc.call("block_results_of_tomorrow", height=str(height))

    async with running(BUSY, paced=False) as venue:
        lost = await blocks(venue)
        replayer = Replayer([Without(Rpc(venue.rpc.url))])
        begun = time.monotonic()
        assert await replayer.fetch(lost[0]) is None
        assert time.monotonic() - begun < 10.0
        assert replayer.unable()
        await replayer.aclose()


async def test_results_of_a_block_that_are_too_large_are_had_elsewhere_or_named_at_once(
    venue: Venue, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await blocks(venue)
    await venue.inject(faults.HugeResults(height=lost[1], size=3_000_000))
    access = Access(message_bytes=1_000_000)
    async with running(BUSY, paced=False) as other:
        await blocks(other)
        sources = [RpcReplay(Rpc(url, access), access) for url in (venue.rpc.url, other.rpc.url)]
        alone, both = Replayer(sources[:1]), Replayer(sources)
        begun = time.monotonic()
        found = await asyncio.gather(*map(alone.fetch, lost))
        assert [block and block.height for block in found] == [lost[0], None, *lost[2:]]
        assert time.monotonic() - begun < 10.0
        assert "limits.message_bytes (1,000,000)" in caplog.text
        elsewhere = await both.fetch(lost[1])
        assert elsewhere is not None
        assert elsewhere.height == lost[1]
        await both.aclose()
