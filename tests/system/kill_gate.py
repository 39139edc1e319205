"""
Kill a recorder again and again, at every instant that matters, and count what its archive has.

``python -m tests.system.kill_gate --kills 500 --seed 1`` starts a devnet and a collector, and a
recorder that is killed: at named instants inside journal, seal and manifest, and at any other.
Beside it shards and the aggregator are killed now and then, and the node restarted. Between two recorders the
journal's end is cut off, as a power cut does; the disk is filled for a while; the archive goes to
another folder. Afterwards every trade and book change of every block has to be in the archive
exactly once, by the chain's own record.
"""

import argparse
import collections
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from collector.archive.journal import segment_file
from collector.archive.reading.overview import overview
from collector.archive.storage.files import sealing
from collector.archive.storage.recovery import recover
from tests.system import chain_record
from tests.system.archive_verdict import OLDEST, Verdict, count, latest, learn, total
from tests.system.recorders import record, sealed_through, status_of
from tests.system.running import COLLECTOR, Devnet, Running, collector, devnet, eventually

ANY: Final = "any instant"
POINTS: Final = {
    "journal.torn": 6,
    "journal.appended": 6,
    "journal.synced": 3,
    "seal.half": 1,
    "seal.written": 4,
    "seal.renamed": 4,
    "manifest.torn": 1,
    "manifest.appended": 1,
    ANY: 1,
}
"""Where a recorder or its sealing child dies, and how often it may come there before."""
COMPACT_POINTS: Final = {
    "compact.half": 2,
    "seal.written": 2,
    "seal.renamed": 2,
    "compact.staged": 1,
    "manifest.torn": 1,
    "manifest.appended": 1,
    "compact.named": 1,
    "compact.swapped": 1,
    "compact.removed": 1,
}
_FIRES_WITHIN_S: Final = 30.0
"""After this time a recorder that has not reached its instant is killed wherever it is."""
_UNSYNCED: Final = 12
"""Chunks that are cut off at most: one a block, and some for blocks that are fetched."""
_OLDER: Final = 150
"""Blocks that the chain has at most when recording begins: they are added one by one."""


_CHILD_KILLED: Final = b"exit code -9"
"""What a recorder logs of a sealing child that was killed."""


