"""
The trader: every block, every account sends what the flow says.

Run as `python -m collector.devnet.trader FILE` with the plan and the markets in the file.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import grpc
import msgspec

from collector.devnet.accounts import MAKERS, TAKERS, accounts
from collector.devnet.chain import Sender
from collector.devnet.flow import Batch, Flow
from collector.devnet.markets import Market
from collector.devnet.messages import Translator
from collector.devnet.protos import PROTOS
from collector.devnet.trading import PLANS, TraderConfig

log = logging.getLogger("collector.devnet")

_SAY_EVERY_S = 10.0
_RETRY_AFTER_S = 0.5
_ORACLE_EVERY = 3
"""Blocks between two oracle prices of a perpetual market."""


class Block(NamedTuple):
    """What the trader needs to know of a block."""

    height: int
    time_s: float
    trades: int
    """Records with one of the takers' orders in them."""


class Counts(msgspec.Struct):
    """What was done so far: orders and cancels the node took, trades the chain reported."""

    orders: int = 0
    cancels: int = 0
    trades: int = 0
    refused: int = 0
    """Transactions the node did not take."""

    def __str__(self) -> str:
        return (
            f"{self.orders} orders, {self.cancels} cancels, {self.trades} trades, "
            f"{self.refused} transactions refused"
        )


class Trader:
    """Trade on every block of a chain, through restarts of its node."""

    def __init__(self, config: TraderConfig, markets: tuple[Market, ...]) -> None:
        self.counts = Counts()
        self._config = config
        self._markets = [market for market in markets if not (market.quiet or market.paused)]
        self._accounts = accounts()
        self._flow = Flow(
            [market.mid for market in self._markets],
            PLANS[config.traffic],
            makers=MAKERS,
            takers=TAKERS,
            seed=config.seed,
        )
        self._translator = Translator(self._markets, run=f"{int(time.time()):x}-")

    async def run(self) -> None:
        """Trade until cancelled."""
        config = self._config
        async with (
            grpc.aio.insecure_channel(config.chain_grpc, options=_FAST_RECONNECT) as orders,
            grpc.aio.insecure_channel(config.chain_stream, options=_FAST_RECONNECT) as stream,
        ):
            senders = [Sender(a, orders, config.chain_id) for a in self._accounts]
            while True:
                # Transactions sent before the blocks stopped may never arrive.
                self._flow.forget_all()
                async for block in self._blocks(stream):
                    self.counts.trades += block.trades
                    await self._trade(block, senders)
                await asyncio.sleep(_RETRY_AFTER_S)

    async def _blocks(self, channel: grpc.aio.Channel) -> AsyncIterator[Block]:
        """Give the blocks as they come; end when they stop coming, for whatever reason."""
        takers = [account.subaccount_id for account in self._accounts[MAKERS:-1]]
        stream = PROTOS.package("injective.stream.v2")
        trades = stream.TradesFilter(subaccount_ids=takers)
        request = stream.StreamRequest(spot_trades_filter=trades, derivative_trades_filter=trades)
        call = PROTOS.stub("injective.stream.v2.Stream", channel).StreamV2(request)
        # A subscriber that the node has dropped receives nothing any more, not even an error.
        patience_s = 10 * self._config.block_time_s + 5
        try:
            while True:
                message = await asyncio.wait_for(call.read(), patience_s)
                if message is grpc.aio.EOF:
                    return
                count = len(message.spot_trades) + len(message.derivative_trades)
                yield Block(message.block_height, message.block_time / 1000, count)
        except (grpc.aio.AioRpcError, TimeoutError) as exc:
            log.info("no blocks: %s", type(exc).__name__)
        finally:
            call.cancel()

    async def _trade(self, block: Block, senders: list[Sender]) -> None:
        # A block that is not the last one any more: the machine is busy, do not make it busier.
        if time.time() - block.time_s > 3 * self._config.block_time_s:
            return
        batches = self._flow.step()
        async with asyncio.TaskGroup() as tasks:
            for sender, batch in zip(senders, batches, strict=False):
                if any(batch):
                    tasks.create_task(self._send(sender, batch, block.height))
            tasks.create_task(self._move_oracle(senders[-1], block.height))

    async def _send(self, sender: Sender, batch: Batch, height: int) -> None:
        message = self._translator.batch(batch, sender.account)
        if await sender.send(message, height=height):
            self.counts.orders += len(batch.orders)
            self.counts.cancels += len(batch.cancels)
        else:
            self.counts.refused += 1
            self._flow.forget(batch)

    async def _move_oracle(self, sender: Sender, height: int) -> None:
        prices = [
            (number, self._flow.mid(number))
            for number, market in enumerate(self._markets)
            if market.type == "derivative" and (number + height) % _ORACLE_EVERY == 0
        ]
        if prices:
            await sender.send(self._translator.oracle(prices, sender.account), height=height)


# The default waits up to two minutes between attempts to reach a node that was restarted.
_FAST_RECONNECT = (("grpc.max_reconnect_backoff_ms", 1000),)


async def _trade_until_stopped(trader: Trader) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = os.getppid()
    trading = loop.create_task(trader.run())
    trading.add_done_callback(lambda _: stop.set())
    while not stop.is_set() and os.getppid() == parent:
        try:
            await asyncio.wait_for(stop.wait(), _SAY_EVERY_S)
        except TimeoutError:
            log.info("%s", trader.counts)
    if not trading.done():
        trading.cancel()
    try:
        await trading
    except asyncio.CancelledError:
        log.info("in all %s", trader.counts)


def main() -> None:
    """Run the trader until it is asked to stop, or its keeper is gone."""
    logging.basicConfig(format="devnet trader: %(message)s", level=logging.INFO)
    config, markets = msgspec.json.decode(
        Path(sys.argv[1]).read_bytes(), type=tuple[TraderConfig, tuple[Market, ...]]
    )
    asyncio.run(_trade_until_stopped(Trader(config, markets)))


if __name__ == "__main__":
    main()
