"""Recorders that were off under load: whole again, at no greater cost to the node than what was missed."""

import contextlib
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from collector.archive.reading.holes import spell
from collector.archive.reading.overview import overview
from collector.archive.reading.tables import HolesError, HolesWarning, read
from collector.archive.storage import manifest
from collector.archive.storage.layout import Part
from collector.client.requests import RequestClient
from collector.settings.parts import requests_endpoint
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.recorders import record, sealed_through, status_of
from tests.system.running import Running, collector, eventually, run

pytest.importorskip("pyarrow")

_SPAN: Final = 100
_FORGOTTEN: Final = 40
"""Blocks that recorders miss and whose books the collector no longer keeps: the node has them."""
_PRUNED: Final = 25
"""The first of these are no longer at the node either."""
_BUSY: Final = (
    *("--markets", "6", "--touched", "1", "--matches", "3", "--paused", "0", "--dead", "0"),
    *("--history", "20000"),
)
"""It keeps the blocks of all the time in which the recorders are away."""


@contextlib.contextmanager
def _busy(block_s: float = 0.08) -> Iterator[Simulator]:
    with simulator(*_BUSY, "--block-time", str(block_s)) as exchange:
        yield exchange


@contextlib.contextmanager
def _collecting(exchange: Simulator, folder: Path) -> Iterator[Running]:
    folder.mkdir()
    with collector(folder, "--config", str(exchange.config(folder)), "--shards", "1") as running:
        running.await_live(60)
        yield running


