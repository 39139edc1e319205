"""The aggregator's work once a second: sample the coverage, detect changes, add a point."""

from collections.abc import Iterator, Mapping
from typing import Final

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.state.coverage import live_share
from collector.aggregator.telemetry.market_time_series import MarketNow
from collector.aggregator.telemetry.process_table import Processes
from collector.aggregator.telemetry.time_series import Sample, Use

_METER_S: Final = 4.5
"""How often the activity of some markets is measured, which is averaged over a minute."""
_METERED: Final = 500
"""So many markets in turn: what it costs does not grow with their number."""


class Sampler:
    """Samples an aggregator once a second; ``now`` is monotonic, ``ts`` ns since the epoch."""

    def __init__(self, aggregator: Aggregator, processes: Processes) -> None:
        self._aggregator = aggregator
        self._processes = processes
        self._looked_at: float | None = None
        self._published = 0
        self._metered_at: float | None = None
        self._to_meter: list[str] = []
        """The markets whose activity is measured next."""
        self._names: Mapping[str, str] = {}
        """The markets' states at the last sample."""
        self._missing: dict[str, int] = {}
        """Their missing blocks."""

    def look(self, now: float, ts: int) -> Iterator[None]:
        """
        Take one sample in steps, so that frames that arrive meanwhile wait only for one step.

        With hundreds of markets all steps together take milliseconds, each a fraction of one. What
        looks at every market is done only after something has changed.
        """
        aggregator = self._aggregator
        coverage = aggregator.coverage
        coverage.sample(now)
        if since := coverage.joined_from():
            aggregator.proof.judge(coverage.accounted(), since=since)
        names, missing = coverage.names(now), coverage.totals().missing
        has_moved = names is not self._names
        is_changed = has_moved or missing != self._missing
        self._names, self._missing = names, missing
        if has_moved:
            aggregator.telemetry.changes.states(list(coverage.states), now, ts)
        yield
        if self._metered_at is None or now - self._metered_at > _METER_S:
            self._metered_at = now
            self._meter(now)
        aggregator.telemetry.journal.flush()
        yield
        aggregator.telemetry.timeline.add(self._sample(now, ts))
        yield
        markets = None
        if is_changed:
            markets = [
                MarketNow(coverage.symbol(market_id), state, missing.get(market_id, 0))
                for market_id, state in names.items()
            ]
        aggregator.telemetry.market_times.add(ts // 1_000_000_000, coverage.head, markets)

    def _meter(self, now: float) -> None:
        """Measure the activity of the markets whose turn it is."""
        topics, activity = self._aggregator.topics, self._aggregator.telemetry.activity
        # Of a market that was measured before, nothing may be published since the chain was replaced.
        to_meter = self._to_meter or list({*topics.published_markets(), *activity.markets})
        turn, self._to_meter = to_meter[:_METERED], to_meter[_METERED:]
        activity.look(topics.counts(turn), now)

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
