"""
A relay's sockets: a subscriber to its cells, an XPUB and a ROUTER for its readers.

It serves frames and replays itself. All other requests (``status``, ``markets``, those of views)
are forwarded to the first cell that answers.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import zmq

from collector.access.gate import FRAMES, REQUESTS, Gate
from collector.access.key_files import Keys
from collector.access.rates import Rates
from collector.access.requester import Requester
from collector.access.subscriptions import MAX_SUBSCRIPTION, Subscriptions
from collector.aggregator.endpoints import MAX_REQUEST, bind
from collector.aggregator.requests import beyond
from collector.client.received import Received, notice
from collector.client.requests import AsyncRequestClient, Refused
from collector.client.subscriber import Subscriber
from collector.client.topic_cursor import Position
from collector.relay.rebroadcast import Rebroadcast
from collector.settings.addresses import endpoints_of
from collector.settings.parts import AccessConfig, requests_endpoint
from shards.protocol.errors import UNREADABLE

log = logging.getLogger(__name__)

_HWM: Final = 20_000
_ANSWERING_S: Final = 0.002
"""The longest time for answers before frames get their turn."""
_ASKED: Final = 256
"""Limit of requests forwarded to a cell and not answered yet."""
_FORWARDED_PER_S: Final = 20.0
_FORWARDED_BURST: Final = 100.0
"""Forwarded requests of one reader: the cell counts them all as the relay's own."""
_ANSWER_S: Final = 5.0
_SECOND: Final = 1.0
_READ: Final = frozenset(("status", "markets", "grid", "events", "history", "metrics"))
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class RelayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a relay."""

    connect: str
    """Where the cells publish; empty with ``cluster``."""
    cluster: str | None = None
    """A few cells of a cluster, which tell where the others are."""
    publish: tuple[str, ...]
    access: AccessConfig = AccessConfig()
    """Keys and bounds for its readers."""
    keys: tuple[Keys | None, ...]
    """The key with which it connects to each of the cells; one for all cells of a cluster."""


class Relay:
    """One relay."""

    def __init__(self, config: RelayConfig, gate: Gate) -> None:
        self._config = config
        self._gate = gate
        self._context = gate.new_context()
        self._subscriber = (
            Subscriber(config.connect, keys=list(config.keys), history=True)
            if config.cluster is None
            else Subscriber(cluster=config.cluster, keys=config.keys[0], history=True)
        )
        self._rebroadcast = Rebroadcast(time.time_ns())
        self._tasks: set[asyncio.Task[None]] = set()
        self._upstream: dict[str, AsyncRequestClient] = {}
        """The cells that were asked something, by their publish endpoints."""
        self._forwarded = Rates(_FORWARDED_PER_S, _FORWARDED_BURST)

    def open(self) -> None:
        """
        Bind the sockets.

        Raises:
            ConfigError: If an endpoint cannot be bound.

        """
        context, gate = self._context, self._gate
        self._publisher = context.socket(zmq.XPUB)
        self._publisher.setsockopt(zmq.SNDHWM, _HWM)
        self._publisher.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_SUBSCRIPTION)
        self._router = context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.SNDHWM, 10_000)
        self._router.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_REQUEST)
        gate.start(context)
        self._subscriptions = Subscriptions(self._publisher, gate)
        for socket, name in ((self._publisher, FRAMES), (self._router, REQUESTS)):
            socket.setsockopt(zmq.LINGER, 0)
            gate.assign(socket, name)
            gate.watch(context, socket, name)
            gate.prepare(name, socket, is_public=True)
        for endpoint in self._config.publish:
            bind(self._publisher, endpoint)
            bind(self._router, requests_endpoint(endpoint))

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop`."""
        loop = asyncio.get_running_loop()
        readers = (
            (self._publisher, self._drain_subscriptions),
            (self._router, self._drain_requests),
        )
        for socket, drain in readers:
            loop.add_reader(socket.FD, drain)
        try:
            async with self._subscriber, asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._read()),
                    tasks.create_task(self._look([drain for _, drain in readers])),
                    tasks.create_task(self._look_at_readers()),
                ]
                await stop.wait()
                for task in beside:
                    task.cancel()
        finally:
            for socket, _ in readers:
                loop.remove_reader(socket.FD)
            for client in self._upstream.values():
                client.close()

    def close(self) -> None:
        """Close the sockets."""
        self._gate.stop()
        self._context.destroy(linger=500)

    # -- frames ------------------------------------------------------------------------

    async def _read(self) -> None:
        """Publish incoming events, and keep the position after them."""
        subscriber = self._subscriber
        async for received in subscriber:
            frames = self._take(received)
            while subscriber.pending:
                more = subscriber.poll(0)
                if more is None:
                    break
                frames += self._take(more)
            self._send(frames)

    def _take(self, received: Received) -> list[tuple[bytes, bytes]]:
        if not received.topic and (said := notice(received.event)):
            log.warning("%s %s", self._subscriber.connect, said)
        return self._rebroadcast.take(received, time.time_ns())

    def _send(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        for frame in frames:
            # A reader whose queue is full loses the frame, and requests it again.
            self._publisher.send_multipart(frame, zmq.NOBLOCK)
        if frames:
            # Sending may have consumed the edge of a subscription.
            self._drain_subscriptions()

    async def _look(self, drains: Sequence[Any]) -> None:
        """Periodically note how far everything is complete, and handle missed edges."""
        while True:
            subscriber = self._subscriber
            self._leave_circle()
            if not subscriber.pending and not subscriber.awaits_history():
                positions = filter(self._is_current, subscriber.positions())
                self._rebroadcast.stand(positions, self._offers, time.monotonic())
            for drain in drains:
                drain()
            await asyncio.sleep(_SECOND / 4)

    def _is_current(self, position: Position) -> bool:
        """Whether a position is of the chain that is published, and not of the one before it."""
        return any(inbox.is_current(position) for inbox in self._subscriber.inboxes())

    def _offers(self, topic: str) -> bool:
        """Whether a cell has a topic."""
        return any(inbox.offers(topic) for inbox in self._subscriber.inboxes())

    async def _look_at_readers(self) -> None:
        """Once a second, close the connections of readers that do not read."""
        own, connections = self._rebroadcast, self._gate.connections
        while True:
            await asyncio.sleep(_SECOND)
            connections.look_for_slow(FRAMES, own.published, _HWM, own.buffer.mean_bytes)

    def _drain_subscriptions(self) -> None:
        self._subscriptions.drain()

    # -- requests ----------------------------------------------------------------------

    def _drain_requests(self) -> None:
        until = time.monotonic() + _ANSWERING_S
        while time.monotonic() < until:
            try:
                came = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            asker = self._gate.asker(came[0], REQUESTS)
            if asker is None or len(came) < 2 or asker.is_too_much(came, MAX_REQUEST):
                continue
            began = time.thread_time()
            sender, *parts = (frame.bytes for frame in came)
            envelope, parts = ([b""], parts[1:]) if parts[0] == b"" else ([], parts)
            self._answer([sender, *envelope], parts, asker)
            asker.took(time.thread_time() - began)
        asyncio.get_running_loop().call_soon(self._drain_requests)

    def _answer(self, to: list[bytes], parts: list[bytes], asker: Requester) -> None:
        """Answer or forward a request; whatever arrives, the relay continues."""
        if len(parts) != 1:
            self._refuse(to, asker, None, f"request not understood: not one part but {len(parts)}")
            return
        try:
            asked = _decode(parts[0])
        except UNREADABLE as error:
            self._refuse(to, asker, None, f"request not understood: {error}")
            return
        try:
            self._answer_map(to, asked, asker)
        except Exception:
            # Our bug, but triggered by one reader: it must not end the relay for all others.
            log.exception("a request could not be answered: %.200r", parts[0])
            self._refuse(to, asker, None, "the relay failed to answer it; its log says why")

    def _answer_map(self, to: list[bytes], asked: dict[str, Any], asker: Requester) -> None:
        """Answer or forward a request; readers may join only once our position is known."""
        what, rights = asked.get("ask"), asker.rights
        if refused := beyond(asked, asker):
            self._refuse(to, asker, asked.get("id"), refused)
        elif isinstance(what, str) and what in _READ:
            self._pass_on(to, asked, asker)
        elif self._rebroadcast.head or what not in ("topics", "replay"):
            own = self._rebroadcast
            ahead = {s: h for s, h in own.ahead.items() if rights.may_see(s)}
            may_read = None if rights.everything else rights.may_read
            reply = own.buffer.answer(asked, own.epoch, own.head, ahead, may_read, self._origin())
            self._reply(to, asker, reply)

    def _origin(self) -> dict[str, Any]:
        """Name the chain, the channels, and the relays that the frames have passed, this one first."""
        read = [inbox.publisher for inbox in self._subscriber.inboxes()]
        before = [relay for publisher in read for relay in publisher.relays]
        relays = [*dict.fromkeys((self._rebroadcast.epoch, *before))]
        chain_id = next((publisher.chain_id for publisher in read if publisher.chain_id), "")
        known = {"channels": self._channels(), "chain_id": chain_id}
        return {"relays": relays} | {name: value for name, value in known.items() if value}

    def _channels(self) -> list[str]:
        """Return what any cell collects; nothing until each has said it, for the others may too."""
        cells = self._subscriber.inboxes()
        collected = [inbox.publisher.channels for inbox in cells]
        return sorted(frozenset().union(*collected)) if all(collected) else []

    def _leave_circle(self) -> None:
        """Stop reading a relay that reads this one: it has only what it was given."""
        epoch = self._rebroadcast.epoch
        for cell in self._subscriber.cells:
            if not cell.refused and epoch in cell.inbox.publisher.relays:
                self._subscriber.refuse(cell, "reads this relay, and so a circle is closed")

    def _refuse(self, to: list[bytes], asker: Requester, id_: object, why: str) -> None:
        self._reply(to, asker, [_encode({"id": id_, "error": why})])

    def _reply(self, to: list[bytes], asker: Requester, reply: list[bytes]) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._router.send_multipart([*to, *reply], zmq.NOBLOCK)
            asker.owes(sum(map(len, reply)))

    def _pass_on(self, to: list[bytes], asked: dict[str, Any], asker: Requester) -> None:
        """Ask the first cell that answers; refuse if too many requests are pending."""
        if len(self._tasks) >= _ASKED or not self._forwarded.take(asker.who, time.monotonic()):
            asker.refuse("requests")
            self._refuse(to, asker, asked.get("id"), "too many requests at once: ask again")
            return
        task = asyncio.get_running_loop().create_task(self._ask_cell(to, asked, asker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_cell(self, to: list[bytes], asked: dict[str, Any], asker: Requester) -> None:
        fields = {name: value for name, value in asked.items() if name not in ("ask", "id")}
        try:
            answer = await self._cell().ask(str(asked["ask"]), within_s=_ANSWER_S, **fields)
        except (TimeoutError, Refused, TypeError) as error:
            self._refuse(to, asker, asked.get("id"), str(error))
            return
        self._reply(to, asker, [_encode(self._own(answer, asker) | {"id": asked.get("id")})])

    def _cell(self) -> AsyncRequestClient:
        """Return the client of the first cell that answers."""
        subscriber, keys = self._subscriber, self._config.keys
        named = endpoints_of(subscriber.connect)
        answering = next((cell.name for cell in subscriber.cells if cell.answers), named[0])
        client = self._upstream.get(answering)
        if client is None:
            # A cluster's cells all have the first key, also those that were started later.
            held = dict(zip(named, keys, strict=False)).get(answering, keys[0])
            client = AsyncRequestClient.of(answering, held)
            self._upstream[answering] = client
        return client

    def _own(self, answer: dict[str, Any], asker: Requester) -> dict[str, Any]:
        """Insert this relay's own values, and remove what the reader may not see."""
        status, rights = answer.get("status"), asker.rights
        if isinstance(status, dict):
            status["publisher_epoch"] = self._rebroadcast.epoch
            status["relay"] = {
                "connect": self._subscriber.connect,
                "published": self._rebroadcast.published,
                "head": self._rebroadcast.head,
                "access": self._gate.report(),
            }
        markets = answer.get("markets")
        if isinstance(markets, list):
            rows = (row for row in markets if isinstance(row, dict))
            answer["markets"] = [row for row in rows if rights.may_see(str(row.get("symbol")))]
        return answer


async def relay(config: RelayConfig, stop: asyncio.Event) -> None:
    """
    Relay until asked to stop.

    Raises:
        ConfigError: If an endpoint cannot be bound, or a key file cannot be used.

    """
    one = Relay(config, Gate(config.access))
    try:
        one.open()
        source = f"the cluster of {config.cluster}" if config.cluster else config.connect
        log.info("relaying %s at %s", source, " ".join(config.publish))
        await one.run(stop)
    finally:
        one.close()
