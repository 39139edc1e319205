"""What a running collector tells of itself while things go wrong."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from collector.client.requests import Refused, RequestClient
from collector.settings.parts import requests_endpoint
from tests.collector.client.test_summary import shape, without_added
from tests.make_reference import documented, served
from tests.needs import PROMTOOL
from tests.proxy import FaultProxy
from tests.simulator.client import Simulator, simulator
from tests.system.http import get, get_json
from tests.system.running import COLLECTOR, Running, collector, eventually, free_port_pair

_WITHIN_S = 40.0
_MARKETS = 6
_ROOT = Path(__file__).parents[2]
_OPS = _ROOT / "ops"


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange with a few markets."""
    with simulator("--markets", str(_MARKETS), "--block-time", "0.1") as running:
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
    # What a test stops is not to be replaced before the test has seen it.
    config = venue.config(folder, extra="[supervision]\nstall_after_s = 120\n")
    upstream = str(urlsplit(venue.ws).port)
    config.write_text(config.read_text().replace(upstream, str(proxy.port)))
    options = ("--shards", "2", "--http", str(http), "--log-format", "json")
    with collector(folder, "--config", str(config), *options) as started:
        started.await_live()
        eventually(lambda: get(http, "/healthz")[0] == 200, within_s=_WITHIN_S)
        yield started


@pytest.fixture
def requests(running: Running) -> Iterator[RequestClient]:
    """Whom to ask."""
    with RequestClient(requests_endpoint(running.publish)) as asking:
        yield asking


def test_the_answers_have_the_fields_order_and_types_of_the_golden_ones(
    requests: RequestClient,
) -> None:
    golden = json.loads((_ROOT / "tests" / "golden" / "summary-chain-ws.json").read_text())
    for what in ("status", "markets"):
        known, answer = shape(golden[what]), requests.ask(what, within_s=30.0)[what]
        for place, kinds in shape(without_added(answer) if what == "status" else answer).items():
            # What is null or empty in one run need not be in another.
            kinds -= {"dict of "}
            if "NoneType" not in kinds | known.get(place, {"NoneType"}):
                assert kinds <= known[place], place


class Told:
    """The journal of a running collector, from now on."""

    def __init__(self, requests: RequestClient, after: int | None = None) -> None:
        self._requests = requests
        self.after = self._ask(0)["last"] if after is None else after

    def _ask(self, after: int) -> dict[str, Any]:
        # A question to an aggregator that is killed has no answer: ask the next one soon.
        return self._requests.ask("events", within_s=3.0, after=after)

    def count(self, kind: str, text: str) -> int:
        """Count the entries of a kind with these words in them."""
        entries = self._ask(self.after)["events"]
        return sum(entry["kind"] == kind and text in entry["text"] for entry in entries)

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
    running: Running, requests: RequestClient, proxy: FaultProxy
) -> None:
    told = Told(requests, after=0)
    # What was live at the last look is noted; only then is its end another entry.
    eventually(lambda: told.count("state", "→ live") >= _MARKETS, within_s=_WITHIN_S)
    told = Told(requests)
    # It stays away until that is noted: a shard is live again between two looks otherwise.
    proxy.refuse()
    proxy.cut()
    try:
        assert told.await_one("state", "live → ")["reason"]
    finally:
        proxy.heal()
    assert told.await_one("gap", "gap open")["reason"] == "disconnect"
    assert told.await_one("connect", "connects to ws://")["shard"] in (0, 1)
    told.await_one("gap", "gap closed")
    told.await_one("state", "→ live")
    running.await_live(_WITHIN_S)


def test_killed_processes_are_in_the_journal_which_outlives_its_own(
    running: Running, requests: RequestClient
) -> None:
    told = Told(requests)
    os.kill(running.pid("shard 1"), signal.SIGKILL)
    entry = told.await_one("restart", "shard 1 restarted")
    assert (entry["shard"], entry["reason"]) == (1, "killed by SIGKILL")

    def is_saved() -> bool:
        files = running.state.rglob("journal")
        return any(entry["text"].encode() in file.read_bytes() for file in files)

    eventually(is_saved, within_s=_WITHIN_S, what="the entry in the journal's file")
    os.kill(running.pid("aggregator"), signal.SIGKILL)
    after = told.await_one("restart", "aggregator restarted")
    assert after["id"] > entry["id"]
    assert told.await_one("restart", "shard 1 restarted") == entry
    running.await_live(_WITHIN_S)


