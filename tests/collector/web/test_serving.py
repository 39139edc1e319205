"""The page's server against a real collector: what it tells whom, and whom it refuses."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.collector.web.serving import Dashboard, dashboard
from tests.refusing import refusing
from tests.simulator.client import simulator
from tests.system.running import Running, collector, eventually, free_port_pair, run

EXIT_USAGE, EXIT_CONFIG = 2, 3
FIVE_TIMES_A_SECOND_S = 0.2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of a busy exchange, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    with simulator("--markets", "12", "--block-time", "0.1", "--touched", "0.9") as venue:
        config = str(venue.config(folder))
        with collector(folder, "--config", config) as started:
            started.await_live()
            yield started


@pytest.fixture(scope="module")
def page(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Its page."""
    with dashboard(tmp_path_factory.mktemp("page"), running.publish) as serving:
        yield serving


def get(page: Dashboard, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(page.host, timeout=20)
    connection.request("GET", path, headers=headers)
    with connection.getresponse() as response:
        found = response.status, response.headers, response.read()
    connection.close()
    return found


def test_the_page_and_its_files_come_from_here_and_may_load_nothing_else(page: Dashboard) -> None:
    for path in ("/", "/static/js/main.js", "/static/uplot/uPlot.iife.min.js", "/static/style.css"):
        status, headers, body = get(page, path)
        assert status == 200, path
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert b"https://" not in body.replace(b"https://github.com/leeoniya/uPlot", b""), path


def test_a_refusal_is_told_and_ends_nothing(tmp_path: Path) -> None:
    why = "its requests take too much of the collector's time: ask again in a second"
    with refusing(why) as endpoint, dashboard(tmp_path, endpoint) as page:
        with page.look() as looker:
            looker.until(lambda message: message.get("silent_why") == why)
            # It is asked again, and again.
            looker.until(lambda message: "silent_since" in message)
        assert get(page, "/history?span=10m")[0] == 200


def test_a_client_is_told_of_every_market_and_then_of_changes(
    page: Dashboard, running: Running
) -> None:
    with page.look() as looker:
        first = looker.until(lambda message: "listing" in message)
        assert set(first["listing"]) == {row["symbol"] for row in running.markets()}
        assert len(first["cells"]) == len(first["listing"])
        later = looker.until(lambda message: "status" in message)
        assert "listing" not in later
        looker.until(lambda message: message.get("points"))


def test_a_client_that_has_not_seen_the_last_message_is_sent_no_other(page: Dashboard) -> None:
    """The other end would queue it: this one falls silent, and later hears the newest state."""
    with page.look() as slow, page.look() as quick:
        slow.until(lambda message: "listing" in message)
        stuck = slow.hear()
        for _ in range(4):
            heard = quick.until(lambda message: "status" in message)
        with pytest.raises(TimeoutError):
            slow.hear(0.01)
        slow.say(seen=stuck["n"])
        newest = slow.hear()
        assert newest["n"] == stuck["n"] + 1
        assert newest["status"]["blocks"]["head"] >= heard["status"]["blocks"]["head"]


def test_a_client_is_told_five_times_a_second_at_most(page: Dashboard, running: Running) -> None:
    """The exchange makes ten blocks a second, and each changes the book."""
    symbol = next(row["symbol"] for row in running.markets() if row.get("book_updates"))
    with page.look() as looker:
        looker.until(lambda message: "listing" in message)
        looker.say(open=symbol)
        looker.until(lambda message: message.get("market", {}).get("book"))
        began, messages = time.monotonic(), 10
        for _ in range(messages):
            looker.until(lambda message: True)
        # From the first to the last of them lie so many turns; the very first may be under way.
        assert time.monotonic() - began >= (messages - 2) * FIVE_TIMES_A_SECOND_S


def test_a_market_is_followed_while_its_page_is_open(page: Dashboard, running: Running) -> None:
    symbol = next(row["symbol"] for row in running.markets() if row.get("trades"))
    with page.look() as looker:
        looker.until(lambda message: "listing" in message)
        looker.say(open=symbol)
        book = looker.until(lambda message: message.get("market", {}).get("book"))["market"]["book"]
        assert float(book["bids"][0][0]) < float(book["asks"][0][0])
        later = looker.until(
            lambda message: (
                (found := message.get("market", {}).get("book"))
                and found["sequence"] > book["sequence"]
            )
        )
        assert later["market"]["symbol"] == symbol
        looker.say(open=None)
        looker.until(lambda message: "market" not in message and "status" in message)


def test_trades_from_before_are_there_at_once(page: Dashboard, running: Running) -> None:
    def traded() -> str:
        found = (row["symbol"] for row in running.markets() if row.get("trades", 0) > 4)
        return next(found, "")

    symbol = eventually(traded, within_s=30, what="a market with trades")
    with page.look() as looker:
        looker.until(lambda message: "listing" in message)
        looker.say(open=symbol)
        told = looker.until(lambda message: message.get("market", {}).get("trades"))
    assert len(told["market"]["trades"]) > 1


def test_the_history_covers_the_time_before_the_page_was_opened(
    page: Dashboard, running: Running
) -> None:
    def points() -> int:
        status, _, body = get(page, "/history?span=10m")
        assert status == 200
        return len(json.loads(body)["points"])

    eventually(lambda: points() >= 3, within_s=30, what="three seconds of history")
    assert get(page, "/history?span=1w")[0] == 200
    assert get(page, "/history?span=1y")[0] == 400


def test_closed_tabs_leave_nothing_open(page: Dashboard, running: Running) -> None:
    process = psutil.Process(page.process.pid)
    symbols = [row["symbol"] for row in running.markets()][:8]
    with page.look() as looker:
        looker.until(lambda message: "listing" in message)
        looker.say(open=symbols[0])
        looker.until(lambda message: message.get("market", {}).get("book"))
    before = eventually(lambda: _settled(process), within_s=30, what="a steady count")
    lookers = [page.look() for _ in range(16)]
    for number, looker in enumerate(lookers):
        looker.until(lambda message: "listing" in message)
        looker.say(open=symbols[number % len(symbols)])
    for looker in lookers:
        looker.until(lambda message: "market" in message)
    assert process.num_fds() > before
    for looker in lookers:
        looker.connection.close()
    eventually(lambda: process.num_fds() <= before, within_s=30, what=process.num_fds)


def _settled(process: psutil.Process) -> int:
    """Return the count of descriptors once two looks agree on it."""
    first = process.num_fds()
    time.sleep(0.1)
    return first if process.num_fds() == first else 0


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"seen": "x"}', '{"sudo": 1}', "9" * 4_000])
def test_what_is_none_of_our_language_ends_the_connection(page: Dashboard, text: str) -> None:
    with page.look() as looker:
        looker.connection.send(text)
        with pytest.raises(ConnectionClosed):
            looker.until(lambda message: False)


