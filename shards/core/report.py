"""
Build a shard's reports (protocol/control.py). Pure: everything beside the pipeline is passed in.

`MarketReports` remembers how each market was reported last, so that a report has only what changed.
A report also looks only at the markets that may have changed: a shard may have thousands.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from shards.core.feed import Feed
from shards.core.pipeline import Pipeline
from shards.protocol.chain import Chain
from shards.protocol.control import EndpointReport, MarketReport, NodeReport, PathReport, Report
from shards.protocol.histograms import ShardStats
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import ShardConfig


class PushedFrames(Protocol):
    """How the shard's frames stand, as its pusher knows (push.py)."""

    frames: int
    dropped: int
    kept_from: int

    @property
    def kept(self) -> int:
        """Frames that wait, or are kept for a new aggregator."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait because the aggregator does not take them."""


class ChainView(Protocol):
    """Which chain the nodes show, as the shard judges it (net/nodes.py)."""

    chain: Chain
    replacement: Chain | None

    def reports(self) -> list[NodeReport]:
        """Describe the nodes."""


_Standing: TypeAlias = tuple[object, ...]
"""What is reported of a market, except for its book's sequence, in a form that is cheap to compare."""
_AT_FRONT: Final = -1
"""Where a ledger ends that ends at the front."""


class MarketReports:
    """What the aggregator knows of a shard's markets."""

    def __init__(self) -> None:
        self.number = 0
        """Of the newest report."""
        self.since = 0
        """Number of the report that the newest one follows; 0: it has all markets."""
        self._taken = 0
        """Number of the newest report, once it is answered; 0: the next one has all markets."""
        self._known: dict[str, _Standing] = {}
        self._basis: object = None
        self._ledgers: list[tuple[str, MarketLedger]] = []
        self._unsettled: set[str] = set()
        """Markets that the next report has to look at in any case."""

    def answered(self, *, whole: bool) -> None:
        """Note that the newest report was taken; with ``whole`` the next one has all markets."""
        self._taken = 0 if whole else self.number

    def make(self, pipeline: Pipeline[Any], basis: object) -> list[MarketReport]:
        """
        Report the markets that changed since the last report, if that was answered.

        All markets, if not: then the aggregator may have taken it or not. All, too, if this shard
        collects other markets than at the last report, or if ``basis`` differs.
        """
        basis = (basis, pipeline.generation, pipeline.composition)
        if basis != self._basis:
            self._basis, self._taken = basis, 0
            self._ledgers = [(name, feed.ledger) for name, feed in pipeline.feeds.items()]
        self.since, self._taken = self._taken, 0
        self.number += 1
        if not self.since:
            self._known.clear()
            return self._look(pipeline, list(pipeline.feeds))
        return self._look(pipeline, self._candidates(pipeline))

    def _candidates(self, pipeline: Pipeline[Any]) -> Iterable[str]:
        """
        Return the markets that may have changed.

        A steady one receives the next block and nothing else happens to it. So only the end of its
        ledger can have changed, and only in that it does not end at the front.
        """
        front = pipeline.head
        # Most of what a report costs with thousands of markets: nothing may be added to it.
        behind = [name for name, ledger in self._ledgers if ledger.last != front]
        return self._unsettled.union(pipeline.take_moved(), behind)

    def _look(self, pipeline: Pipeline[Any], market_ids: Iterable[str]) -> list[MarketReport]:
        """Report those of some markets that changed."""
        feeds, known, front = pipeline.feeds, self._known, pipeline.head
        rows, unsettled = [], set()
        for market_id in market_ids:
            feed = feeds[market_id]
            standing = _standing(feed, front)
            if standing != known.get(market_id):
                known[market_id] = standing
                rows.append(_market(feed))
            if standing[1] != _AT_FRONT or not feed.track.is_steady:
                unsettled.add(market_id)
        self._unsettled = unsettled
        return rows


def _standing(feed: Feed, front: int) -> _Standing:
    ledger, sync = feed.ledger, feed.sync
    last, waits_from = ledger.last, sync.waits_from
    is_at_front = last == front and not 0 < waits_from <= last
    return (
        feed.state,
        _AT_FRONT if is_at_front else last,
        ledger.replayed.changes,
        ledger.missing.changes,
        sync.in_sync,
        waits_from,
        ledger.first,
        feed.stats.resyncs,
        ledger.audited_to,
        feed.reason,
    )


def make_report(
    config: ShardConfig,
    pipeline: Pipeline[Any],
    markets: MarketReports,
    outgoing: PushedFrames,
    *,
    pid: int,
    ts: int,
    fresh: bool,
    halted: bool,
    lag_s: float,
    stats: ShardStats,
    assignment: int,
    endpoints: Sequence[EndpointReport],
    connects: int,
    nodes: ChainView | None,
    paths: Sequence[PathReport] = (),
) -> Report:
    """Describe the shard as it is at ``ts``, ns since 1970; the arguments are the report's fields."""
    rows = [] if fresh else markets.make(pipeline, assignment)
    return Report(
        shard=config.shard,
        epoch=config.epoch,
        pid=pid,
        ts=ts,
        fresh=fresh,
        head=pipeline.head,
        head_ts_event=pipeline.head_ts_event,
        block_time_s=pipeline.block_time_s,
        halted=halted,
        markets=rows,
        endpoints=list(endpoints),
        connects=connects,
        payloads=pipeline.payloads,
        frames=outgoing.frames,
        kept=outgoing.kept,
        kept_from=outgoing.kept_from,
        dropped=outgoing.dropped,
        backlog_bytes=outgoing.backlog_bytes,
        lag_us=lag_s * 1e6,
        stats=stats,
        assignment=assignment,
        chain=Chain() if nodes is None else nodes.replacement or nodes.chain,
        replaces=nodes.chain.generation if nodes and nodes.replacement else -1,
        nodes=[] if nodes is None else nodes.reports(),
        paths=list(paths),
        number=markets.number,
        since=0 if fresh else markets.since,
        front=pipeline.head,
    )


def _market(feed: Feed) -> MarketReport:
    report = MarketReport(
        market_id=feed.market_id,
        state=feed.state.value,
        reason=feed.reason,
        resyncs=feed.stats.resyncs,
        sequence=feed.sync.book.sequence if feed.sync.in_sync else -1,
    )
    report.copy_ledger(feed.accounted())
    return report
