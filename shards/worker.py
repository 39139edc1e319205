"""
One shard process: everything put together around one event loop.

::

    source ──payload──► pipeline ──records──► pusher ──► aggregator's PULL
                           │ ▲
                  requests │ │ snapshots, lost blocks
                           ▼ │
                       fetchers               reports ◄──► aggregator's ROUTER

The data path, from the socket's callback to the send, is one synchronous call. Tasks
exist for what is not per message: fetching, watching, reporting.
"""

import asyncio
import faulthandler
import gc
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any, Final

import uvloop
import zmq

from shards.backoff import Backoff
from shards.config import Market, ShardConfig
from shards.decoders import chain_ws as chain_ws_decoder
from shards.errors import EXIT_CONFIG, ConfigError, SourceError
from shards.events import Cause, Source
from shards.feed import Feed, State
from shards.ledger import MarketLedger
from shards.link import Link
from shards.pipeline import NeedReplay, NeedSnapshot, NeedSubscription, Pipeline
from shards.push import Pusher
from shards.reports import Answer, EndpointReport, MarketReport, Report
from shards.sources.chain_ws import ChainWs
from shards.sources.pace import Pace
from shards.sources.replay import Replayer, RpcReplay
from shards.sources.rpc import Rpc, latest_height
from shards.sources.snapshots import Snapshots

log = logging.getLogger(__name__)

_WATCH_S: Final = 0.25
_BEAT_S: Final = 0.1
_SOURCE: Final[Source] = "chain-ws"


class Fenced(Exception):
    """A younger process has this shard's number."""


