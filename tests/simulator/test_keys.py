"""Keys at a running collector: who gets what, who gets nothing, and how soon that changes."""

import contextlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import pytest
import zmq

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.client import requests
from collector.client.handshakes import Handshakes
from collector.client.received import Joined
from collector.client.requests import Refused, RequestClient
from collector.client.subscriber import Subscriber
from collector.settings.parts import requests_endpoint
from shards.protocol import frames
from tests.needs import NODE_JS
from tests.simulator.client import simulator
from tests.system.running import Running, at_best, collector, eventually, free_port_pair, run

_CHANNELS: Final = ("--channel", "book", "--channel", "trades", "--channel", "ticker")


class World:
    """A collector with keys: alice reads everything, bob trades, olga steers; eve is not listed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "authorized_keys.toml"
        self.server = key_files.make("server")
        key_files.write(self.server, folder)
        self.running: Running
        self.admin = f"tcp://127.0.0.1:{free_port_pair()}"
        self.http = free_port_pair()
        self.authorize("alice")
        self.authorize("bob", topics=("trades.*",))
        self.authorize("olga", role="operate")
        self.make("eve")

    def make(self, name: str) -> Keys:
        """Make a key that is not authorized."""
        keys = key_files.make(name, server=self.server.public)
        key_files.write(keys, self.folder)
        return keys

    def authorize(self, name: str, **fields: Any) -> Keys:
        """Make a key and let it in."""
        keys = self.make(name)
        self.let_in(keys, **fields)
        return keys

    def let_in(self, keys: Keys, **fields: Any) -> None:
        """Let a key in."""
        public = key_files.public_part(keys)
        authorized_file.add(self.file, authorized_file.of_public(public, **fields))

    def keys(self, name: str) -> Keys:
        """Return somebody's keys."""
        return Keys.read(self.folder / f"{name}.key")

    @property
    def requests(self) -> str:
        """Where requests are answered."""
        return requests_endpoint(self.running.publish)

    def access(self) -> dict[str, Any]:
        """Return the summary's part about access."""
        access: dict[str, Any] = self.running.status()["access"]
        return access


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything live."""
    folder = tmp_path_factory.mktemp("keys")
    world = World(folder)
    monitor = world.authorize("monitor")
    with (
        simulator("--markets", "4", "--block-time", "0.1") as venue,
        collector(
            folder, "--shards", "2", "--config", str(venue.config(folder)), *_CHANNELS,
            "--keys", str(folder / "server.key"), "--admin", world.admin,
            "--record", str(folder / "archive"), "--http", f"127.0.0.1:{world.http}", keys=monitor,
        ) as started,
    ):  # fmt: skip
        world.running = started
        started.await_live()
        yield world


def _topics(subscriber: Subscriber, number: int) -> set[str]:
    """Take this many events, and return their topics."""
    found: list[str] = []
    deadline = time.monotonic() + 30
    while len(found) < number:
        assert time.monotonic() < deadline
        received = subscriber.poll(1.0)
        if received is not None and received.channel:
            found.append(received.topic)
    return set(found)


def _await_refusal(
    client: RequestClient, sentence: str, what: str = "status", **fields: Any
) -> None:
    """Ask without an answer, until the reason is known: a handshake takes a while on a busy machine."""
    said = ""

    def refused() -> bool:
        nonlocal said
        with pytest.raises(TimeoutError) as caught:
            client.ask(what, within_s=1.0, **fields)
        said = str(caught.value)
        return re.search(sentence, said) is not None

    eventually(refused, within_s=30, what=lambda: f"{sentence}; said was: {said}")


def test_our_own_processes_need_no_key(world: World) -> None:
    """The recorder reads at a socket in the runtime folder; HTTP asks there, and others for tokens."""
    eventually(
        lambda: (world.running.status()["recorder"] or {}).get("state") == "recording", within_s=30
    )
    url = f"http://127.0.0.1:{world.http}/metrics"
    token = {"Authorization": f"Bearer {world.keys('alice').token}"}

    def served() -> str:
        """Nothing waits for the HTTP server to begin."""
        asked = urllib.request.Request(url, headers=token)
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=20) as answer:
            body = str(answer.read(), "utf-8")
            return body if "collector_keys_required 1.0" in body else ""
        return ""

    metrics = eventually(served, within_s=30, what="metrics of a collector with keys")
    assert 'collector_refused_connections_total{reason="unknown_key"}' in metrics
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)


def test_a_listed_key_reads_everything(world: World) -> None:
    with Subscriber(world.running.publish, keys=world.folder / "alice.key") as subscriber:
        channels = {topic.partition(".")[0] for topic in _topics(subscriber, 150)}
    assert channels >= {"book", "trades", "ticker"}


@pytest.mark.parametrize("who", ["nobody", "eve", "wrong server"])
def test_without_a_listed_key_not_one_frame_comes(world: World, who: str) -> None:
    """Straight from the socket: the subscriber would ask before it hands anything out."""
    keys = {
        "nobody": None,
        "eve": world.keys("eve"),
        "wrong server": msgspec.structs.replace(
            world.keys("alice"), server=key_files.make("x").public
        ),
    }[who]
    refused = sum(world.access()["refused"].values())
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = (
                keys.public.encode(), keys.secret.encode(), keys.server.encode(),
            )  # fmt: skip
        socket.connect(world.running.publish)
        socket.subscribe(b"")
        eventually(
            lambda: sum(world.access()["refused"].values()) > refused, within_s=30, every_s=0.2
        )
        assert not socket.poll(0)
    sentence = {
        "nobody": "asks for a key: give yours with --keys",
        "eve": "does not let in the key of eve",
        "wrong server": "does not let in the key of alice: .* or names another server key",
    }[who]
    with RequestClient(world.requests, keys) as client:
        _await_refusal(client, sentence)


def test_a_client_that_is_slow_to_begin_learns_the_reason_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Handshakes):
        """As on a busy machine: the refusal may be there before anything else is done."""

        def __init__(self, *given: Any) -> None:
            time.sleep(0.5)
            super().__init__(*given)

    monkeypatch.setattr(requests, "Handshakes", Slow)
    with RequestClient(world.requests) as client:
        _await_refusal(client, "asks for a key: give yours with --keys")


def test_bob_gets_trades_only(world: World) -> None:
    """He subscribes to everything, and to a book by name."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        bob = world.keys("bob")
        socket.curve_publickey, socket.curve_secretkey = bob.public.encode(), bob.secret.encode()
        socket.curve_serverkey = bob.server.encode()
        for prefix in (b"", b"book.", b"t", b"gap.", b"trades.", b"ticker.INJ-USDT."):
            socket.subscribe(prefix)
        socket.connect(world.running.publish)
        for _ in range(60):
            assert socket.poll(60_000)
            topic, _body = socket.recv_multipart()
            assert topic.startswith(b"trades.")
        # What he gives up is what stays away, no more: "t" and "" still cover his trades.
        socket.unsubscribe(b"trades.")
        socket.unsubscribe(b"")
        for _ in range(15):
            assert socket.poll(60_000)
            assert socket.recv_multipart()[0].startswith(b"trades.")
    with Subscriber(world.running.publish, keys=bob) as subscriber:
        assert {t.partition(".")[0] for t in _topics(subscriber, 30)} == {"trades"}


