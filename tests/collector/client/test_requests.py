"""The request client over real sockets: deadlines, late replies, and replies that are none."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
import zmq

from collector import Subscriber, Trades
from collector.aggregator.endpoints import bind
from collector.client import sockets
from collector.client.requests import AsyncRequestClient, Refused, RequestClient
from tests.collector.client.scripted_publisher import publishing, trades
from tests.hostile import HOSTILE
from tests.proxy import FaultProxy
from tests.system.running import at_best, eventually, free_port_pair

_encode = msgspec.msgpack.encode

Answers = Callable[[dict[str, Any]], list[list[bytes]]]
"""From a request to the replies that it gets, each a list of parts."""


@contextmanager
def answering(endpoint: str, answers: Answers) -> Iterator[list[dict[str, Any]]]:
    """Answer requests in a thread; what came is in the list."""
    came: list[dict[str, Any]] = []
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    bind(router, endpoint)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if router.poll(20):
                sender, request = router.recv_multipart()
                came.append(msgspec.msgpack.decode(request))
                for parts in answers(came[-1]):
                    router.send_multipart([sender, *parts])
        context.destroy(linger=0)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield came
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/r"


def ask(endpoint: str, what: str, within_s: float = 30.0, **fields: Any) -> dict[str, Any]:
    with RequestClient(endpoint) as client:
        return client.ask(what, within_s=within_s, **fields)


def ask_async(endpoint: str, what: str, within_s: float = 30.0, **fields: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        with closing(AsyncRequestClient(endpoint)) as client:
            return await client.ask(what, within_s=within_s, **fields)

    return uvloop.run(run())


both = pytest.mark.parametrize("ask", [ask, ask_async])


@both
def test_the_reply_is_the_one_with_the_requests_id(endpoint: str, ask: Any) -> None:
    def answers(request: dict[str, Any]) -> list[list[bytes]]:
        stale, own = ({"id": request["id"] - k, "status": {"k": k}} for k in (1, 0))
        return [[_encode(stale)], [_encode(own), b"a body"]]

    with answering(endpoint, answers) as came:
        assert ask(endpoint, "status", after=3)["status"] == {"k": 0}
    assert came == [{"ask": "status", "id": 1, "after": 3}]


@both
def test_whatever_comes_instead_of_a_reply_is_dropped(endpoint: str, ask: Any) -> None:
    def answers(request: dict[str, Any]) -> list[list[bytes]]:
        hostile = [[part] for part in HOSTILE.values()]
        ids: list[Any] = [[], {}, "1", None, 2**64 - 1]
        odd = [[_encode({"id": id_})] for id_ in ids]
        return [*hostile, *odd, [b"", b""], [_encode({"id": request["id"], "status": {}})]]

    with answering(endpoint, answers):
        # One of the hostile ones happens to be a map with our id, and no "error".
        assert "error" not in ask(endpoint, "status")


@both
def test_a_refusal_is_raised_with_its_sentence(endpoint: str, ask: Any) -> None:
    with (
        answering(endpoint, lambda request: [[_encode({"id": request["id"], "error": "no"})]]),
        pytest.raises(Refused, match=r"^no$"),
    ):
        ask(endpoint, "order")


@both
def test_without_a_reply_the_deadline_is_kept(endpoint: str, ask: Any) -> None:
    for answers in (lambda _: [], lambda _: [[b"\xc1"]]):
        with answering(endpoint, answers):

            def waited_s() -> float:
                began = time.monotonic()
                with pytest.raises(
                    TimeoutError, match=rf"no collector answered at {endpoint} within 0.3 s"
                ):
                    ask(endpoint, "status", 0.3)
                return time.monotonic() - began

            assert at_best(waited_s, below=2.0) > 0.25


def test_sentences_name_the_endpoint_that_was_typed_and_where_requests_go(tmp_path: Path) -> None:
    place = f"ipc://{tmp_path}/publish"
    for typed, asked in (("tcp://127.0.0.1:9", "port 10"), (place, f"{tmp_path}/publish.requests")):
        sentence = re.escape(f"no collector answered at {typed} (requests go to {asked}) within")
        with RequestClient.of(typed) as client, pytest.raises(TimeoutError, match=sentence):
            client.ask("status", within_s=0.05)


@both
def test_it_waits_for_a_collector_that_is_just_starting(endpoint: str, ask: Any) -> None:
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(ask(endpoint, "status", 30.0)))
    thread.start()
    with answering(endpoint, lambda request: [[_encode({"id": request["id"]})]]):
        thread.join()
    assert found == [{"id": 1}]


def test_no_request_waits_for_a_collector_that_was_away(endpoint: str) -> None:
    with RequestClient(endpoint) as client:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                client.ask("status", within_s=0.05)
        with answering(endpoint, lambda request: [[_encode({"id": request["id"]})]]) as came:
            assert client.ask("markets", within_s=30.0) == {"id": 4}
            assert [request["ask"] for request in came] == ["markets"]


def test_many_are_asked_at_once_and_answered_in_any_order(endpoint: str) -> None:
    waiting: list[bytes] = []

    def answers(request: dict[str, Any]) -> list[list[bytes]]:
        waiting.insert(0, _encode({"id": request["id"], "n": request["n"]}))
        return [[part] for part in waiting] if len(waiting) == 50 else []

    async def run() -> list[int]:
        with closing(AsyncRequestClient(endpoint)) as client:
            asked = (client.ask("status", within_s=30.0, n=n) for n in range(50))
            return [answer["n"] for answer in await asyncio.gather(*asked)]

    with answering(endpoint, answers):
        assert uvloop.run(run()) == list(range(50))


def test_an_endpoint_that_is_none_is_refused() -> None:
    for endpoint in ("nonsense", "tcp://127.0.0.1", "http://127.0.0.1:1"):
        with pytest.raises(ValueError, match="cannot connect to"):
            RequestClient(endpoint)


@pytest.mark.parametrize(
    ("listens", "asked"),
    [("[::1]", "[::1]"), ("[::]", "[::1]"), ("127.0.0.1", "localhost"), ("[::]", "127.0.0.1")],
)
def test_both_address_families_are_served_and_reached(listens: str, asked: str) -> None:
    port = free_port_pair()
    with answering(f"tcp://{listens}:{port}", lambda request: [[_encode({"id": request["id"]})]]):
        assert ask(f"tcp://{asked}:{port}", "status") == {"id": 1}


_REPORTS = 2_500
"""More of a socket's handshakes than libzmq keeps reports of."""


