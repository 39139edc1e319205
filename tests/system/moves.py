"""
Random moves of markets between shards under traffic, and the verifier's word at the end.

``python -m tests.system.moves --moves 50 --seed 1``. Ends with 0 only if every move was done,
the verifier found every trade once and every book equal, and no clean move announced a gap.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any

import click
import msgspec

from collector.client.requests import RequestClient
from collector.verify.findings import Findings
from tests.system.faults import Watch
from tests.system.rig import Rig
from tests.system.running import COLLECTOR

_READY_S = 60.0
_DONE_S = 60.0
_SHARDS = (1, 2, 3, 4)


class Move(msgspec.Struct):
    """One order and how it went."""

    order: str
    seconds: float
    said: str
    done: bool
    gaps: int
    """Gaps announced meanwhile."""
    killed: str = ""
    """The process that was killed meanwhile."""

    @property
    def is_clean(self) -> bool:
        """Whether markets only changed hands."""
        return not self.order.startswith(("add", "remove")) and not self.killed


class Result(msgspec.Struct):
    """What the moves did."""

    findings: Findings
    moves: list[Move]

    @property
    def passed(self) -> bool:
        done = all(move.done and not (move.is_clean and move.gaps) for move in self.moves)
        return done and self.findings.equal


class Mover:
    """Gives orders to a running collector as a user would."""

    def __init__(self, rig: Rig, requests: RequestClient, rng: random.Random, kills: float) -> None:
        self._rig = rig
        self._requests = requests
        self._rng = rng
        self._kills = kills
        self._removed: list[str] = []

    def random(self) -> Move:
        """Give an order that can be carried out."""
        rng = self._rng
        status = self._status()
        shards = [row["shard"] for row in status["shards"]]
        symbols = sorted(row["symbol"] for row in self._ask("markets"))
        kinds = ["scale", "scale", "remove"]
        kinds += ["drain"] if len(shards) > 1 else []
        kinds += ["add", "add"] if self._removed else []
        match rng.choice(kinds):
            case "scale":
                return self.give("scale", str(rng.choice([n for n in _SHARDS if n != len(shards)])))
            case "drain":
                return self.give("drain", str(rng.choice(shards)))
            case "add":
                back = rng.sample(self._removed, rng.randint(1, len(self._removed)))
                self._removed = [symbol for symbol in self._removed if symbol not in back]
                return self.give("add", *back)
            case _:
                gone = rng.sample(symbols, rng.randint(1, 3))
                self._removed += gone
                return self.give("remove", *gone)

    def restore(self) -> list[Move]:
        """Have back what was removed."""
        removed, self._removed = self._removed, []
        return [self.give("add", *removed)] if removed else []

    def give(self, *order: str) -> Move:
        """Give one order, perhaps let a process die of it, and wait until it is done."""
        before = self._status()["gaps"]["opened"]
        began = time.monotonic()
        command = [*COLLECTOR, *order, "--connect", self._rig.publish]
        with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as giving:
            victim = self._kill() if self._rng.random() < self._kills else ""
            stdout, stderr = giving.communicate(timeout=_DONE_S + 20)
        seconds = time.monotonic() - began
        gaps = self._status()["gaps"]["opened"] - before
        said = (stdout or stderr).strip()
        return Move(" ".join(order), seconds, said, giving.returncode == 0, gaps, victim)

    def _kill(self) -> str:
        """Kill a shard or the aggregator somewhere in the middle of a move."""
        time.sleep(self._rng.uniform(0.5, 3.0))
        rows = self._status()["processes"]
        # A process has no id, 0, while it is being replaced: that would be all of this run.
        alive = [row for row in rows if row["pid"]]
        victims = [row for row in alive if row["name"].startswith(("shard", "aggregator"))]
        victim = self._rng.choice(victims)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim["pid"], signal.SIGKILL)
        return str(victim["name"])

    def _status(self) -> Any:
        return self._ask("status")

    def _ask(self, what: str) -> Any:
        """Ask until somebody answers: the aggregator may just have been killed."""
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(TimeoutError):
                return self._requests.ask(what, within_s=2.0)[what]
            assert time.monotonic() < deadline, "nobody answers"


def moves(
    folder: Path,
    *,
    count: int,
    seed: int,
    pause_s: float = 1.0,
    spot: int = 16,
    perp: int = 4,
    source: str = "chain-ws",
    kills: float = 0.0,
) -> Result:
    """Give so many random orders; what the processes said stays in the folder."""
    rng = random.Random(seed)
    rig = Rig(folder, spot=spot, perp=perp, shards=2, source=source)
    with rig, RequestClient(rig.requests) as requests:
        watch = Watch(requests)
        watch.until_whole(within_s=_READY_S)
        verifier = rig.verify(duration_s=86_400, books_every=4)
        mover = Mover(rig, requests, rng, kills)
        given: list[Move] = []
        while len(given) < count and all(move.done for move in given):
            time.sleep(rng.uniform(0.0, pause_s))
            given.append(mover.random())
            _say(given[-1])
            if given[-1].killed:
                watch.until_whole(within_s=_READY_S)
        given += mover.restore()
        watch.until_whole(within_s=_READY_S)
        findings = msgspec.convert(rig.verdict(verifier), Findings)
    return Result(findings, given)


def table(given: Sequence[Move]) -> str:
    """Lay out each kind of order with how long it took."""
    lines = [f"{'order':<12}{'count':>6}{'done':>6}{'mean s':>8}{'max s':>8}{'gaps':>6}"]
    kinds = dict.fromkeys(move.order.split()[0] for move in given)
    for kind in kinds:
        rows = [move for move in given if move.order.split()[0] == kind]
        took = [move.seconds for move in rows]
        lines.append(
            f"{kind:<12}{len(rows):>6}{sum(move.done for move in rows):>6}"
            f"{sum(took) / len(took):>8.1f}{max(took):>8.1f}{sum(move.gaps for move in rows):>6}"
        )
    return "\n".join(lines)


def _say(move: Move) -> None:
    failed = f"  {move.killed} killed" if move.killed else ""
    failed += "" if move.done else "  NOT DONE"
    click.echo(f"{move.order[:40]:<40} {move.seconds:>5.1f} s  {move.said}{failed}", err=True)


@click.command()
@click.option("--moves", "count", default=50, show_default=True)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same moves.")
@click.option("--spot", default=16, show_default=True, help="Spot markets of the devnet.")
@click.option("--perp", default=4, show_default=True, help="Perpetual markets of the devnet.")
@click.option("--source", default="chain-ws", show_default=True)
@click.option("--kills", default=0.0, show_default=True, help="Share of moves that cost a process.")
def main(*, count: int, seed: int, spot: int, perp: int, source: str, kills: float) -> None:
    """Move markets about, and check that nothing was lost or doubled by it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    folder = Path(tempfile.mkdtemp(prefix="moves-"))
    click.echo(f"logs, configuration and capture: {folder}", err=True)
    result = moves(folder, count=count, seed=seed, spot=spot, perp=perp, source=source, kills=kills)
    click.echo(f"{result.findings.table()}\n\n{table(result.moves)}")
    sys.exit(0 if result.passed else 4)


if __name__ == "__main__":
    main()