def test_bob_is_answered_within_his_rights_only(world: World) -> None:
    with RequestClient(world.requests, world.keys("bob")) as client:
        prefixes = ["", "book.", "trades."]
        topics = client.ask("topics", within_s=30.0, prefixes=prefixes)["topics"]
        assert topics
        assert all(topic.startswith("trades.") for topic in topics)
        wanted: dict[str, Any] = {"publisher_epoch": 0, "after": 0}
        trades = next(iter(topics))
        assert client.ask("replay", within_s=30.0, topic=trades, **wanted)["topic"] == trades
        for topic in ("book.INJ-USDT.", "gap.INJ-USDT.", "ticker.INJ-USDT.", "", "trade"):
            with pytest.raises(Refused, match="not among those that this key may read"):
                client.ask("replay", within_s=30.0, topic=topic, **wanted)
        for what in ("grid", "events", "history", "metrics"):
            with pytest.raises(Refused, match="this key may read some topics only"):
                client.ask(what, within_s=30.0)
        for what in ("report", "processes", "order"):
            with pytest.raises(Refused, match="is not answered at this endpoint"):
                client.ask(what, within_s=30.0)
    eventually(lambda: world.access()["requests_refused"].get("rights", 0) >= 9, within_s=30)


def test_a_replay_brings_bob_no_keyframe(world: World) -> None:
    """The bodies behind a refusal: none."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        bob = world.keys("bob")
        socket.curve_publickey, socket.curve_secretkey = bob.public.encode(), bob.secret.encode()
        socket.curve_serverkey = bob.server.encode()
        socket.connect(world.requests)
        asked = {"ask": "replay", "id": 1, "topic": frames.topic("book", "INJ-USDT"),
                 "publisher_epoch": 0, "after": 0}  # fmt: skip
        socket.send(msgspec.msgpack.encode(asked))
        assert socket.poll(30_000)
        assert len(socket.recv_multipart()) == 1


def test_revoked_is_out_within_a_second_and_others_keep_every_frame(world: World) -> None:
    at_best(lambda: _out_after_s(world), below=1.0)


def _out_after_s(world: World) -> float:
    """Revoke a key; return how long after that its reader was sent the last frame."""
    for path in world.folder.glob("carol.*"):
        path.unlink()
    carol = world.authorize("carol")
    with (
        Subscriber(world.running.publish, channels=["trades"], keys=carol) as out,
        Subscriber(world.running.publish, channels=["trades"], keys=world.keys("alice")) as kept,
        zmq.Context() as context,
        context.socket(zmq.SUB) as plain,
    ):
        plain.setsockopt(zmq.LINGER, 0)
        alice = world.keys("alice")
        plain.curve_publickey, plain.curve_secretkey = alice.public.encode(), alice.secret.encode()
        plain.curve_serverkey = alice.server.encode()
        plain.connect(world.running.publish)
        plain.subscribe(b"trades.")
        _topics(out, 10)
        _topics(kept, 10)
        assert plain.poll(60_000)
        authorized_file.remove(world.file, "carol")
        removed = time.time()
        newest = 0.0
        began = time.monotonic()
        numbers: dict[str, list[int]] = {}
        bare: dict[bytes, list[int]] = {}

        def some_of_each() -> bool:
            found = [*numbers.values(), *bare.values()]
            return bool(numbers and bare) and min(map(len, found)) > 5

        while time.monotonic() - began < 4.0 or not some_of_each():
            assert time.monotonic() - began < 60.0, (numbers, bare)
            received = out.poll(0.02)
            if received is not None and received.channel:
                newest = received.ts_pub / 1e9
            received = kept.poll(0.02)
            if received is not None and received.channel:
                assert not received.healed
                numbers.setdefault(received.topic, []).append(received.topic_sequence)
            while plain.poll(0):
                topic, body = plain.recv_multipart()
                bare.setdefault(topic, []).append(frames.decode(body)[0].topic_sequence)
        # Not even a reader without our client, which heals nothing, misses a frame.
        for found in (*numbers.values(), *bare.values()):
            assert found == list(range(found[0], found[0] + len(found)))
        with RequestClient(world.requests, carol) as client:
            _await_refusal(client, "does not let in the key of carol")
    eventually(lambda: world.access()["closed"].get("revoked"), within_s=30)
    return newest - removed


def test_a_key_has_so_many_connections(world: World) -> None:
    dave = world.authorize("dave", max_connections=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RequestClient(world.requests, dave)) for _ in range(3)]
        for client in clients:
            client.ask("status", within_s=30.0)
        with RequestClient(world.requests, dave) as fourth:
            _await_refusal(fourth, "has too many connections")
        eventually(lambda: world.access()["by_key"].get("dave") == 3, within_s=30)
        clients[0].close()
        fifth = stack.enter_context(RequestClient(world.requests, dave))
        assert fifth.ask("status", within_s=30.0)
    eventually(lambda: "dave" not in world.access()["by_key"], within_s=30)


def test_the_admin_endpoint_is_for_operators(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order = {"token": "t", "order": {"kind": "rebalance"}}
    with RequestClient(world.admin, world.keys("alice")) as client:
        _await_refusal(client, "does not let in the key of alice", "order", **order)
    eventually(lambda: world.access()["refused"].get("role"), within_s=30)
    with (
        RequestClient(world.requests, world.keys("olga")) as client,
        pytest.raises(Refused, match="admin commands are taken at the admin endpoint"),
    ):
        client.ask("order", within_s=30.0, **order)
    with RequestClient(world.admin, world.keys("olga")) as client:
        assert client.ask("order", within_s=30.0, **order)["state"] in (
            "waiting",
            "done",
            "refused",
        )
    done = run("scale", "2", "--connect", world.running.publish, "--keys",
               str(world.folder / "olga.key"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The collector's own user needs no key: the socket is in its folder.
    folder = Path(world.running.status()["admin"].removeprefix("ipc://")).parent
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    done = run("rebalance", "--connect", world.running.publish)
    assert done.returncode == 0, done.stderr
    other = run("rebalance", "--connect", f"tcp://127.0.0.1:{world.http}")
    assert other.returncode == 3


def test_what_is_no_subscription_ends_its_connection_and_grants_nobody_anything(
    world: World,
) -> None:
    """libzmq's queues of messages and of connections are out of step behind such a message."""
    bob, alice = world.keys("bob"), world.keys("alice")
    before = world.access()["closed"].get("nonsense", 0)
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        sockets = []
        for keys in (bob, alice):
            socket = stack.enter_context(context.socket(zmq.XSUB))
            socket.setsockopt(zmq.LINGER, 0)
            socket.curve_publickey, socket.curve_secretkey = (
                keys.public.encode(), keys.secret.encode(),
            )  # fmt: skip
            socket.curve_serverkey = keys.server.encode()
            socket.connect(world.running.publish)
            sockets.append(socket)
        his, hers = sockets
        his.send(b"\x01trades.")
        assert his.poll(60_000)
        deadline = time.monotonic() + 3.0
        seen = set()
        while time.monotonic() < deadline:
            his.send(b"hello")
            hers.send(b"\x01book.")
            his.send(b"\x01trades.")
            while his.poll(10):
                seen.add(his.recv_multipart()[0].partition(b".")[0])
        assert seen == {b"trades"}
        eventually(lambda: world.access()["closed"].get("nonsense", 0) > before, within_s=30)
        hers.send(b"\x01book.")
        assert hers.poll(60_000)


