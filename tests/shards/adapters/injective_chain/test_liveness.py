"""What the watch makes of silence, asking a node whose word it is."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import zmq
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from shards.adapters.injective_chain.liveness import Watchdog
from shards.adapters.interface import Sink
from shards.adapters.registry import adapter
from shards.net.access import Access
from shards.net.nodes import Nodes
from shards.protocol.settings import Endpoints, ShardConfig
from shards.push import Pusher
from tests.shards.chain import FIRST
from tests.shards.one_market import hear, live


class _Rpc(WSListener):
    """CometBFT's RPC, as far as ``status`` goes."""

    def __init__(self, newest: Callable[[], int]) -> None:
        self._newest = newest
        self.ended = asyncio.Event()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.ended.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            asked: dict[str, Any] = msgspec.json.decode(frame.get_payload_as_bytes())
            sync = {"latest_block_height": str(self._newest()), "catching_up": False}
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {"sync_info": sync}}
            transport.send(WSMsgType.TEXT, msgspec.json.encode(answer))


async def test_a_block_that_comes_while_the_node_is_asked_is_no_halt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = live()
    told: list[tuple[bool, bool]] = []
    twice = asyncio.Event()

    def newest() -> int:
        told.append((watch.halted, "chain halted" in caplog.text))
        if len(told) == 1:
            hear(one, FIRST + 1)
        else:
            twice.set()
        return FIRST + 1

    rpc = _Rpc(newest)
    server = await ws_create_server(lambda _: rpc, "127.0.0.1", 0)
    with zmq.Context() as context:
        port = server.sockets[0].getsockname()[1]
        endpoints = Endpoints(chain_ws=("ws://127.0.0.1:1/",), rpc=(f"http://127.0.0.1:{port}",))
        config = ShardConfig(
            shard=0,
            epoch=1,
            source="chain-ws",
            endpoints=endpoints,
            markets=tuple(one.markets.values()),
            push=f"ipc://{tmp_path}/push",
            link="",
        )
        access = Access(endpoints)
        pusher = Pusher(
            context, config.push, shard=0, epoch=1, limits=config.limits, on_drop=lambda _: None
        )
        source = adapter("chain-ws").open_source(config, cast("Sink", None), access)
        nodes = Nodes(endpoints.rpc, access)
        watch = Watchdog(one, pusher, source, nodes, push_new=lambda: None)
        watching = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(60):
                await twice.wait()
        finally:
            watching.cancel()
            await nodes.aclose()
            pusher.close()
            access.close()
            server.close()
            await asyncio.wait_for(rpc.ended.wait(), 60)
    assert told == [(False, False), (False, False)]
