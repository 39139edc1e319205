"""The promise, against the truth: every trade and book change, once, in order, whatever happens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector import Gap, Subscriber
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.simulator.published import Published, await_heights, check_books, check_trades
from tests.system.running import Running, collector, eventually

ONE = "INJ0000/USDT"
SOURCES = ("chain-ws", "chain-grpc")
# The trades' numbers are judged up to the last look at the listing.
LIMITS = "[limits]\nmute_floor_s = 0.6\n[supervision]\nlisting_s = 1.0\n"


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    options = ("--markets", "16", "--block-time", "0.1", "--touched", "0.8", "--matches", "6")
    with simulator(*options, "--quiet", "0.1") as running:
        yield running


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    """Each of the sources that hear blocks; indexer-grpc has its own menu (test_indexer_faults)."""
    return str(request.param)


@pytest.fixture(scope="module")
def running(
    venue: Simulator, source: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A collector of it, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    config = venue.config(Path(folder), extra=LIMITS)
    options = ("--shards", "2", "--source", source, "--config", str(config))
    with collector(folder, *options) as started:
        started.await_live()
        yield started


RESYNC = faults.Gap(market=ONE, what="updates", blocks=2)
"""Makes the collector fetch a book."""
RECONNECT = faults.Disconnect()

MENU: list[tuple[faults.Fault, ...]] = [
    (faults.Mute(market=ONE, after=1),),
    (faults.Mute(),),
    (faults.HeightJump(after=1, blocks=4),),
    (faults.Gap(market=ONE, blocks=3),),
    (RESYNC,),
    (faults.Duplicate(blocks=3),),
    (faults.Reorder(blocks=5),),
    (faults.Stall(blocks=4),),
    (faults.Garbage(),),
    (faults.Garbage(what="truncated"),),
    (faults.Oversized(market=ONE),),
    (faults.ClockSkew(),),
    (faults.BlockError(blocks=2),),
    (faults.StreamError(market=ONE),),
    (RECONNECT,),
    (faults.Stop(for_s=1.0),),
    (faults.Deaf(), RECONNECT),
    (faults.StreamLimit(limit=1), RECONNECT),
    (faults.StreamLimit(limit=1, silent=True), RECONNECT),
    (faults.Refuse(status=429), RECONNECT),
    (faults.Refuse(status=503), RECONNECT),
    (faults.SlowSnapshot(protocol="grpc"), RESYNC),
    (faults.StaleSnapshot(), RESYNC),
    (faults.CookieChange(), RESYNC),
    (faults.Halt(for_s=1.5),),
]
_OF_ONE_SERVER = faults.Disconnect | faults.Stop | faults.Deaf | faults.StreamLimit | faults.Refuse


def aimed(fault: faults.Fault, protocol: faults.Protocol) -> faults.Fault:
    """Let a fault of a whole server be one of the server that is read."""
    if isinstance(fault, _OF_ONE_SERVER):
        return msgspec.structs.replace(fault, protocol=protocol)
    return fault


def in_turn() -> list[Any]:
    """Each fault with one of the sources; with the other one as well in the full proof."""
    return [
        pytest.param(
            source,
            together,
            id=f"{source}-{together!r}",
            marks=() if (number + other) % 2 == 0 else pytest.mark.nightly,
        )
        for other, source in enumerate(SOURCES)
        for number, together in enumerate(MENU)
    ]


@pytest.mark.parametrize(("source", "together"), in_turn(), indirect=["source"])
def test_what_is_published_is_the_truth(
    venue: Simulator, source: str, running: Running, together: tuple[faults.Fault, ...]
) -> None:
    published = Published(running.publish)
    try:
        first = venue.head() + 3
        await_heights(running, published, first)
        for fault in together:
            venue.inject(aimed(fault, venue.protocol_of(source)))
        venue.await_height(venue.head() + 12)
        venue.heal()
        last = venue.head()
        await_heights(running, published, last)
    finally:
        venue.heal()
        published.close()
    check_trades(venue, published, first, last)
    check_books(venue, published, first, last, whole=RESYNC not in together)


def _await_a_trade(venue: Simulator, height: int) -> None:
    """Wait for a block since this height in which the one market's trades are not the last."""
    market_id = next(found["market_id"] for found in venue.markets if found["ticker"] == ONE)
    while True:
        venue.await_height(height + 1)
        traded = [of for of, _ in venue.block(height).trades]
        # What is missing after the highest number that came, no number shows.
        if market_id in traded and traded[-1] != market_id:
            return
        height += 1


def test_a_market_that_the_server_takes_for_another_is_announced(
    venue: Simulator, source: str, running: Running
) -> None:
    """Its blocks come empty: what was kept back shows in its sequence, and in the trades' numbers."""
    with Subscriber(running.publish, channels=["gap"]) as subscriber:
        eventually(lambda: subscriber.poll(0.1), within_s=30, what="an answer")
        # Blocks before the first that is proved are not judged.
        proof = eventually(
            lambda: (found := running.status()["trade_proof"])["whole"] and found, within_s=30
        )
        holes = proof["holes"]
        since = venue.inject(faults.WrongIds(market=ONE)) + 2
        _await_a_trade(venue, since)
        venue.heal()

        def told() -> bool:
            received = subscriber.poll(0.1)
            event = received.event if received is not None else None
            return isinstance(event, Gap) and event.cause == "seq"

        eventually(told, within_s=30, what="a gap in the book's sequence")
        eventually(
            lambda: running.status()["trade_proof"]["holes"] > holes,
            within_s=30,
            what="trades that are missing by their numbers",
        )
        eventually(running.live, within_s=30, what="all live")