class Shard:
    """The parts of a running shard; `run` is its life."""

    def __init__(self, config: ShardConfig, heartbeat: Any) -> None:
        self._config = config
        self._limits = config.limits
        self._heartbeat = heartbeat
        self._markets = {market.market_id: market for market in config.markets}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._link = Link(self._context, config.link)
        self._pusher = Pusher(
            self._context,
            config.push,
            shard=config.shard,
            epoch=config.epoch,
            limits=config.limits,
            on_drop=self._dropped,
        )
        self._pipeline = self._new_pipeline({})
        self._source = ChainWs(
            config.endpoints.chain_ws,
            config.markets,
            self,
            subscribe_per_s=config.limits.subscribe_per_s,
        )
        self._rpc = Rpc(config.endpoints.rpc[0])
        self._replayer = Replayer([RpcReplay(Rpc(url)) for url in config.endpoints.rpc])
        self._snapshots = Snapshots(config.endpoints.chain_grpc, tls=config.endpoints.tls)
        self._snapshot_pace = Pace(self._limits.snapshot_per_s)
        self._snapshot_slots = asyncio.Semaphore(self._limits.snapshot_concurrency)
        self._replay_pace = Pace(self._limits.replay_per_s)
        self._replay_due = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self._batch_ts = 0
        self._batch_age = int(self._limits.batch_age_s * 1e9)
        self._fetching: set[str] = set()
        self._resubscribing: dict[str, Backoff] = {}
        self._halted = False
        self._lag_s = 0.0

    def _new_pipeline(self, ledgers: dict[str, MarketLedger]) -> Pipeline:
        return Pipeline(
            self._config.markets,
            source=_SOURCE,
            decoder=chain_ws_decoder.decode,
            limits=self._limits,
            ledgers=ledgers,
        )

    # ---- life -----------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Take up where the aggregator says, and serve until told to stop."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                beat = tasks.create_task(self._beat())
                stopping = tasks.create_task(stop.wait())
                serving = tasks.create_task(self._serve())
                await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    serving.result()
                await self._drain()
                for task in (beat, stopping, serving):
                    task.cancel()
        finally:
            await self._snapshots.close()
            self._pusher.close()
            self._link.close()
            self._context.term()

    async def _serve(self) -> None:
        await self._take_up()
        # What was allocated so far stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._source.run())
            tasks.create_task(self._watch())
            tasks.create_task(self._replay_lost())
            tasks.create_task(self._report())

    async def _take_up(self) -> None:
        """Ask the aggregator where former processes of this shard have got to."""
        while True:
            answer = await self._link.report(self._make_report(fresh=True), wait_s=1.0)
            if answer is not None:
                break
            log.info("shard %d waits for the aggregator", self._config.shard)
        self._pipeline = self._new_pipeline(
            {
                market_id: MarketLedger(point.first, point.last, point.replayed, point.missing)
                for market_id, point in answer.resume.items()
                if market_id in self._markets and point.first
            }
        )
        self._heed(answer)
        self._pipeline.resume(time.time_ns())
        self._settle()

    async def _drain(self) -> None:
        """Hand over what is there: frames, then a last report."""
        self._pusher.push(self._pipeline.take_records())
        await self._link.report(self._make_report(fresh=False), wait_s=1.0)

    async def _beat(self) -> None:
        """Show the supervisor that the loop turns, and notice when it does so late."""
        while True:
            due = time.monotonic() + _BEAT_S
            self._heartbeat.value = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            self._lag_s = max(self._lag_s, time.monotonic() - due)

    # ---- what the source says (sources.chain_ws.Sink) -------------------------------

    def receive(self, payload: bytes | memoryview, ts_recv: int, last: bool) -> None:
        """Take one payload; the frames leave with the last of a read, or when they age."""
        pipeline = self._pipeline
        pipeline.receive(payload, ts_recv)
        if not self._batch_ts:
            self._batch_ts = ts_recv
        if last or ts_recv - self._batch_ts > self._batch_age:
            self._settle()

    def subscribed(self, subscription: int, market_ids: Iterable[str]) -> None:
        """Note a subscription that is about to be asked for."""
        self._pipeline.subscribed(subscription, market_ids, time.time_ns())

    def disconnected(self, cause: Cause, reason: str) -> None:
        """Note that the connection is gone."""
        self._pipeline.disconnected(cause, time.time_ns(), reason)
        self._settle()

    def _settle(self) -> None:
        """Push the frames that were made and see to what was asked for."""
        self._batch_ts = 0
        records = self._pipeline.take_records()
        if records:
            self._pusher.push(records)
        if self._pipeline.has_requests:
            self._see_to_requests()

    def _dropped(self, records: list[Any]) -> None:
        count = self._pipeline.dropped(records, time.time_ns())
        log.warning("the aggregator is behind: %d frames dropped, their blocks come again", count)

    # ---- requests of the pipeline ---------------------------------------------------

    def _see_to_requests(self) -> None:
        for request in self._pipeline.take_requests():
            if isinstance(request, NeedReplay):
                self._replay_due.set()
            elif isinstance(request, NeedSnapshot):
                if request.market_id not in self._fetching:
                    self._fetching.add(request.market_id)
                    self._tasks.create_task(self._fetch_book(request))
            elif isinstance(request, NeedSubscription):
                self._tasks.create_task(self._resubscribe(request))

    async def _fetch_book(self, request: NeedSnapshot) -> None:
        """Fetch a market's book until one joins."""
        market = self._markets[request.market_id]
        height = request.height
        backoff = Backoff(base_s=0.1, cap_s=5.0)
        while self._pipeline.wants_snapshot(market.market_id):
            try:
                async with self._snapshot_slots:
                    await self._snapshot_pace.turn()
                    snapshot = await self._snapshots.fetch(market, height)
                self._pipeline.join(snapshot, time.time_ns())
                self._settle()
            except SourceError as error:
                log.info("%s; trying again", error)
                if backoff.attempt > 2:
                    # A height that the node has no more: the newest book must do.
                    height = 0
            if self._pipeline.wants_snapshot(market.market_id):
                await asyncio.sleep(0.05 + backoff.next_s())
        self._fetching.discard(market.market_id)

    async def _resubscribe(self, request: NeedSubscription) -> None:
        """Make one market's subscription anew, more and more slowly."""
        backoff = self._resubscribing.setdefault(request.market_id, Backoff())
        await asyncio.sleep(backoff.next_s())
        self._source.resubscribe(request.market_id)

    async def _replay_lost(self) -> None:
        """Fetch lost blocks in order, a few at once, for as long as there are any."""
        while True:
            await self._replay_due.wait()
            self._replay_due.clear()
            while heights := self._pipeline.due_replays(self._limits.replay_concurrency):
                if self._pusher.stuck:
                    await asyncio.sleep(0.2)
                    continue
                async with asyncio.TaskGroup() as tasks:
                    for height in heights:
                        tasks.create_task(self._replay_block(height))

    async def _replay_block(self, height: int) -> None:
        await self._replay_pace.turn()
        block = await self._replayer.fetch(height)
        self._pipeline.replay(height, block, time.time_ns())
        self._settle()

    # ---- watching -------------------------------------------------------------------

    async def _watch(self) -> None:
        """Find subscriptions that hear no blocks; flush what ZeroMQ refused."""
        seen = 0
        while True:
            due = time.monotonic() + _WATCH_S
            await asyncio.sleep(_WATCH_S)
            if self._pusher.stuck:
                self._pusher.flush()
            if self._pipeline.head > seen:
                seen = self._pipeline.head
                self._source.endpoints.succeeded()
            if time.monotonic() - due > _WATCH_S:
                # We were stopped or starved; what waits in the socket was not late.
                continue
            mute = self._pipeline.mute(time.time_ns())
            if mute:
                await self._revive(mute)
            elif self._halted:
                self._halted = False
                log.info("the chain makes blocks again")

    async def _revive(self, mute: list[Feed]) -> None:
        """Tell a dead subscription from a halted chain, and rebuild what is dead."""
        head = self._pipeline.head
        if len(mute) == len(self._markets) and await self._node_is_silent_too(head):
            if not self._halted:
                self._halted = True
                log.warning("the chain halted at height %d; the subscription is alive", head)
            return
        self._halted = False
        limit_s = self._pipeline.mute_limit_s()
        if len(mute) == len(self._markets):
            self._source.reconnect("mute", f"no block for {limit_s:.1f} s on any subscription")
            return
        for feed in mute:
            symbol = self._markets[feed.market_id].symbol
            log.warning("%s: no block for %.1f s; subscribing anew", symbol, limit_s)
            feed.lose("mute", time.time_ns(), f"no block for {limit_s:.1f} s")
            self._source.resubscribe(feed.market_id)
        self._settle()

    async def _node_is_silent_too(self, head: int) -> bool:
        try:
            return 0 < await latest_height(self._rpc) <= head
        except SourceError:
            return False

    # ---- reports --------------------------------------------------------------------

    async def _report(self) -> None:
        """Report once a second, and at once when a market's state changed."""
        last: list[State] = []
        while True:
            states = [feed.state for feed in self._pipeline.feeds.values()]
            answer = await self._link.report(self._make_report(fresh=False), wait_s=1.0)
            if answer is not None:
                self._heed(answer)
            last = states
            for _ in range(int(self._limits.report_s / 0.1)):
                await asyncio.sleep(0.1)
                if [feed.state for feed in self._pipeline.feeds.values()] != last:
                    break

    def _heed(self, answer: Answer) -> None:
        if answer.fenced:
            raise Fenced(f"shard {self._config.shard} was replaced by a younger process")
        if self._pusher.link(answer.publisher_epoch):
            self._pusher.flush()
            self._pipeline.keyframes(time.time_ns())
            self._settle()

    def _make_report(self, *, fresh: bool) -> Report:
        pipeline = self._pipeline
        lag_s, self._lag_s = self._lag_s, 0.0
        return Report(
            shard=self._config.shard,
            epoch=self._config.epoch,
            pid=os.getpid(),
            ts=time.time_ns(),
            fresh=fresh,
            head=pipeline.head,
            head_ts_event=pipeline.head_ts_event,
            block_time_s=pipeline.block_time_s,
            halted=self._halted,
            markets=[] if fresh else [_market_report(feed) for feed in pipeline.feeds.values()],
            endpoints=[
                EndpointReport(s.endpoint, s.breaker, s.reason, s.in_use)
                for s in self._source.endpoints.states()
            ],
            connects=self._source.endpoints.attempts,
            payloads=pipeline.payloads,
            frames=self._pusher.frames,
            kept=self._pusher.kept,
            dropped=self._pusher.dropped,
            backlog_bytes=self._pusher.backlog_bytes,
            lag_us=lag_s * 1e6,
        )


