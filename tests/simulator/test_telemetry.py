"""What a running collector tells of itself while things go wrong."""

import os
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from collector.asking import Asker
from collector.config import requests_endpoint
from tests.proxy import FaultProxy
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.http import get, get_json
from tests.system.running import Running, collector, eventually, free_port_pair

_WITHIN_S = 40.0


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange with a few markets."""
    with simulator("--markets", "6", "--block-time", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def proxy(venue: Simulator) -> Iterator[FaultProxy]:
    """What stands between the exchange and the collector."""
    with FaultProxy("127.0.0.1", urlsplit(venue.ws).port or 0) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def http() -> int:
    """Return the port of the collector's HTTP."""
    return free_port_pair()


@pytest.fixture(scope="module")
def running(
    venue: Simulator, proxy: FaultProxy, http: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A collector of it, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    config = venue.config(folder)
    upstream = str(urlsplit(venue.ws).port)
    config.write_text(config.read_text().replace(upstream, str(proxy.port)))
    with collector(
        folder, "--shards", "2", "--config", str(config), "--http", str(http)
    ) as started:
        started.await_live()
        yield started


@pytest.fixture
def asker(running: Running) -> Iterator[Asker]:
    """Whom to ask."""
    with Asker(requests_endpoint(running.publish)) as asking:
        yield asking


class Told:
    """The journal of a running collector, from now on."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.after = self._ask(0)["last"]

    def _ask(self, after: int) -> dict[str, Any]:
        return self._asker.ask("events", within_s=10.0, after=after)

    def await_one(self, kind: str, text: str) -> dict[str, Any]:
        """Wait for an entry of a kind with these words in it."""

        def found() -> Any:
            try:
                entries = self._ask(self.after)["events"]
            except TimeoutError:
                return None
            self.seen = entries
            return next((e for e in entries if e["kind"] == kind and text in e["text"]), None)

        entry: dict[str, Any] = eventually(
            found, within_s=_WITHIN_S, what=lambda: f"{kind}: {text} among {self.seen}"
        )
        return entry


def test_a_dropped_connection_is_in_the_journal_with_its_reasons(
    venue: Simulator, running: Running, asker: Asker
) -> None:
    told = Told(asker)
    venue.inject(faults.Disconnect(protocol="ws"))
    assert told.await_one("state", "live → ")["reason"]
    assert told.await_one("gap", "gap open")["reason"] == "disconnect"
    assert told.await_one("connect", "connects to ws://")["shard"] in (0, 1)
    told.await_one("gap", "gap closed")
    told.await_one("state", "→ live")
    running.await_live(_WITHIN_S)


def test_killed_processes_are_in_the_journal_which_outlives_its_own(
    running: Running, asker: Asker
) -> None:
    told = Told(asker)
    os.kill(running.pid("shard 1"), signal.SIGKILL)
    entry = told.await_one("restart", "shard 1 restarted")
    assert (entry["shard"], entry["reason"]) == (1, "killed by SIGKILL")
    (saved,) = running.temporary.rglob("journal")
    eventually(lambda: entry["text"].encode() in saved.read_bytes(), within_s=_WITHIN_S)
    os.kill(running.pid("aggregator"), signal.SIGKILL)
    after = told.await_one("restart", "aggregator restarted")
    assert after["id"] > entry["id"]
    assert told.await_one("restart", "shard 1 restarted") == entry
    running.await_live(_WITHIN_S)


def test_the_timeline_has_a_point_for_each_second(running: Running, asker: Asker) -> None:
    def points() -> list[dict[str, Any]]:
        asked = asker.ask("history", within_s=10.0, grain="second", since=0)
        assert asked["grain_s"] == 1
        found: list[dict[str, Any]] = asked["points"]
        return found

    def full() -> Any:
        return next((p for p in points() if p["live"] == 6 and p["shards"].keys() >= {"0"}), None)

    point = eventually(full, within_s=_WITHIN_S, what=points)
    assert point["frames_per_s"] > 0
    assert point["latency_us"]["p99"] > 0
    assert point["processes"]["shard 0"]["rss_mb"] > 10
    instants = [p["ts"] for p in points()]
    assert instants == sorted(instants)


def test_a_request_that_makes_no_sense_is_answered_with_a_sentence(asker: Asker) -> None:
    assert "neither" in asker.ask("history", within_s=10.0, grain="year")["error"]
    assert "no entry's id" in asker.ask("events", within_s=10.0, after="x")["error"]


def test_what_is_asked_for_over_http_is_what_the_aggregator_says(
    running: Running, http: int
) -> None:
    assert get_json(http, "/healthz")["alive"]
    assert get_json(http, "/status").keys() == running.status().keys()
    assert len(get_json(http, "/markets")) == 6
    assert get_json(http, "/history?grain=minute")["grain_s"] == 60
    told = get_json(http, "/events")
    assert get_json(http, f"/events?after={told['last'] - 1}")["events"][-1] == told["events"][-1]
    assert get(http, "/events?after=x")[0] == get(http, "/history?grain=x")[0] == 400
    assert get(http, "/nothing")[0] == 404


def test_readiness_ends_with_a_cut_and_returns_when_it_is_healed(
    running: Running, http: int, proxy: FaultProxy
) -> None:
    def ready() -> bool:
        return get(http, "/readyz")[0] == 200

    eventually(ready, within_s=_WITHIN_S)
    proxy.accept_then_close()
    proxy.cut()
    try:
        eventually(lambda: not ready(), within_s=_WITHIN_S)
        status, body = get(http, "/readyz")
        assert (status, get(http, "/healthz")[0]) == (503, 200)
        assert "coverage 0.0000 is below 0.99" in body
    finally:
        proxy.heal()
    eventually(ready, within_s=_WITHIN_S)


def test_probes_outlive_the_aggregator(running: Running, http: int) -> None:
    os.kill(running.pid("aggregator"), signal.SIGKILL)
    eventually(lambda: get(http, "/readyz")[0] == 503, within_s=_WITHIN_S, every_s=0.01)
    assert get(http, "/healthz")[0] == 200
    eventually(lambda: get(http, "/readyz")[0] == 200, within_s=_WITHIN_S)
