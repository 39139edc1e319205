"""The aggregator's process: its sockets, its loop, its once-a-second work."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import zmq

from collector.aggregator import requests
from collector.aggregator.binding import bind
from collector.aggregator.forwarder import Aggregator
from collector.aggregator.state.coverage import MarketState
from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.process_table import Processes
from collector.aggregator.telemetry.sampling import Sampler
from collector.settings.parts import AggregatorConfig, requests_endpoint
from shards.protocol.errors import ConfigError
from shards.runtime import child
from shards.runtime.child import Heartbeat, Life

log = logging.getLogger(__name__)

_T = TypeVar("_T")

MAX_REQUEST: Final = 1 << 20
"""Bytes of a request; ZeroMQ ends the connection that sends a longer one. The longest honest one
names every topic of some thousand markets."""
_BATCHES: Final = 64
"""Batches taken in one go, so that requests and timers get their turn."""
_ledger: Final = msgspec.msgpack.Decoder(list[MarketState])
_journal: Final = msgspec.msgpack.Decoder(list[Entry])


class Server:
    """The sockets around an `Aggregator`."""

    def __init__(self, config: AggregatorConfig, life: Life) -> None:
        self._config = config
        self._life = life
        self._ledger = Path(config.folder) / "ledger"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pull = self._socket(zmq.PULL, (config.pull,), RCVHWM=1_000)
        self._publisher = self._socket(zmq.XPUB, config.publish, SNDHWM=config.publish_hwm)
        self._doors = self._open_doors(config)
        self._journal = Path(config.folder) / "journal"
        self.aggregator = Aggregator(
            config,
            self._publisher,
            saved=_load(self._ledger, _ledger),
            entries=_load(self._journal, _journal),
        )
        self.processes = Processes()

    def _open_doors(self, config: AggregatorConfig) -> dict["zmq.Socket[bytes]", requests.Role]:
        """Open the endpoints that answer requests, each with what it is for."""
        public = tuple(requests_endpoint(endpoint) for endpoint in config.publish)
        bounded = {"SNDHWM": 10_000, "RCVHWM": 1_000, "MAXMSGSIZE": MAX_REQUEST}
        doors: dict[zmq.Socket[bytes], requests.Role] = {}
        doors[self._socket(zmq.ROUTER, (config.link,), SNDHWM=10_000)] = "control"
        if config.admin:
            doors[self._socket(zmq.ROUTER, (config.admin,), **bounded)] = "operate"
        doors[self._socket(zmq.ROUTER, public, **bounded)] = "read"
        for own in filter(None, (config.pull, config.link, config.admin)):
            # The folder admits only us; whoever mounts or copies it changes nothing of that.
            os.chmod(own.removeprefix("ipc://"), 0o600)
        return doors

    def _socket(
        self, kind: zmq.SocketType, endpoints: tuple[str, ...], **options: int
    ) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        for endpoint in endpoints:
            try:
                bind(socket, endpoint)
            except ConfigError:
                self._context.destroy(linger=0)
                raise
        return socket

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        readers: tuple[tuple[zmq.Socket[bytes], Callable[[], None]], ...] = (
            (self._pull, self._drain_pull),
            *(
                (door, partial(self._drain_requests, door, role))
                for door, role in self._doors.items()
            ),
            (self._publisher, self._drain_publisher),
        )
        for socket, drain in readers:
            loop.add_reader(socket.FD, drain)
        # A send on a socket may eat the edge that its descriptor would have shown.
        self._life.each_beat += [drain for _, drain in readers]
        child.settle_heap()
        try:
            async with asyncio.TaskGroup() as tasks:
                second = tasks.create_task(self._every_second())
                await self._life.stop.wait()
                second.cancel()
        finally:
            self._life.each_beat.clear()
            for socket, _ in readers:
                loop.remove_reader(socket.FD)
            self._publisher.close(linger=500)
            self._context.destroy(linger=500)

    def _drain_pull(self) -> None:
        """Take what is there; the descriptor tells of changes only, so look again ourselves."""
        receive = self._pull.recv
        for _ in range(_BATCHES):
            try:
                header = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.aggregator.receive(header, receive(zmq.NOBLOCK))
        asyncio.get_running_loop().call_soon(self._drain_pull)

    def _drain_requests(self, door: "zmq.Socket[bytes]", role: requests.Role) -> None:
        for _ in range(_BATCHES):
            try:
                sender, *parts = door.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not parts:
                continue
            reply = requests.answer(
                parts, role, self.aggregator, self.processes, self._life.watched
            )
            if self.aggregator.unsaved:
                # Who owns what must outlive us before anybody acts on it.
                self._save_ledger()
            # Refused if the asker is gone or does not read: it will ask again.
            with contextlib.suppress(zmq.ZMQError):
                door.send_multipart([sender, *reply], zmq.NOBLOCK)
        asyncio.get_running_loop().call_soon(self._drain_requests, door, role)

    def _drain_publisher(self) -> None:
        """Take the subscriptions; libzmq has already acted on them."""
        with contextlib.suppress(zmq.Again):
            while True:
                self._publisher.recv(zmq.NOBLOCK)

    async def _every_second(self) -> None:
        sampler = Sampler(self.aggregator, self.processes)
        entered = self.aggregator.journal.last
        while True:
            await asyncio.sleep(1.0)
            for _ in sampler.look(time.monotonic(), time.time_ns()):
                await asyncio.sleep(0)
            self._save_ledger()
            if entered != self.aggregator.journal.last:
                entered = self.aggregator.journal.last
                _save(self._journal, self.aggregator.journal)

    def _save_ledger(self) -> None:
        self.aggregator.unsaved = False
        _save(self._ledger, self.aggregator.coverage.ledgers())


def _load(path: Path, saved: "msgspec.msgpack.Decoder[list[_T]]") -> list[_T]:
    """Read what a former aggregator left, if anything."""
    try:
        return saved.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        log.warning("the saved %s cannot be read (%s); starting a new one", path, error)
        return []


def _save(path: Path, rows: Iterable[object]) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.msgpack.encode(list(rows)))
    part.replace(path)


async def serve(config: AggregatorConfig, life: Life) -> None:
    """Run the aggregator until told to stop."""
    await Server(config, life).run()


def main(config: AggregatorConfig, heartbeat: Heartbeat) -> None:
    """Be the aggregator's process: entry point of the spawned child."""
    parent = multiprocessing.parent_process()
    try:
        child.run(
            "aggregator",
            lambda life: serve(config, life),
            heartbeat,
            log_level=config.log_level,
            log_format=config.log_format,
        )
    finally:
        if parent is not None and not parent.is_alive():
            # Nobody else is left to remove it.
            shutil.rmtree(config.folder, ignore_errors=True)
