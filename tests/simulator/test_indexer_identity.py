"""An indexer that becomes another chain: noticed, told, and nothing of the two is joined."""

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from collector.client.received import ChainReplaced, Received
from shards.adapters.injective_indexer import chain_watch
from shards.adapters.injective_indexer.chain_watch import ChainWatch
from shards.adapters.injective_indexer.proofs import Proofs
from shards.adapters.injective_indexer.queries import IndexerQueries
from shards.adapters.injective_indexer.service import Service
from shards.adapters.injective_indexer.trade_lists import TradeLists
from shards.core.pipeline import Pipeline
from shards.net.access import Access
from shards.net.endpoint_pool import EndpointPool
from shards.net.nodes import Nodes
from shards.protocol.chain import Chain
from shards.protocol.errors import SourceError
from shards.protocol.events import Trades
from shards.protocol.settings import Limits
from tests.simulator import faults
from tests.simulator.client import simulator
from tests.simulator.exchange import Activity
from tests.simulator.heard import true_trades
from tests.simulator.test_indexer_collector import configured
from tests.simulator.venue import Options, Venue, running as serving
from tests.system.drill.reading import agrees_now
from tests.system.listening import Listener
from tests.system.running import collector, eventually

FAR = 100_000
HOUR = 5_538
"""Blocks of 0.65 s."""


@pytest.mark.parametrize("first", [1, FAR], ids=["lower", "higher"])
def test_a_collector_starts_over_and_joins_nothing(tmp_path: Path, first: int) -> None:
    shape = ("--markets", "6", "--block-time", "0.2", "--touched", "all", "--matches", "4")
    with (
        simulator(*shape) as venue,
        collector(tmp_path, "--shards", "2", *configured(tmp_path, venue)) as running,
    ):
        running.await_live()
        with Listener(running) as listener:
            since = venue.head()
            eventually(lambda: listener.drain().trades(since, FAR - 1), within_s=60, what="a trade")
            eventually(
                lambda: running.status()["chain"]["height"], within_s=60, what="a known block"
            )
            venue.begin_again(9, away_s=0.3, first=first)
            eventually(
                lambda: _replaced(listener),
                within_s=60,
                what=lambda: f"a reader that is told\n{running.log}",
            )
            eventually(running.live, within_s=60, what=lambda: running.log)
            begun = venue.head() + 1
            eventually(
                lambda: listener.drain().trades(begun, begun + 500), within_s=60, what="its trades"
            )
            venue.inject(faults.Halt(for_s=300.0))
            last = venue.head()
            due = true_trades(venue, begun, last).keys()
            eventually(
                lambda: not due - listener.drain().trades(begun, last).keys(),
                within_s=60,
                what="every trade",
            )
            eventually(
                lambda: all(
                    agrees_now(listener, venue, market, after=first) for market in running.markets()
                ),
                within_s=60,
                what="books that are the new chain's",
            )
            _assert_apart(listener.heard, is_new=lambda h: h >= FAR if first == FAR else h < 900)
        status = running.await_live()
    (former,) = status["chain"]["former"]
    assert former["generation"] < status["chain"]["generation"]
    assert not status["gaps"]["open"]


def _replaced(listener: Listener) -> bool:
    return any(isinstance(r.event, ChainReplaced) for r in listener.drain().heard)


def _assert_apart(heard: list[Received], is_new: Any) -> None:
    """Before the announcement all trades are the old chain's, and after it the new one's."""
    (at,) = [n for n, r in enumerate(heard) if isinstance(r.event, ChainReplaced)]
    for n, received in enumerate(heard):
        if isinstance(received.event, Trades):
            assert is_new(received.event.height) == (n > at), received


# ---- the watch alone ----------------------------------------------------------------------


class Sourced:
    """The part of a source that the watch uses."""

    def __init__(self, *endpoints: str) -> None:
        self.endpoints = EndpointPool(endpoints)
        self.left: list[str] = []
        self.cuts = 0

    def reconnect(self, cause: str, reason: str) -> None:
        self.left.append(reason)


def _source(endpoints: list[str]) -> Any:
    return Sourced(*endpoints)


class Unsearchable(Service):
    """Of an indexer that finds no trades by their time."""

    def all_trades(self, channel: Any, *, start_ms: int, end_ms: int, **page: int) -> Any:
        at = min(start_ms, 1)
        return super().all_trades(channel, start_ms=at, end_ms=at, **page)


class Misdated(TradeLists):
    """Of an indexer that lists the newest block of a moment with a time years ahead."""

    _block = ""

    async def _page(self, *args: Any, **asked: Any) -> Any:
        answer = await super()._page(*args, **asked)
        for trade in answer.trades:
            block = trade.trade_id.partition("_")[0]
            self._block = self._block or block
            if block == self._block:
                trade.executed_at += 10**12
        return answer


