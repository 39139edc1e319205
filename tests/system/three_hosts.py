"""
Three hosts, three parts, two replicas of each, and a reader outside: whatever happens to a host.

``python -m tests.system.three_hosts --faults 50 --seed 1``, as root. The hosts are namespaces on one
bridge (hosts.py), Ray runs on each, their clocks are an hour apart. Faults come at random: a host
is killed, or cut off and connected again; Ray's head is killed; the command that drives is killed;
keepers, cells and Ray's processes are killed. What the reader has is held against the exchange's own
record, as in two_cells.py, and after each fault every part must have two complete replicas again
within 15 s. Ends with 0 only if nothing is lost, doubled or altered, and none was late.
"""

import contextlib
import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from collector.client.subscriber import Subscriber
from tests.needs import FAKETIME
from tests.proxy import FaultProxy
from tests.simulator.client import simulator
from tests.system.cluster import PORT, REPLICAS, Cluster, ports_of
from tests.system.hosts import NET, Host, isolated, prepare
from tests.system.reader import Reader
from tests.system.two_cells import Record, Result, Simulated, compare, settled

BLOCK_S: Final = 0.3
AGAIN_S: Final = 15.0
"""The time within which every part has its replicas again."""
_WHOLE_S: Final = 90.0
"""After this time without all replicas, a run ends: it has failed."""
_BACK_S: Final = 240.0
"""How long a host may take until its Ray is back: that costs CPU, and no reader waits for it."""
_RAY: Final = ("gcs_server", "raylet", "ray::", "/bin/ray ")
"""Words in the command lines of Ray's processes."""


# -- faults --------------------------------------------------------------------------------


