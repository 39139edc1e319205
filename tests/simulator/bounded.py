"""A collector with narrow bounds under much traffic, and what it counts when they are reached."""

import contextlib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import zmq

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.settings.parts import requests_endpoint
from tests.simulator.client import simulator
from tests.system.running import Running, collector, eventually, free_port_pair

_LIMITS: Final = """
[access]
max_connections = 40
handshake_s = 2.0
silent_s = 3.0
replays_per_s = 5.0
replay_burst = 30
queued_bytes = 200000
"""


class Bounded:
    """A collector with narrow bounds, and what it counts."""

    def __init__(self, folder: Path, *, has_keys: bool) -> None:
        self.folder = folder
        self.running: Running
        self.http = free_port_pair()
        self.server = key_files.make("server") if has_keys else None
        if self.server is not None:
            key_files.write(self.server, folder)
        self.monitor = self._make("monitor")
        self._unused = [self._make(f"reader-{number}") for number in range(24)]

    def _make(self, name: str) -> Keys | None:
        """Make a key and let it in."""
        if self.server is None:
            return None
        keys = key_files.make(name, server=self.server.public)
        public = key_files.public_part(keys)
        entry = authorized_file.of_public(public, max_connections=64)
        authorized_file.add(self.folder / authorized_file.FILE, entry)
        return keys

    def reader(self) -> Keys | None:
        """Return an unused key that was authorized from the start."""
        return self._unused.pop()

    @property
    def frames(self) -> str:
        """Where frames are published."""
        return self.running.publish

    @property
    def requests(self) -> str:
        """Where requests are answered."""
        return requests_endpoint(self.frames)

    def count(self, what: str, reason: str) -> int:
        """Return a count as `/metrics` has it; wait for it while the aggregator has no time."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/metrics")
        if self.monitor is not None:
            request.add_header("Authorization", f"Bearer {self.monitor.token}")
        name = f'collector_{what}_total{{reason="{reason}"}} '

        def found() -> list[str]:
            lines: list[str] = []
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(request, timeout=10) as answer,
            ):
                lines = answer.read().decode().splitlines()
            return [line for line in lines if line.startswith(name)]

        return int(float(eventually(found, within_s=30.0, every_s=0.2)[0][len(name) :]))

    def is_scraped(self) -> bool:
        """Whether `/metrics` is there."""
        with contextlib.suppress(OSError):
            return self.count("refused_requests", "rights") == 0
        return False

    @contextlib.contextmanager
    def counting(self, what: str, reason: str, at_least: int = 1) -> Iterator[None]:
        """What is done in the block is counted as this, once or more often."""
        before = self.count(what, reason)
        yield
        eventually(
            lambda: self.count(what, reason) >= before + at_least, within_s=30.0, every_s=0.2,
            what=lambda: f"{what} {reason}: {before} before, {self.count(what, reason)} now",
        )  # fmt: skip

    @contextlib.contextmanager
    def socket(
        self, kind: int, endpoint: str, keys: Keys | None, **options: int
    ) -> "Iterator[Any]":
        """Connect a plain socket of ZeroMQ; it comes back no sooner than in a minute."""
        with zmq.Context() as context, context.socket(kind) as one:
            one.setsockopt(zmq.LINGER, 0)
            one.setsockopt(zmq.RECONNECT_IVL, 60_000)
            for name, value in options.items():
                one.setsockopt(getattr(zmq, name), value)
            if keys is not None:
                one.curve_publickey, one.curve_secretkey = (
                    keys.public.encode(), keys.secret.encode(),
                )  # fmt: skip
                one.curve_serverkey = keys.server.encode()
            one.connect(endpoint)
            yield one


@contextlib.contextmanager
def ends(one: "zmq.Socket[bytes]") -> Iterator[Callable[[], bool]]:
    """Its connection is ended by the other side, in the block or soon after it."""
    with one.get_monitor_socket(zmq.EVENT_DISCONNECTED) as ended:
        yield lambda: ended.poll(0) > 0
        assert ended.poll(30_000)
        one.disable_monitor()


@contextlib.contextmanager
def bounded_collector(folder: Path, *, has_keys: bool) -> Iterator[Bounded]:
    """Give one when everything is live and much is being published."""
    made = Bounded(folder, has_keys=has_keys)
    options = ("--keys", str(folder / "server.key")) if has_keys else ()
    with (
        simulator("--markets", "30", "--block-time", "0.06") as venue,
        collector(
            folder, "--shards", "1", "--config", str(venue.config(folder, extra=_LIMITS)),
            "--http", f"127.0.0.1:{made.http}", *options, keys=made.monitor,
        ) as started,
    ):  # fmt: skip
        made.running = started
        started.await_live()
        eventually(made.is_scraped, within_s=30.0)
        yield made
