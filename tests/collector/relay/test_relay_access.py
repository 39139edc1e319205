"""A relay and its readers: keys and rights as at a collector, and whatever arrives, it goes on."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from collector import Joined, Subscriber
from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.client.requests import Refused, RequestClient
from collector.settings.parts import requests_endpoint
from tests.collector.client.scripted_publisher import (
    Script,
    ScriptedPublisher,
    delta,
    free_endpoint,
    publishing,
    trades,
)
from tests.collector.client.test_cells import MARKETS, beginning
from tests.collector.client.test_subscriber import INJ, until
from tests.hostile import HOSTILE
from tests.system.running import COLLECTOR, at_best, eventually, run


class World:
    """A relay with keys: alice reads everything, bob trades; eve is not listed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publish = free_endpoint()
        self.requests = requests_endpoint(self.publish)
        self.server = key_files.make("server")
        key_files.write(self.server, folder)
        self.alice, self.bob, self.eve = (
            key_files.make(name, server=self.server.public) for name in ("alice", "bob", "eve")
        )
        self.authorize(self.alice, "*")
        self.authorize(self.bob, "trades.*")

    def authorize(self, keys: Keys, topic: str) -> None:
        """Let a key in."""
        public = key_files.public_part(keys)
        authorized_file.add(self.file, authorized_file.of_public(public, topics=(topic,)))

    @property
    def file(self) -> Path:
        return self.folder / authorized_file.FILE

    def has_position(self) -> bool:
        """Whether the relay has a position of its own; before, it leaves readers waiting."""
        with RequestClient(self.requests, self.alice) as client, contextlib.suppress(TimeoutError):
            return bool(client.ask("topics", within_s=0.5, prefixes=[""])["head"])
        return False

    def access(self) -> dict[str, dict[str, int]]:
        """What the relay counted about its readers."""
        with RequestClient(self.requests, self.alice) as client:
            found: dict[str, dict[str, int]] = client.ask("status", within_s=30)["status"]["relay"][
                "access"
            ]
        return found


@pytest.fixture(scope="module")
def cell() -> Iterator[ScriptedPublisher]:
    with publishing(Script(markets=MARKETS)) as publisher:
        beginning(publisher)
        for height in range(101, 106):
            publisher.send(INJ, delta(INJ, height, height - 99))
            publisher.send(INJ, trades(INJ, height))
            publisher.script.head = height
        yield publisher


@contextlib.contextmanager
def relayed(folder: Path, connect: str, *options: str) -> Iterator[World]:
    """Run a relay with keys, until it has a position of its own."""
    world = World(folder)
    relay = (*COLLECTOR, "relay", "--connect", connect, "--publish", world.publish, *options)
    with subprocess.Popen([*relay, "--keys", str(world.folder / "server.key")]) as process:
        try:
            eventually(world.has_position, within_s=30, what="the relay has a position")
            yield world
            assert process.poll() is None, "the relay has ended"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, cell: ScriptedPublisher) -> Iterator[World]:
    with relayed(tmp_path_factory.mktemp("relay"), cell.endpoint) as world:
        yield world