def test_the_timeline_has_a_point_for_each_second(
    running: Running, requests: RequestClient
) -> None:
    def points() -> list[dict[str, Any]]:
        asked = requests.ask("history", within_s=30.0, grain="second", since=0)
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


def _values(metrics: str, name: str) -> set[float]:
    return {float(line.split()[-1]) for line in metrics.splitlines() if name in line}


def test_a_request_that_makes_no_sense_is_answered_with_a_sentence(requests: RequestClient) -> None:
    with pytest.raises(Refused, match=r"'year' - at `\$\.grain`"):
        requests.ask("history", within_s=30.0, grain="year")
    with pytest.raises(Refused, match=r"`int`, got `str` - at `\$\.after`"):
        requests.ask("events", within_s=30.0, after="x")


def test_a_market_has_a_timeline_of_its_own(
    running: Running, requests: RequestClient, http: int
) -> None:
    symbol = running.markets()[0]["symbol"]

    def told() -> Any:
        found = requests.ask("history", within_s=30.0, grain="second", since=0, symbol=symbol)
        return found if "live" in found["state"] else None

    found = eventually(told, within_s=_WITHIN_S)
    lengths = {len(found[name]) for name in ("ts", "state", "missing", "completeness")}
    assert len(lengths) == 1
    assert found["completeness"][found["state"].index("live")] > 0
    assert get_json(http, f"/history?market={symbol}")["state"][-1]
    assert requests.ask("history", within_s=30.0, symbol="NO-SUCH")["ts"] == []


def test_what_is_asked_for_over_http_is_what_the_aggregator_says(
    running: Running, http: int
) -> None:
    assert get_json(http, "/healthz")["alive"]
    assert get_json(http, "/status").keys() == running.status().keys()
    assert len(get_json(http, "/markets")) == 6
    assert get_json(http, "/history?grain=minute")["grain_s"] == 60
    told = get_json(http, "/events")
    # Another may come between the two answers.
    assert get_json(http, f"/events?after={told['last'] - 1}")["events"][0] == told["events"][-1]
    assert get(http, "/events?after=x")[0] == get(http, "/history?grain=x")[0] == 400
    for number in ("18446744073709551616", "-1", "1e3", "9" * 5_000, "%00", "%ff", "%D9%A1", ""):
        status, body = get(http, f"/events?after={number}")
        assert (status, "is not a whole number from 0 to" in body) == (400, True), number
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
        # One of the two shards may have noticed before the other.
        none = "coverage 0.0000 is below 0.99"
        eventually(lambda: none in get(http, "/readyz")[1], within_s=_WITHIN_S)
        assert (get(http, "/readyz")[0], get(http, "/healthz")[0]) == (503, 200)
    finally:
        proxy.heal()
    eventually(ready, within_s=_WITHIN_S)


def test_readiness_follows_a_cut_and_its_healing_within_five_seconds(
    running: Running, http: int, proxy: FaultProxy
) -> None:
    def ready() -> bool:
        return get(http, "/readyz")[0] == 200

    eventually(ready, within_s=_WITHIN_S)
    proxy.refuse()
    proxy.cut()
    try:
        eventually(lambda: not ready(), within_s=30.0)
        # Long enough for four attempts, and thus for the breakers to open.
        opened = "breaker_open{"
        eventually(lambda: _values(get(http, "/metrics")[1], opened) == {1.0}, within_s=_WITHIN_S)
    finally:
        proxy.heal()
    eventually(ready, within_s=30.0)


def test_probes_outlive_the_aggregator(running: Running, http: int) -> None:
    pid = running.pid("aggregator")
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: get(http, "/readyz")[0] == 503, within_s=_WITHIN_S)
        assert get(http, "/healthz")[0] == 200
        status, body = get(http, "/metrics")
        assert status == 200
        assert "collector_aggregator_up 0.0" in body
    finally:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: get(http, "/readyz")[0] == 200, within_s=_WITHIN_S)