class Watched:
    """A watch over the indexers of some venues."""

    def __init__(
        self,
        *venues: Venue,
        rpc: str | None = None,
        service: type[Service] = Service,
        lists: type[TradeLists] = TradeLists,
        received: int = 1_005,
    ) -> None:
        access = Access()
        names = [venue.indexer.endpoint for venue in venues]
        services = {spot: service(spot=spot) for spot in (True, False)}
        messages = {spot: service.messages for spot, service in services.items()}
        proofs = Proofs(messages, channels=("book", "trades"), limits=Limits())
        self.pipeline = Pipeline([], proofs, source="indexer-grpc", decoder=proofs.reader.decode)
        self.nodes = Nodes([rpc] if rpc else [], access)
        self.source = _source(names)
        self.watch = ChainWatch(
            names, self.nodes, self.source, self.pipeline, lists(services, access)
        )
        # Something was received before.
        self.pipeline.liveness.advance(received, 0, 0)

    def session(self) -> int:
        return self.watch.session

    async def admit(self) -> None:
        await self.watch.admit(await self.source.endpoints.next())


@contextlib.asynccontextmanager
async def watched(*venues: Venue, **more: Any) -> AsyncIterator[Watched]:
    made = Watched(*venues, **more)
    try:
        yield made
    finally:
        await made.watch.aclose()


@contextlib.asynccontextmanager
async def ours_and_other() -> AsyncIterator[tuple[Venue, Venue, Watched]]:
    """An indexer that is admitted, and another one beside it."""
    async with (
        serving(options(), paced=False) as ours,
        serving(options(), paced=False) as other,
        watched(ours, other) as made,
    ):
        await grow(ours)
        await made.admit()
        yield ours, other, made


def options(**more: Any) -> Options:
    return Options(markets=4, activity=Activity(matches=6.0), block_time_s=0.001, **more)


async def _replaced_in(nodes: Nodes) -> Chain:
    """Wait until a replacement is proposed."""
    async with asyncio.timeout(60):
        while (found := nodes.replacement) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def grow(venue: Venue, count: int = 3) -> None:
    for _ in range(count):
        await venue.make_block()


async def test_the_same_chain_is_admitted_again() -> None:
    async with serving(options(), paced=False) as venue, watched(venue) as made:
        await grow(venue)
        await made.admit()
        assert made.session() == 1
        await grow(venue)
        made.source.endpoints.failed("cut")
        assert not made.session()
        await made.admit()
        assert made.session() == 2
        assert made.nodes.replacement is None


@pytest.mark.parametrize("first", [1, FAR])
async def test_the_only_indexer_with_another_chain_has_ours_replaced(first: int) -> None:
    async with serving(options(), paced=False) as venue, watched(venue) as made:
        await grow(venue)
        await made.admit()
        await venue.begin_again(9, first=first)
        await grow(venue)
        made.source.endpoints.failed("cut")
        admitting = asyncio.create_task(made.admit())
        found = await _replaced_in(made.nodes)
        # It waits until the aggregator has switched.
        assert not made.session()
        made.nodes.knows(found)
        await admitting
        assert made.session() == 2


@pytest.mark.parametrize("first", [1, FAR], ids=["lower", "higher"])
async def test_a_chain_that_comes_back_replaces_the_one_that_had_replaced_it(first: int) -> None:
    async with serving(options(), paced=False) as venue, watched(venue) as made:
        await grow(venue)
        await made.admit()
        former = copy.deepcopy(venue.exchange.__dict__)
        await venue.begin_again(9, first=first)
        await grow(venue)
        await _admitted_again(made)
        between = made.nodes.chain.generation
        # The indexer's record is again that of the first chain, which goes on.
        venue.exchange.__dict__.update(former)
        await grow(venue)
        await _admitted_again(made)
        assert made.nodes.chain.generation > between > 0


async def test_an_indexer_that_was_away_for_an_hour_is_ours_and_lists_every_trade_of_it() -> None:
    async with (
        serving(options(clock_ms=1_795_000_000_000, history=8_000), paced=False) as venue,
        watched(venue) as made,
    ):
        await grow(venue)
        await made.admit()
        exchange, since = venue.exchange, venue.exchange.height
        exchange.activity = Activity(matches=0.2)
        ts = 1_795_000_010_000
        for block in range(HOUR):
            exchange.next_block(ts + block * 650)
        made.source.endpoints.failed("cut")
        await made.admit()
        assert (made.session(), made.nodes.replacement) == (2, None)
        services = {spot: Service(spot=spot) for spot in (True, False)}
        queries = IndexerQueries(lambda: venue.indexer.endpoint, services, Access())
        ids = [market.market_id for market in exchange.markets]
        listed = [
            trade.trade_id
            for spot in services
            for trade in await queries.trades(spot, ids, ts * 1_000_000)
        ]
        await queries.aclose()
        heights = range(since + 1, exchange.height + 1)
        due = [trade.trade_id for h in heights for _, trade in exchange.trades_of(h)]
        assert len(due) > 1_000
        assert sorted(listed) == sorted(due)


