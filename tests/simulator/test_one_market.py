"""A recorder of one market by its name, and one that begins again with other markets."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.archive.reading.tables import read
from tests.system.recorders import busy_collector, ended, record, sealed_through, stop
from tests.system.running import Running, eventually

SPAN = 10


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with busy_collector(tmp_path_factory.mktemp("collector"), markets=3) as collecting:
        yield collecting


def _recorder(root: Path, running: Running, *markets: str) -> "subprocess.Popen[bytes]":
    named = [text for market in markets for text in ("--market", market)]
    return record(root, running.publish, span=SPAN, options=named)


def test_its_parts_are_sealed(running: Running, tmp_path: Path) -> None:
    """Most topics of that name do not exist; also after another aggregator, or recorder, took over."""
    root, one = tmp_path / "archive", str(running.markets()[0]["symbol"])
    with ended(_recorder(root, running, one, "NO-SUCH")) as recorder:
        eventually(lambda: sealed_through(root) > 0, within_s=60)
        os.kill(running.pid("aggregator"), signal.SIGKILL)
        through = running.await_live()["blocks"]["head"]
        eventually(lambda: sealed_through(root) > through, within_s=60)
        stop(recorder)
    through = running.status()["blocks"]["head"]
    with ended(_recorder(root, running, one, "NO-SUCH")) as recorder:
        eventually(lambda: sealed_through(root) > through, within_s=60)
        stop(recorder)
    coverage = read(root, "coverage", holes="raise").arrow
    assert set(coverage["market"].to_pylist()) == {one}
    first, last = coverage["first_height"][0].as_py(), coverage["last_height"][-1].as_py()
    book = read(root, "book", start=first, end=last, holes="raise").arrow
    assert book["height"].to_pylist() == list(range(first, last + 1))


def test_a_market_that_is_left_out_ends_and_may_come_back(running: Running, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    one, *others = sorted(str(market["symbol"]) for market in running.markets())

    def recorded(*markets: str) -> int:
        begun = running.status()["blocks"]["head"]
        with ended(_recorder(root, running, *markets)) as recorder:
            eventually(lambda: sealed_through(root) > begun + SPAN, within_s=90)
            stop(recorder)
        return int(begun)

    recorded()
    left = recorded(one)
    found = read(root, "coverage", holes="allow")
    assert one not in found.holes
    ends = dict(
        zip(found.arrow["market"].to_pylist(), found.arrow["last_height"].to_pylist(), strict=True)
    )
    assert all(ends[other] <= left for other in others)
    back = recorded()
    for symbol in others:
        [(first, last)] = read(root, "coverage", markets=symbol, holes="allow").holes[symbol]
        assert ends[symbol] < first <= left + 1
        assert back <= last
        for start, end in ((0, first - 1), (last + 1, last + SPAN // 2)):
            book = read(root, "book", markets=symbol, start=start or None, end=end).arrow
            sequences = book["sequence"].to_pylist()
            assert sequences == list(range(sequences[0], sequences[-1] + 1))
    assert not read(root, "book", markets=one, holes="raise").holes