# ---- logs and status ----------------------------------------------------------------------


def test_every_process_logs_json_lines(running: Running) -> None:
    lines = [json.loads(line) for line in running.log.splitlines()]
    assert {line["process"] for line in lines} >= {"coordinator", "shard 0", "shard 1"}
    assert all(line.keys() >= {"ts", "level", "pid", "logger", "message"} for line in lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_watched_status_is_redrawn_in_place_and_gives_the_cursor_back(
    running: Running, number: signal.Signals, code: int
) -> None:
    command = [*COLLECTOR, "status", "--watch", "--connect", running.publish]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, start_new_session=True) as watching:
        os.close(theirs)
        seen = ""

        def drawn_twice() -> bool:
            nonlocal seen
            seen += os.read(ours, 65_536).decode(errors="replace")
            return seen.count("coverage 1.0") >= 2

        try:
            eventually(drawn_twice, within_s=_WITHIN_S, what=lambda: seen)
            # Back to the first line of the picture before.
            assert "\x1b[1A" in seen
            watching.send_signal(number)
            assert watching.wait(_WITHIN_S) == code
            with contextlib.suppress(OSError):
                # Until the terminal has no user any more.
                while more := os.read(ours, 65_536):
                    seen += more.decode(errors="replace")
            assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
        finally:
            watching.kill()
            os.close(ours)


# ---- metrics ------------------------------------------------------------------------------


def _metrics(http: int) -> str:
    """Wait for metrics of an aggregator that answers: on a busy machine it may be late."""

    def complete() -> str:
        body = get(http, "/metrics")[1]
        return body if "collector_aggregator_up 1.0" in body else ""

    return eventually(complete, within_s=_WITHIN_S, what="metrics of the aggregator")


def _families(http: int) -> set[str]:
    """Return the names of all families that are served."""
    return set(re.findall(r"^# TYPE (\w+)", _metrics(http), re.MULTILINE))


