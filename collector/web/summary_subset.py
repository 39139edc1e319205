"""What the page shows of the summary: of bounded size, whatever goes wrong. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

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


def essentials(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Cut the summary down to what the page shows."""
    found = _some(summary, _WHOLE)
    found["processes"] = [_some(process, _PROCESS) for process in summary["processes"]]
    found["shards"] = [_some(shard, _SHARD) for shard in summary["shards"]]
    found["breakers"] = _breakers(summary)
    found["holes"] = [
        {"symbol": hole["symbol"], "heights": hole["heights"][:_RANGES]}
        for hole in summary["holes"][:_HOLES]
    ]
    found["holed"] = len(summary["holes"])
    return found


def _some(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row}


def _breakers(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List endpoints that are given a rest, each once."""
    seen = {
        (endpoint["endpoint"], endpoint["breaker"]): endpoint["reason"]
        for shard in summary["shards"]
        for endpoint in shard["endpoints"]
        if endpoint["breaker"] != "closed"
    }
    return [
        {"endpoint": endpoint, "breaker": breaker, "reason": reason}
        for (endpoint, breaker), reason in list(seen.items())[:_TROUBLES]
    ]