async def _admitted_again(made: Watched) -> None:
    """The chain was replaced: the aggregator switches, and the indexer is read again."""
    made.source.endpoints.failed("cut")
    admitting = asyncio.create_task(made.admit())
    found = await _replaced_in(made.nodes)
    assert not made.session()
    made.pipeline.start_over(found.marks[0].height, 0, "replaced")
    made.nodes.knows(found)
    await admitting
    assert made.session()


async def test_an_indexer_of_another_chain_beside_ours_is_refused() -> None:
    async with ours_and_other() as (ours, other, made):
        await other.begin_again(9, first=FAR)
        await grow(other)
        with pytest.raises(SourceError, match="not the chain being collected: it lists none"):
            await made.watch.admit(other.indexer.endpoint)
        # Nor does it replace ours when it is the only one that answers.
        await ours.inject(faults.Stop(protocol="indexer"))
        with pytest.raises(SourceError, match="not the chain being collected"):
            await made.watch.admit(other.indexer.endpoint)
        assert made.nodes.replacement is None
        (row,) = made.nodes.reports()
        assert (row.endpoint, row.role, row.cause) == (other.indexer.endpoint, "stream", "foreign")


async def test_one_of_two_indexers_that_becomes_another_chain_is_refused() -> None:
    same = options(clock_ms=1_795_000_000_000)
    async with (
        serving(same, paced=False) as one,
        serving(same, paced=False) as two,
        watched(one, two) as made,
    ):
        await grow(one)
        await grow(two)
        for venue in (one, two):
            await made.watch.admit(venue.indexer.endpoint)
        # From now on it has a clock of its own.
        one.options = options()
        await one.begin_again(9)
        await grow(one)
        with pytest.raises(SourceError, match="later than our block"):
            await made.watch.admit(one.indexer.endpoint)
        await made.watch.admit(two.indexer.endpoint)
        assert made.nodes.replacement is None


async def test_an_indexer_without_its_trades_is_not_believed() -> None:
    async with serving(options(), paced=False) as venue, watched(venue) as made:
        await grow(venue)
        await made.admit()
        venue.exchange.activity = Activity(matches=0.0)
        await venue.begin_again(9)
        await grow(venue)
        made.source.endpoints.failed("cut")
        with pytest.raises(SourceError, match="it lists no trades, and trades were listed before"):
            await made.admit()


async def test_an_indexer_that_finds_nothing_by_its_time_is_not_suspected() -> None:
    async with (
        serving(options(), paced=False) as venue,
        watched(venue, service=Unsearchable) as made,
    ):
        await grow(venue)
        await made.admit()
        # So many that the remembered block is not among the newest trades.
        await grow(venue, 120)
        async with asyncio.timeout(60):
            await made.watch.admit(venue.indexer.endpoint)
        assert made.nodes.replacement is None


async def test_an_rpc_tells_a_chain_that_nothing_else_tells() -> None:
    # The indexer keeps the old trades and goes on higher: only the times of the blocks differ.
    clock_ms = 1_795_000_000_000
    async with (
        serving(options(clock_ms=clock_ms), paced=False) as chain,
        serving(options(clock_ms=clock_ms), paced=False) as venue,
        watched(venue, rpc=chain.rpc.url) as made,
    ):
        await grow(chain, 20)
        await grow(venue, 4)
        await made.admit()
        venue.exchange.next_block(clock_ms + 500)
        with pytest.raises(SourceError, match="made at another time than that of our chain"):
            await made.watch.admit(venue.indexer.endpoint)
        assert made.nodes.replacement is None


async def test_node_and_indexer_that_become_another_chain_together_are_noticed() -> None:
    async with serving(options(), paced=False) as venue, watched(venue, rpc=venue.rpc.url) as made:
        await grow(venue)
        await made.watch.nodes.look()
        await made.admit()
        await venue.begin_again(9)
        await grow(venue)
        made.source.endpoints.failed("cut")
        admitting = asyncio.create_task(made.admit())
        await _replaced_in(made.nodes)
        assert not made.session()
        admitting.cancel()