def _named(text: str) -> set[str]:
    """Return the families that a text of ours speaks of."""
    names = set(re.findall(r"\bcollector_[a-z0-9_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@PROMTOOL.required()
def test_promtool_finds_nothing_to_complain_of(running: Running, http: int) -> None:
    body = _metrics(http)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@PROMTOOL.required()
@pytest.mark.parametrize(("what", "name"), [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_promtool_takes_what_we_ship(what: str, name: str) -> None:
    command = ["promtool", "check", what, str(_OPS / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_we_ship_a_use_of_is_served(running: Running, http: int) -> None:
    shipped = "".join(path.read_text() for path in _OPS.iterdir() if path.is_file())
    recorders = {row.name for row in documented() if row.name.startswith("collector_recorder_")}
    assert _named(shipped) <= _families(http) | recorders


Case = tuple[str, str, str, str, str, str]
"""An alert, its severity, a series with its values, and when it is silent and when it rings."""


def _try_rules(folder: Path, interval: str, cases: Sequence[Case]) -> None:
    """Judge alerts by Prometheus' own means; one that has no severity never rings."""
    tests = [
        {
            "interval": interval,
            "input_series": [
                {"series": one, "values": each}
                for one, each in zip(series.split(" and "), values.split(" and "), strict=True)
            ],
            "alert_rule_test": [
                {"eval_time": silent, "alertname": name, "exp_alerts": []},
                {
                    "eval_time": loud,
                    "alertname": name,
                    "exp_alerts": [{"exp_labels": {"severity": severity}}] if severity else [],
                },
            ],
        }
        for name, severity, series, values, silent, loud in cases
    ]
    # What is said in an alert would be compared too.
    said = re.compile(r" +annotations:\n(?: {10}.*\n)+")
    (folder / "rules.yml").write_text(said.sub("", (_OPS / "alerts.yml").read_text()))
    # Every JSON text is YAML.
    judged = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": tests}
    (folder / "test.yml").write_text(json.dumps(judged))
    command = ["promtool", "test", "rules", str(folder / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@PROMTOOL.required()
def test_somebody_is_told_when_nothing_is_recorded_or_saved(tmp_path: Path) -> None:
    """Before its time an alert is silent, and then it is there."""
    gone = "collector_recorder_gone_heights"
    cases = (
        ("CollectorNotRecording", "page", "collector_recorder_up", "1 0x20", "1m", "3m"),
        ("CollectorHeightsGone", "ticket", gone, "0x3 5x20", "3m", "5m"),
        ("CollectorStateNotSaved", "ticket", "collector_ledger_saved", "1 0x20", "5m", "8m"),
    )
    _try_rules(tmp_path, "1m", cases)


@PROMTOOL.required()
def test_what_a_start_repairs_at_once_wakes_nobody(tmp_path: Path) -> None:
    """A collector that continues has gaps and missing blocks in its first scrapes."""
    missing = 'collector_ledger_blocks{status="missing"}'
    cases = (
        ("CollectorGapOpen", "", "collector_gaps_open", "_x9 3x4 0x60", "1m45s", "2m15s"),
        ("CollectorBlocksMissing", "", missing, "_x9 3x4 0x60", "1m45s", "2m15s"),
    )
    _try_rules(tmp_path, "10s", cases)
    # Those that stay do.
    stays = ("CollectorGapOpen", "ticket", "collector_gaps_open", "_x9 3x90", "5m", "8m")
    _try_rules(tmp_path, "10s", [stays])


@PROMTOOL.required()
def test_a_chain_that_goes_on_wakes_nobody_who_scrapes_once_a_minute(tmp_path: Path) -> None:
    """That is Prometheus' default."""
    both = "collector_head_height and collector_chain_halted"
    going, still = "100+90x20 and 0x20", "100+90x5 550x20 and 0x30"
    cases = (
        ("CollectorNoBlocks", "", both, going, "9m45s", "10m45s"),
        ("CollectorNoBlocks", "page", both, still, "6m", "10m"),
    )
    _try_rules(tmp_path, "1m", cases)


def test_every_metric_that_is_served_is_documented(running: Running, http: int) -> None:
    # Those of a recorder are there with one (tests/system/test_recorder.py), those of paths with
    # redundancy.
    elsewhere = ("collector_recorder_", "collector_path_")
    page = {row.name: row for row in documented() if not row.name.startswith(elsewhere)}
    found = {row.name: row for row in served(_metrics(http))}
    # To make the page again: python -m tests.make_reference
    assert found.keys() == page.keys()
    for name, row in found.items():
        assert (row.type, row.help) == (page[name].type, page[name].help)
        # A family without a sample yet shows no labels.
        assert set(row.labels) <= set(page[name].labels)


def test_the_garbage_collectors_pauses_are_measured_in_shards_too(
    running: Running, http: int
) -> None:
    counts = re.compile(
        r'^collector_gc_pause_seconds_count\{process="([^"]+)"\} [1-9]', re.MULTILINE
    )
    measured = {"aggregator", "shard 0", "shard 1"}
    eventually(
        lambda: set(counts.findall(get(http, "/metrics")[1])) == measured, within_s=_WITHIN_S
    )


def test_metrics_say_what_the_status_says(running: Running, http: int) -> None:
    running.await_live(_WITHIN_S)
    spans = re.compile(r"^collector_block_span_seconds_count [1-9]", re.MULTILINE)
    live = ("aggregator_up 1.0", "coverage_ratio 1.0", 'markets{state="live"} 6.0')

    def served_live() -> str:
        body = get(http, "/metrics")[1]
        said = spans.search(body) and all(f"collector_{line}" in body for line in live)
        return body if said else ""

    # What is served may be a second old.
    body = eventually(
        served_live, within_s=_WITHIN_S, what=lambda: f"{live} in {get(http, '/metrics')[1]}"
    )
    assert len(re.findall(r"^collector_market_live\{", body, re.MULTILINE)) == 6
    restarts = 'collector_process_restarts_total{process="aggregator"}'
    wanted = next(p["restarts"] for p in running.status()["processes"] if p["name"] == "aggregator")
    assert f"{restarts} {float(wanted)}" in body
