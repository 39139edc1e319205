"""The aggregator's process: its sockets, its loop, its once-a-second work."""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import zmq

from collector.access.gate import ADMIN, FRAMES, REQUESTS, Gate
from collector.access.subscriptions import MAX_SUBSCRIPTION, Subscriptions
from collector.aggregator import requests
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.endpoints import MAX_REQUEST, Endpoints
from collector.aggregator.forwarder import Publisher
from collector.aggregator.state_saver import StateSaver
from collector.aggregator.status.sampling import Sampler
from collector.aggregator.telemetry.process_table import Processes
from collector.client.summary import TakenUp
from collector.settings.parts import AggregatorConfig, requests_endpoint
from shards.protocol.errors import ConfigError
from shards.push import plain_send
from shards.runtime import child, parent
from shards.runtime.child import ChildContext, Heartbeat

log = logging.getLogger(__name__)

_NO_OPTIONS: Final[Mapping[str, int]] = {}
_ANSWERING_S: Final = 0.002
"""The longest time for answers before frames get their turn."""
_WAITING: Final = 32
"""Requests of a connection that wait here; further ones wait with the client."""
_BATCHES: Final = 64
"""Batches taken at once, so that requests and timers get their turn."""


class Server:
    """The sockets around an `Aggregator`."""

    def __init__(self, config: AggregatorConfig, life: ChildContext) -> None:
        self._config = config
        self._life = life
        self._gate = Gate(config.access, is_restart=not config.begins)
        self._context = self._gate.new_context()
        self._endpoints = Endpoints()
        self._gate.start(self._context)
        try:
            self._open(config)
        except ConfigError:
            self._gate.stop()
            self._context.destroy(linger=0)
            raise
        self._keeper = StateSaver(Path(config.state or config.folder))
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
        self.aggregator.telemetry.access = self._gate.report()
        if taken_up := self.aggregator.run.saving.taken_up:
            _say(taken_up, config.resume_within)
        self.processes = Processes()

    def _open(self, config: AggregatorConfig) -> None:
        """Open every socket; those for readers are behind the gate, our own are private files."""
        own = (config.own,) if config.own else ()
        self._pull = self._socket(zmq.PULL, own=(config.pull,), options={"RCVHWM": 1_000})
        self._publisher = self._context.socket(zmq.XPUB)
        self._subscriptions = Subscriptions(self._publisher, self._gate)
        self._publisher.setsockopt(zmq.SNDHWM, config.publish_hwm)
        self._publisher.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_SUBSCRIPTION)
        self._bind(self._publisher, config.publish, own, FRAMES)
        self._doors: dict[zmq.Socket[bytes], tuple[requests.Role, str]] = {}
        """What answers requests: what for, and the gate's name of it where there is one."""
        control = self._socket(zmq.ROUTER, own=(config.link,), options={"SNDHWM": 10_000})
        self._doors[control] = ("control", "")
        # What is a little too long is refused by its reason; libzmq says nothing of the rest.
        bounded = {"SNDHWM": 10_000, "RCVHWM": _WAITING, "MAXMSGSIZE": 2 * MAX_REQUEST}
        public = tuple(map(requests_endpoint, config.publish))
        read = self._socket(
            zmq.ROUTER,
            public,
            own=tuple(map(requests_endpoint, own)),
            door=REQUESTS,
            options=bounded,
        )
        self._doors[read] = ("read", REQUESTS)
        if config.admin:
            self._doors[self._socket(zmq.ROUTER, own=(config.admin,), options=bounded)] = (
                "operate",
                "",
            )
        if config.admin_remote:
            remote = self._socket(zmq.ROUTER, (config.admin_remote,), door=ADMIN, options=bounded)
            self._doors[remote] = ("operate", ADMIN)

    def _socket(
        self,
        kind: zmq.SocketType,
        public: tuple[str, ...] = (),
        *,
        own: tuple[str, ...] = (),
        door: str = "",
        options: Mapping[str, int] = _NO_OPTIONS,
    ) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        self._bind(socket, public, own, door)
        return socket

    def _bind(
        self,
        socket: "zmq.Socket[bytes]",
        public: tuple[str, ...],
        own: tuple[str, ...],
        door: str,
    ) -> None:
        """Bind a socket where readers come in, and where our own processes do."""
        socket.setsockopt(zmq.LINGER, 0)
        self._gate.assign(socket, door)
        if door:
            self._gate.watch(self._context, socket, door, own="".join(own))
        for endpoint in own:
            shut = partial(self._gate.prepare, door, is_public=False) if door else None
            self._endpoints.bind(socket, endpoint, is_public=False, prepare=shut)
        for endpoint in public:
            asking = partial(self._gate.prepare, door, is_public=True)
            self._endpoints.bind(socket, endpoint, is_public=True, prepare=asking)

    async def run(self) -> None:
        """Serve until asked to stop."""
        loop = asyncio.get_running_loop()
        readers: tuple[tuple[zmq.Socket[bytes], Callable[[], None]], ...] = (
            (self._pull, self._drain_pull),
            *(
                (door, partial(self._drain_requests, door, role, name))
                for door, (role, name) in self._doors.items()
            ),
            (self._publisher, self._drain_publisher),
        )
        for socket, drain in readers:
            loop.add_reader(socket.FD, drain)
        # A send on a socket can consume the edge that its descriptor would have signalled.
        self._life.each_beat += [drain for _, drain in readers]
        child.freeze_heap()
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
            self._gate.stop()
            self._publisher.close(linger=500)
            self._context.destroy(linger=500)

    def _drain_pull(self) -> None:
        """Take all batches; the descriptor signals changes only, so check again ourselves."""
        receive = self._pull.recv
        for _ in range(_BATCHES):
            try:
                header = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.aggregator.forwarder.receive(header, receive(zmq.NOBLOCK))
        asyncio.get_running_loop().call_soon(self._drain_pull)

    def _drain_requests(self, door: "zmq.Socket[bytes]", role: requests.Role, name: str) -> None:
        until = time.monotonic() + _ANSWERING_S
        while time.monotonic() < until:
            try:
                frames = door.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            asker = self._gate.asker(frames[0], name) if name else None
            if len(frames) < 2 or (name and asker is None):
                continue
            if asker is not None and asker.is_too_much(frames, MAX_REQUEST):
                continue
            began = time.thread_time()
            sender, *parts = (frame.bytes for frame in frames)
            reply = requests.answer(
                parts, role, self.aggregator, self.processes, self._life.watched, asker
            )
            while self.aggregator.notes:
                log.warning("%s", self.aggregator.notes.popleft())
            if self.aggregator.handover.unsaved:
                # Ownership must be saved before any process acts on it.
                self._save_ledger()
            # Refused if the client is gone or does not read; it will repeat the request.
            with contextlib.suppress(zmq.ZMQError):
                door.send_multipart([sender, *reply], zmq.NOBLOCK)
                if asker is not None:
                    asker.owes(sum(map(len, reply)))
            if asker is not None:
                asker.took(time.thread_time() - began)
        asyncio.get_running_loop().call_soon(self._drain_requests, door, role, name)

    def _drain_publisher(self) -> None:
        if self._subscriptions.drain():
            asyncio.get_running_loop().call_soon(self._drain_publisher)

    async def _every_second(self) -> None:
        sampler = Sampler(self.aggregator, self.processes)
        while True:
            await asyncio.sleep(1.0)
            for _ in sampler.look(time.monotonic(), time.time_ns()):
                await asyncio.sleep(0)
            await self._save()
            self._report_saving()
            self._look_at_readers()
            self._endpoints.look()

    async def _save(self) -> None:
        """Save what has changed."""
        aggregator, keeper = self.aggregator, self._keeper
        version = aggregator.ledger_version()
        if keeper.is_due(version):
            await keeper.save(aggregator.ledger(), version)
        await keeper.save_journal(aggregator.telemetry.journal)

    def _look_at_readers(self) -> None:
        publisher = self.aggregator.publisher
        self._gate.connections.look_for_slow(
            FRAMES, publisher.published, self._config.publish_hwm, publisher.replay.mean_bytes
        )
        self.aggregator.telemetry.access = self._gate.report()

    def _save_ledger(self) -> None:
        self.aggregator.handover.unsaved = False
        self._keeper.save_now(self.aggregator.ledger())
        self._report_saving()

    def _report_saving(self) -> None:
        saving = self.aggregator.run.saving
        saving.error, saving.saved_at = self._keeper.error, self._keeper.saved_at


def _say(taken_up: TakenUp, replayed: int) -> None:
    log.info(
        "resuming the state of another run: %d markets, accounted for through block %d to %d, "
        "saved %.0f s ago; up to %d blocks since then are replayed",
        taken_up.markets,
        taken_up.lowest,
        taken_up.highest,
        max(0.0, (time.time_ns() - taken_up.saved_at) / 1e9),
        replayed,
    )


async def serve(config: AggregatorConfig, life: ChildContext) -> None:
    """Run the aggregator until asked to stop."""
    await Server(config, life).run()


def main(config: AggregatorConfig, heartbeat: Heartbeat) -> None:
    """Run the aggregator's process: entry point of the spawned child."""
    try:
        child.run(
            "aggregator",
            lambda life: serve(config, life),
            heartbeat,
            log_level=config.log_level,
            log_format=config.log_format,
            realtime=config.realtime,
            spin=config.spin,
        )
    finally:
        if parent.is_gone():
            # No other process is left to remove it.
            shutil.rmtree(config.folder, ignore_errors=True)
