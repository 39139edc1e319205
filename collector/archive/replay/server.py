"""
The sockets of a replay: frames go out and requests are answered as by a live collector.

An `Aggregator` publishes as usual. It waits for a reader whose queue is full, because a replay
has time and must not lose a frame.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import zmq

from collector.access.gate import FRAMES, REQUESTS, Gate
from collector.access.subscriptions import MAX_SUBSCRIPTION, Subscriptions
from collector.aggregator import requests
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.endpoints import MAX_REQUEST, bind
from collector.aggregator.forwarder import FLAGS, Publisher, Send
from collector.aggregator.status.sampling import Sampler
from collector.aggregator.telemetry.process_table import Processes
from collector.archive.replay.joining import Joining
from collector.settings.parts import AccessConfig, AggregatorConfig, requests_endpoint
from shards.push import plain_send
from shards.runtime.loop_monitor import LoopMonitor

HWM: Final = 20_000
"""Frames queued for one reader before the replay waits for it."""
_SAMPLE_S: Final = 1.0
_LINGER_MS: Final = 60_000
_NOBLOCK: Final = int(zmq.NOBLOCK)


class Stopped(Exception):
    """The replay was asked to stop."""


class _WaitingPublisher(Publisher):
    """A publisher that waits for a reader whose queue is full, instead of dropping its frames."""

    def __init__(self, send: Send, wait: Callable[[], None]) -> None:
        """``wait`` is called while a queue is full."""
        super().__init__(send)
        self._wait = wait

    def _send_burst(self) -> None:
        send = self._send
        for part, flags in zip(self._burst, FLAGS, strict=False):
            try:
                send(part, flags | _NOBLOCK)
            except zmq.Again:
                self._retry(part, flags | _NOBLOCK)

    def _retry(self, part: bytes, flags: int) -> None:
        while True:
            self._wait()
            with contextlib.suppress(zmq.Again):
                self._send(part, flags)
                return


class ReplayServer:
    """The publishing and the request socket of one replay, with an aggregator behind them."""

    def __init__(
        self,
        config: AggregatorConfig,
        gate: Gate,
        context: "zmq.Context[zmq.Socket[bytes]]",
        stop: threading.Event,
    ) -> None:
        """
        Bind the sockets.

        Raises:
            ConfigError: If an endpoint cannot be bound.

        """
        self._stop = stop
        self._gate = gate
        publisher = self._publisher = context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.SNDHWM, HWM)
        publisher.setsockopt(zmq.XPUB_NODROP, 1)
        publisher.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_SUBSCRIPTION)
        router = self._router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_REQUEST)
        self._subscriptions = Subscriptions(publisher, gate)
        for socket, name in ((publisher, FRAMES), (router, REQUESTS)):
            gate.assign(socket, name)
            gate.watch(context, socket, name)
            gate.prepare(name, socket, is_public=True)
        for endpoint in config.publish:
            bind(publisher, endpoint)
            bind(router, requests_endpoint(endpoint))
        self._poller = zmq.Poller()
        self._poller.register(publisher, zmq.POLLIN)
        self._poller.register(router, zmq.POLLIN)
        waiting = _WaitingPublisher(plain_send(publisher), self._serve_a_moment)
        self.aggregator = Aggregator(config, waiting, clock=time.time_ns)
        self._processes, self._watched = Processes(), LoopMonitor()
        self._sampler = Sampler(self.aggregator, self._processes)
        self._joining, self._sampled_at = Joining(), 0.0

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, config: AggregatorConfig, access: AccessConfig, stop: threading.Event
    ) -> Iterator["ReplayServer"]:
        """Open a server; at the end wait until the readers have all frames, unless stopped."""
        gate = Gate(access)
        context = gate.new_context()
        try:
            gate.start(context)
            yield cls(config, gate, context, stop)
        finally:
            gate.stop()
            context.destroy(linger=0 if stop.is_set() else _LINGER_MS)

    def serve(self, timeout_ms: int) -> None:
        """
        Answer requests; wait this long for one if there are none.

        Raises:
            Stopped: If the replay was asked to stop.

        """
        if self._stop.is_set():
            raise Stopped
        for socket, _ in self._poller.poll(timeout_ms):
            if socket is self._publisher:
                self._take_subscriptions()
            else:
                self._answer()
        now = time.monotonic()
        if now - self._sampled_at >= _SAMPLE_S:
            self._sampled_at = now
            for _ in self._sampler.look(now, time.time_ns()):
                pass
            self.aggregator.telemetry.access = self._gate.report()

    def serve_until(self, due: float) -> None:
        """Answer requests until an instant of the monotonic clock."""
        while (wait_s := due - time.monotonic()) > 0:
            self.serve(min(50, max(1, int(wait_s * 1000))))

    def wait_for_readers(self) -> None:
        """Answer requests until readers have subscribed and joined."""
        while not self._joining.is_over(time.monotonic()):
            self.serve(50)

    def _serve_a_moment(self) -> None:
        self.serve(2)

    def _take_subscriptions(self) -> None:
        before = self._subscriptions.number
        while self._subscriptions.drain():
            pass
        if self._subscriptions.number > before:
            self._joining.subscribed(time.monotonic())

    def _answer(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                came = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
                asker = self._gate.asker(came[0], REQUESTS)
                if asker is None or len(came) < 2 or asker.is_too_much(came, MAX_REQUEST):
                    continue
                began = time.thread_time()
                sender, *parts = (frame.bytes for frame in came)
                self._joining.asked(sender, parts[-1], time.monotonic())
                reply = requests.answer(
                    parts, "read", self.aggregator, self._processes, self._watched, asker
                )
                with contextlib.suppress(zmq.ZMQError):
                    self._router.send_multipart([sender, *reply], zmq.NOBLOCK)
                    asker.owes(sum(map(len, reply)))
                asker.took(time.thread_time() - began)
