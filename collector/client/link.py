"""
The sockets to one cell: a SUB for its frames, a DEALER for requests, and the `Inbox` of both.

The inbox is ticked only while no frame waits in the socket, so that frames in flight do not count
as lost.
"""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Final

import zmq

from collector.access.key_files import Keys
from collector.client.answers import part
from collector.client.cluster_map import ClusterMap, read_answer
from collector.client.requests import RequestClient, RequestSocket, encode
from collector.client.sockets import connected
from collector.client.topic_sync import Inbox
from collector.settings.parts import asked_at, requests_endpoint
from shards.protocol.errors import UNREADABLE, ConfigError
from shards.protocol.frames import PREFIX_SIZE, ts_pub_of
from shards.protocol.histograms import Histogram
from shards.protocol.text import printable

log = logging.getLogger(__name__)

_BATCH: Final = 256
"""Frames read at once: bounds the events in memory and gives other tasks a turn."""
_UNSENT: Final = 64
"""Requests that may wait for a connection."""
_ARRAY_OF_TEN: Final = b"\x9a"
_MAP_ID: Final = -1
"""The inbox's own requests count up from 1."""
_MAP_EVERY_S: Final = 1.0
_ASK_MAP: Final = encode({"ask": "cluster", "id": _MAP_ID})


