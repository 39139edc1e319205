"""The ways into a network: TLS, cookies and refusals, against servers that insist on them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector import discovery
from shards.config import Endpoints, Market
from shards.errors import ConfigError, SourceError
from shards.sources.bucket import usage
from shards.sources.channels import Access
from shards.sources.rpc import Rpc, latest_height
from shards.sources.snapshots import Snapshots
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.simulator.venue import Options, Venue, running
from tests.tls_proxy import Certificates, make_certificates, tls_before


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    with simulator("--markets", "4", "--block-time", "0.1") as venue:
        yield venue


def _market(venue: Venue) -> Market:
    market = venue.exchange.markets[0]
    return Market(market.market_id, market.ticker, market.ticker, market.type)


# ---- TLS ------------------------------------------------------------------------------


@pytest.mark.parametrize("demanding", [False, True], ids=["server", "both"])
async def test_everything_can_be_asked_over_tls(
    exchange: Simulator, certificates: Certificates, *, demanding: bool
) -> None:
    context = certificates.demanding if demanding else certificates.server
    with contextlib.ExitStack() as stack:
        grpc, rpc = (
            stack.enter_context(tls_before(plain.removeprefix("http://"), context))
            for plain in (exchange.grpc, exchange.rpc)
        )
        network = Endpoints(
            chain_grpc=(f"127.0.0.1:{grpc}",),
            rpc=(f"https://127.0.0.1:{rpc}",),
            tls=True,
            ca=str(certificates.ca),
            certificate=str(certificates.certificate) if demanding else "",
            key=str(certificates.key) if demanding else "",
        )
        access = Access(network)
        found = await asyncio.to_thread(discovery.discover, network, access)
        assert len(found) == 4
        snapshots = Snapshots(network.chain_grpc, access)
        assert (await snapshots.fetch(found[0])).market_id == found[0].market_id
        await snapshots.close()
        client = Rpc(network.rpc[0], access)
        assert await latest_height(client) > 0
        client.close()


async def test_a_server_that_the_authority_does_not_know_is_not_spoken_to(
    exchange: Simulator, certificates: Certificates, tmp_path: Path
) -> None:
    stranger = make_certificates(tmp_path)
    with (
        tls_before(exchange.grpc, certificates.server) as grpc,
        tls_before(exchange.rpc.removeprefix("http://"), certificates.server) as rpc,
    ):
        network = Endpoints(
            chain_grpc=(f"https://127.0.0.1:{grpc}",),
            rpc=(f"https://127.0.0.1:{rpc}",),
            ca=str(stranger.ca),
        )
        access = Access(network)
        with pytest.raises(SourceError, match=r"(?i)certificate"):
            await Rpc(network.rpc[0], access).call("status")
        with pytest.raises(ConfigError, match="the network cannot be reached"):
            await asyncio.to_thread(discovery.discover, network, access, patience_s=0.0)


# ---- cookies --------------------------------------------------------------------------


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with running(Options(markets=4), paced=False) as venue:
        for _ in range(10):
            await venue.make_block()
        yield venue


async def test_who_sends_the_cookie_back_stays_on_one_backend(venue: Venue) -> None:
    await venue.inject(faults.CookieChange(behind=5))
    head = venue.exchange.height
    snapshots = Snapshots([venue.queries.endpoint])
    heights = [(await snapshots.fetch(_market(venue))).height for _ in range(4)]
    await snapshots.close()
    assert heights == [head - 5, head, head, head]


async def test_without_cookies_each_call_may_land_elsewhere(venue: Venue) -> None:
    await venue.inject(faults.CookieChange(behind=5))
    head = venue.exchange.height
    snapshots = Snapshots([venue.queries.endpoint], Access(Endpoints(cookies=False)))
    heights = [(await snapshots.fetch(_market(venue))).height for _ in range(3)]
    await snapshots.close()
    assert heights == [head - 5] * 3


# ---- refusals and failover ------------------------------------------------------------


async def test_a_refusal_makes_everyone_wait_and_then_go_on(venue: Venue, tmp_path: Path) -> None:
    accesses = [Access(folder=str(tmp_path)) for _ in range(3)]
    fetchers = [Snapshots([venue.queries.endpoint], access) for access in accesses]
    await venue.inject(faults.Refuse(calls=1))
    began, asked = time.monotonic(), venue.queries.queries
    with pytest.raises(SourceError, match="429"):
        await fetchers[0].fetch(_market(venue))
    await asyncio.gather(*(fetcher.fetch(_market(venue)) for fetcher in fetchers))
    assert time.monotonic() - began >= 0.5, "nobody waited"
    assert venue.queries.queries == asked + 3
    (found,) = usage(tmp_path)
    assert (found.host, found.made, found.refused) == ("127.0.0.1", 4, 1)
    for fetcher in fetchers:
        await fetcher.close()


async def test_the_rpcs_word_when_to_come_back_is_heeded(venue: Venue) -> None:
    await venue.inject(faults.Refuse(protocol="rpc", calls=1, retry_after_s=2))
    access = Access()
    rpc = Rpc(venue.rpc.url, access)
    with pytest.raises(SourceError, match="429"):
        await rpc.call("status")
    began = time.monotonic()
    await access.turn(venue.rpc.url)
    assert time.monotonic() - began >= 1.5
    assert await latest_height(rpc) == venue.exchange.height
    rpc.close()


async def test_book_queries_go_on_elsewhere_and_return(venue: Venue) -> None:
    async with running(Options(markets=4), paced=False) as other:
        snapshots = Snapshots([venue.queries.endpoint, other.queries.endpoint])

        async def asked() -> list[Any]:
            before = [v.queries.queries for v in (venue, other)]
            with contextlib.suppress(SourceError):
                await snapshots.fetch(_market(venue))
            after = [v.queries.queries for v in (venue, other)]
            return [now - then for now, then in zip(after, before, strict=True)]

        assert await asked() == [1, 0]
        await venue.inject(faults.Refuse(status=503))
        assert await asked() == [0, 0]
        assert await asked() == [0, 1], "it did not go elsewhere at once"
        venue.heal()
        deadline = time.monotonic() + 20
        while await asked() != [1, 0]:
            assert time.monotonic() < deadline, "it never returned"
            await asyncio.sleep(0.1)
        await snapshots.close()
