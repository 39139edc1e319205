"""
Payloads for benches and tests, without sockets: what the node would send, to the byte.

All come from one seeded exchange, so two runs measure the same bytes.
"""

from collections.abc import Iterator, Sequence

import msgspec

from shards.protocol.settings import Market
from tests.simulator.events_json import block_results
from tests.simulator.exchange import Activity, Exchange, SimBlock
from tests.simulator.filters import Filter, from_json
from tests.simulator.markets import ALL_BUSY, SimMarket
from tests.simulator.stream_proto import LevelsProto, ProtoBlock
from tests.simulator.ws_json import LevelsJson, WsBlock


def busy_exchange(markets: int = 1, *, levels: int = 16, matches: float = 0.0) -> Exchange:
    """Make an exchange in which every book changes in every block, by so many levels."""
    activity = Activity(touched=1.0, levels=levels, matches=matches, shares=ALL_BUSY)
    return Exchange(1, markets=markets, activity=activity)


def quiet_exchange(markets: int = 1) -> Exchange:
    """Make an exchange whose blocks are all empty."""
    return Exchange(1, markets=markets, activity=Activity(touched=0.0, matches=0.0))


def market_filter(market: SimMarket) -> Filter:
    """Return the filter that the collector subscribes one market with."""
    kind = "spot" if market.is_spot else "derivative"
    ids = [market.market_id]
    return from_json(
        {
            f"{kind}_orderbooks_filter": {"market_ids": ids},
            f"{kind}_trades_filter": {"market_ids": ids, "subaccount_ids": ["*"]},
        }
    )


def config_markets(exchange: Exchange) -> list[Market]:
    """Return the exchange's markets as a shard's configuration has them."""
    return [
        Market(
            market.market_id,
            market.ticker,
            market.ticker.replace("/", "-").replace(" ", "-"),
            market.type,
            market.status,
        )
        for market in exchange.markets
    ]


def ws_payload(exchange: Exchange, block: SimBlock, market: SimMarket, request_id: int) -> bytes:
    """Print a block as the WebSocket subscription of one market hears it."""
    result = WsBlock(exchange.by_id, block, LevelsJson()).result(market_filter(market))
    return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (request_id, result)


def one_update_payload(levels: int = 16) -> bytes:
    """Return a WebSocket block with one book update of so many levels."""
    exchange = busy_exchange(levels=levels)
    return ws_payload(exchange, exchange.next_block(), exchange.markets[0], 1)


def empty_payload() -> bytes:
    """Return a WebSocket block in which nothing matched: what most payloads are."""
    exchange = quiet_exchange()
    return ws_payload(exchange, exchange.next_block(), exchange.markets[0], 1)


def market_payloads(exchange: Exchange, blocks: int, market: int = 0) -> list[bytes]:
    """Return consecutive WebSocket blocks of one market, request id 1."""
    chosen = exchange.markets[market]
    return [ws_payload(exchange, exchange.next_block(), chosen, 1) for _ in range(blocks)]


def shard_payloads(exchange: Exchange, blocks: int) -> Iterator[Sequence[bytes]]:
    """
    Give, block by block, the WebSocket payloads of a shard that has all the markets.

    Request ids are 1, 2, … in the order of `Exchange.markets`, as the collector numbers them.
    """
    levels = LevelsJson()
    wanted = [
        (b'{"jsonrpc":"2.0","id":%d,"result":' % number, market_filter(market))
        for number, market in enumerate(exchange.markets, start=1)
    ]
    for _ in range(blocks):
        block = WsBlock(exchange.by_id, exchange.next_block(), levels)
        yield [b"%b%b}" % (prefix, block.result(filter_)) for prefix, filter_ in wanted]


def block_results_payload(exchange: Exchange, block: SimBlock) -> bytes:
    """Return the RPC's answer about a block."""
    result = block_results(exchange.by_id, block)
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": result})


def stream_payload(exchange: Exchange, block: SimBlock, filter_: Filter) -> bytes:
    """Return the bytes of a gRPC ``StreamResponse``."""
    return ProtoBlock(exchange.by_id, block, LevelsProto()).message(filter_)
