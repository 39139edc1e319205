"""Lost trades from an indexer equal those of the chain's own record; its books are not trusted."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, strategies as st

from collector.markets.discovery import discover
from shards.adapters.injective_chain.lost_blocks import RpcReplay, times_by
from shards.adapters.injective_indexer.decoder import amount
from shards.adapters.injective_indexer.lost_trades import IndexerReplay
from shards.adapters.interface import BlockGone
from shards.core.record_builder import NeedSnapshot
from shards.core.states import State
from shards.net.rpc import Rpc
from shards.protocol.settings import Endpoints
from tests.shards.chain import FIRST
from tests.shards.one_market import CHAIN, ONE, SECOND, hear, live, state
from tests.simulator.client import Simulator, simulator


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    with simulator("--markets", "30", "--block-time", "0.1", "--matches", "0.8") as running:
        yield running


async def test_the_trades_of_a_lost_block_equal_the_chains_record(venue: Simulator) -> None:
    markets = {m.market_id: m for m in discover(Endpoints(chain_grpc=(venue.grpc,)))}
    rpc = Rpc(venue.rpc)
    chain = RpcReplay(rpc)
    indexer = IndexerReplay(venue.indexer, markets, times_by(rpc))
    compared = 0
    first = venue.head()
    venue.await_height(first + 22)
    for height in range(first + 1, first + 20):
        truth, found = await chain.fetch(height), await indexer.fetch(height)
        assert found.trades == truth.trades
        assert (found.height, found.ts_event) == (height, truth.ts_event)
        assert not found.has_books
        compared += len(found.trades)
    assert compared > 20
    await indexer.aclose()
    await chain.aclose()


async def test_a_block_that_nobody_can_date_is_gone(venue: Simulator) -> None:
    rpc = Rpc(venue.rpc)
    indexer = IndexerReplay(venue.indexer, {}, times_by(rpc))
    with pytest.raises(BlockGone):
        await indexer.fetch(10**9)
    await indexer.aclose()
    rpc.close()


def test_a_block_without_books_makes_the_book_be_fetched_anew() -> None:
    one = live()
    hear(one, FIRST + 3)
    one.take_requests()
    for height in (FIRST + 1, FIRST + 2):
        known = CHAIN.whole(height)
        one.liveness.replay(
            height, msgspec.structs.replace(known, updates=[], has_books=False), SECOND
        )
    assert state(one) is State.SYNCING, "what the book did meanwhile is not known"
    assert NeedSnapshot(ONE, FIRST + 2) in one.take_requests()
    assert one.join(CHAIN.snapshot(ONE, FIRST + 3), SECOND)
    assert state(one) is State.LIVE


@given(
    st.decimals(min_value="-1e24", max_value="1e24", allow_nan=False, places=12),
    st.integers(-18, 12),
)
def test_amounts_are_shifted_exactly(value: Decimal, places: int) -> None:
    text = amount(format(value, "f"), places)
    assert len(text.partition(".")[2]) == 18
    # As whole numbers of 10^-30: the default context would round the comparison itself.
    scaled = int(text.replace(".", "")) * 10**12
    exact = int(format(value, "f").replace(".", "")) * 10 ** (18 + places)
    assert 0 <= abs(exact) - abs(scaled) < 10**12
