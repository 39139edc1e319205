"""
Kill a recorder again and again, at every instant that matters, and count what its archive has.

``python -m tests.system.kill_gate --kills 500 --seed 1`` starts a devnet and a collector, and a
recorder that is killed: at named instants inside journal, seal and manifest, and at any other.
Beside it shards and the aggregator are killed now and then. Afterwards every trade and book
change of every block has to be in the archive exactly once, by the chain's own record.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from collector.archive import layout, manifest
from collector.archive.reading import read
from collector.verify.archive_check import Check
from collector.verify.chain import Chain
from tests.system import chain_record
from tests.system.running import COLLECTOR, Devnet, Running, collector, devnet, eventually

POINTS: Final = (
    *("journal.appended", "journal.synced", "journal.appended", "journal.synced"),
    *("seal.written", "seal.renamed", "seal.half", "manifest.torn", "manifest.appended"),
)
_SPAN: Final = 20


class Verdict(NamedTuple):
    """What was found."""

    kills: int
    by_point: dict[str, int]
    blocks: int
    trades: int
    changes: int
    lost: int
    doubled: int
    altered: int
    unreadable: int
    missing: int
    """Heights that the coverage says are missing."""
    wrong: int
    """What `verify --archive` says against the same node."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        wrong = (self.lost, self.doubled, self.altered, self.unreadable, self.missing, self.wrong)
        return not any(wrong) and self.trades > 0 and self.changes > 0


def record(archive: Path, publish: str, *, crash_at: str = "") -> "subprocess.Popen[bytes]":
    """Start a recorder, perhaps one that dies at a named instant."""
    environment = dict(os.environ, COLLECTOR_CRASH_AT=crash_at)
    command = [*COLLECTOR, "record", "--to", str(archive), "--connect", publish]
    log = (archive.parent / "record.log").open("ab")
    with log:
        return subprocess.Popen(
            [*command, "--part-heights", str(_SPAN)], env=environment, stdout=log, stderr=log
        )


def run(node: Devnet, running: Running, folder: Path, *, kills: int, seed: int) -> Verdict:
    """Kill recorders, then let one finish, then count."""
    rng, archive = random.Random(seed), folder / "archive"
    by_point: dict[str, int] = collections.Counter()
    for number in range(kills):
        point = rng.choice(POINTS) if rng.random() < 0.7 else ""
        crash_at = (
            f"{point}:{rng.randint(1, 3 if point.startswith('seal') else 6)}" if point else ""
        )
        recorder = record(archive, running.publish, crash_at=crash_at)
        _wait_or_kill(recorder, rng.uniform(0.3, 9.0))
        by_point[point or "any"] += 1
        if number % 10 == 9:
            name = rng.choice(["shard 0", "shard 1", "aggregator"])
            if pid := running.pid(name):
                os.kill(pid, signal.SIGKILL)
                by_point[name] += 1
    through = _latest(node)
    recorder = record(archive, running.publish)
    try:
        eventually(
            lambda: sealed_through(archive) >= through,
            within_s=240,
            every_s=0.5,
            what=lambda: f"sealed through {through}: {_status(archive)}",
        )
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(30)
    return _count(node, archive, kills, dict(by_point))


def _wait_or_kill(recorder: "subprocess.Popen[bytes]", seconds: float) -> None:
    try:
        recorder.wait(seconds)
    except subprocess.TimeoutExpired:
        recorder.kill()
        recorder.wait()


def _latest(node: Devnet) -> int:
    with urllib.request.urlopen(f"{node.rpc}/status", timeout=5) as answer:
        return int(json.load(answer)["result"]["sync_info"]["latest_block_height"])


