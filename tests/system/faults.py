"""The faults of a soak, and how their effect is measured: by what ``status`` says."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import zmq

from collector.client.requests import RequestClient
from tests.system.rig import Rig

_POLL_S = 0.15
_SEEN_WITHIN_S = 5.0
"""After a fault was undone, how long its effect may take to show."""


class Look(NamedTuple):
    """How the collector stood at one instant; `at` is monotonic."""

    at: float
    coverage: float
    """-1 where the aggregator did not answer."""
    gaps_open: int
    head: int
    publisher_epoch: int
    processes: tuple[tuple[str, int, int], ...]
    """Name, pid and restarts."""
    shards: tuple[tuple[int, int], ...]
    """Number and epoch."""
    connects: int
    """Connections that all shards have made."""

    @property
    def is_whole(self) -> bool:
        return self.coverage == 1.0 and self.gaps_open == 0

    def pid(self, name: str) -> int:
        return next(pid for found, pid, _ in self.processes if found == name)


class Watch:
    """Looks at a collector."""

    def __init__(self, requests: RequestClient) -> None:
        self._requests = requests

    def look(self) -> Look:
        try:
            status: dict[str, Any] = self._requests.ask("status", within_s=0.3)["status"]
        except TimeoutError:
            return Look(time.monotonic(), -1.0, 0, 0, 0, (), (), 0)
        return Look(
            time.monotonic(),
            status["coverage"]["now"],
            status["gaps"]["open"],
            status["blocks"]["head"],
            status["publisher_epoch"],
            tuple((p["name"], p["pid"], p["restarts"]) for p in status["processes"]),
            tuple((s["shard"], s["epoch"]) for s in status["shards"]),
            sum(s["connects"] for s in status["shards"]),
        )

    def until_whole(self, *, within_s: float) -> Look:
        """Wait until every market is live and no gap is open; give up with an AssertionError."""
        deadline = time.monotonic() + within_s
        while True:
            look = self.look()
            # A signal to process 0, which is known for a moment, would go to all of this run.
            if look.is_whole and look.processes and all(pid for _, pid, _ in look.processes):
                return look
            assert time.monotonic() < deadline, f"not whole within {within_s:.0f} s: {look}"
            time.sleep(_POLL_S)


class Fault(NamedTuple):
    """What goes wrong for `hold_s`, and what then puts an end to it."""

    name: str
    hold_s: float
    inject: Callable[[Rig, Look, random.Random], Callable[[], None]]
    replaces: str = ""
    """``shard`` or ``aggregator``: healed once, and only once, another process has its place."""


class Outcome(msgspec.Struct):
    """One fault as it was seen; None: nothing was."""

    name: str
    height: int
    detect_s: float | None
    heal_s: float | None
    healed: bool
    began_at: float = 0.0
    ended_at: float = 0.0
    """Unix seconds."""


def measure(
    fault: Fault, rig: Rig, watch: Watch, rng: random.Random, *, heal_within_s: float
) -> Outcome:
    """Inject one fault, undo it, and watch until the collector is whole again."""
    before = watch.until_whole(within_s=heal_within_s)
    began = time.monotonic()
    undo = fault.inject(rig, before, rng)
    undone, detect_s, head = False, None, before.head
    with contextlib.ExitStack() as stack:
        stack.callback(undo)
        for look in _looks(watch):
            since_s = look.at - began
            if detect_s is None and _differs(before, look):
                detect_s = since_s
            if not undone and since_s >= fault.hold_s:
                stack.close()
                undone, head = True, max(head, look.head)
            # A block later, because what a shard said before the fault is up to a second old.
            is_back = look.is_whole and look.head > head and _replaced(fault, before, look)
            if (undone or fault.replaces) and detect_s is not None and is_back:
                return Outcome(fault.name, before.head, detect_s, since_s, True)
            if undone and detect_s is None and since_s > fault.hold_s + _SEEN_WITHIN_S:
                return Outcome(fault.name, before.head, None, None, True)
            if since_s > fault.hold_s + heal_within_s:
                return Outcome(fault.name, before.head, detect_s, None, False)
    raise AssertionError("looks never end")


def _looks(watch: Watch) -> Iterator[Look]:
    while True:
        yield watch.look()
        time.sleep(_POLL_S)


def _differs(before: Look, now: Look) -> bool:
    return (
        now.coverage < 1.0
        or now.publisher_epoch != before.publisher_epoch
        or now.gaps_open > 0
        or (now.connects != before.connects and bool(now.shards))
        or bool(now.processes and now.processes != before.processes)
    )


def _replaced(fault: Fault, before: Look, now: Look) -> bool:
    """Whether the killed process's successor has reported; until then the status is outdated."""
    if fault.replaces == "aggregator":
        return now.publisher_epoch > before.publisher_epoch and len(now.shards) == len(
            before.shards
        )
    return fault.replaces != "shard" or now.shards != before.shards


def _nothing() -> None:
    pass


def _proxies(rig: Rig, rng: random.Random) -> list[Any]:
    """The stream's proxy always; every other time the RPC's too."""
    return [rig.ws, rig.rpc] if rng.random() < 0.5 else [rig.ws]


def _cut(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    for proxy in _proxies(rig, rng):
        proxy.cut()
    return _nothing


def _on_proxies(
    name: str, *, cut: bool = False
) -> Callable[[Rig, Look, random.Random], Callable[[], None]]:
    def inject(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
        proxies = _proxies(rig, rng)
        for proxy in proxies:
            getattr(proxy, name)()
            if cut:
                proxy.cut()

        def heal() -> None:
            for proxy in proxies:
                proxy.heal()

        return heal

    return inject


def _shard(look: Look, rng: random.Random) -> int:
    return rng.choice([pid for name, pid, _ in look.processes if name.startswith("shard ")])


def _kill_shard(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    os.kill(_shard(look, rng), signal.SIGKILL)
    return _nothing


def _stop_shard(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    pid = _shard(look, rng)
    os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return go_on


def _kill_aggregator(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    os.kill(look.pid("aggregator"), signal.SIGKILL)
    return _nothing


def _kill_both(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    """What one of the two still has of the other's, is gone."""
    _kill_shard(rig, look, rng)
    return _kill_aggregator(rig, look, rng)


def _restart_node(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    rig.devnet.send_signal(signal.SIGUSR1)
    return _nothing


def _slow_subscriber(rig: Rig, look: Look, rng: random.Random) -> Callable[[], None]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(rig.publish)

    def close() -> None:
        socket.close(linger=0)
        context.term()

    return close


FAULTS = (
    Fault("cut", 0.0, _cut),
    Fault("freeze", 8.0, _on_proxies("freeze")),
    Fault("half-open", 8.0, _on_proxies("half_open")),
    Fault("accept-then-close", 4.0, _on_proxies("accept_then_close", cut=True)),
    Fault("kill -9 shard", 0.0, _kill_shard, replaces="shard"),
    Fault("stop shard 30 s", 30.0, _stop_shard, replaces="shard"),
    Fault("kill -9 aggregator", 0.0, _kill_aggregator, replaces="aggregator"),
    Fault("kill -9 both", 0.0, _kill_both, replaces="aggregator"),
    Fault("node restart", 0.0, _restart_node),
    Fault("slow subscriber", 15.0, _slow_subscriber),
)