def test_cells_with_different_keys_are_read_with_one_file_for_each(
    world: World, cell: ScriptedPublisher, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with relayed(tmp_path / "other", cell.endpoint) as other:
        connect = f"{world.publish},{other.publish}"
        files = []
        for one in (world, other):
            key_files.write(one.alice, one.folder)
            files.append(str(one.folder / "alice.key"))
        both = ("--connect", connect, "--keys", ",".join(files))
        told = json.loads(run("status", *both, "--json").stdout)
        assert [told[one.publish]["relay"]["connect"] for one in (world, other)] == [
            cell.endpoint
        ] * 2
        one_file = ("--connect", connect, "--keys", files[0], "--json")
        # Why is known after the handshake, which may take longer on a busy machine.
        eventually(
            lambda: (
                "does not let in the key of alice"
                in json.loads(run("status", *one_file).stdout)[other.publish].get("error", "")
            ),
            within_s=30,
        )
        three = run("tail", *both[:3], ",".join((*files, files[0])))
        assert three.returncode == 3
        assert "names 3 files, and there are 2 endpoints" in three.stderr
        (tmp_path / "upper").mkdir()
        with relayed(tmp_path / "upper", connect, "--upstream-keys", ",".join(files)) as upper:
            with RequestClient(upper.requests, upper.alice) as client:
                topics = client.ask("topics", within_s=30, prefixes=["trades."])["topics"]
            assert list(topics) == [f"trades.{INJ}."]


def test_bob_gets_trades_only(world: World, cell: ScriptedPublisher) -> None:
    with (
        Subscriber(world.publish, keys=world.bob) as bob,
        Subscriber(world.publish, keys=world.alice) as alice,
    ):
        until(bob, lambda r: isinstance(r.event, Joined), 60)
        until(alice, lambda r: r.channel == "book", 60)
        for height in range(106, 116):
            cell.send(INJ, delta(INJ, height, height - 99))
            cell.send(INJ, trades(INJ, height))
            cell.script.head = height
        everything = until(alice, lambda r: r.channel == "trades" and r.event.height == 115, 60)  # type: ignore[union-attr]
        some = until(bob, lambda r: r.channel == "trades" and r.event.height == 115, 60)  # type: ignore[union-attr]
    assert {r.channel for r in everything if r.topic} == {"book", "trades"}
    assert {r.channel for r in some if r.topic} == {"trades"}


def test_bob_is_answered_within_his_rights_only(world: World) -> None:
    with RequestClient(world.requests, world.bob) as client:
        topics = client.ask("topics", within_s=30, prefixes=["", "book.", "trades."])["topics"]
        assert {name.partition(".")[0] for name in topics} == {"trades"}
        assert [row["symbol"] for row in client.ask("markets", within_s=30)["markets"]] == [INJ]
        fields = {"publisher_epoch": 0, "after": 0}
        with pytest.raises(Refused, match="not among those that this key may read"):
            client.ask("replay", within_s=30, topic=f"book.{INJ}.", **fields)
        for what in ("grid", "events", "history", "metrics"):
            with pytest.raises(Refused, match="shows all markets"):
                client.ask(what, within_s=30)
        for what in ("order", "report", "processes"):
            with pytest.raises(Refused, match="not understood"):
                client.ask(what, within_s=30)


@pytest.mark.parametrize("keys", ["eve", None])
def test_without_a_listed_key_nothing_comes(world: World, keys: str | None) -> None:
    stranger = getattr(world, keys) if keys else None
    with (
        Subscriber(world.publish, keys=stranger) as subscriber,
        RequestClient(world.requests, stranger) as client,
    ):
        with pytest.raises(TimeoutError):
            client.ask("topics", within_s=1, prefixes=[""])
        received = subscriber.poll(0.2)
        assert received is None or not received.topic
    eventually(lambda: set(world.access()["refused"]) & {"unknown_key", "mechanism"}, within_s=30)


def raw(context: "zmq.Context[zmq.Socket[bytes]]", kind: int, keys: Keys) -> "zmq.Socket[bytes]":
    """A bare socket with a reader's key."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    for option, value in (
        (zmq.CURVE_PUBLICKEY, keys.public),
        (zmq.CURVE_SECRETKEY, keys.secret),
        (zmq.CURVE_SERVERKEY, keys.server),
    ):
        socket.setsockopt_string(option, value)
    return socket


def test_hostile_requests_end_no_relay(world: World) -> None:
    with zmq.Context() as context, raw(context, zmq.DEALER, world.alice) as dealer:
        dealer.connect(world.requests)
        for _ in range(2):
            for name, request in HOSTILE.items():
                dealer.send(request)
                assert dealer.poll(30_000), name
                *_, reply = dealer.recv_multipart()
                assert isinstance(msgspec.msgpack.decode(reply), dict)
        for parts in ([b""], [b"x"] * 3, [b""] * 500):
            dealer.send_multipart(parts)
            assert dealer.poll(30_000)
            *_, reply = dealer.recv_multipart()
            assert "not one part" in msgspec.msgpack.decode(reply)["error"]


def test_one_reader_cannot_use_up_the_relays_requests(world: World) -> None:
    """A cell counts what is forwarded as the relay's own: each reader has its share."""
    refused = 0
    with zmq.Context() as context, raw(context, zmq.DEALER, world.bob) as greedy:
        greedy.connect(world.requests)
        # All at once: one after the other, they may be slower than he may ask.
        for number in range(300):
            greedy.send(msgspec.msgpack.encode({"ask": "status", "id": number}))
        for _ in range(300):
            assert greedy.poll(30_000)
            reply = msgspec.msgpack.decode(greedy.recv_multipart()[0])
            if "error" in reply:
                assert "too many requests at once" in reply["error"]
                refused += 1
    assert 0 < refused < 300
    eventually(lambda: world.access()["requests_refused"].get("requests"), within_s=30)


def test_a_reader_that_reads_nothing_is_cut_off(world: World, cell: ScriptedPublisher) -> None:
    height = 200
    with zmq.Context() as context, raw(context, zmq.SUB, world.alice) as stuck:
        for option, value in ((zmq.RCVHWM, 1), (zmq.RCVBUF, 4_096)):
            stuck.setsockopt(option, value)
        stuck.connect(world.publish)
        stuck.subscribe(b"")
        # 64 MiB may wait for it: half a hundred times 1.6 MB are more.
        deadline = time.monotonic() + 60
        while not world.access()["closed"].get("slow"):
            assert time.monotonic() < deadline, "it was never cut off"
            height += 1
            cell.send(INJ, trades(INJ, height, 8_000))
            cell.script.head = height


def test_revoked_is_out_within_a_second(world: World) -> None:
    at_best(lambda: _out_after_s(world), below=1.0)


def _out_after_s(world: World) -> float:
    """Return how long after bob's key is revoked his connection is cut."""
    with zmq.Context() as context, raw(context, zmq.SUB, world.bob) as reader:
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        with reader.get_monitor_socket(events) as monitor:
            reader.connect(world.publish)
            reader.subscribe(b"")
            # A key that the relay does not know yet is refused, and tries again.
            _await_event(reader, monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)
            authorized_file.remove(world.file, "bob")
            began = time.monotonic()
            _await_event(reader, monitor, zmq.EVENT_DISCONNECTED)
            took_s = time.monotonic() - began
            reader.disable_monitor()
    # He may be asked again.
    world.authorize(world.bob, "trades.*")
    return took_s


def _await_event(reader: "zmq.Socket[bytes]", monitor: "zmq.Socket[bytes]", wanted: int) -> None:
    seen = 0

    def is_there() -> bool:
        nonlocal seen
        # Only a socket that is used subscribes again after it was refused.
        reader.poll(0)
        while seen != wanted and monitor.poll(10):
            seen = recv_monitor_message(monitor)["event"]
        return seen == wanted

    eventually(is_there, within_s=30, every_s=0.01, what=lambda: f"{seen}, not {wanted}")
