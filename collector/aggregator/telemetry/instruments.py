"""Everything that the aggregator measures about itself and its shards. Pure."""

from collections.abc import Iterable

from collector.access.report import AccessReport
from collector.aggregator.state.coverage import Coverage
from collector.aggregator.telemetry.activity_meter import ActivityMeter
from collector.aggregator.telemetry.change_detector import ChangeDetector
from collector.aggregator.telemetry.journal import Entry, Journal
from collector.aggregator.telemetry.latency import Latencies
from collector.aggregator.telemetry.latency_summary import LatencySummaries
from collector.aggregator.telemetry.market_time_series import MarketTimeSeries
from collector.aggregator.telemetry.time_series import TimeSeries
from collector.client.summary import Recorder
from collector.markets.activity import Assessment


class Telemetry:
    """The instruments of one aggregator."""

    def __init__(
        self, coverage: Coverage, assessed: Assessment, entries: Iterable[Entry] = ()
    ) -> None:
        """``entries`` are the journal of an earlier aggregator."""
        self.journal = Journal(saved=entries)
        self.changes = ChangeDetector(self.journal, coverage)
        self.timeline = TimeSeries()
        self.market_times = MarketTimeSeries()
        self.activity = ActivityMeter(assessed)
        self.latencies = Latencies()
        self.budgets = LatencySummaries()
        self.recorder: Recorder | None = None
        """The recorder's state, from the coordinator; None without one."""
        self.access = AccessReport()
        """Who is admitted and what was refused, from the gate."""
