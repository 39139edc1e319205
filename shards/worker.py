"""
One shard process: all its parts, composed around one event loop.

::

    source ──payload──► pipeline ──records──► pusher ──► aggregator's PULL
                           │ ▲
                  requests │ │ books, lost blocks, listed trades
                           ▼ │
                          recovery    reports ◄──► aggregator's ROUTER

The data path, from the socket's callback to the send, is one synchronous call. Tasks exist
only for work that is not per message: recovery, liveness checks, reports.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Final

import zmq

from shards.adapters import registry
from shards.adapters.interface import Recovery, RecoveryContext
from shards.control_client import ControlClient
from shards.core.batch_stats import BatchStats
from shards.core.report import MarketReports, make_report
from shards.protocol.chain import Chain
from shards.protocol.control import Answer, Assignment, Report, ResumePoint
from shards.protocol.errors import Fenced
from shards.protocol.events import Cause
from shards.protocol.frames import Record
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Market, ShardConfig
from shards.push import Pusher
from shards.runtime import child
from shards.runtime.child import ChildContext, Heartbeat
from shards.runtime.loop_monitor import LoopMonitor
from shards.settling import Settling

log = logging.getLogger(__name__)

_REPORT_POLL_S: Final = 0.1
_MID_BLOCK_TURNS: Final = 5
"""For so many polls a report waits for the rest of a block. In the middle of one, half of the markets
are not where the others are, and each would be listed, once behind and once again at the front."""


class Shard:
    """Composes and runs the parts of a shard. It is the sink of its source."""

    def __init__(
        self,
        config: ShardConfig,
        context: "zmq.Context[zmq.Socket[bytes]]",
        watched: LoopMonitor | None = None,
    ) -> None:
        """``watched`` measures this process's event loop, for the reports."""
        self._config = config
        self._link = ControlClient(context, config.link)
        self._pusher = Pusher(
            context,
            config.push,
            shard=config.shard,
            epoch=config.epoch,
            limits=config.limits,
            on_drop=self._dropped,
        )
        self._access = registry.open_access(
            config.endpoints, config.budget, message_bytes=config.limits.message_bytes
        )
        adapter = registry.adapter(config.source)
        self._source = adapter.open_source(config, self, self._access)
        self._pipeline = adapter.new_pipeline(config, self._source, config.markets, {})
        self._assignment = 0
        """Version of the assignment last applied."""
        self._recovery: Recovery | None = None
        self._markets = MarketReports()
        self._is_fresh = True
        """This process has not collected anything yet."""
        self._batch_ts = 0
        """``ts_recv`` of the first payload whose records were not pushed yet; 0 without any."""
        self._settling = Settling(self._pipeline, self._push_new)
        self._watched = watched or LoopMonitor()
        self._batches = BatchStats(self._watched.vitals, most_age_s=config.limits.batch_age_s)

    # ---- life -----------------------------------------------------------------------

    async def serve(self) -> None:
        """Resume where the aggregator says, then collect until cancelled."""
        answer = await self._ask_where_to_resume()
        self._pusher.kept_from = 1 + max((p.last for p in answer.resume.values()), default=-1)
        markets: Sequence[Market] = self._config.markets
        # The markets in our start configuration may have been reassigned since.
        self._pipeline.remove(list(self._pipeline.markets))
        if answer.assignment is not None:
            self._source.remove([market.market_id for market in markets])
            markets = answer.assignment.markets
            self._source.add(markets)
            self._assignment = answer.assignment.version
        self._pipeline.add(markets, _ledgers(answer.resume))
        async with asyncio.TaskGroup() as tasks:
            self._recovery = registry.adapter(self._config.source).open_recovery(
                RecoveryContext(
                    config=self._config,
                    pipeline=self._pipeline,
                    source=self._source,
                    access=self._access,
                    pusher=self._pusher,
                    tasks=tasks,
                    push_new=self._push_new,
                )
            )
            self._apply(answer)
            self._is_fresh = False
            self._pipeline.resume(
                time.time_ns(), {name: point.gap for name, point in answer.resume.items()}
            )
            self._push_new()
            child.freeze_heap()
            tasks.create_task(self._recovery.run())
            tasks.create_task(self._report())
            tasks.create_task(self._source.run())

    async def _ask_where_to_resume(self) -> Answer:
        while True:
            answer = await self._link.report(self._make_report(fresh=True), wait_s=1.0)
            if answer is not None:
                return answer
            log.info("waiting for the aggregator")

    async def drain(self) -> None:
        """Push the remaining frames, then send a last report."""
        self._pipeline.flush()
        self._pusher.push(self._pipeline.take_records())
        if self._recovery is not None:
            # There is no time to ask for all markets if the aggregator has just begun.
            self._markets.answered(whole=True)
            await self._link.report(self._make_report(fresh=False), wait_s=1.0)

    async def aclose(self) -> None:
        """Close all sockets and connections."""
        if self._recovery is not None:
            await self._recovery.aclose()
        self._settling.end()
        self._pusher.close()
        self._link.close()
        self._access.close()

    # ---- the data path (sources.sink.Sink) ------------------------------------------

    def receive(
        self, payload: bytes | memoryview, ts_recv: int, last: bool, subscription: int = 0
    ) -> None:
        """Take one payload; its frames are sent after the last payload of a read, or by age."""
        self._pipeline.receive(payload, ts_recv, subscription)
        if not self._batch_ts:
            self._batch_ts = ts_recv
        if last or ts_recv - self._batch_ts > self._batches.most_age:
            self._push_new()

    def subscribed(
        self, subscription: int, market_ids: Iterable[str], served: Collection[str] = ()
    ) -> None:
        """Note a subscription that is about to be requested."""
        self._pipeline.subscribed(subscription, market_ids, time.time_ns(), served)

    def confirmed(self, subscription: int) -> None:
        """Note that a subscription was accepted."""
        self._pipeline.confirmed(subscription, time.time_ns())

    def lost(self, subscription: int, cause: Cause, reason: str) -> None:
        """Note that one subscription has ended."""
        self._pipeline.lost(subscription, cause, time.time_ns(), reason)
        self._push_new()

    def left(
        self, subscriptions: Iterable[int], unserved: Collection[str], cause: Cause, reason: str
    ) -> None:
        """Note that one of several paths has ended some subscriptions."""
        self._pipeline.left(subscriptions, unserved, cause, time.time_ns(), reason)
        self._push_new()

    def read_ended(self) -> None:
        """Push what a read brought: its last payload was dropped."""
        if self._batch_ts:
            self._push_new()

    def disconnected(self, cause: Cause, reason: str) -> None:
        """Note that the connection is gone."""
        self._pipeline.disconnected(cause, time.time_ns(), reason)
        self._push_new()

    def _push_new(self) -> None:
        """Push the new records and start what was requested (snapshots, replays, subscriptions)."""
        ts_recv, self._batch_ts = self._batch_ts, 0
        records = self._pipeline.take_records()
        if records:
            batches = self._batches
            if self._pusher.frames < batches.sampler.due:
                self._pusher.push(records)
            else:
                self._push_timed(records, ts_recv)
            sizes = batches.sizes
            try:
                sizes[len(records)] += 1
            except KeyError:
                sizes[len(records)] = 1
        pipeline = self._pipeline
        if pipeline.has_requests and self._recovery is not None:
            self._recovery.dispatch()
        if pipeline.has_late:
            self._settling.begin()

    def _push_timed(self, records: list[Record], ts_recv: int) -> None:
        """Push a batch chosen for timing; its latency is that of its oldest payload."""
        decoded = time.time_ns()
        pushed = self._pusher.push(records)
        # Otherwise it came from no payload, or ZeroMQ refused it.
        if ts_recv and pushed >= decoded:
            self._batches.timed(self._pusher.frames, ts_recv, decoded, pushed)

    def _dropped(self, records: list[Record]) -> None:
        count = self._pipeline.dropped(records, time.time_ns())
        log.warning(
            "aggregator backlog full: dropped %d frames; their blocks will be replayed", count
        )

    # ---- reports --------------------------------------------------------------------

    async def _report(self) -> None:
        """Report once a second, and at once when a market's state changes."""
        while True:
            seen = self._changes()
            report = self._make_report(fresh=False)
            answer = await self._link.report(report, wait_s=1.0)
            if answer is not None:
                self._markets.answered(whole=answer.whole)
                # The aggregator lacks the report that this one followed: it has just begun. It gets
                # the kept frames once a whole report has told it from where topics are complete.
                is_lacking = answer.whole and report.since > 0
                self._apply(answer, links=not is_lacking)
                if is_lacking:
                    continue
            turns = round(self._config.limits.report_s / _REPORT_POLL_S)
            for turn in range(turns + _MID_BLOCK_TURNS):
                if turn >= turns and not self._pipeline.is_mid_block:
                    break
                await asyncio.sleep(_REPORT_POLL_S)
                if self._changes() != seen:
                    break

    def _changes(self) -> tuple[bool, int]:
        nodes = self._recovery.nodes if self._recovery is not None else None
        is_replaced = nodes is not None and nodes.replacement is not None
        return is_replaced, self._pipeline.transitions

    def _apply(self, answer: Answer, *, links: bool = True) -> None:
        if answer.fenced:
            raise Fenced(f"shard {self._config.shard} was replaced by a younger process")
        if answer.chain is not None:
            self._use_chain(answer.chain)
        if answer.assignment is not None and answer.assignment.version != self._assignment:
            self._reassign(answer.assignment, answer.resume)
        if links and self._pusher.link(answer.publisher_epoch):
            self._pusher.flush()
            self._pipeline.keyframes(time.time_ns())
            self._push_new()

    def _use_chain(self, chain: Chain) -> None:
        """Continue with this chain, or start over with it if ours was replaced."""
        nodes = self._recovery.nodes if self._recovery is not None else None
        if nodes is None:
            return
        is_another = chain.generation > nodes.chain.generation and not self._is_fresh
        nodes.knows(chain)
        if is_another:
            first = chain.marks[0].height if chain.marks else 1
            reason = f"{chain.name} was replaced: everything starts over"
            log.warning("%s", reason)
            self._pusher.forget()
            self._pipeline.start_over(first, time.time_ns(), reason)
            self._source.reconnect("chain_changed", reason)

    def _reassign(self, assignment: Assignment, resume: Mapping[str, ResumePoint]) -> None:
        """Remove and add markets; those in both assignments are not touched."""
        pipeline = self._pipeline
        # Push the removed markets' last frames before their state is discarded.
        self._push_new()
        wanted = {market.market_id: market for market in assignment.markets}
        gone = [market_id for market_id in pipeline.markets if market_id not in wanted]
        new = [market for market_id, market in wanted.items() if market_id not in pipeline.markets]
        resumed = {m.market_id: resume[m.market_id] for m in new if m.market_id in resume}
        self._source.remove(gone)
        pipeline.remove(gone)
        pipeline.add(new, _ledgers(resumed))
        self._source.add(new)
        if resumed:
            kept_from = 1 + max(point.last for point in resumed.values())
            self._pusher.kept_from = max(self._pusher.kept_from, kept_from)
            gaps = {market_id: point.gap for market_id, point in resumed.items()}
            pipeline.resume(time.time_ns(), gaps, market_ids=resumed)
        self._assignment = assignment.version
        if gone or new:
            log.info(
                "assignment changed: +%d -%d markets, %d total",
                len(new), len(gone), len(wanted),
            )  # fmt: skip
        self._push_new()

    def _make_report(self, *, fresh: bool) -> Report:
        stats = self._batches.report(
            self._config.limits.batch_frames,
            held_blocks=self._pipeline.liveness.held_blocks(),
            requests=self._recovery.waiting if self._recovery is not None else 0,
        )
        return make_report(
            self._config,
            self._pipeline,
            self._markets,
            self._pusher,
            pid=os.getpid(),
            ts=time.time_ns(),
            fresh=fresh,
            halted=self._recovery is not None and self._recovery.halted,
            lag_s=self._watched.take_worst_s(),
            stats=stats,
            assignment=self._assignment,
            endpoints=self._source.endpoints.reports(),
            connects=self._source.endpoints.attempts,
            nodes=self._recovery.nodes if self._recovery is not None else None,
            paths=self._source.paths(),
        )


def _ledgers(resume: Mapping[str, ResumePoint]) -> dict[str, MarketLedger]:
    return {market_id: MarketLedger.of(point) for market_id, point in resume.items()}


# ---- the process ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _open(config: ShardConfig, watched: LoopMonitor) -> AsyncIterator[Shard]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    shard = Shard(config, context, watched)
    try:
        yield shard
    finally:
        await shard.aclose()
        context.term()


async def run(config: ShardConfig, life: ChildContext) -> None:
    """Run a shard until it is asked to stop, then drain it."""
    async with _open(config, life.watched) as shard, asyncio.TaskGroup() as tasks:
        # These are ZeroMQ's, which carry what is pushed.
        life.put_others_first()
        serving = tasks.create_task(shard.serve())
        stopping = tasks.create_task(life.stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            serving.cancel()
            await shard.drain()


def main(config: ShardConfig, heartbeat: Heartbeat) -> None:
    """Run the shard process: entry point of the spawned child."""
    child.run(
        f"shard {config.shard}",
        lambda life: run(config, life),
        heartbeat,
        log_level=config.log_level,
        log_format=config.log_format,
        realtime=config.realtime,
        spin=config.spin,
    )