class Gate:
    """One archive, and all that is done to it."""

    def __init__(
        self,
        node: Devnet,
        running: Running,
        folder: Path,
        seed: int,
        truth: dict[int, chain_record.Recorded],
        *,
        is_first: bool,
    ) -> None:
        self._node, self._running, self._folder = node, running, folder
        self._rng = random.Random(seed)
        self._deck: list[str] = []
        self.kills = 0
        """Recorders that were killed, or whose sealing child was."""
        self.archive = folder / "archive-0"
        self._truth = truth
        """Each block by the chain's own record, read while the node still keeps it."""
        self._is_first = is_first
        """Whether this one kills the processes that all share, and reads the chain's record."""
        self.done: dict[str, int] = collections.Counter()
        """What was killed and done, by name."""

    def work(self, kills: int, until: float, ended: threading.Event) -> None:
        """Kill recorders as often as asked, until an instant, or until another gate has failed."""
        try:
            for number in itertools.count():
                if self.kills >= kills or time.monotonic() > until or ended.is_set():
                    break
                self.round(number)
                if number % 10 == 9:
                    sys.stderr.write(f"{self.kills} of {kills}: {dict(self.done)}\n")
        except BaseException:
            ended.set()
            raise

    def round(self, number: int) -> None:
        """Kill one recorder, at a named instant or any other, and do what belongs to its number."""
        rng = self._rng
        self._kill_recorder(self._next())
        if self._is_first:
            self._kill_what_all_share(number)
        if rng.random() < 0.3:
            self.done["tail cut off"] += cut_tail(self.archive, rng)
        if number % 4 == 3:
            self._add_and_compact()
        if number % 20 == 13:
            self._move()
        if number % 20 == 17:
            self._fill_disk()

    def _kill_what_all_share(self, number: int) -> None:
        if number % 10 == 9:
            name = self._rng.choice(["shard 0", "shard 1", "aggregator"])
            os.kill(self._running.pid(name), signal.SIGKILL)
            self.done[name] += 1
        if number % 25 == 24:
            # Killed outright, it may not start again by itself.
            self._node.restart_node()
            self.done["node"] += 1
        learn(self._node, self._truth)

    def _next(self) -> str:
        """Draw an instant; each comes as often as every other."""
        if not self._deck:
            self._deck = self._rng.sample(list(POINTS), len(POINTS))
        return self._deck.pop()

    def _kill_recorder(self, point: str) -> None:
        """Wait until a recorder, or its sealing child, has died at an instant; or kill it."""
        rng, log = self._rng, self.archive.parent / "record.log"
        before = log.stat().st_size if log.exists() else 0
        crash_at = "" if point == ANY else f"{point}:{rng.randint(1, POINTS[point])}"
        recorder = record(self.archive, self._running.publish, crash_at=crash_at)
        deadline = time.monotonic() + (_FIRES_WITHIN_S if crash_at else rng.uniform(0.3, 6.0))
        while recorder.poll() is None and time.monotonic() < deadline:
            if crash_at and _CHILD_KILLED in log.read_bytes()[before:]:
                break
            time.sleep(0.05)
        code = recorder.poll()
        assert code in (None, -signal.SIGKILL), (code, log.read_text()[-2_000:])
        fired = code is not None or _CHILD_KILLED in log.read_bytes()[before:]
        self._kill(recorder, 0.0)
        self.done[point if fired or point == ANY else f"{point} not reached"] += 1

    def _kill(self, recorder: "subprocess.Popen[bytes]", within_s: float) -> None:
        """Kill a recorder after this time, if it has not died by itself, and count it."""
        _wait_or_kill(recorder, within_s)
        self.kills += 1

    def _add_and_compact(self) -> None:
        """Add older blocks to the archive in pieces, then kill what merges them, as it records."""
        rng = self._rng
        config = self._folder / "backfill.toml"
        config.write_text(self._node.config_text())
        for _ in range(2):
            height = str(overview(self.archive).first - 1)
            if int(height) < OLDEST:
                break
            options = ["--config", str(config), "--from", height, "--until", height]
            crash_at = rng.choice(["", "", "", "backfill.fetched", "backfill.kept"])
            code = self._command(["backfill", "--to", str(self.archive), *options], crash_at)
            self.done["backfill"] += code == -signal.SIGKILL
        recorder = record(self.archive, self._running.publish)
        point = rng.choice(list(COMPACT_POINTS))
        crash_at = f"{point}:{rng.randint(1, COMPACT_POINTS[point])}"
        code = self._command(["archive", "compact", str(self.archive)], crash_at)
        name = f"compact at {point}" if code == -signal.SIGKILL else "compact to its end"
        self.done[name] += 1
        self._kill(recorder, rng.uniform(0.0, 4.0))
        self.done["beside a compaction"] += 1

    def _command(self, arguments: list[str], crash_at: str) -> int:
        """Run a command that may die at a named instant; report any other failure."""
        done = subprocess.run(
            [*COLLECTOR, *arguments], capture_output=True, timeout=120, check=False,
            env={**os.environ, "ARCHIVE_CRASH_AT": crash_at},
        )  # fmt: skip
        if done.returncode not in (0, -signal.SIGKILL):
            self.done[f"failed {arguments[0]}"] += 1
            sys.stderr.write(done.stderr.decode(errors="replace"))
        return done.returncode

    def _move(self) -> None:
        """Copy the archive into a new folder, as to another host, and go on there."""
        target = self._folder / f"archive-{self.done['moved'] + 1}"
        shutil.copytree(self.archive, target)
        shutil.rmtree(self.archive)
        self.archive = target
        self.done["moved"] += 1

    def _fill_disk(self) -> None:
        """Let a recorder run on a full disk, then make room and kill it at any instant."""
        ballast = self._folder / "ballast"
        recorder = record(self.archive, self._running.publish)
        time.sleep(self._rng.uniform(0.0, 2.0))
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            if os.path.ismount(self._folder):
                while True:
                    file.write(b"0" * 65_536)
        _wait_or_kill(recorder, self._rng.uniform(2.0, 6.0), keep=True)
        ballast.unlink()
        self._kill(recorder, self._rng.uniform(0.3, 6.0))
        self.done["disk full" if os.path.ismount(self._folder) else "disk not full"] += 1


