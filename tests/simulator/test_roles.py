"""Who may do what at a running collector: readers read, its own user steers, others do not."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import zmq

from collector.client.requests import Refused, RequestClient
from collector.settings.parts import requests_endpoint
from tests.hostile import HOSTILE
from tests.simulator.client import simulator
from tests.system.running import COLLECTOR, Running, alive, collector, eventually, run

_NOBODY = 65534
as_another_user = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can run something as another user (setpriv)",
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of a small exchange, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    with (
        simulator("--markets", "4", "--block-time", "0.2") as venue,
        collector(folder, "--shards", "2", "--config", str(venue.config(folder))) as started,
    ):
        started.await_live()
        yield started


@pytest.fixture
def public(running: Running) -> Iterator[RequestClient]:
    """Whom readers ask."""
    with RequestClient(requests_endpoint(running.publish)) as client:
        yield client


def _processes(running: Running) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in running.status()["processes"]}


@pytest.mark.parametrize("what", ["report", "processes", "order"])
def test_the_public_endpoint_takes_nothing_that_steers(
    running: Running, public: RequestClient, what: str
) -> None:
    fields: dict[str, dict[str, Any]] = {
        "report": {"report": {}},
        "processes": {"processes": []},
        "order": {"token": "t", "order": {"kind": "drain", "number": 0}},
    }
    with pytest.raises(Refused, match=f"'{what}' is not answered at this endpoint"):
        public.ask(what, within_s=30.0, **fields[what])
    assert running.status()["markets"]["moving"] == 0


def test_the_commands_of_the_same_user_find_the_admin_endpoint(running: Running) -> None:
    for number in (3, 2):
        done = run("scale", str(number), "--connect", running.publish)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("shard ") == number
    running.await_live()
    # The list of processes is a second old.
    eventually(lambda: "shard 2" not in _processes(running), within_s=30)


def test_only_the_own_user_can_enter_where_it_is_steered(running: Running) -> None:
    path = Path(running.status()["admin"].removeprefix("ipc://"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for name in ("admin", "link", "push"):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600


@as_another_user
def test_another_user_reads_and_steers_nothing(running: Running) -> None:
    """With this interpreter, its modules given to it: another user need not be able to enter here."""
    before = _processes(running)
    program = f"""
import sys
from collector.cli.main import cli
from collector.client.requests import RequestClient
from collector.client.subscriber import Subscriber
from collector.settings.parts import requests_endpoint
import collector.tui.summary_text, collector.cli.admin, zmq, os, encodings.idna
os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})
with Subscriber({running.publish!r}) as subscriber:
    assert any(r.channel == "book" for r, _ in zip(subscriber, range(50)))
    admin = subscriber.status()["admin"]
print("read")
try:
    with RequestClient(admin) as client:
        client.ask("order", within_s=1.0, token="t", order={{"kind": "drain", "number": 0}})
except (TimeoutError, ValueError) as error:
    print("no answer")
cli(["drain", "0", "--connect", {running.publish!r}], prog_name="collector")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "read\nno answer\n", done.stderr
    assert done.returncode == 3
    assert "belongs to another user, and takes admin commands only from that one" in done.stderr
    assert _processes(running) == before


def test_a_collector_of_another_host_says_where_it_takes_commands(
    running: Running, tmp_path: Path
) -> None:
    """A relay of its requests, whose admin endpoint is not here."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    elsewhere = f"ipc://{tmp_path}/not/here"
    with subprocess.Popen(
        [*COLLECTOR, "rebalance", "--connect", f"tcp://127.0.0.1:{port - 1}"],
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert router.poll(60_000)
        sender, request = router.recv_multipart()
        reply = {"id": msgspec.msgpack.decode(request)["id"], "status": {"admin": elsewhere}}
        router.send_multipart([sender, msgspec.msgpack.encode(reply)])
        _, stderr = command.communicate(timeout=60)
    context.destroy(linger=0)
    assert command.returncode == 3
    assert "takes admin commands on its own host only" in stderr


def test_hostile_requests_end_no_process(running: Running, public: RequestClient) -> None:
    before = _processes(running)
    processes = [psutil.Process(pid) for pid in before.values()]
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(requests_endpoint(running.publish))
        for _ in range(2):
            for name, request in HOSTILE.items():
                dealer.send(request)
                assert dealer.poll(30_000), name
                *_, reply = dealer.recv_multipart()
                assert isinstance(msgspec.msgpack.decode(reply), dict)
        for parts in ([b""], [b"", b""], [b"x"] * 3, [b""] * 500):
            dealer.send_multipart(parts)
            assert dealer.poll(30_000)
            *_, reply = dealer.recv_multipart()
            assert "not one part" in msgspec.msgpack.decode(reply)["error"] or parts == [b"", b""]
    assert public.ask("grid", within_s=30.0)["grid"]
    assert alive(processes) == processes
    assert _processes(running) == before
    assert "Traceback" not in running.log


def test_a_req_socket_is_answered(running: Running) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(requests_endpoint(running.publish))
        for request in (msgspec.msgpack.encode({"ask": "grid", "id": 1}), b"\xc1"):
            socket.send(request)
            assert socket.poll(30_000)
            assert isinstance(msgspec.msgpack.decode(socket.recv()), dict)


def test_a_giant_request_ends_its_connection_only(running: Running, public: RequestClient) -> None:
    before = _processes(running)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        with dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            dealer.connect(requests_endpoint(running.publish))
            dealer.send(b"\xc4" * (2 << 20))
            assert monitor.poll(30_000)
            dealer.disable_monitor()
    assert public.ask("grid", within_s=30.0)["grid"]
    assert _processes(running) == before
