"""B11: the clock is set by an hour, back and forward, while processes die."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from shards.protocol.events import Trades
from tests.needs import FAKETIME
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.drill.registry import Stage, drill
from tests.system.listening import Listener
from tests.system.running import COLLECTOR, Running, collector, eventually, free_port_pair


class Clock:
    """A wall clock for a collector and all its children, which can be set."""

    def __init__(self, folder: Path) -> None:
        FAKETIME.require()
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(next(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Set it: ``-1h``, ``+1h``, ``+0``."""
        part = self._file.with_suffix(".part")
        part.write_text(f"{offset}\n")
        part.replace(self._file)


@drill("B11", "the clock is set back an hour, then processes die")
def back(stage: Stage) -> None:
    """No process waits for the clock to be right again, and nothing is lost."""
    _set_and_kill(stage, "-1h")


@drill("B11F", "the clock is set forward an hour, then processes die", is_short=False)
def forward(stage: Stage) -> None:
    """The same the other way: nothing is taken for mute, late or old."""
    _set_and_kill(stage, "+1h")


def _set_and_kill(stage: Stage, offset: str) -> None:
    clock = Clock(stage.folder)
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(
            simulator("--markets", "6", "--block-time", "0.3", "--touched", "all")
        )
        first = contextlib.ExitStack()
        running = first.enter_context(_collector(stage, exchange, clock, publish))
        with first:
            listener = stack.enter_context(Listener(running))
            reader = stack.enter_context(_tail(stage, clock, publish))
            connects = _connects(running)
            clock.set(offset)
            stage.broke(f"the clock of every process of the collector is set by {offset}")
            _read(exchange, listener, 12)
            assert _connects(running) == connects, "something was taken for mute"
            for name in ("shard 0", "aggregator"):
                _kill(stage, running, listener, name)
                # The reader learns once a second how far it has everything. Of an aggregator that
                # dies sooner after its shard, there is no proof of that.
                _read(exchange, listener, 8)
            _mute(stage, exchange, running, listener)
            listener.drain()
            assert running.stop() == 0
            listener.drain()
        running = stack.enter_context(_collector(stage, exchange, clock, publish))
        stage.note("healed", "a new coordinator takes up what the first one left")
        exchange.await_height(exchange.head() + 6)
        _assert_nothing_lost(running, listener)
        stage.note("healed", "the subscriber that stayed has every fact")
        eventually(
            lambda: _has_all(reader(), _trade_ids(listener)),
            within_s=30,
            what="a reader whose own clock was set has every trade",
        )
        stage.note("healed", "so has the one whose own clock was set")


@contextlib.contextmanager
def _tail(stage: Stage, clock: Clock, publish: str) -> Iterator[Callable[[], set[str]]]:
    """Run `collector tail` by that clock; what is yielded returns the trades that it printed."""
    out = stage.folder / "tail.jsonl"
    command = [*COLLECTOR, "tail", "--connect", publish, "--channel", "trades", "--json"]
    with (
        out.open("wb") as stdout,
        subprocess.Popen(
            command, stdout=stdout, stderr=stdout, env={**os.environ, **clock.environment}
        ) as reading,
    ):

        def ids() -> set[str]:
            lines = out.read_text().splitlines(keepends=True)
            rows = [json.loads(line) for line in lines if line[:1] == "{" and line[-1:] == "\n"]
            found = [trade["trade_id"] for row in rows for trade in row["event"].get("trades", ())]
            assert len(found) == len(set(found)), "a trade came twice"
            return set(found)

        try:
            eventually(ids, within_s=30, what=lambda: f"trades in {out.read_text()[-500:]}")
            yield ids
        finally:
            reading.terminate()
            reading.wait(90)


def _read(exchange: Simulator, listener: Listener, blocks: int) -> None:
    """Read, as a program does, while the exchange makes so many blocks."""
    height = exchange.head() + blocks
    eventually(
        lambda: listener.drain() and exchange.head() >= height, within_s=30, what="more blocks"
    )


def _has_all(found: set[str], heard: list[str]) -> bool:
    """Say whether a reader has all that another heard, from a little after its own beginning."""
    begun = next(n for n, name in enumerate(heard) if name in found)
    return found >= set(heard[begun + 20 :])


def _trade_ids(listener: Listener) -> list[str]:
    heard = [r.event for r in listener.drain().heard if isinstance(r.event, Trades)]
    return [trade.trade_id for event in heard for trade in event.trades]


def _assert_nothing_lost(running: Running, listener: Listener) -> None:
    status = running.await_live()
    epoch = status["publisher_epoch"]
    eventually(
        lambda: listener.drain().joined[-1].publisher_epoch == epoch,
        within_s=30,
        what="the subscriber follows the new publisher",
    )
    assert not listener.lost, listener.lost
    assert status["completeness"] == 1.0
    assert listener.gaps("open")


@contextlib.contextmanager
def _collector(stage: Stage, exchange: Simulator, clock: Clock, publish: str) -> Iterator[Running]:
    config = str(exchange.config(stage.folder))
    options = ("--config", config, "--shards", "2", "--state", str(stage.folder / "kept"))
    with collector(stage.folder, *options, env=clock.environment, publish=publish) as running:
        running.await_live()
        yield running


def _connects(running: Running) -> int:
    status = eventually(running.status, within_s=30, what="an aggregator that answers")
    return sum(shard["connects"] for shard in status["shards"])


def _kill(stage: Stage, running: Running, listener: Listener, name: str) -> None:
    pid = running.pid(name)
    os.kill(pid, signal.SIGKILL)
    stage.note("done", f"{name} is killed")
    stage.await_(
        "healed",
        f"another {name} does its work, everything is live",
        lambda: listener.drain() and running.pid(name) not in (0, pid) and running.live(),
        within_s=30,
    )


def _mute(stage: Stage, exchange: Simulator, running: Running, listener: Listener) -> None:
    market = running.markets()[0]
    exchange.inject(faults.Mute(market=market["ticker"]))
    stage.note("done", f"the subscription of {market['symbol']} is mute")
    stage.await_(
        "seen",
        "its silence is noticed",
        lambda: listener.drain() and "resubscribing" in running.log,
        within_s=30,
    )
    stage.await_(
        "healed", "it is live again", lambda: listener.drain() and running.live(), within_s=30
    )
