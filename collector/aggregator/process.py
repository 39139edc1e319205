"""The aggregator's process: its sockets, its loop, its once-a-second work."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import zmq

from collector.aggregator import requests
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.binding import Endpoints
from collector.aggregator.publisher import Publisher
from collector.aggregator.saving import Keeper
from collector.aggregator.status.sampling import Sampler
from collector.aggregator.telemetry.process_table import Processes
from collector.client.summary import TakenUp
from collector.settings.parts import AggregatorConfig, requests_endpoint
from shards.protocol.errors import ConfigError
from shards.push import plain_send
from shards.runtime import child, parent
from shards.runtime.child import Heartbeat, Life

log = logging.getLogger(__name__)

MAX_REQUEST: Final = 1 << 20
"""Bytes of a request; ZeroMQ ends the connection that sends a longer one. The longest honest one
names every topic of some thousand markets."""
MAX_SUBSCRIPTION: Final = 64 << 10
"""Bytes of a subscription: topics are short, and ZeroMQ keeps what it is sent."""
_BATCHES: Final = 64
"""Batches taken in one go, so that requests and timers get their turn."""


class Server:
    """The sockets around an `Aggregator`."""

    def __init__(self, config: AggregatorConfig, life: Life) -> None:
        self._config = config
        self._life = life
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._endpoints = Endpoints()
        self._public_endpoints = {*config.publish, *map(requests_endpoint, config.publish)}
        self._pull = self._socket(zmq.PULL, (config.pull,), RCVHWM=1_000)
        self._publisher = self._socket(
            zmq.XPUB, config.publish, SNDHWM=config.publish_hwm, MAXMSGSIZE=MAX_SUBSCRIPTION
        )
        self._doors = self._open_doors(config)
        self._keeper = Keeper(Path(config.state or config.folder))
        self._keeper.hold()
        saved = self._keeper.load()
        self.aggregator = Aggregator(
            config,
            Publisher(plain_send(self._publisher)),
            clock=time.time_ns,
            saved=saved,
            entries=self._keeper.load_journal(),
            now=time.monotonic(),
        )
        if taken_up := self.aggregator.run.saving.taken_up:
            _say(taken_up, config.resume_within)
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
                self._endpoints.bind(socket, endpoint, is_public=endpoint in self._public_endpoints)
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
            self._save_ledger()
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
            self.aggregator.forwarder.receive(header, receive(zmq.NOBLOCK))
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
            while self.aggregator.notes:
                log.warning("%s", self.aggregator.notes.popleft())
            if self.aggregator.handover.unsaved:
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
        while True:
            await asyncio.sleep(1.0)
            for _ in sampler.look(time.monotonic(), time.time_ns()):
                await asyncio.sleep(0)
            await self._keeper.save(self.aggregator.ledger(), self.aggregator.telemetry.journal)
            self._tell_of_saving()
            self._endpoints.look()

    def _save_ledger(self) -> None:
        self.aggregator.handover.unsaved = False
        self._keeper.save_now(self.aggregator.ledger())
        self._tell_of_saving()

    def _tell_of_saving(self) -> None:
        saving = self.aggregator.run.saving
        saving.error, saving.saved_at = self._keeper.error, self._keeper.saved_at


def _say(taken_up: TakenUp, replayed: int) -> None:
    log.info(
        "taking up what another run left: %d markets, accounted for through block %d to %d, "
        "saved %.0f s ago; what came since is replayed, up to %d blocks",
        taken_up.markets,
        taken_up.lowest,
        taken_up.highest,
        max(0.0, (time.time_ns() - taken_up.saved_at) / 1e9),
        replayed,
    )


async def serve(config: AggregatorConfig, life: Life) -> None:
    """Run the aggregator until told to stop."""
    await Server(config, life).run()


def main(config: AggregatorConfig, heartbeat: Heartbeat) -> None:
    """Be the aggregator's process: entry point of the spawned child."""
    try:
        child.run(
            "aggregator",
            lambda life: serve(config, life),
            heartbeat,
            log_level=config.log_level,
            log_format=config.log_format,
        )
    finally:
        if parent.is_gone():
            # Nobody else is left to remove it.
            shutil.rmtree(config.folder, ignore_errors=True)
