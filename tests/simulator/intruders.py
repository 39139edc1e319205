"""
Intruders: handshakes made by hand, as those make them who have no key: ``python -m tests.simulator.intruders``.

Each kind connects, sends what it has, reads what it is given, and goes. What it was given is
kept: greetings and welcomes are a few hundred bytes, and anything longer would be a frame.
The last line of the output is a JSON object: handshakes by kind, attempts that did not come so far,
and the most bytes that one got.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import zmq

_GREETING: Final = bytes([0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 0])
_HANDSHAKE_MOST: Final = 1_024
"""A server's greeting is 64 bytes, its welcome 170."""


def greeting(mechanism: bytes, *, as_server: bool = False) -> bytes:
    """Make the 64 bytes with which ZMTP 3.0 begins."""
    return _GREETING + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def command(name: bytes, body: bytes) -> bytes:
    """Make a long command frame of ZMTP 3.0."""
    content = bytes([len(name)]) + name + body
    return b"\x06" + struct.pack(">Q", len(content)) + content


def hello(random_: random.Random) -> bytes:
    """Make a HELLO of the right form whose box cannot be decrypted."""
    content = b"\x05HELLO" + bytes([1, 0]) + bytes(72) + random_.randbytes(32 + 8 + 80)
    return b"\x04" + bytes([len(content)]) + content


def host(number: int) -> str:
    """Return an unused loopback address: another host, as the collector sees it."""
    return f"127.66.{number // 250}.{1 + number % 250}"


class Intruders:
    """Attempts at one endpoint."""

    def __init__(self, endpoint: str, recorded: bytes, seed: int, hosts: int = 0) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._address = host, int(port)
        self._random = random.Random(seed)
        self._hosts = hosts
        self._recorded = recorded
        """What a listed client once sent."""
        self.made: Counter[str] = Counter()
        self.shut_out = 0
        """Attempts that the kernel did not answer: the address, or all strangers, are shut out."""
        self.most = 0
        self._kinds: dict[str, Callable[[], bytes]] = {
            "null": lambda: greeting(b"NULL") + command(b"READY", b"") + b"\x00\x01\x01",
            "plain": lambda: greeting(b"PLAIN") + command(b"HELLO", b"\x05alice\x00"),
            "old": lambda: b"\x01\x00\x01\x01\x00\x01",
            "truncated": self._truncated,
            "forged": lambda: greeting(b"CURVE") + hello(self._random),
            "replayed": lambda: self._recorded,
            "garbage": lambda: self._random.randbytes(self._random.randrange(1, 4_096)),
            "http": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "giant": lambda: (
                greeting(b"CURVE") + b"\x06" + struct.pack(">Q", 1 << 62) + bytes(4_096)
            ),
            "scan": bytes,
            "impatient": lambda: greeting(b"CURVE") + command(b"READY", bytes(200)),
        }

    def _truncated(self) -> bytes:
        whole = self._recorded or greeting(b"CURVE") + hello(self._random)
        return whole[: self._random.randrange(len(whole))]

    def _source(self) -> str:
        """Return the address that an attempt comes from, one of many on loopback."""
        return host(self._random.randrange(self._hosts) if self._hosts else 0)

    async def run(
        self, attempts: int, at_once: int, until: float, per_s: float = 0.0, only: str = ""
    ) -> None:
        """
        Make so many attempts, so many at once, or as many as there is time for.

        Args:
            attempts: How many.
            at_once: How many connections are open at the same time.
            until: When to stop, by the monotonic clock.
            per_s: How many a second at most; 0: as many as can be.
            only: The kind of attempt; empty: all of them in turn.

        """
        left = iter(range(attempts))
        kinds = itertools.cycle([only] if only else self._kinds)
        due = time.monotonic()

        async def one_after_the_other() -> None:
            nonlocal due
            for _ in left:
                if time.monotonic() > until:
                    return
                if per_s:
                    now = time.monotonic()
                    # What was missed while the process was stopped is not made up for.
                    due = max(due, now - 0.1) + 1.0 / per_s
                    await asyncio.sleep(max(0.0, due - now))
                await self._attempt(next(kinds))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(one_after_the_other())

    async def _attempt(self, kind: str) -> None:
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(*self._address, local_addr=(self._source(), 0)), 0.5
            )
        except OSError:
            self.shut_out += 1
            await asyncio.sleep(0.01)
            return
        self.made[kind] += 1
        got = 0
        with contextlib.suppress(OSError, TimeoutError):
            if kind == "scan":
                # Away without a word, by a reset.
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                writer.write(self._kinds[kind]())
                async with asyncio.timeout(0.25):
                    while data := await reader.read(65_536):
                        got += len(data)
        self.most = max(self.most, got)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    @contextlib.contextmanager
    def half_open(self, number: int) -> Iterator[None]:
        """Hold connections on which nothing, or half a greeting, is said."""
        held = []
        for index in range(number):
            with contextlib.suppress(OSError):
                one = socket.create_connection(self._address, 5, (self._source(), 0))
                one.sendall(greeting(b"CURVE")[: index % 64])
                held.append(one)
        try:
            yield
        finally:
            for one in held:
                one.close()