class Link:
    """One cell's sockets, open or not yet."""

    def __init__(
        self,
        connect: str,
        requests: str,
        inbox: Inbox,
        *,
        hwm: int,
        keys: Keys | None,
        latency: Histogram,
        asks_map: bool = False,
    ) -> None:
        """
        Args:
            connect: The publish endpoint.
            requests: Where requests go.
            latency: Where the latency of the first frame of each read is counted.
            asks_map: Whether to ask where the cells of its cluster are, every second.

        """
        self.connect = connect
        self.requests = requests
        self.inbox = inbox
        self.keys = keys
        self._hwm = hwm
        self._latency = latency
        self._map_due = 0.0 if asks_map else math.inf
        self.map = ClusterMap()
        """The newest map of its cluster, if that is asked for."""
        self._frames: zmq.Socket[bytes] | None = None
        self._dealer: RequestSocket | None = None
        self._told_split = False
        self._subscribed: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether its sockets are open."""
        return self._frames is not None

    @property
    def asked_at(self) -> str:
        """What its requests endpoint is called in sentences."""
        is_derived = self.requests == requests_endpoint(self.connect)
        return asked_at(self.connect) if is_derived else self.requests

    def open(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        """
        Open the sockets and subscribe.

        Raises:
            ValueError: If that is not an endpoint.
            ConfigError: If the keys name no server.

        """
        frames = connected(context, zmq.SUB, self.connect, hwm=self._hwm, keys=self.keys)
        try:
            self._dealer = RequestSocket(context, self.requests, self.keys)
        except (ValueError, ConfigError):
            frames.close(linger=0)
            raise
        self._frames = frames
        # When it is opened again, everything is subscribed again.
        self.inbox.subscriptions.extendleft(reversed(self._subscribed))
        self._subscribed.clear()
        self._subscribe()

    def try_open(self, context: "zmq.Context[zmq.Socket[bytes]]") -> bool:
        """Open it if its endpoint can be used: another cell has named it."""
        try:
            self.open(context)
        except (ValueError, ConfigError) as error:
            log.warning("a cell names one that cannot be read: %s", printable(str(error)))
            return False
        return True

    def close(self) -> None:
        """Close the sockets."""
        if self._frames is not None:
            self._frames.close(linger=0)
        if self._dealer is not None:
            self._dealer.close()
        self._frames = self._dealer = None

    def ask(self, what: str, timeout_s: float) -> Any:
        """
        Request one thing of it; blocks.

        Raises:
            TimeoutError: If there is no answer in time.
            ValueError: If something else answers.

        """
        with RequestClient(self.requests, self.keys, name=self.asked_at) as client:
            return part(client.ask(what, within_s=timeout_s), what)

    def forget(self) -> None:
        """Leave the sockets to the process that opened them."""
        self._frames = self._dealer = None

    def awaited(self) -> "list[tuple[zmq.Socket[bytes], int]]":
        """Return the open sockets and the ZeroMQ events to wait for."""
        if self._frames is None or self._dealer is None:
            return []
        events = self._dealer.awaited(unsent=bool(self.inbox.requests))
        return [(self._frames, zmq.POLLIN), (self._dealer.socket, events)]

    def turn(self) -> bool:
        """Process what is available without waiting; return whether there may be more."""
        frames, dealer = self._frames, self._dealer
        if frames is None or dealer is None:
            return False
        if not self._drain_frames(frames):
            return True
        while (parts := dealer.receive()) is not None:
            if self._map_due < math.inf and self._is_map(parts):
                continue
            self.inbox.reply(parts, time.time_ns())
        if self.inbox.publisher.is_split and not self._told_split:
            self._told_split = True
            log.warning(
                "%s: one collector publishes there and another one answers: give each a name of its "
                "own, and read both (docs/cells.md)",
                self.connect,
            )
        self.inbox.tick(time.monotonic())
        self._subscribe()
        if time.monotonic() >= self._map_due and dealer.send(_ASK_MAP):
            self._map_due = time.monotonic() + _MAP_EVERY_S
        return self._send(dealer)

    def _is_map(self, parts: list[bytes]) -> bool:
        """Take an answer about the cluster; return whether it was one."""
        try:
            answer = read_answer(parts[0])
        except (*UNREADABLE, IndexError):
            return False
        if answer.id != _MAP_ID:
            return False
        if answer.cluster is not None and answer.cluster.generation > self.map.generation:
            self.map = answer.cluster
        return True

    def _drain_frames(self, frames: "zmq.Socket[bytes]") -> bool:
        """Read up to a batch of frames; return whether the socket is now empty."""
        receive, recv = self.inbox.receive, frames.recv
        ts_sub = time.time_ns()
        for taken in range(_BATCH):
            try:
                topic, body = recv(zmq.NOBLOCK), recv(zmq.NOBLOCK)
            except zmq.Again:
                return True
            receive(topic, body, ts_sub)
            if not taken and len(body) > PREFIX_SIZE and body[:1] == _ARRAY_OF_TEN:
                self._latency.record(ts_sub - ts_pub_of(body))
            if body[:1] != _ARRAY_OF_TEN:
                # Not a message of two parts: skip to the start of the next one.
                while frames.getsockopt(zmq.RCVMORE):
                    recv(zmq.NOBLOCK)
        return False

    def _send(self, dealer: RequestSocket) -> bool:
        """Send the queued requests; return whether any was sent."""
        requests, sent = self.inbox.requests, False
        while requests and dealer.send(encode(requests[0])):
            requests.popleft()
            sent = True
        # Not connected. Every request is repeated later, so old ones can be dropped.
        while len(requests) > _UNSENT:
            requests.popleft()
        return sent

    def _subscribe(self) -> None:
        while self._frames is not None and self.inbox.subscriptions:
            self._subscribed.append(self.inbox.subscriptions.popleft())
            self._frames.setsockopt_string(zmq.SUBSCRIBE, self._subscribed[-1])


def markets_of(links: Sequence[Link], timeout_s: float) -> list[dict[str, Any]]:
    """
    Return the markets of all cells that answer, each once.

    Raises:
        TimeoutError: If none answers in time.

    """
    markets: dict[str, dict[str, Any]] = {}
    for link in links:
        try:
            rows = link.ask("markets", timeout_s)
        except TimeoutError:
            if not markets and link is links[-1]:
                raise
        else:
            markets = {row["symbol"]: row for row in rows} | markets
    return list(markets.values())
