"""`collector markets` beside a running collector: what is asked for is what is listed."""

import json

import pytest

from tests.collector.client.scripted_publisher import Script, market_id, publishing
from tests.system.running import run

ROWS = [
    {
        "market_id": market_id(symbol),
        "ticker": symbol.replace("-", "/", 1),
        "symbol": symbol,
        "type": kind,
        "status": "Active",
        "activity": activity,
        "volume": volume,
        "state": "live",
    }
    for symbol, kind, activity, volume in (
        ("INJ-USDT", "spot", "active", 5.0),
        ("BTC-USDT", "spot", "dead", 0.0),
        ("INJ-USDT-PERP", "derivative", "quiet", 9.0),
    )
]


@pytest.mark.parametrize(
    ("options", "symbols"),
    [
        ([], ["INJ-USDT", "BTC-USDT", "INJ-USDT-PERP"]),
        (["--type", "derivative"], ["INJ-USDT-PERP"]),
        (["--market", "inj*"], ["INJ-USDT", "INJ-USDT-PERP"]),
        (["--min-activity", "quiet"], ["INJ-USDT", "INJ-USDT-PERP"]),
        (["--top", "1"], ["INJ-USDT"]),
    ],
)
def test_the_list_of_a_running_collector_is_filtered(
    options: list[str], symbols: list[str]
) -> None:
    with publishing(Script(markets=ROWS)) as publisher:
        done = run("markets", "--connect", publisher.endpoint, "--json", *options)
        assert done.returncode == 0, done.stderr
        assert [row["symbol"] for row in json.loads(done.stdout)] == symbols
        refused = run("markets", "--connect", publisher.endpoint, "--type", "binary")
    assert refused.returncode == 3
    assert "no market of type binary: the collector has 3 markets" in refused.stderr