@contextlib.contextmanager
def unlisted(endpoint: str, server: str, number: int, hosts: int = 0) -> Iterator[None]:
    """Real clients with valid keys that are not authorized, which try again and again."""
    with zmq.Context() as context:
        sockets = []
        for index in range(number):
            one = context.socket(zmq.SUB)
            one.setsockopt(zmq.LINGER, 0)
            one.setsockopt(zmq.RECONNECT_IVL, 5)
            one.curve_publickey, one.curve_secretkey = zmq.curve_keypair()
            one.curve_serverkey = server.encode()
            one.subscribe(b"")
            source = host(index % hosts if hosts else 0)
            one.connect(endpoint.replace("tcp://", f"tcp://{source}:0;"))
            sockets.append(one)
        try:
            yield
            assert not any(one.poll(0) for one in sockets), "a frame came without a listed key"
        finally:
            for one in sockets:
                one.close()


class Recording:
    """Stands between a client and an endpoint, and keeps what the client says."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._there = host, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.said = b""
        self._thread = threading.Thread(target=self._relay)

    def __enter__(self) -> "Recording":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(90)
        self._server.close()

    def _relay(self) -> None:
        with self._server.accept()[0] as client, socket.create_connection(self._there) as server:
            other = {client: server, server: client}
            while True:
                for one in select.select(list(other), [], [])[0]:
                    data = one.recv(65_536)
                    if not data:
                        return
                    if one is client:
                        self.said += data
                    other[one].sendall(data)


def main() -> None:
    """Make attempts and print what they were given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoints", nargs="+")
    parser.add_argument("--server-key", required=True)
    parser.add_argument("--attempts", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--half-open", type=int, default=100)
    parser.add_argument("--unlisted", type=int, default=4)
    parser.add_argument("--within", type=float, default=3_600.0)
    parser.add_argument("--hosts", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--recorded", default="")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    os.nice(5)
    recorded = bytes.fromhex(asked.recorded)
    made: Counter[str] = Counter()
    shut_out = most = 0
    began = time.monotonic()
    for number, endpoint in enumerate(asked.endpoints):
        intruders = Intruders(endpoint, recorded, asked.seed + number, asked.hosts)
        share = asked.attempts // len(asked.endpoints)
        until = began + asked.within * (number + 1) / len(asked.endpoints)
        with (
            intruders.half_open(asked.half_open),
            unlisted(endpoint, asked.server_key, asked.unlisted, asked.hosts),
        ):
            asyncio.run(intruders.run(share, asked.at_once, until, asked.rate, asked.only))
        made += intruders.made
        shut_out += intruders.shut_out
        most = max(most, intruders.most)
    seconds = time.monotonic() - began
    found = {"made": made, "shut_out": shut_out, "most_bytes": most, "seconds": round(seconds, 1)}
    json.dump(found, sys.stdout)
    assert most < _HANDSHAKE_MOST


if __name__ == "__main__":
    main()
