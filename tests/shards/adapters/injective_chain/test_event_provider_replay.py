"""Lost blocks from an event provider: a real gRPC server that serves the recorded events."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shards.adapters.injective_chain import ws_decoder
from shards.adapters.injective_chain.lost_blocks import EventProviderReplay, Replayer
from shards.adapters.interface import BlockGone
from shards.adapters.messages import INJECTIVE
from shards.protocol.errors import SourceError
from shards.protocol.events import Block

GOLDEN = Path(__file__).parents[3] / "golden" / "node-v1.20.1.jsonl.gz"


def _recorded() -> dict[int, dict[str, Any]]:
    with gzip.open(GOLDEN, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["height"]: row for row in rows if row["kind"] == "block"}


class _Provider:
    """Answers for the recorded heights; for others as a provider that has pruned them."""

    def __init__(self, recorded: dict[int, dict[str, Any]]) -> None:
        self._recorded = recorded
        self._pb: Any = INJECTIVE.package("event_provider_api")

    async def GetABCIBlockEventsAtHeight(self, request: Any, context: Any) -> Any:
        row = self._recorded.get(request.height)
        if row is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such block")
            raise AssertionError
        ws = json.loads(row["ws"])["result"]
        block = self._pb.RawBlock(height=row["height"], block_timestamp=int(ws["block_time"]))
        for event in row["block_results_events"]:
            added = block.end_block_events.add(type=event["type"])
            for attribute in event["attributes"]:
                added.attributes.add(key=attribute["key"], value=attribute["value"])
        return self._pb.GetABCIBlockEventsAtHeightResponse(raw_block=block)


@pytest.fixture
async def provider() -> AsyncIterator[str]:
    service = _Provider(_recorded())
    pb: Any = INJECTIVE.package("event_provider_api")
    handler = grpc.unary_unary_rpc_method_handler(
        service.GetABCIBlockEventsAtHeight,
        request_deserializer=pb.GetABCIBlockEventsAtHeightRequest.FromString,
        response_serializer=pb.GetABCIBlockEventsAtHeightResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "event_provider_api.EventProviderAPI", {"GetABCIBlockEventsAtHeight": handler}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_a_block_of_the_event_provider_equals_the_streamed_one(provider: str) -> None:
    replay = EventProviderReplay(provider)
    trades = 0
    for height, row in _recorded().items():
        block = await replay.fetch(height)
        _, streamed = ws_decoder.decode(row["ws"].encode())
        assert isinstance(streamed, Block)
        assert block.trades == streamed.trades
        assert block.ts_event == streamed.ts_event
        assert sorted(block.updates, key=lambda u: u.market_id) == sorted(
            streamed.updates, key=lambda u: u.market_id
        )
        trades += len(block.trades)
    assert trades > 0
    await replay.aclose()


async def test_a_block_that_it_has_no_more_is_gone(provider: str) -> None:
    replayer = Replayer([EventProviderReplay(provider)])
    assert await replayer.fetch(1) is None
    await replayer.aclose()


async def test_the_next_source_is_asked_where_one_fails(provider: str) -> None:
    class Broken:
        name = "broken"

        async def fetch(self, height: int) -> Block:
            raise (BlockGone("pruned") if height % 2 else SourceError("broken", "down"))

        async def aclose(self) -> None: ...

    replayer = Replayer([Broken(), EventProviderReplay(provider)])
    for height in list(_recorded())[:4]:
        block = await replayer.fetch(height)
        assert block is not None
        assert block.height == height
    await replayer.aclose()