def test_a_mistake_in_the_file_changes_nothing_and_is_said(world: World) -> None:
    kept = world.folder / "kept.toml"
    shutil.copy(world.file, kept)
    try:
        world.file.write_text("[[key]]\nname = 'x'\n")
        eventually(lambda: world.access()["error"], within_s=30)
        assert "public must be the 40 characters" in world.access()["error"]
        with RequestClient(world.requests, world.keys("alice")) as client:
            assert client.ask("status", within_s=30.0)
    finally:
        shutil.copy(kept, world.file)
    eventually(lambda: not world.access()["error"], within_s=30)


def test_a_mistake_in_the_file_does_not_keep_a_killed_aggregator_from_coming_back(
    world: World,
) -> None:
    kept = world.folder / "kept.toml"
    shutil.copy(world.file, kept)
    try:
        world.file.write_text("[[key]]\nname = 'x'\n")
        eventually(lambda: "stay in force" in world.running.log, within_s=30)
        killed = world.running.pid("aggregator")
        psutil.Process(killed).kill()
        eventually(lambda: "no key may connect until" in world.running.log, within_s=60)
        # Nobody can connect, but HTTP serves and the shards are collecting.
        url = f"http://127.0.0.1:{world.http}/readyz"
        eventually(lambda: _status_of(url) == 200, within_s=60)
    finally:
        shutil.copy(kept, world.file)
    eventually(lambda: not world.access()["error"], within_s=60)
    assert world.running.pid("aggregator") != killed
    with RequestClient(world.requests, world.keys("alice")) as client:
        assert client.ask("status", within_s=30.0)


