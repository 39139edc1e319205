"""A3 and A7 to A10: names that others chose, and the ways to who is asked."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collector.client.requests import RequestClient
from collector.client.subscriber import Subscriber
from collector.settings.parts import requests_endpoint
from shards.protocol.events import Book
from tests.simulator.client import Simulator, simulator
from tests.system.drill.registry import Stage, drill
from tests.system.running import Running, collector, eventually, free_port_pair

_NAMES = ("INJ/USDT", "INJ/USDT.", "A[1]/USDT", "\x1b[31mred\x1b[0m/USDT", "\u202eTDSU/JNI")
_KEY = "k3y0f4n0p3r4t0r"


@drill("A3", "markets whose names are syntax to others")
def hostile_names(stage: Stage) -> None:
    """Each has a symbol of its own, is published whole, and is shown harmlessly."""
    with simulator("--markets", "2", "--block-time", "0.3") as exchange:
        for name in _NAMES:
            exchange.list_market(name)
        stage.broke(f"markets are listed as {', '.join(map(repr, _NAMES))}")
        with _live(stage, exchange.config(stage.folder)) as running:
            symbols = {row["ticker"]: row["symbol"] for row in running.markets()}
            stage.note("seen", f"symbols: {', '.join(symbols[name] for name in _NAMES)}")
            assert len(set(symbols.values())) == len(symbols)
            with Subscriber(running.publish, channels="book") as subscriber:
                missing = {symbols[name] for name in _NAMES}
                while missing:
                    received = subscriber.poll(60.0)
                    assert received is not None, missing
                    if type(received.event) is Book:
                        missing.discard(received.symbol)
            stage.note("healed", "a book of each was published under its own topic")
            assert not {"\x1b", "\u202e"} & set(running.log)
            stage.note("said", "the log has no character that a terminal obeys")


@drill("A7", "nobody listens at a port with 429 in its number")
def number_in_a_port(stage: Stage) -> None:
    """It is unreachable, not \"too many requests\"."""
    with simulator("--markets", "4", "--block-time", "0.3") as exchange, _refusing() as port:
        path = _config(stage.folder, exchange, grpc=[f"127.0.0.1:{port}", exchange.grpc])
        stage.broke(f"the first server of queries is 127.0.0.1:{port}, where nobody listens")
        with _live(stage, path) as running:
            row = eventually(
                lambda: _judged(running, f":{port}"), within_s=30, what=lambda: running.status()
            )
            assert (row["role"], row["cause"]) == ("queries", "silent"), row
            status = running.status()
            stage.note("said", f"the status: {row['reason']}")
            assert not any(host["refused"] for host in status["requests"]), status["requests"]
            stage.note("seen", "no host is given a rest for too many requests")


@drill("A8", "an RPC whose URL has a path and a key")
def secret_in_a_url(stage: Stage) -> None:
    """It is reached, and its key is shown nowhere."""
    with simulator("--markets", "4", "--block-time", "0.3") as exchange:
        path = _config(stage.folder, exchange, rpc=f"{exchange.rpc}?apikey={_KEY}")
        stage.broke("the RPC's URL ends with ?apikey=…")
        with _live(stage, path) as running:
            node = eventually(
                lambda: _fit_rpc(running), within_s=30, what=lambda: running.status()["chain"]
            )
            stage.note("seen", "the RPC is reached, and fit")
            with RequestClient(requests_endpoint(running.publish)) as client:
                journal = client.ask("events", within_s=30.0)
            shown = json.dumps([running.status(), running.markets(), journal]) + running.log
            assert _KEY not in shown
            stage.note("said", f"status, journal and log have it as {node['endpoint']}")


@drill("A9", "a proxy in the environment, and a node on loopback")
def proxy_for_loopback(stage: Stage) -> None:
    """What is on this machine is never asked through a proxy."""
    with simulator("--markets", "4", "--block-time", "0.3") as exchange, _refusing() as port:
        proxy = f"http://127.0.0.1:{port}"
        stage.broke(f"http_proxy and https_proxy name {proxy}, where nobody listens")
        env = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"), proxy)
        with collector(
            stage.folder, "--config", str(exchange.config(stage.folder)), env=env
        ) as running:
            running.await_live(60)
            stage.note("healed", "everything is live")


@drill("A10", "a host whose first address nobody listens at; an address of IPv6")
def both_families(stage: Stage) -> None:
    """Both families are tried, and frames can be read over either."""
    with simulator("--markets", "4", "--block-time", "0.3") as exchange:
        path = _config(stage.folder, exchange, host="localhost")
        stage.broke("endpoints are at localhost; frames are published at [::1]")
        publish = f"tcp://[::1]:{free_port_pair()}"
        with collector(stage.folder, "--config", str(path), publish=publish) as running:
            running.await_live(60)
            stage.note("healed", "everything is live, and answers over IPv6")


@contextlib.contextmanager
def _live(stage: Stage, config: Path) -> Iterator[Running]:
    with collector(stage.folder, "--config", str(config)) as running:
        running.await_live(60)
        stage.note("healed", "everything is live")
        yield running


def _nodes(running: Running) -> list[dict[str, Any]]:
    """What is known of the nodes; shards report it once a second."""
    return list((running.status()["chain"] or {}).get("nodes", ()))


def _judged(running: Running, at: str) -> dict[str, Any]:
    """Return the row of the node at an address once something is held against it."""
    found = (node for node in _nodes(running) if node["endpoint"].endswith(at) and node["cause"])
    return next(found, {})


def _fit_rpc(running: Running) -> dict[str, Any]:
    return next((node for node in _nodes(running) if node["role"] == "rpc" and node["fit"]), {})


@contextlib.contextmanager
def _refusing() -> Iterator[int]:
    """Keep a port without a listener, with 429 in its number."""
    for port in (*range(42_900, 43_000), *range(14_290, 14_300), *range(24_290, 24_300)):
        with contextlib.closing(socket.socket()) as kept:
            try:
                kept.bind(("127.0.0.1", port))
            except OSError:
                continue
            yield port
            return
    raise AssertionError("every port with 429 in its number is taken")


def _config(
    folder: Path,
    exchange: Simulator,
    *,
    grpc: list[str] | None = None,
    rpc: str = "",
    host: str = "127.0.0.1",
) -> Path:
    """Write a configuration with endpoints of one's own."""

    def at(endpoint: str) -> str:
        return endpoint.replace("127.0.0.1", host)

    assert urlsplit(exchange.rpc).hostname == "127.0.0.1"
    path = folder / "collector.toml"
    queries = [at(endpoint) for endpoint in grpc or [exchange.grpc]]
    path.write_text(
        f'[network]\nchain_ws = ["{at(exchange.ws)}"]\nchain_grpc = {json.dumps(queries)}\n'
        f'rpc = ["{at(rpc or exchange.rpc)}"]\n'
    )
    return path
