"""
The peers, each used as its documentation shows: ``python -m bench.peer NAME OPTIONS``.

Every one hands a decoded update to a callback, which counts it.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from bench.tally import Tally, say, until_told
from shards.adapters.injective_chain.ws_source import subscribe_request
from shards.protocol.settings import Market


def network(options: dict[str, Any]) -> Any:
    """Describe the simulator to injective-py."""
    from pyinjective.core.network import DisabledCookieAssistant, Network

    nobody = DisabledCookieAssistant()
    chain, stream = options["chain_grpc"], options["chain_stream"]
    return Network.custom(
        lcd_endpoint="",
        tm_websocket_endpoint="",
        grpc_endpoint=chain,
        grpc_exchange_endpoint=options.get("indexer", chain),
        grpc_explorer_endpoint=chain,
        chain_stream_endpoint=stream,
        chain_id="injective-1",
        env="local",
        chain_cookie_assistant=nobody,
        exchange_cookie_assistant=nobody,
        explorer_cookie_assistant=nobody,
        official_tokens_list_url="",
    )


async def chain_stream(options: dict[str, Any], tally: Tally) -> None:
    """`AsyncClient.listen_chain_stream_updates`, one call or one for each market."""
    from pyinjective.async_client_v2 import AsyncClient
    from pyinjective.composer_v2 import Composer

    client = AsyncClient(network(options))
    composer = Composer(network="local")

    async def callback(event: dict[str, Any]) -> None:
        updates = len(event["spotOrderbookUpdates"]) + len(event["derivativeOrderbookUpdates"])
        tally.note(int(event["blockHeight"]), updates)

    markets = options["markets"]
    calls = [[market] for market in markets] if options.get("per_market") else [markets]
    for group in calls:
        spot = [m["market_id"] for m in group if m["type"] == "spot"]
        other = [m["market_id"] for m in group if m["type"] != "spot"]
        call = client.listen_chain_stream_updates(
            callback=callback,
            spot_orderbooks_filter=composer.chain_stream_orderbooks_filter(spot) if spot else None,
            derivative_orderbooks_filter=(
                composer.chain_stream_orderbooks_filter(other) if other else None
            ),
        )
        _tasks.append(asyncio.create_task(call))


async def indexer(options: dict[str, Any], tally: Tally) -> None:
    """`IndexerClient.listen_spot_orderbook_updates`, spot markets only."""
    from pyinjective.indexer_client import IndexerClient

    client = IndexerClient(network(options))

    async def callback(event: dict[str, Any]) -> None:
        tally.note(0, 1 if "orderbookLevelUpdates" in event else 0)

    ids = [m["market_id"] for m in options["markets"] if m["type"] == "spot"]
    call = client.listen_spot_orderbook_updates(market_ids=ids, callback=callback)
    _tasks.append(asyncio.create_task(call))


async def plain(options: dict[str, Any], tally: Tally) -> None:
    """`websockets` and `json`, one subscription per market."""
    import json

    import websockets

    async def read() -> None:
        async with websockets.connect(options["ws"], max_size=64 << 20) as connection:
            for number, market in enumerate(options["markets"], start=1):
                asked = Market(market["market_id"], market["ticker"], "", market["type"])
                await connection.send(subscribe_request(number, asked).decode())
            async for message in connection:
                result = json.loads(message)["result"]
                if isinstance(result, dict):
                    updates = len(result.get("spot_orderbook_updates") or ())
                    updates += len(result.get("derivative_orderbook_updates") or ())
                    tally.note(int(result["block_height"]), updates)

    _tasks.append(asyncio.create_task(read()))


_tasks: list[asyncio.Task[Any]] = []
PEERS: dict[str, Callable[[dict[str, Any], Tally], Awaitable[None]]] = {
    "chain_stream": chain_stream,
    "indexer": indexer,
    "websockets": plain,
}


async def run(name: str, options: dict[str, Any]) -> None:
    """Start one and count until asked to stop."""
    tally = Tally(times=options.get("times", False))
    await PEERS[name](options, tally)
    say({"ready": True})
    await until_told(tally)
    for task in _tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], msgspec.json.decode(sys.argv[2])))
