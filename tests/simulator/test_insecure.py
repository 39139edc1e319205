"""`--insecure`: what it opens is said in the log, in the status and in the metrics."""

import contextlib
import urllib.request
from pathlib import Path

from collector.client.subscriber import Subscriber
from tests.simulator.client import simulator
from tests.system.running import collector, eventually, free_port_pair


def _metrics(port: int) -> str:
    url = f"http://127.0.0.1:{port}/metrics"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read(), "utf-8")
    return ""


def test_what_is_open_says_so(tmp_path: Path) -> None:
    port, http = free_port_pair(), free_port_pair()
    publish, everywhere = f"tcp://0.0.0.0:{port}", f"0.0.0.0:{http}"
    with (
        simulator("--markets", "4", "--block-time", "0.2") as venue,
        collector(
            tmp_path, "--config", str(venue.config(tmp_path)), "--http", everywhere, "--insecure",
            publish=publish,
        ) as running,
    ):  # fmt: skip
        running.await_live()
        assert running.status()["access"]["insecure"] == [publish, everywhere]
        counted = "collector_insecure_addresses 2.0"
        eventually(lambda: counted in _metrics(http), within_s=30, what=counted)
        for address in (publish, everywhere):
            said = f"insecure: anyone who reaches {address} can read everything there"
            assert said in running.log
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            assert next(received for received in subscriber if received.topic)