def cut_tail(archive: Path, rng: random.Random) -> int:
    """
    Cut off the end of the journal at any byte of its last chunks; say whether there was one.

    A power cut takes what was not synced, at most the chunks of five seconds. The first
    chunk of a segment was synced if the segment before it is gone.
    """
    found = segment_file.segments(archive)
    if not found:
        return 0
    ends = [0, *segment_file.ends(found[-1])]
    least = ends[1] if len(found) == 1 and len(ends) > 1 else 0
    low = max(least, ends[max(0, len(ends) - 1 - rng.randint(1, _UNSYNCED))])
    content, began = found[-1].read_bytes(), overview(archive).first
    if ends[-1] <= low:
        return 0
    cut = rng.randint(low, ends[-1] - 1)
    os.truncate(found[-1], cut)
    if rng.random() < 0.5:
        # Zeros that were on the disk before.
        os.truncate(found[-1], len(content))
    if overview(archive).first != began:
        # Where recording began was synced long before older blocks were fetched up to there.
        found[-1].write_bytes(content)
        return 0
    return 1


def run(
    node: Devnet,
    running: Running,
    folders: Sequence[Path],
    *,
    kills: int,
    seed: int,
    minutes: float = 1e9,
) -> Verdict:
    """Kill recorders of an archive in each folder, then let one finish each, then count."""
    truth: dict[int, chain_record.Recorded] = {}
    each = -(-kills // len(folders))
    gates = [
        Gate(node, running, folder, seed + number, truth, is_first=number == 0)
        for number, folder in enumerate(folders)
    ]
    older = min(_OLDER, 15 + each // 2)
    eventually(lambda: latest(node) >= older, within_s=300, every_s=0.5, what="some blocks")
    until = time.monotonic() + minutes * 60
    ended = threading.Event()
    with ThreadPoolExecutor(len(gates)) as pool:
        try:
            for done in [pool.submit(gate.work, each, until, ended) for gate in gates]:
                done.result()
        finally:
            ended.set()
    through = latest(node)
    found = []
    for gate in gates:
        _finish(gate.archive, running, through)
        found.append(count(node, gate.archive, truth, kills=gate.kills, by_point=gate.done))
    return total(found)


def _finish(archive: Path, running: Running, through: int) -> None:
    """Let a recorder seal everything through a height, then stop it."""
    recorder = record(archive, running.publish)
    try:
        eventually(
            lambda: sealed_through(archive) >= through,
            within_s=240,
            every_s=0.5,
            what=lambda: f"sealed through {through}: {status_of(archive)}",
        )
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(90)
    with sealing(archive):
        # It may have been sealing another part when it was stopped: the next recorder does this.
        recover(archive)


def _wait_or_kill(
    process: "subprocess.Popen[bytes]", seconds: float, *, keep: bool = False
) -> None:
    """Wait for a process that may die by itself; kill it after that, unless it is kept."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        if not keep:
            process.kill()
            process.wait()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a few megabytes, as root may; else it is a folder like others."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(command, check=False, capture_output=True)
    try:
        yield folder
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", "-l", str(folder)], check=False)


def main() -> None:
    """Run the gate with a devnet and a collector of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--archives", type=int, default=1, help="so many beside each other")
    parser.add_argument("--minutes", type=float, default=1e9, help="end the killing by then")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disks = [
            stack.enter_context(small_disk(folder / f"disk-{number}", "100m"))
            for number in range(arguments.archives)
        ]
        node = stack.enter_context(devnet("--block-time", "0.8", "--spot", "6", "--perp", "2"))
        config = ("--config", str(node.config(folder)), "--shards", "2")
        running = stack.enter_context(collector(folder, *config))
        running.await_live()
        began = time.monotonic()
        asked = {name: getattr(arguments, name) for name in ("kills", "seed", "minutes")}
        verdict = run(node, running, disks, **asked)
        rows = [*verdict._asdict().items(), ("seconds", round(time.monotonic() - began))]
        sys.stdout.writelines(f"{name:12} {value}\n" for name, value in rows)
    sys.exit(0 if verdict.is_clean else 1)


if __name__ == "__main__":
    main()
