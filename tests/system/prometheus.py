"""A real Prometheus that scrapes a collector every two seconds, and what it saw of the faults."""

import contextlib
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.system.faults import Outcome
from tests.system.http import get, get_json
from tests.system.running import eventually, free_port_pair

RULES = Path(__file__).parents[2] / "ops" / "alerts.yml"
_RESTART_S = 20.0
"""A counter may restart this long after a restart was seen, and be seen this long after that."""

SIGNS = {
    "coverage": "collector_coverage_ratio < 1",
    "aggregator away": "collector_aggregator_up == 0",
    "restart": "sum(increase(collector_process_restarts_total[10s])) > 0",
    "connect": "sum(increase(collector_shard_connects_total[10s])) > 0",
    "gap": "collector_gaps_open > 0",
    "journal": "sum(increase(collector_journal_entries_total[10s])) > 0",
}
"""How a fault may show. Of five scrapes two are enough: on a busy machine some come too late."""
_SEEN_S = 6.0
"""After a fault has ended, how long its signs may take to be scraped."""


class Series(NamedTuple):
    """One series: its labels, and its samples in order."""

    labels: dict[str, str]
    samples: list[tuple[float, float]]


class Prometheus:
    """A running one; it answers queries."""

    def __init__(self, port: int) -> None:
        self._port = port

    def series(self, query: str) -> list[Series]:
        """Return the raw samples of a range selector, or one sample of anything else."""
        found = self._ask("query", query=query)
        return [
            Series(row["metric"], [(at, float(value)) for at, value in row.get("values", ())])
            for row in found["result"]
        ]

    def shows(self, query: str, began: float, ended: float) -> bool:
        """Say whether a condition held at any second of a time."""
        found = self._ask("query_range", query=query, start=began, end=ended, step=1)
        return any(row["values"] for row in found["result"])

    def _ask(self, what: str, **parameters: Any) -> Any:
        path = f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        return get_json(self._port, path, within_s=60.0)["data"]


def is_installed() -> bool:
    """Say whether there is a Prometheus here (Debian: prometheus)."""
    return shutil.which("prometheus") is not None


@contextlib.contextmanager
def prometheus(folder: Path, target: int) -> Iterator[Prometheus]:
    """Scrape a port of loopback, with our own alert rules, while in the block."""
    config = {
        # No scrape may take longer than the interval.
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "6s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "collector", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_bytes(msgspec.json.encode(config))
    port = free_port_pair()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: get(port, "/-/ready")[0] == 200, within_s=120.0, every_s=0.2)
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(90)


def report(server: Prometheus, outcomes: Sequence[Outcome], began: float) -> tuple[bool, str]:
    """Say how each fault showed, whether a counter went backwards, and how long scrapes took."""
    window = f"[{int(time.time() - began) + 5}s]"
    lines, passed = [], True
    for outcome in outcomes:
        signs = [
            name
            for name, query in SIGNS.items()
            if server.shows(query, outcome.began_at, outcome.ended_at + _SEEN_S)
        ]
        # What only a subscriber loses, only that subscriber knows.
        passed &= bool(signs) or outcome.name == "slow subscriber"
        lines.append(f"{outcome.name:<20}shows as {', '.join(signs) or 'nothing'}")
    backwards = _backwards(server, window)
    lines.append(f"counters that went backwards without a restart: {backwards or 'none'}")
    for name, scale in (("scrape_duration_seconds", 1000), ("scrape_samples_scraped", 1)):
        values = sorted(v * scale for s in server.series(name + window) for _, v in s.samples)
        if not values:
            return False, "\n".join((*lines, "no scrape succeeded"))
        middle, high = values[len(values) // 2], values[int(len(values) * 0.99)]
        lines.append(f"{name}, by {scale}: p50 {middle:.1f}, p99 {high:.1f}, max {values[-1]:.1f}")
    return passed and not backwards, "\n".join(lines)


def _backwards(server: Prometheus, window: str) -> list[str]:
    """List the counters that fell although nothing was restarted at that time."""
    restarts = [
        at
        for series in server.series("collector_process_restarts_total" + window)
        for (_, before), (at, after) in zip(series.samples, series.samples[1:], strict=False)
        if after > before
    ]
    found = []
    counters = '{__name__=~"collector_.*_(total|count|bucket|sum)"}'
    for series in server.series(counters + window):
        pairs = zip(series.samples, series.samples[1:], strict=False)
        for (_, before), (at, after) in pairs:
            if after < before and not any(abs(at - when) < _RESTART_S for when in restarts):
                found.append(f"{series.labels} {before} → {after}")
    return found
