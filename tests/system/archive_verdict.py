"""What an archive has, counted against the chain's own record of every block."""

import collections
import contextlib
import hashlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from collector.archive.reading.tables import read
from collector.archive.storage import manifest
from collector.verify.archive_check import Check
from collector.verify.chain import Chain
from tests.system import chain_record
from tests.system.running import Devnet, eventually

OLDEST: Final = 5
"""Markets are made in the blocks before it."""


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


def count(
    node: Devnet,
    archive: Path,
    chain: dict[int, chain_record.Recorded],
    *,
    kills: int,
    by_point: dict[str, int],
) -> Verdict:
    """Hold an archive against the chain's record, which is read further if it must be."""
    coverage = read(archive, "coverage", holes="allow").arrow.to_pylist()
    # Markets that join a height apart are complete from different heights on.
    first = {row["market_id"]: row["first_height"] for row in reversed(coverage)}
    last = max(row["last_height"] for row in coverage)
    changes = collections.Counter(_changes(archive, last))
    oldest = min(fact[1] for fact in changes)
    eventually(lambda: learn(node, chain) >= last, within_s=30, what=f"block {last}")
    trades = collections.Counter(_trades(archive, last))
    lost = altered = blocks = 0
    known_trades, known_changes = set(), set()
    for height in range(oldest, last + 1):
        truth = chain[height]
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


def total(found: Sequence[Verdict]) -> Verdict:
    """Add up what was found in several archives."""
    by_point: dict[str, int] = collections.Counter()
    for one in found:
        by_point.update(one.by_point)
    counts = (
        sum(getattr(one, name) for one in found) for name in Verdict._fields if name != "by_point"
    )
    kills, *others = counts
    return Verdict(kills, dict(sorted(by_point.items())), *others)


def learn(node: Devnet, truth: dict[int, chain_record.Recorded]) -> int:
    """Read the chain's record, return through which block; the newest may not have one yet."""
    newest = latest(node)
    for height in range(max(truth, default=OLDEST - 1) + 1, newest + 1):
        try:
            truth[height] = chain_record.block(node.rpc, height)
        except urllib.error.HTTPError:
            if height < newest:
                raise
    return max(truth, default=0)


def latest(node: Devnet) -> int:
    """Return the node's newest height."""
    with urllib.request.urlopen(f"{node.rpc}/status", timeout=30) as answer:
        return int(json.load(answer)["result"]["sync_info"]["latest_block_height"])