def _status_of(url: str) -> int:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.status)
    return 0


def test_the_commands_take_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    where, file = ("--connect", world.running.publish), str(world.folder / "alice.key")
    assert run("status", *where, "--keys", file).returncode == 0
    monkeypatch.setenv("COLLECTOR_TAIL_KEYS", file)
    done = run("tail", *where, "-n", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    missing = run("status", *where)
    assert missing.returncode == 3
    assert "asks for a key: give yours with --keys" in missing.stderr


def test_a_subscriber_joins_again_after_its_connections_were_cut(world: World) -> None:
    frank = world.authorize("frank")
    with Subscriber(world.running.publish, channels=["trades"], keys=frank) as subscriber:
        _topics(subscriber, 20)
        authorized_file.remove(world.file, "frank")
        eventually(lambda: "frank" not in world.access()["by_key"], within_s=30)
        missed = world.running.status()["blocks"]["last"] + 20
        eventually(lambda: world.running.status()["blocks"]["last"] > missed, within_s=60)
        world.let_in(frank)
        deadline = time.monotonic() + 60
        last: dict[str, int] = {}
        healed = 0
        while healed < 5 or len(last) < 2:
            assert time.monotonic() < deadline, (healed, last)
            received = subscriber.poll(1.0)
            if received is None or not received.channel or isinstance(received.event, Joined):
                continue
            if received.topic in last:
                assert received.topic_sequence == last[received.topic] + 1
            last[received.topic] = received.topic_sequence
            healed += received.healed


@pytest.mark.network
def test_the_node_example_shows_its_key(world: World, tmp_path: Path) -> None:
    NODE_JS.require()
    for name in ("package.json", "subscriber.mjs"):
        shutil.copy(Path("examples") / name, tmp_path)
    install = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if install.returncode != 0:
        pytest.skip(f"npm install failed: {install.stderr[-300:]}")
    command = [
        "node",
        "subscriber.mjs",
        world.running.publish,
        "5",
        "",
        str(world.folder / "bob.key"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.partition(".")[0] for line in done.stdout.splitlines()] == ["trades"] * 5
