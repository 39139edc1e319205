"""Answers as an aggregator gives them, for tests of what is made of them."""

from typing import Any

import msgspec

from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.time_series import Point
from collector.client.market_status import MarketStatus
from collector.client.summary import Summary
from collector.tui.market_rows import MarketRow
from collector.tui.view_model import Answers

ENDPOINT = "tcp://127.0.0.1:5590"


def market(name: str, **fields: Any) -> dict[str, Any]:
    """Describe a market as ``markets`` does."""
    return {
        "market_id": f"0x{name.lower()}",
        "ticker": f"{name}/USDT",
        "symbol": f"{name}-USDT",
        "type": "spot",
        "status": "Active",
        "shard": 0,
        "state": "live",
        "reason": "",
        "height": 1_000,
        "activity": "active",
        "sequence": 5,
        "trades": 0,
        "book_updates": 0,
    } | fields


def summary(**fields: Any) -> dict[str, Any]:
    """Build a summary as ``status`` does."""
    return {
        "markets": {"requested": 3, "inactive": 1, "live": 2, "states": {"live": 2, "inactive": 1}},
        "coverage": {"now": 1.0, "mean": 0.9876},
        "completeness": 0.999999,
        "blocks": {"head": 12_345_678, "replayed": 12, "missing": 0},
        "block_time_s": 0.65,
        "halted": False,
        "events": {"trades": 1_234, "book_updates": 56_789},
        "gaps": {"opened": 3, "closed": 3, "open": 0},
        "frames": {"published": 1_000, "dropped": 0},
        "latency_us": {
            "recv_to_decoded": {"p50": 10.0, "p99": 45.0},
            "aggregator_to_published": {"p50": 12.0, "p99": 67.0},
            "recv_to_aggregator": {"p50": 123.4, "p99": 1_234.5},
        },
        "processes": [
            process("coordinator"),
            process("aggregator"),
            process("shard 10"),
            process("shard 2", restarts=1, cpu_percent=95.0, rss_mb=1_536.0),
        ],
        "shards": [
            {"shard": 2, "markets": 100, "blocks": 12_345_677},
            {"shard": 10, "markets": 99, "blocks": 12_345_678},
        ],
        "publisher_epoch": 1,
        "version": "0.1.0",
    } | fields


def process(name: str, **fields: Any) -> dict[str, Any]:
    """Describe a process as ``status`` does."""
    return {"name": name, "pid": 7, "cpu_percent": 12.3, "rss_mb": 61.4, "restarts": 0} | fields


def point(ts: int, **fields: Any) -> Point:
    """Describe a second as ``history`` does."""
    made = {
        "ts": ts,
        "coverage": 1.0,
        "completeness": 1.0,
        "live": 2,
        "frames_per_s": 100.0,
        "latency_us": {"p50": 100.0, "p99": 2_345.6},
        "processes": {"shard 2": {"cpu_percent": 50.0, "rss_mb": 1_500.0}},
        "shards": {"2": {"p50": 100.0, "p99": 2_345.6}},
    }
    return msgspec.convert(made | fields, Point)


def event(number: int, **fields: Any) -> Entry:
    """Describe an event as ``events`` does."""
    made = {
        "id": number,
        "ts": 1_000_000_000_000_000_000 + number,
        "kind": "state",
        "shard": 1,
        "symbol": None,
        "text": "98 markets: live → stale",
        "reason": "its shard does not report",
    }
    return msgspec.convert(made | fields, Entry)


def answers(
    *markets: dict[str, Any],
    events: list[Entry] | None = None,
    points: list[Point] | None = None,
    **fields: Any,
) -> Answers:
    """Put one turn's answers together."""
    return Answers(
        msgspec.convert(summary(**fields), Summary),
        msgspec.convert(markets, list[MarketStatus]),
        events or [],
        points or [],
    )


def row(name: str, **fields: Any) -> MarketRow:
    """Make a row of a live, quiet market."""
    usual: dict[str, Any] = {"per_s": 0.0, "level": 0, "age_s": 0.5}
    return MarketRow(**(market(name) | usual | fields))
