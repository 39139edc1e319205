"""The part of the summary that the page shows, of bounded size. Pure."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from collector.client.summary import Hole, Summary

_WHOLE: Final = (
    "markets",
    "coverage",
    "completeness",
    "blocks",
    "block_time_s",
    "halted",
    "events",
    "gaps",
    "frames",
    "latency_us",
    "clock",
    "publisher_epoch",
    "version",
)
_PROCESS: Final = ("name", "pid", "cpu_percent", "rss_mb", "restarts")
_SHARD: Final = ("shard", "markets", "blocks", "frames", "lag_us")
_HOLES: Final = 20
_RANGES: Final = 5
_TROUBLES: Final = 20


def essentials(summary: Summary) -> dict[str, Any]:
    """Reduce the summary to what the page shows, as in its JSON."""
    found = _some(summary, _WHOLE)
    found["processes"] = [_some(process, _PROCESS) for process in summary.processes]
    found["shards"] = [_some(shard, _SHARD) for shard in summary.shards]
    found["breakers"] = _breakers(summary)
    found["holes"] = [
        Hole(symbol=hole.symbol, heights=hole.heights[:_RANGES]) for hole in summary.holes[:_HOLES]
    ]
    found["worse"] = [_some(path, ("endpoint", "reason")) for path in summary.paths if path.worse]
    found["holed"] = len(summary.holes)
    return found


def _some(row: msgspec.Struct, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _breakers(summary: Summary) -> list[dict[str, str]]:
    """List endpoints with an open breaker, each once."""
    seen = {
        (endpoint.endpoint, endpoint.breaker): endpoint.reason
        for shard in summary.shards
        for endpoint in shard.endpoints
        if endpoint.breaker != "closed"
    }
    return [
        {"endpoint": endpoint, "breaker": breaker, "reason": reason}
        for (endpoint, breaker), reason in list(seen.items())[:_TROUBLES]
    ]