def _market_report(feed: Feed) -> MarketReport:
    ledger, stats = feed.ledger, feed.stats
    return MarketReport(
        feed.market_id,
        feed.state.value,
        feed.reason,
        ledger.first,
        ledger.last,
        list(ledger.replayed),
        list(ledger.missing),
        stats.trades,
        stats.book_updates,
        stats.duplicates,
        stats.resyncs,
        stats.gaps_opened,
        stats.gaps_closed,
    )


# ---- the process ------------------------------------------------------------------------


async def serve(config: ShardConfig, heartbeat: Any, parent: Connection | int | None) -> None:
    """Run a shard until SIGTERM or the parent's death."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # A terminal's Ctrl-C reaches the whole group; the coordinator drains us in its time.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    if parent is not None:
        loop.add_reader(parent, stop.set)
    await Shard(config, heartbeat).run(stop)


def main(config: ShardConfig, heartbeat: Any) -> None:
    """Be the shard process: entry point of the spawned child."""
    faulthandler.enable()
    logging.basicConfig(
        level=config.log_level,
        format=f"%(asctime)s shard {config.shard} %(levelname)s %(message)s",
    )
    parent = multiprocessing.parent_process()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, heartbeat, parent.sentinel if parent else None))
    except* ConfigError as errors:
        log.error("%s", errors.exceptions[0])
        raise SystemExit(EXIT_CONFIG) from None
    except* Fenced as errors:
        log.warning("%s", errors.exceptions[0])
