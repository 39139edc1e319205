"""The ways into a network: TLS, cookies and refusals, against servers that insist on them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from collector.markets import discovery
from shards.adapters.injective_chain.grpc_source import ChainGrpc
from shards.adapters.injective_chain.snapshots import Snapshots
from shards.adapters.interface import Sink
from shards.net.access import Access
from shards.net.rpc import Rpc, latest_height
from shards.net.token_bucket import usage
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.errors import ConfigError, SourceError
from shards.protocol.settings import Endpoints, Market
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.simulator.venue import Options, Venue, running
from tests.system.running import collector, eventually
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


@pytest.mark.parametrize("source", ["chain-ws", "chain-grpc"])
def test_a_collector_reads_a_network_of_tls_alone(
    exchange: Simulator, certificates: Certificates, tmp_path: Path, source: str
) -> None:
    with contextlib.ExitStack() as stack:

        def secure(plain: str) -> str:
            address = urlsplit(plain).netloc or plain
            port = stack.enter_context(tls_before(address, certificates.demanding))
            return f"127.0.0.1:{port}"

        config = tmp_path / "collector.toml"
        config.write_text(
            "[networks.secured]\ntls = true\n"
            f'chain_ws = ["wss://{secure(exchange.ws)}{urlsplit(exchange.ws).path}"]\n'
            f'chain_stream = ["{secure(exchange.stream)}"]\n'
            f'chain_grpc = ["{secure(exchange.grpc)}"]\n'
            f'rpc = ["https://{secure(exchange.rpc)}"]\n'
            f'ca = "{certificates.ca}"\ncertificate = "{certificates.certificate}"\n'
            f'key = "{certificates.key}"\n'
        )
        options = ("--network", "secured", "--config", str(config), "--source", source)
        with collector(tmp_path, *options) as it:
            status = it.await_live(within_s=60)
        assert status["markets"]["live"] == 4


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


async def test_a_stream_learns_the_cookie_and_queries_go_to_its_backend(venue: Venue) -> None:
    await venue.inject(faults.CookieChange(behind=5))
    access = Access()
    heard = asyncio.Event()
    sink = cast("Sink", _Heard(heard))
    markets = [_market(venue)]
    options: dict[str, Any] = {"channels": DEFAULT_CHANNELS, "access": access, "return_s": 30.0}
    stream = ChainGrpc([venue.stream.endpoint], markets, sink, **options)
    reading = asyncio.create_task(stream.run())
    while not heard.is_set():
        await venue.make_block()
        await asyncio.sleep(0.05)
    snapshots = Snapshots([venue.queries.endpoint], access)
    assert (await snapshots.fetch(markets[0])).height == venue.exchange.height
    await snapshots.close()
    reading.cancel()
    await asyncio.wait([reading])


class _Heard:
    """A sink that only wants to know of the first payload."""

    def __init__(self, heard: asyncio.Event) -> None:
        self._heard = heard

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None

    def receive(self, *_: object) -> None:
        self._heard.set()


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


def test_four_shards_ask_no_more_than_a_host_allows_and_stop_at_a_refusal(
    tmp_path: Path,
) -> None:
    with simulator("--markets", "60", "--block-time", "0.2", "--paused", "0") as venue:
        config = str(venue.config(tmp_path, extra="requests_per_s = 60.0\n"))
        # The very first query: one for the markets.
        venue.inject(faults.Refuse(protocol="grpc", calls=1))
        with collector(tmp_path, "--config", config, "--shards", "4") as it:
            it.await_live(within_s=60)
            stats = venue.stats()

            def told() -> Any:
                # Shards report once a second.
                (host,) = it.status()["requests"]
                return host if host["refused"] and host["made"] >= stats["queries"] else None

            host = eventually(told, within_s=30, what="every query counted")
    assert (host["group"], host["host"], host["per_s"]) == ("chain", "127.0.0.1", 60.0)
    assert host["refused"] == 1, "a storm, or nobody noticed"
    assert stats["queries"] >= 60
    # Evenly spaced over all processes: so many cannot take less. (The first may come late.)
    assert stats["queries_ms"] >= 0.8 * 1_000 * (stats["queries"] - 1) / 60.0


def test_a_host_whose_limit_nobody_knows_is_found_out_without_a_storm(tmp_path: Path) -> None:
    with simulator("--markets", "60", "--block-time", "0.2", "--paused", "0") as venue:
        config = str(venue.config(tmp_path))
        venue.inject(faults.RateLimit(per_s=20))
        with collector(tmp_path, "--config", config, "--shards", "4") as it:
            status = it.await_live(within_s=90)
            stats = venue.stats()

            def is_told() -> bool:
                # Shards report once a second.
                nonlocal status, stats
                status, stats = it.status(), venue.stats()
                (host,) = status["requests"]
                return bool(host["refused"] == stats["queries_refused"])

            eventually(is_told, within_s=30, what="every refusal counted")
    assert stats["queries_refused"] > 0
    # What was under way together when it refused, a few times; a storm would be hundreds.
    assert stats["queries_refused"] < stats["queries"]
    assert status["completeness"] == 1.0


async def test_the_rpcs_word_when_to_come_back_is_heeded(venue: Venue) -> None:
    await venue.inject(faults.Refuse(protocol="rpc", calls=1, retry_after_s=2))
    access = Access()
    rpc = Rpc(venue.rpc.url, access)
    began = time.monotonic()
    with pytest.raises(SourceError, match="429"):
        await rpc.call("status")
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
        assert await asked() == [0, 1], "it did not go elsewhere at once"
        venue.heal()
        assert await asked() == [0, 1], "it returned before its time"
        deadline = time.monotonic() + 60
        while await asked() != [1, 0]:
            assert time.monotonic() < deadline, "it never returned"
            await asyncio.sleep(0.1)
        await snapshots.close()
