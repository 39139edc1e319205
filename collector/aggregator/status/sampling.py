"""The aggregator's work once a second: sample the coverage, detect changes, add a point."""

from collections.abc import Iterator

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.state.coverage import live_share
from collector.aggregator.telemetry.market_time_series import MarketNow
from collector.aggregator.telemetry.process_table import Processes
from collector.aggregator.telemetry.time_series import Sample, Use


class Sampler:
    """Samples an aggregator once a second; ``now`` is monotonic, ``ts`` ns since the epoch."""

    def __init__(self, aggregator: Aggregator, processes: Processes) -> None:
        self._aggregator = aggregator
        self._processes = processes
        self._looked_at: float | None = None
        self._published = 0

    def look(self, now: float, ts: int) -> Iterator[None]:
        """
        Take one sample in steps, so that frames that arrive meanwhile wait only for one step.

        With hundreds of markets all steps together take milliseconds, each a fraction of one.
        """
        aggregator = self._aggregator
        coverage = aggregator.coverage
        coverage.sample(now)
        if since := coverage.joined_from():
            aggregator.proof.judge(coverage.accounted(), since=since)
        aggregator.telemetry.changes.states(list(coverage.states), now, ts)
        yield
        aggregator.telemetry.activity.look(aggregator.topics.counts(), now)
        aggregator.telemetry.journal.flush()
        yield
        aggregator.telemetry.timeline.add(self._sample(now, ts))
        yield
        markets = [
            MarketNow(
                coverage.symbol(state.market_id),
                coverage.state_of(state, now),
                coverage.missing(state),
            )
            for state in coverage.states.values()
        ]
        aggregator.telemetry.market_times.add(ts // 1_000_000_000, coverage.head, markets)

    def _sample(self, now: float, ts: int) -> Sample:
        aggregator = self._aggregator
        coverage = aggregator.coverage
        counts = coverage.counts(now)
        elapsed_s = now - self._looked_at if self._looked_at is not None else 1.0
        published = aggregator.publisher.published - self._published
        self._looked_at, self._published = now, aggregator.publisher.published
        return Sample(
            ts=ts // 1_000_000_000,
            coverage=live_share(counts),
            completeness=coverage.completeness(),
            live=counts.get("live", 0),
            frames_per_s=published / max(elapsed_s, 0.001),
            processes={
                row.name: Use(row.use.cpu_percent, row.use.rss_mb) for row in self._processes
            },
            latencies=aggregator.telemetry.latencies.take_recent(ts),
        )
