"""The past, fetched from the node's record, is what was recorded live, fact for fact."""

import signal
from pathlib import Path

import pytest

from collector.archive.reading.tables import HolesError, read
from collector.archive.storage import manifest
from collector.archive.storage.layout import Part
from tests.system import chain_record
from tests.system.recorders import record
from tests.system.running import Devnet, collector, eventually, run

pytestmark = pytest.mark.node

_SPAN = 10


def _digests(root: Path) -> dict[tuple[str, int], str]:
    files = manifest.current(manifest.read(root)).values()
    return {(f.channel, f.first): f.facts_sha256 for f in files if f.facts_sha256}


def _parts_of(root: Path) -> list[Part]:
    return sorted(manifest.sealed(manifest.read(root)))


def _backfilled(root: Path, nodes: tuple[str, ...], first: int, last: int) -> str:
    options = [
        "--from",
        str(first),
        "--until",
        str(last),
        "--per-s",
        "200",
        "--part-heights",
        str(_SPAN),
    ]
    done = run("backfill", "--to", str(root), *nodes, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backfilled_part_has_the_digests_of_the_recorded_one(
    node: Devnet, tmp_path: Path
) -> None:
    live, past, halves, asked = (tmp_path / name for name in ("live", "past", "halves", "asked"))
    config = node.config(tmp_path)
    named = ("--config", str(config))
    with collector(tmp_path, "--config", str(config)) as running:
        running.await_live()
        recorder = record(live, running.publish, span=_SPAN)
        try:
            # The first part was joined in its middle; the two after it are whole.
            eventually(lambda: len(manifest.sealed(manifest.read(live))) >= 3, within_s=90)
        finally:
            recorder.send_signal(signal.SIGTERM)
            assert recorder.wait(90) == 0
        early = _parts_of(live)[1].first
        # The collector tells which nodes it reads.
        said = _backfilled(asked, ("--connect", running.publish), early, early + 3)
        assert "4 fetched for 1 parts" in said
    first = _parts_of(live)[1].first
    last = first + 2 * _SPAN - 1
    whole = {key: digest for key, digest in _digests(live).items() if first <= key[1] <= last}
    assert {channel for channel, _ in whole} == {"book", "trades", "keyframe"}

    said = _backfilled(past, named, first, last)
    assert f"{2 * _SPAN} fetched for 2 parts, 0 that no node has" in said
    assert _digests(past) == whole

    # In two halves, the second added to a part that is sealed; and nothing is asked for twice.
    _backfilled(halves, named, first, first + 3)
    assert "6 fetched for 1 parts" in _backfilled(halves, named, first, first + _SPAN - 1)
    assert "0 fetched for 0 parts" in _backfilled(halves, named, first, first + _SPAN - 1)
    for channel, key in (("trades", "trade_id"), ("book", "sequence")):
        rows = [
            sorted(zip(table["market"].to_pylist(), table[key].to_pylist(), strict=True))
            for root in (past, halves)
            for table in [
                read(root, channel, start=first, end=first + _SPAN - 1, holes="raise").arrow
            ]
        ]
        assert rows[0] == rows[1]
    coverage = read(halves, "coverage").arrow.to_pylist()
    assert {(row["due"], row["missing"]) for row in coverage} == {(_SPAN, 0)}


def test_channels_fetched_one_after_the_other_are_the_chains(node: Devnet, tmp_path: Path) -> None:
    """Trades first, books later: both are what the node's own record has, and so are the books."""
    root, once = tmp_path / "archive", tmp_path / "once"
    named = ("--config", str(node.config(tmp_path)))
    eventually(lambda: chain_record.newest(node.rpc) > 6 * _SPAN, within_s=90)
    first = (chain_record.newest(node.rpc) // _SPAN - 1) * _SPAN
    last = first + _SPAN - 1
    _backfilled(root, (*named, "--channel", "trades"), first, last)
    with pytest.raises(HolesError, match=f"heights {first}-{last} "):
        read(root, "book", holes="raise")
    said = _backfilled(root, (*named, "--channel", "book", "--channel", "orders"), first, last)
    assert f"{_SPAN} fetched for 1 parts" in said
    assert "0 fetched for 0 parts" in _backfilled(root, named, first, last)
    chain = [chain_record.block(node.rpc, height) for height in range(first, last + 1)]
    trades = read(root, "trades", holes="raise").arrow["trade_id"].to_pylist()
    assert sorted(trades) == sorted(trade for block in chain for trade in block.trades)
    book = read(root, "book", holes="raise").arrow
    changes = zip(book["market_id"].to_pylist(), book["sequence"].to_pylist(), strict=True)
    assert sorted(changes) == sorted(change for block in chain for change in block.changes)
    assert trades
    assert len(book)
    _backfilled(once, named, first, last)
    assert run("archive", "compact", str(root)).returncode == 0
    digests = {key: digest for key, digest in _digests(root).items() if key[0] != "orders"}
    assert digests == _digests(once)
    done = run("verify", "--archive", str(root), "--rpc", node.rpc)
    assert done.returncode == 0, done.stdout