class Recorder:
    """A recorder that is switched on and off."""

    def __init__(self, running: Running, root: Path) -> None:
        self.root = root
        self.running = running
        self._process: Any = None

    def on(self) -> int:
        """Begin to record; return the height through which everything is here, at first."""
        self._process = record(self.root, self.running.publish, span=_SPAN)
        return eventually(self._complete, within_s=60, every_s=0.2, what="recording")

    def _complete(self) -> int:
        status = status_of(self.root)
        is_at_it = status.get("pid") == self._process.pid and status["state"] == "recording"
        return int(status["complete"]) if is_at_it else 0

    def seal(self, through: int, *, within_s: float = 120) -> None:
        """Wait until the archive is sealed through a height."""
        eventually(lambda: sealed_through(self.root) >= through, within_s=within_s, every_s=0.2)

    def off(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(90) == 0


def _await_forgotten(running: Running, height: int) -> None:
    """Wait until the collector keeps no book of a height, whatever the speed of this machine."""
    with RequestClient(requests_endpoint(running.publish)) as client:
        topics = client.ask("topics", prefixes=["book."], within_s=30)["topics"]
        # A quiet market's only frame, its first book, is always kept.
        books = [topic for topic, last in topics.items() if last > 1]
        assert books
        of_all = {"publisher_epoch": 0, "after": 0, "within_s": 15}

        def kept_from() -> int:
            answers = [client.ask("replay", topic=topic, **of_all) for topic in books]
            return min(int(answer["from_height"]) for answer in answers)

        eventually(
            lambda: kept_from() > height,
            within_s=120,
            every_s=0.5,
            what=lambda: f"books kept after {height} alone; they are from {kept_from()} on",
        )


def _facts(root: Path) -> set[tuple[str, int, str]]:
    """Return the market, height and name of each fact of an archive."""
    found = set()
    for channel, name in (("book", "sequence"), ("trades", "trade_id")):
        table = read(root, channel, holes="allow").arrow
        rows = zip(*(table[c].to_pylist() for c in ("market_id", "height", name)), strict=True)
        found |= {(market_id, height, str(name)) for market_id, height, name in rows}
    return found


def _truth(exchange: Simulator, first: int, last: int) -> set[tuple[str, int, str]]:
    found = set()
    for height in range(first, last + 1):
        block = exchange.block(height)
        found |= {(u.market_id, height, str(u.sequence)) for u in block.updates}
        found |= {(market_id, height, trade.trade_id) for market_id, trade in block.trades}
    return found


def _between(facts: set[tuple[str, int, str]], first: int, last: int) -> set[tuple[str, int, str]]:
    return {fact for fact in facts if first <= fact[1] <= last}


def _digests(root: Path, parts: set[Part]) -> dict[tuple[str, int, str], str]:
    return {
        (file.channel, file.first, file.date): file.facts_sha256
        for file in manifest.current(manifest.read(root)).values()
        if file.facts_sha256 and Part(file.first, file.last) in parts
    }


@pytest.mark.parametrize(
    ("away_s", "block_s"), [(0, 0.08), pytest.param(600, 0.15, marks=pytest.mark.nightly)]
)
def test_two_recorders_are_whole_again_and_ask_for_each_missed_block_once(
    tmp_path: Path, away_s: float, block_s: float
) -> None:
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(_busy(block_s))
        recorders = []
        for name in ("one", "other"):
            running = stack.enter_context(_collecting(exchange, tmp_path / name))
            recorders.append(Recorder(running, tmp_path / name / "archive"))
        known = min([recorder.on() for recorder in recorders])
        for recorder in recorders:
            recorder.off()
        assert exchange.asked() == {}
        left = exchange.head()
        time.sleep(away_s)
        for recorder in recorders:
            _await_forgotten(recorder.running, left + _FORGOTTEN)
        for recorder in recorders:
            recorder.on()
        on = exchange.head()
        for recorder in recorders:
            # Four thousand blocks at forty a second, beside their sealing.
            recorder.seal(on, within_s=120 + away_s)
            recorder.off()
        asked = exchange.asked()
        forgotten = range(left + 1, left + _FORGOTTEN + 1)
        assert {asked.get(height) for height in forgotten} == {len(recorders)}
        assert max(asked.values()) <= len(recorders)
        assert known < min(asked)
        assert max(asked) <= on
        for recorder in recorders:
            found = overview(recorder.root)
            assert all(day.is_whole for day in found.days)
            truth = _truth(exchange, found.first, on)
            assert _between(_facts(recorder.root), found.first, on) == truth
        roots = [recorder.root for recorder in recorders]
        parts = set.intersection(
            *(set(sorted(manifest.sealed(manifest.read(root)))[1:]) for root in roots)
        )
        assert parts
        assert _digests(roots[0], parts) == _digests(roots[1], parts) != {}


def test_what_the_node_has_pruned_is_a_hole_named_to_the_height(tmp_path: Path) -> None:
    with _busy() as exchange, _collecting(exchange, tmp_path / "c") as running:
        recorder = Recorder(running, tmp_path / "archive")
        recorder.on()
        recorder.off()
        left = exchange.head()
        _await_forgotten(running, left + _FORGOTTEN)
        pruned = left + _PRUNED
        exchange.inject(faults.NoResults(text="not available", through=pruned))
        recorder.on()
        recorder.seal(exchange.head())
        recorder.off()
        root, found = recorder.root, overview(recorder.root)
        markets = {day.market for day in found.days}
        first = min(first for ranges in found.holes.values() for first, _ in ranges)
        assert left - _SPAN < first <= left + 1
        for market in markets - {"chain"}:
            # A market may have been received a block further than another.
            [(begin, end)] = found.holes[market]
            assert (end, begin <= left + 1) == (pruned, True), market
        facts = _facts(root)
        begin = max(ranges[0][0] for ranges in found.holes.values())
        last = found.last - 1
        truth = _truth(exchange, found.first, last)
        assert _between(facts, found.first, first - 1) == _between(truth, found.first, first - 1)
        # Every block changes every book; trades of the hole may still be with the publisher.
        assert not [fact for fact in _between(facts, begin, pruned) if "_" not in fact[2]]
        assert _between(facts, begin, pruned) < _between(truth, begin, pruned)
        assert _between(facts, pruned + 1, last) == _between(truth, pruned + 1, last)

        done = run("archive", "coverage", str(root))
        assert done.returncode == 0, done.stderr
        one = next(iter(markets - {"chain"}))
        named = spell(found.holes[one])
        assert f"{one}" in done.stdout
        assert named in done.stdout, done.stdout
        with pytest.warns(HolesWarning, match=f"heights {named} of {one}"):
            read(root, "trades", markets=one)
        with pytest.raises(HolesError, match=named):
            read(root, "book", markets=one, holes="raise")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(root, "book", markets=one, start=pruned + 1, end=last)