async def test_a_collector_that_was_away_knows_the_chain_by_its_saved_marks() -> None:
    async with serving(options(), paced=False) as venue:
        await grow(venue)
        async with watched(venue) as before:
            await before.admit()
            saved = before.nodes.chain
        assert saved.marks
        async with watched(venue) as made:
            made.nodes.knows(Chain("", saved.generation, saved.marks))
            await made.admit()
        await venue.begin_again(9)
        await grow(venue)
        async with watched(venue) as made:
            made.nodes.knows(Chain("", saved.generation, saved.marks))
            admitting = asyncio.create_task(made.admit())
            await _replaced_in(made.nodes)
            admitting.cancel()


async def test_a_shard_that_received_nothing_yet_takes_no_other_chain_for_its_own() -> None:
    async with serving(options(), paced=False) as venue:
        await grow(venue)
        async with watched(venue) as before:
            await before.admit()
            saved = before.nodes.chain
        await venue.begin_again(9)
        await grow(venue)
        async with watched(venue, received=0) as made:
            # What another shard knows of the chain, as the aggregator says it.
            made.nodes.knows(Chain("", saved.generation, saved.marks))
            admitting = asyncio.create_task(made.admit())
            await _replaced_in(made.nodes)
            admitting.cancel()


async def test_an_indexer_that_never_listed_our_chain_is_not_read_while_it_lists_nothing() -> None:
    async with ours_and_other() as (ours, other, made):
        for venue in (ours, other):
            await venue.inject(faults.Refuse(protocol="indexer"))
        with pytest.raises(SourceError, match="it lists no trades now"):
            await made.watch.admit(other.indexer.endpoint)
        # One that listed ours is: its database may be busy for an hour.
        await made.watch.admit(ours.indexer.endpoint)


async def test_a_contradiction_is_no_false_alarm_as_long_as_no_trades_are_listed() -> None:
    async with serving(options(), paced=False) as venue, watched(venue) as made:
        await grow(venue)
        await made.admit()
        await venue.inject(faults.Refuse(protocol="indexer"))
        proofs = made.pipeline.liveness
        proofs.name(1_010, 10**18, 0)
        proofs.name(5, 10**18 + 1, 0)
        watching = asyncio.create_task(made.watch.run())
        async with asyncio.timeout(60):
            while not made.source.left:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        watching.cancel()
        made.pipeline.clear_suspect()
        proofs.name(6, 10**18 + 2, 0)
        assert made.pipeline.suspect == 6


async def test_one_trade_with_a_wrong_time_alarms_once() -> None:
    async with serving(options(), paced=False) as venue, watched(venue) as made:
        await grow(venue)
        await made.admit()
        proofs, now = made.pipeline.liveness, time.time_ns()
        proofs.name(1_010, now + 10**18, 0)
        proofs.name(1_011, now, 0)
        assert made.pipeline.suspect
        watching = asyncio.create_task(made.watch.run())
        async with asyncio.timeout(60):
            while not made.source.left:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        watching.cancel()
        made.pipeline.clear_suspect()
        # Ten minutes later.
        proofs.trust(False)
        proofs.name(1_012, now + 1, 0)
        assert not made.pipeline.suspect


@pytest.mark.parametrize("has_rpc", [True, False])
async def test_one_listed_block_with_a_wrong_time_makes_no_other_chain(has_rpc: bool) -> None:
    async with (
        serving(options(), paced=False) as venue,
        watched(venue, rpc=venue.rpc.url if has_rpc else None, lists=Misdated) as made,
    ):
        await grow(venue)
        with contextlib.suppress(SourceError):
            # As long as no later block is listed, nothing else can be compared.
            await made.admit()
        for _ in range(3):
            await grow(venue)
            await made.watch.admit(venue.indexer.endpoint)
        # What came later is compared, so that another chain is still recognised.
        assert made.nodes.replacement is None
        await venue.begin_again(9)
        await grow(venue)
        made.source.endpoints.failed("cut")
        admitting = asyncio.create_task(made.admit())
        await _replaced_in(made.nodes)
        admitting.cancel()


async def test_a_node_that_takes_too_long_leaves_the_judgement_to_the_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # For the node in vain, and long enough for the list, at one of the attempts.
    monkeypatch.setattr(chain_watch, "_WITHIN_S", 1.0)
    same = options(clock_ms=1_795_000_000_000)
    async with (
        serving(same, paced=False) as behind,
        serving(same, paced=False) as venue,
        watched(venue, rpc=behind.rpc.url) as made,
    ):
        # The node is waited for: it may be about to have the block.
        await grow(venue, 20)
        for _ in range(10):
            await made.admit()
            if made.watch._had_ours:
                break
        assert made.watch._had_ours
