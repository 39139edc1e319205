"""Source indexer-grpc under the whole menu: the truth is published, or a gap says what is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import faults, heard
from tests.simulator.client import Simulator, simulator
from tests.simulator.heard import Heard
from tests.system.running import Running, collector, eventually

LIMITS = """
[limits]
probe_s = 0.2
probe_grace_s = 0.4
audit_s = 0.3
streams_per_connection = 8
"""
ONE = "INJ0000/USDT"


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    options = ("--markets", "16", "--block-time", "0.1", "--touched", "0.8", "--matches", "5")
    with simulator(*options, "--quiet", "0.2") as running:
        yield running


@pytest.fixture(scope="module")
def running(venue: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector that knows nothing of the exchange but its indexer."""
    folder = tmp_path_factory.mktemp("collector")
    config = Path(folder) / "collector.toml"
    config.write_text(f'[network]\nindexer = ["{venue.indexer}"]\n{LIMITS}')
    options = ("--shards", "2", "--config", str(config), "--source", "indexer-grpc")
    with collector(folder, *options) as started:
        started.await_live()
        yield started


MENU: list[tuple[faults.Fault, ...]] = [
    (faults.Mute(protocol="indexer"),),
    (faults.Mute(protocol="indexer", market=ONE),),
    (faults.WrongIds(protocol="indexer", market=ONE),),
    (faults.Gap(protocol="indexer", blocks=3),),
    (faults.Gap(protocol="indexer", what="updates", blocks=2),),
    (faults.Gap(protocol="indexer", what="trades", blocks=4),),
    (faults.Duplicate(protocol="indexer", blocks=3),),
    (faults.Reorder(protocol="indexer", blocks=5),),
    (faults.Stall(protocol="indexer", blocks=4),),
    (faults.Garbage(protocol="indexer"),),
    (faults.Oversized(protocol="indexer", market=ONE),),
    (faults.ClockSkew(protocol="indexer"),),
    (faults.BlockError(protocol="indexer"),),
    (faults.StreamError(protocol="indexer", market=ONE),),
    (faults.Disconnect(protocol="indexer"),),
    (faults.Stop(protocol="indexer", for_s=1.0),),
    (faults.Deaf(protocol="indexer"),),
    (faults.Refuse(protocol="indexer", status=429),),
    (faults.Refuse(protocol="indexer", status=503), faults.Disconnect(protocol="indexer")),
    (faults.StreamLimit(protocol="indexer", limit=9), faults.Disconnect(protocol="indexer")),
    (
        faults.StreamLimit(protocol="indexer", limit=9, silent=True),
        faults.Disconnect(protocol="indexer"),
    ),
    (faults.SlowSnapshot(protocol="indexer"), faults.Disconnect(protocol="indexer")),
    (faults.StaleSnapshot(protocol="indexer"), faults.Disconnect(protocol="indexer")),
    (faults.Halt(for_s=1.5),),
]


@pytest.mark.parametrize("together", MENU, ids=repr)
def test_what_is_published_is_the_truth(
    venue: Simulator, running: Running, together: tuple[faults.Fault, ...]
) -> None:
    listener = Heard(running.publish)
    try:
        first = _await_frames(venue, listener)
        for fault in together:
            venue.inject(fault)
        venue.await_height(venue.head() + 6)
        venue.heal()
        venue.await_height(venue.head() + 4)
        # Nothing changes any more while the data is compared.
        venue.inject(faults.Halt(for_s=300.0))
        _await_truth(venue, running, listener, first)
    finally:
        venue.heal()
        listener.close()


def _await_frames(venue: Simulator, listener: Heard) -> int:
    """Return the first height whose events will all be received."""
    start = venue.head()

    def begun() -> bool:
        listener.drain()
        return any(int(name.partition("_")[0]) > start for _, name in listener.trades)

    eventually(begun, within_s=30, what="the first trades")
    return venue.head() + 1


def _await_truth(venue: Simulator, running: Running, listener: Heard, first: int) -> None:
    def lacking() -> str:
        """Say what is not as it should be yet."""
        last = venue.head()
        listener.drain()
        lost = heard.true_trades(venue, first, last).keys() - listener.between(first, last).keys()
        behind = [
            name
            for name, events in listener.books.items()
            if events[-1][2] != heard.true_book(venue, name)[0]
        ]
        whole = running.live() and not listener.open_gaps() and not lost and not behind
        if whole:
            return ""
        states = [(m["symbol"], m["state"], m["reason"]) for m in running.markets()]
        return f"{len(lost)} trades, {len(behind)} books, gaps {listener.open_gaps()}, {states}"

    eventually(lambda: not lacking(), within_s=45, what=lambda: f"{lacking()}\n{running.log}")
    last = venue.head()
    books = {name: heard.true_book(venue, name) for name in listener.books}
    assert listener.between(first, last) == heard.true_trades(venue, first, last)
    assert not listener.twice
    assert not listener.unexplained()
    updates = heard.true_updates(venue, first, last)
    for market_id, events in listener.books.items():
        if any(event[6] for event in events):
            assert listener.book(market_id) == books[market_id]
        for event in events:
            update = updates.get((market_id, event[2]))
            if update is not None and not event[6]:
                assert sorted(map(tuple, event[7])) == sorted(update.bids)
                assert sorted(map(tuple, event[8])) == sorted(update.asks)
