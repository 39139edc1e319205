"""A collector that is restarted with fewer channels and then with all, while it is recorded."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.archive.reading.tables import read
from tests.simulator.client import Simulator, simulator
from tests.system.recorders import ended, record, sealed_through, stop
from tests.system.running import Running, collector, eventually

SPAN = 10
ALL = ("book", "trades", "ticker")


@contextmanager
def collecting(
    folder: Path, venue: Simulator, channels: tuple[str, ...], publish: str = ""
) -> Iterator[Running]:
    """Start a collector of these channels, perhaps where another one published before."""
    chosen = [text for name in channels for text in ("--channel", name)]
    config = ("--config", str(venue.config(folder)))
    with collector(folder, *config, *chosen, publish=publish) as running:
        running.await_live()
        yield running


def assert_whole(root: Path, venue: Simulator, channel: str, first: int, last: int) -> None:
    """Every trade, or every change of a book, of some blocks is in an archive, and nothing else."""
    table = read(root, channel, start=first, end=last, holes="allow").arrow
    key = "trade_id" if channel == "trades" else "sequence"
    names = ("market_id", "height", key)
    found = sorted(zip(*(table[name].to_pylist() for name in names), strict=True))
    due: list[tuple[object, ...]] = []
    for height in range(first, last + 1):
        block = venue.block(height)
        if channel == "trades":
            due += [(market_id, height, trade.trade_id) for market_id, trade in block.trades]
        else:
            due += [(update.market_id, height, update.sequence) for update in block.updates]
    assert found == sorted(due)


def lacking(root: Path, channel: str, first: int, last: int) -> list[str]:
    """Return the markets that lack all of some heights; one that lacks only a part of them fails."""
    found = read(root, channel, markets="*-*", start=first, end=last, holes="allow").holes
    assert all(ranges == [(first, last)] for ranges in found.values())
    return list(found)


@pytest.mark.parametrize("fewer", [("book",), ("trades",)])
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_what_ends_is_not_waited_for_and_goes_on_when_it_is_collected_again(
    tmp_path: Path, fewer: tuple[str, ...], is_killed: bool
) -> None:
    root = tmp_path / "archive"
    shape = ("--markets", "2", "--touched", "all", "--matches", "4")
    with simulator(*shape, "--block-time", "0.1", "--history", "100000") as venue:
        with collecting(tmp_path, venue, ALL) as running:
            publish = running.publish
            recorder = record(root, publish, span=SPAN)
            eventually(lambda: sealed_through(root) > 0, within_s=90)
            first = read(root, "coverage", holes="allow").arrow["first_height"][0].as_py()
            through = running.status()["blocks"]["head"]
            if is_killed:
                running.stop(signal.SIGKILL)
        with ended(recorder):
            with collecting(tmp_path, venue, fewer, publish) as running:
                left = running.status()["blocks"]["head"]
                eventually(lambda: sealed_through(root) > left + 4 * SPAN, within_s=90)
            with collecting(tmp_path, venue, ALL, publish) as running:
                back = running.status()["blocks"]["head"]
                eventually(lambda: sealed_through(root) > back + 6 * SPAN, within_s=90)
            stop(recorder)
        sealed = sealed_through(root)
        for channel in ("book", "trades"):
            assert_whole(root, venue, channel, first, through)
            assert_whole(root, venue, channel, back + 1, sealed)
            assert not lacking(root, channel, first, through)
            assert not lacking(root, channel, sealed, sealed)
            if channel in fewer:
                assert_whole(root, venue, channel, first, sealed)
                assert not lacking(root, channel, first, sealed)
            else:
                assert len(lacking(root, channel, left + 4 * SPAN, back)) == 2
    assert len(read(root, "ticker", start=back, holes="allow"))
