"""The metrics of the collector's processes: memory, CPU, restarts, loop lag. Pure."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from collector.aggregator.status.metrics_snapshot import Measures
from collector.http.family_builders import (
    histograms,
    labelled,
    seconds,
)

_MIB: Final = 2**20

_OF_PROCESSES: Final = (
    ("process_resident_memory_bytes", "Resident memory.", "rss_mb", _MIB),
    (
        "process_proportional_memory_bytes",
        "Proportional set size (shared memory is divided); 0 until first read.",
        "pss_mb",
        _MIB,
    ),
    ("process_threads", "Threads.", "threads", 1),
    ("process_open_fds", "Open descriptors.", "fds", 1),
)


def process_families(measures: Measures) -> Iterator[Metric]:
    """Yield the metrics of all processes."""
    processes = measures.summary.processes
    for name, text, field, unit in _OF_PROCESSES:
        rows = [((process.name,), getattr(process, field) * unit) for process in processes]
        yield labelled(GaugeMetricFamily, name, text, ["process"], rows)
    yield labelled(
        CounterMetricFamily,
        "process_restarts",
        "Restarts of the process.",
        ["process"],
        [((process.name,), process.restarts) for process in processes],
    )
    yield labelled(
        GaugeMetricFamily,
        "process_realtime",
        "1: scheduled in real time; 0: normally.",
        ["process"],
        [
            ((process.name,), int(process.scheduling == "realtime"))
            for process in processes
            if process.scheduling
        ],
    )
    modes = (("user", "cpu_user_s"), ("system", "cpu_system_s"))
    yield labelled(
        CounterMetricFamily,
        "process_cpu_seconds",
        "Processor time.",
        ["process", "mode"],
        [((p.name, mode), getattr(p, field)) for p in processes for mode, field in modes],
    )
    kinds = (("voluntary", "switches_voluntary"), ("involuntary", "switches_involuntary"))
    yield labelled(
        CounterMetricFamily,
        "process_context_switches",
        "Context switches.",
        ["process", "kind"],
        [((p.name, kind), getattr(p, field)) for p in processes for kind, field in kinds],
    )
    lag = histograms("event_loop_lag_seconds", "Lag of the event loop.", ["process"])
    pause = histograms("gc_pause_seconds", "Garbage collector pauses.", ["process"])
    for name, vitals in measures.vitals.items():
        seconds(lag, [name], vitals.lag)
        seconds(pause, [name], vitals.gc_pause)
    yield from (lag, pause)