def test_a_market_that_is_not_collected_is_not_followed(page: Dashboard) -> None:
    with page.look() as looker:
        looker.until(lambda message: "listing" in message)
        looker.say(open="*")
        for _ in range(3):
            assert "market" not in looker.until(lambda message: "status" in message)


def test_foreign_names_and_pages_of_other_sites_are_refused(page: Dashboard) -> None:
    status, _, body = get(page, "/", Host="rebound.example")
    assert status == 421
    assert b"not served as 'rebound.example'" in body
    assert get(page, "/history", Host="rebound.example")[0] == 421
    for headers in ({"Origin": "http://elsewhere.example"}, {"Origin": "null"}):
        with pytest.raises(InvalidStatus), page.look(**headers):
            pass
    with page.look(Origin=f"http://{page.host}") as looker:
        looker.until(lambda message: "listing" in message)


def test_silence_is_told_with_its_beginning(running: Running, tmp_path: Path) -> None:
    nobody = f"tcp://127.0.0.1:{free_port_pair()}"
    with dashboard(tmp_path, nobody) as serving, serving.look() as looker:
        told = looker.until(lambda message: message.get("silent_since"))
        assert told["silent_since"] <= told["now"]
        assert get(serving, "/history?span=1w")[0] == 503
        assert json.loads(get(serving, "/history?span=10m")[2])["points"] == []


def test_a_port_alone_is_one_of_loopback(tmp_path: Path) -> None:
    nobody = f"tcp://127.0.0.1:{free_port_pair()}"
    with dashboard(tmp_path, nobody, "--listen", "0") as serving:
        assert serving.host.startswith("127.0.0.1:")
        assert get(serving, "/")[0] == 200


def test_it_ends_by_signal_with_exit_code_0_although_somebody_looks(
    running: Running, tmp_path: Path
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with dashboard(tmp_path, running.publish) as serving, serving.look() as looker:
            looker.until(lambda message: "listing" in message)
            looker.say(open=running.markets()[0]["symbol"])
            serving.process.send_signal(number)
            assert serving.process.wait(90) == 0
    assert "Traceback" not in (tmp_path / "dashboard.log").read_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--connect", "nowhere"), "neither tcp://HOST:PORT nor ipc://PATH"),
        (("--listen", "0.0.0.0:0"), "add --allow-remote if that is meant"),
        (("--listen", "nowhere"), "--listen must be HOST:PORT"),
    ],
)
def test_bad_options_of_dashboard_are_named(options: tuple[str, ...], expected: str) -> None:
    done = run("dashboard", *options)
    assert done.returncode == (EXIT_USAGE if "nowhere" in options else EXIT_CONFIG)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--web", "nowhere"), "--web must be HOST:PORT"),
        (("--web", "0.0.0.0:0"), "add --web-allow-remote if that is meant"),
    ],
)
def test_bad_options_of_start_are_named(options: tuple[str, ...], expected: str) -> None:
    done = run("start", *options)
    assert done.returncode == (EXIT_USAGE if "nowhere" in options else EXIT_CONFIG)
    assert expected in done.stderr


@pytest.mark.parametrize("command", [("dashboard",), ("start", "--web")])
def test_without_the_extra_one_sentence_says_what_to_install(command: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        f"sys.argv = ['collector', *{command!r}]\n"
        "from collector.cli.main import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == EXIT_CONFIG
    assert "pip install" in done.stderr
    assert "[web]" in done.stderr
    assert "Traceback" not in done.stderr