def _kill_host(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.crash()
    return lambda: cluster.boot(host)


def _kill_head_host(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """Without a head nothing is placed: what counts is the time after its return."""
    head = cluster.hosts[0]
    head.crash()
    time.sleep(rng.uniform(1.0, 5.0))
    cluster.boot(head)
    return lambda: None


def _cut(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.cut()
    return host.heal


def _cut_head(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """The others go on without it, until it is back."""
    head = cluster.hosts[0]
    head.cut()
    time.sleep(rng.uniform(1.0, 8.0))
    head.heal()
    return lambda: None


def _kill_ray(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill(_RAY)
    return lambda: None


def _kill_head(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    return _kill_ray(cluster, cluster.hosts[0], rng)


def _forget_head(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """The head comes back without its state, as on another machine; `up` is run again."""
    head = cluster.hosts[0]
    while head.kill(["collector: keeper", *_RAY]):
        pass
    shutil.rmtree(head.files / "cluster/gcs")
    driver = cluster.up(head)
    return lambda: _end_of(driver)


def _kill_driver(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    driver = cluster.up(host)
    time.sleep(rng.uniform(0.5, 4.0))
    host.kill(["cluster up"])
    driver.wait(90)
    return lambda: None


def _kill_keeper(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill(["collector: keeper"])
    return lambda: None


def _kill_cell(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill([f"--part {rng.randint(1, cluster.parts)}/{cluster.parts}"])
    return lambda: None


def _kill_actors(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill(["ray::Manager", "ray::HostAgent"])
    return lambda: None


def _scale(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """No fault; but cells start and end."""
    cluster.scale()
    return lambda: None


def _new_options(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """No fault; but all cells restart, host by host, and `up` ends when the last one has."""
    cluster.options = () if cluster.options else ("--log-level", "WARNING")
    _end_of(cluster.up(cluster.hosts[0]))
    return lambda: None


def _end_of(driver: "subprocess.Popen[bytes]") -> None:
    driver.wait(150)


FAULTS: Final[dict[str, Callable[[Cluster, Host, random.Random], Callable[[], None]]]] = {
    "kill host": _kill_host,
    "cut off": _cut,
    "kill head's host": _kill_head_host,
    "cut head off": _cut_head,
    "kill head": _kill_head,
    "kill driver": _kill_driver,
    "forget head": _forget_head,
    "kill ray": _kill_ray,
    "kill keeper": _kill_keeper,
    "kill cell": _kill_cell,
    "kill actors": _kill_actors,
    "scale": _scale,
    "new options": _new_options,
}


_OTHERS: Final = frozenset(("kill host", "cut off", "kill ray"))
"""Faults of hosts other than the head's."""


class Row(msgspec.Struct):
    """A fault, and what was seen of it."""

    name: str
    host: int
    fewest: int
    """Of the replicas, the fewest that were complete."""
    replicas: int
    again_s: float
    """After how long all replicas were complete again."""
    back_s: float
    """How long after its healing every host was Ray's again."""
    silence_s: float
    """The reader's longest time without a new height."""
    lost: int = 0
    found: Result = msgspec.field(default_factory=lambda: Result(Counter()))
    """What the reader had of the blocks until the next fault."""

    @property
    def is_late(self) -> bool:
        """Whether it took too long; to have other parts takes as long as it takes."""
        return self.name != "scale" and self.again_s > AGAIN_S

    def cells(self) -> tuple[str, ...]:
        """Format it, a column each."""
        found = self.found
        return (
            self.name,
            str(self.host),
            f"{self.fewest} of {self.replicas}",
            f"{self.again_s:.1f} s{' LATE' if self.is_late else ''}",
            f"{self.back_s:.1f} s",
            f"{self.silence_s:.2f} s",
            f"{found.trades}+{found.changes}",
            f"{self.lost}/{found.missing}/{found.doubled}/{found.altered}",
        )


_COLUMNS: Final = (
    *("fault", "host", "replicas left", "complete again", "all hosts in Ray"),
    *("longest silence", "trades+changes", "lost/missing/doubled/altered"),
)


class Run(msgspec.Struct):
    """What a run found."""

    result: Result
    within_s: float
    """How long it may take until all replicas are complete again."""
    rows: list[Row] = []
    stopped: str = ""
    """Why it ended before its last fault."""

    @property
    def passed(self) -> bool:
        """Whether the reader had everything once, and no replica was missing for too long."""
        return self.result.passed and not self.late and not self.stopped

    @property
    def late(self) -> list[Row]:
        """What took too long."""
        return [row for row in self.rows if row.name != "scale" and row.again_s > self.within_s]

    def __str__(self) -> str:
        table = [_COLUMNS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            f"{number or '#':>3}  " + "  ".join(map(str.ljust, row, widths)).rstrip()
            for number, row in enumerate(table)
        ]
        for name, rows in itertools.groupby(
            sorted(self.rows, key=lambda row: row.name), key=lambda row: row.name
        ):
            times = [row.again_s for row in rows]
            lines.append(
                f"{name}: {len(times)}, complete again after {min(times):.1f} to "
                f"{max(times):.1f} s, median {statistics.median(times):.1f} s"
            )
        return "\n".join([*lines, str(self.result), self.stopped])


def run(folder: Path, *, faults: list[str], seed: int, clocks: bool, within_s: float) -> Run:
    """Run the named faults one after the other, and compare."""
    rng = random.Random(seed)
    found = Run(Result(Counter()), within_s)
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(
            simulator("--markets", "12", "--block-time", str(BLOCK_S), "--touched", "all")
        )
        for port in ports_of(exchange):
            stack.enter_context(FaultProxy("127.0.0.1", port, host=f"{NET}.254", port=port))
        cluster = Cluster(folder, exchange, clocks=clocks)
        stack.callback(cluster.end)
        for host in cluster.hosts:
            cluster.boot(host)
        cluster.await_whole(_BACK_S)
        cluster.await_all_in(_BACK_S)
        named = ",".join(f"tcp://{host.address}:{PORT}" for host in cluster.hosts)
        reader = stack.enter_context(Reader(Subscriber(cluster=named, channels=["book", "trades"])))
        chain = Simulated(exchange)
        records = [Record(settled(chain, [reader]))]
        began = time.monotonic()
        for number, name in enumerate(faults, 1):
            # The head has faults of its own.
            host = rng.choice(cluster.hosts[name in _OTHERS :])
            try:
                row = _one(cluster, host, name, rng, reader)
            except (AssertionError, KeyboardInterrupt) as error:
                found.stopped = f"{number}, {name} on {host.number}: {error or 'interrupted'}"
                break
            found.rows.append(row)
            found.result.faults[name] += 1
            records[-1].take(chain, settled(chain, [reader]))
            records.append(Record(records[-1].next))
            click.echo(f"{number}: {'  '.join(row.cells()[:6])}; {row.lost} lost", err=True)
        found.result.silence_s = reader.longest_silence_s(began)
        _compare(found, records, reader)
        if not found.stopped:
            cluster.down()
    return found


def _one(cluster: Cluster, host: Host, name: str, rng: random.Random, reader: Reader) -> Row:
    """Let one fault happen, until all hosts are back; return what was seen."""
    began, lost = time.monotonic(), len(reader.lost)
    heal = FAULTS[name](cluster, host, rng)
    again_s, fewest = cluster.await_whole(_WHOLE_S)
    healed = time.monotonic()
    heal()
    cluster.await_all_in(_BACK_S)
    back_s = time.monotonic() - healed
    _, later = cluster.await_whole(_WHOLE_S)
    return Row(
        name=name,
        host=1 if "head" in name else host.number,
        fewest=min(fewest, later),
        replicas=cluster.parts * REPLICAS,
        again_s=again_s,
        back_s=back_s,
        silence_s=reader.longest_silence_s(began),
        lost=len(reader.lost) - lost,
    )


def _compare(found: Run, records: list[Record], reader: Reader) -> None:
    """Hold what was heard against the exchange's record: as a whole, and fault by fault."""
    whole = Record(records[0].first)
    for record, row in zip(records, found.rows, strict=False):
        compare(record, reader, record.next - 1, row.found)
        whole.trades |= record.trades
        whole.changes |= record.changes
        whole.next = record.next
    compare(whole, reader, whole.next - 1, found.result)


def turns(rng: random.Random, most: int) -> Iterator[str]:
    """Yield each fault in turn, again and again, each time in another order."""
    while most > 0:
        names = list(FAULTS)
        rng.shuffle(names)
        yield from names[:most]
        most -= len(names)


@click.command()
@click.option("--faults", type=int, default=9, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(FAULTS)))
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--clocks/--no-clocks", default=True, help="An hour apart, or right.")
@click.option("--within", type=float, default=AGAIN_S, show_default=True, help="Seconds.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave all files there.")
@click.option("--inside", is_flag=True, hidden=True)
def main(
    faults: int,
    only: tuple[str, ...],
    seed: int,
    clocks: bool,
    within: float,
    keep: Path | None,
    inside: bool,
) -> None:
    """Run it and say what was found."""
    if not inside:
        command = isolated([sys.executable, "-m", "tests.system.three_hosts", *sys.argv[1:]])
        os.execvp(command[0], [*command, "--inside"])
    prepare()
    names = list(only) or list(turns(random.Random(seed), faults))
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        clocks = clocks and not FAKETIME.missing()
        found = run(folder, faults=names, seed=seed, clocks=clocks, within_s=within)
    click.echo(found)
    sys.exit(0 if found.passed else 4)


if __name__ == "__main__":
    main()