def test_a_subscriber_that_nobody_reads_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its collector turns it away again and again; in the same process another one is read."""
    monkeypatch.setattr(sockets, "RECONNECT_MS", (1, 2))
    with FaultProxy("127.0.0.1", 1) as refusing, publishing() as publisher:
        refusing.accept_then_close()
        away = f"tcp://127.0.0.1:{refusing.port}"
        with (
            Subscriber(publisher.endpoint, channels="trades") as subscriber,
            Subscriber("tcp://127.0.0.1:1", requests=away),
        ):
            enough = eventually(lambda: len(refusing.refused) > _REPORTS, within_s=90)
            height = 100

            def is_read() -> bool:
                nonlocal height
                height += 1
                publisher.send("INJ-USDT", trades("INJ-USDT", height))
                received = subscriber.poll(0.5)
                return received is not None and isinstance(received.event, Trades)

            eventually(is_read, within_s=30)
    assert enough


def cut_often(proxy: FaultProxy) -> None:
    """Cut a client's connection whenever it has one, until libzmq has no room for more reports."""
    for cuts in range(_REPORTS):
        deadline = time.monotonic() + 3
        while len(proxy.accepted) <= cuts:
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)
        proxy.cut()


def test_a_client_that_asked_nothing_for_long_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector with keys closes connections that are silent; each connects again by itself."""
    monkeypatch.setattr(sockets, "RECONNECT_MS", (1, 2))
    port = free_port_pair()

    async def idle_then_ask(proxy: FaultProxy) -> dict[str, Any]:
        with closing(AsyncRequestClient(f"tcp://127.0.0.1:{proxy.port}")) as client:
            await asyncio.to_thread(cut_often, proxy)
            return await client.ask("status", within_s=30.0)

    with (
        answering(f"tcp://127.0.0.1:{port}", lambda asked: [[_encode({"id": asked["id"]})]]),
        FaultProxy("127.0.0.1", port) as proxy,
    ):
        assert asyncio.run(idle_then_ask(proxy))
