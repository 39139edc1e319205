"""An amount that is none, in the answer to a query, is a failure of the server that gave it."""

import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from shards.adapters.injective_chain import activity, grpc_decoder, markets as chain_markets
from shards.adapters.injective_chain.amounts import amount_in
from shards.adapters.injective_indexer import markets as indexer_markets
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.protocol.errors import SourceError
from shards.protocol.settings import Market, MarketType

CHAIN: Any = INJECTIVE.package("injective.exchange.v2")
INDEXER: Any = INJECTIVE.package("injective_spot_exchange_rpc")
ID = "0x" + "1" * 64
RUBBISH = ["abc", "1.5", "-", "--1", "1_0", " 7", "٣", "1e5", "NaN", "9" * 5_000]


@contextlib.contextmanager
def serving(service: str, answers: dict[str, tuple[Any, Any]]) -> Iterator[str]:
    """Answer each method, ``(request, answer)``, as told, at height 1000."""

    def method(request: Any, answer: Any) -> Any:
        def reply(_: Any, context: grpc.ServicerContext) -> Any:
            context.send_initial_metadata((("x-cosmos-block-height", "1000"),))
            return answer

        return grpc.unary_unary_rpc_method_handler(
            reply, request.FromString, lambda said: said.SerializeToString()
        )

    server = grpc.server(futures.ThreadPoolExecutor(1))
    methods = {name: method(*pair) for name, pair in answers.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("text", ["", "0", "-1", "10010000000000000000"])
def test_amounts_stay_as_they_are(text: str) -> None:
    assert amount_in("node", "price", text) == text


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_volume(rubbish: str) -> None:
    volume = {"market_id": ID, "volume": {"maker_volume": "7", "taker_volume": rubbish}}
    answers = {
        "FullSpotMarkets": (
            CHAIN.QueryFullSpotMarketsRequest,
            CHAIN.QueryFullSpotMarketsResponse(),
        ),
        "DerivativeMarkets": (
            CHAIN.QueryDerivativeMarketsRequest,
            CHAIN.QueryDerivativeMarketsResponse(),
        ),
        "AggregateMarketVolumes": (
            CHAIN.QueryAggregateMarketVolumesRequest,
            CHAIN.QueryAggregateMarketVolumesResponse(volumes=[volume]),
        ),
    }
    with (
        serving("injective.exchange.v2.Query", answers) as endpoint,
        pytest.raises(SourceError, match=r"volume: .* is no amount"),
    ):
        activity.assess(endpoint, Access(), [Market(ID, "A/B", "A-B", "spot", "Paused")])


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_payment_of_funding(rubbish: str) -> None:
    info = {"funding_info": {"cumulative_funding": rubbish}}
    answer = CHAIN.QueryDerivativeMarketsResponse(
        markets=[{"market": {"market_id": ID}, "perpetual_info": info}]
    )
    with pytest.raises(SourceError, match=r"cumulative_funding: .* is no amount"):
        grpc_decoder.funding("node", answer, 7, 0)


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_tick_as_the_chain_lists_it(rubbish: str) -> None:
    answer = CHAIN.QuerySpotMarketsResponse(
        markets=[{"market_id": ID, "ticker": "A/B", "min_price_tick_size": rubbish}]
    )
    answers = {"SpotMarkets": (CHAIN.QuerySpotMarketsRequest, answer)}
    with (
        serving("injective.exchange.v2.Query", answers) as endpoint,
        pytest.raises(SourceError, match=r"min_price_tick_size: .* is no amount"),
    ):
        chain_markets.list_markets(endpoint, Access())


@pytest.mark.parametrize("rubbish", ["abc", "--1", " 7_", "1e999999999"])
def test_a_tick_as_an_indexer_lists_it(rubbish: str) -> None:
    with pytest.raises(SourceError, match="as listed"):
        _listed_by_an_indexer(rubbish, decimals=6)


@pytest.mark.parametrize("decimals", [-1, 2**31 - 1])
def test_a_token_of_absurd_decimals_costs_its_market_alone(decimals: int) -> None:
    assert _listed_by_an_indexer("1", decimals=decimals) == []
    assert len(_listed_by_an_indexer("1", decimals=6)) == 1


def _listed_by_an_indexer(tick: str, *, decimals: int) -> list[Market]:
    token = {"decimals": decimals}
    row: dict[str, Any] = {"market_id": ID, "ticker": "A/B", "min_price_tick_size": tick}
    row |= {"base_token_meta": token, "quote_token_meta": token}
    answers = iter([INDEXER.MarketsResponse(markets=[row]), INDEXER.MarketsResponse()])

    def query(_: Any, __: Any) -> tuple[Any, dict[str, str]]:
        return next(answers), {}

    with grpc.insecure_channel("127.0.0.1:1") as channel:
        return list(indexer_markets._spot("indexer", query, channel))


@pytest.mark.parametrize("kind", ["spot", "derivative", "binary"])
def test_a_list_of_markets_that_cannot_be_decoded(kind: MarketType) -> None:
    with pytest.raises(SourceError, match="list of markets cannot be decoded"):
        chain_markets.decoded("node", kind, b"\xff\xff", "Active")


def test_a_list_that_is_as_it_was_is_not_decoded_again() -> None:
    answer = CHAIN.QuerySpotMarketsResponse(markets=[{"market_id": ID}]).SerializeToString()
    first = chain_markets.decoded("node", "spot", answer, "Active")
    assert [market.market_id for market in first] == [ID]
    assert chain_markets.decoded("node", "spot", bytes(bytearray(answer)), "Active") is first
    assert chain_markets.decoded("node", "spot", answer, "Paused")[0].status == "Paused"
