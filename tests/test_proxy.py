"""Each fault over real sockets, as a client and a server see it."""

import contextlib
import select
import socket
import threading
import time

import pytest

from tests.proxy import FaultProxy
from tests.system.running import at_best

LONG = 30.0
SHORT = 0.3


class Echo:
    """A server that sends back what it gets, unless told to be quiet."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.connections = []
        self.ended = threading.Event()
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.connections.append(connection)
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection):
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.received += len(data)
                connection.sendall(data)
        self.ended.set()
        connection.close()

    def close(self):
        with contextlib.suppress(OSError):
            # Wakes the thread in accept; closing alone does not.
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server():
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(server):
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield proxy


def connect(proxy):
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=LONG)
    client.settimeout(LONG)
    return client


@pytest.fixture
def client(proxy):
    with connect(proxy) as client:
        assert ask(client, b"hello") == b"hello"
        yield client


def ask(client, data):
    client.sendall(data)
    return receive(client, len(data))


def receive(client, size):
    received = b""
    while len(received) < size and (more := client.recv(65536)):
        received += more
    return received


def is_silent(client, for_s=SHORT):
    return not select.select([client], [], [], for_s)[0]


def test_forwards_both_ways_and_counts(proxy, client):
    big = bytes(range(256)) * 4096
    threading.Thread(target=client.sendall, args=(big,), daemon=True).start()
    assert receive(client, len(big)) == big
    assert len(proxy.accepted) == 1
    assert time.monotonic() - proxy.accepted[0] < 60


def test_a_close_is_passed_on(server, client):
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert server.ended.wait(LONG)


def test_cut_resets_what_is_connected_and_lets_new_ones_in(server, proxy, client):
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.ended.wait(LONG)
    with connect(proxy) as another:
        assert ask(another, b"again") == b"again"


def test_refuse_refuses_new_connections_only(proxy, client):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert ask(client, b"still") == b"still"
    proxy.heal()
    with connect(proxy) as another:
        assert ask(another, b"back") == b"back"


def test_accept_then_close_is_an_end_at_once(proxy, client):
    proxy.accept_then_close()
    with connect(proxy) as another:
        assert another.recv(1) == b""
    assert len(proxy.refused) == 1
    assert ask(client, b"still") == b"still"


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_freeze_holds_everything_back_until_healed(server, proxy, client, direction):
    proxy.freeze(direction)
    before = server.received
    client.sendall(b"held")
    assert is_silent(client)
    assert (server.received > before) is (direction == "down")
    proxy.heal()
    assert receive(client, 4) == b"held"


def test_freeze_is_real_back_pressure(proxy, client):
    proxy.freeze("up")
    client.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(64 << 20))


def test_half_open_swallows_data_and_closes(server, proxy, client):
    proxy.half_open()
    client.sendall(b"gone")
    assert is_silent(client)
    server.connections[0].shutdown(socket.SHUT_RDWR)
    assert is_silent(client)
    with connect(proxy) as another:
        another.sendall(b"gone too")
        assert is_silent(another)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_throttle_bounds_the_rate(proxy, client):
    proxy.throttle(10_000)

    def took_s() -> float:
        began = time.monotonic()
        assert len(ask(client, bytes(5_000))) == 5_000
        return time.monotonic() - began

    assert at_best(took_s, below=3.0) > 0.4


def test_delay_shifts_everything_by_as_much(proxy, client):
    proxy.delay(0.2)

    def took_s() -> float:
        began = time.monotonic()
        assert ask(client, b"late") == b"late"
        return time.monotonic() - began

    assert at_best(took_s, below=1.5) >= 0.4


def test_corrupt_inverts_one_byte_once(proxy, client):
    proxy.corrupt()
    assert ask(client, b"abcde") == b"ab\x9cde"
    assert ask(client, b"abcde") == b"abcde"


def test_an_upstream_that_is_away_resets_the_client(server, proxy):
    server.close()
    # The reset may come while connecting already.
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


async def test_works_inside_an_event_loop(server):
    import asyncio

    async with FaultProxy("127.0.0.1", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