def _status(archive: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode((archive / layout.STATUS).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}
    return found


def sealed_through(archive: Path) -> int:
    """Return the height through which an archive is sealed, by its recorder's word."""
    return int(_status(archive).get("sealed", 0))


def _count(node: Devnet, archive: Path, kills: int, by_point: dict[str, int]) -> Verdict:
    """Hold the archive against the chain's record."""
    coverage = read(archive, "coverage", holes="allow").arrow.to_pylist()
    # Markets that join a height apart are complete from different heights on.
    first = {row["market_id"]: row["first_height"] for row in reversed(coverage)}
    last = max(row["last_height"] for row in coverage)
    changes = collections.Counter(_changes(archive, last))
    oldest = min(fact[1] for fact in changes)
    trades = collections.Counter(_trades(archive, last))
    lost = altered = blocks = 0
    known_trades, known_changes = set(), set()
    for height in range(oldest, last + 1):
        truth = chain_record.block(node.rpc, height)
        blocks += 1
        for fields in truth.trades.values():
            known_trades.add(fields)
            if height >= first.get(fields[0], last) and fields not in trades:
                lost += 1
                sys.stderr.write(f"lost: trade {fields[:2]}\n")
        for (market_id, sequence), sides in truth.changes.items():
            fact = (market_id, height, sequence, *sides)
            known_changes.add(fact)
            if height >= first.get(market_id, last) and fact not in changes:
                lost += 1
                sys.stderr.write(f"lost: change {fact[:3]}\n")
    altered += sum(1 for fact in trades if fact not in known_trades)
    altered += sum(1 for fact in changes if fact not in known_changes)
    doubled = sum(n - 1 for n in (*trades.values(), *changes.values()))
    return Verdict(
        kills=kills,
        by_point=by_point,
        blocks=blocks,
        trades=len(trades),
        changes=len(changes),
        lost=lost,
        doubled=doubled,
        altered=altered,
        unreadable=_unreadable(archive),
        missing=sum(row["missing"] for row in coverage),
        wrong=_verified(node, archive),
    )


def _verified(node: Devnet, archive: Path) -> int:
    """Count what the product's own check finds, which reads both by other code."""
    with contextlib.closing(Chain(node.rpc, node.grpc, max_rps=400.0)) as chain:
        found = Check(archive, chain).run()
    sys.stderr.writelines(f"verify: {example}\n" for example in found.examples)
    return sum(found.wrong.values()) + (found.blocks_compared == 0)


_FIELDS: Final = (
    *("market_id", "trade_id", "side", "price", "quantity", "fee", "execution_type", "order_hash"),
    *("subaccount_id", "fee_recipient", "cid", "margin", "payout"),
)


def _trades(archive: Path, last: int) -> list[tuple[str, ...]]:
    table = read(archive, "trades", end=last, decimals="text", holes="allow").arrow
    rows = zip(*(table[name].to_pylist() for name in _FIELDS), strict=True)
    return [tuple(value or "" for value in row) for row in rows]


def _changes(archive: Path, last: int) -> list[tuple[Any, ...]]:
    table: pa.Table = read(archive, "book", end=last, decimals="text", holes="allow").arrow
    columns = (table[name].to_pylist() for name in ("market_id", "height", "sequence"))
    sides = (
        [
            frozenset((x["price"], x["quantity"]) for x in levels)
            for levels in table[side].to_pylist()
        ]
        for side in ("bids", "asks")
    )
    return list(zip(*columns, *sides, strict=True))


def _unreadable(archive: Path) -> int:
    """Count files that cannot be read, or are not what the manifest says."""
    files = manifest.current(manifest.read(archive))
    wrong = sum(
        hashlib.sha256((archive / path).read_bytes()).hexdigest() != file.file_sha256
        for path, file in files.items()
    )
    there = {str(p.relative_to(archive)) for p in archive.glob("*/date=*/*")}
    return wrong + len(there ^ set(files))


def main() -> None:
    """Run the gate with a devnet and a collector of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        devnet("--block-time", "0.5") as node,
        collector(
            Path(folder), "--config", str(node.config(Path(folder))), "--shards", "2"
        ) as running,
    ):
        running.await_live()
        began = time.monotonic()
        verdict = run(node, running, Path(folder), kills=arguments.kills, seed=arguments.seed)
        rows = [*verdict._asdict().items(), ("seconds", round(time.monotonic() - began))]
        sys.stdout.writelines(f"{name:12} {value}\n" for name, value in rows)
    sys.exit(0 if verdict.is_clean else 1)


if __name__ == "__main__":
    main()
