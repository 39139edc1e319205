"""A4: a book's sequence begins low again while the chain's heights go on."""

import itertools
from pathlib import Path

from shards.protocol.events import Book
from tests.simulator.client import Simulator, simulator
from tests.system.drill.reading import agrees_now
from tests.system.drill.registry import Stage, drill
from tests.system.listening import Listener
from tests.system.running import collector, eventually


@drill("A4", "a book's sequence begins low again while heights go on")
def begin_again(stage: Stage) -> None:
    """The book is fetched again, readers are informed, and its changes continue."""
    _begin_again(stage, "chain-ws")


@drill("A4I", "the same at an indexer, whose changes name no heights")
def begin_again_at_the_indexer(stage: Stage) -> None:
    """The block times of its changes tell that the sequence restarted."""
    _begin_again(stage, "indexer-grpc")


def _begin_again(stage: Stage, source: str) -> None:
    with (
        simulator("--markets", "6", "--block-time", "0.3", "--touched", "all") as exchange,
        collector(stage.folder, *_options(stage.folder, exchange, source)) as running,
    ):
        running.await_live()
        with Listener(running) as listener:
            market = running.markets()[0]
            symbol = market["symbol"]
            before = eventually(lambda: _sequence(listener, symbol), within_s=30, what="a book")
            exchange.count_again(market["ticker"])
            stage.broke(f"the book of {symbol} counts from 0 again (it stood at {before})")
            (gap,) = stage.await_(
                "said", "a gap, cause seq", lambda: listener.drain().gaps("open"), within_s=30
            )
            assert gap.cause == "seq", gap
            assert "restarted" in gap.detail, gap
            stage.await_(
                "healed",
                "the reader's book counts from 0",
                lambda: _restarted(listener, symbol, before),
                within_s=30,
            )
            stage.await_(
                "healed",
                "the gap is closed",
                lambda: listener.drain().gaps("closed"),
                within_s=30,
            )
            height = exchange.head()
            stage.await_(
                "healed",
                "the reader's book is the exchange's",
                lambda: agrees_now(listener, exchange, market, after=height),
                within_s=30,
            )
        status = running.await_live()
    assert status["coverage"]["now"] == 1.0
    # The indexer sends no blocks, so nothing is proved about them.
    assert status["completeness"] == (1.0 if source == "chain-ws" else 0.0)


def _sequence(listener: Listener, symbol: str) -> int:
    _, book = listener.drain().book(symbol)
    return book.sequence if book is not None else 0


def _restarted(listener: Listener, symbol: str, before: int) -> bool:
    """Say whether the reader's book stood below `before` again: by now it may stand above it."""
    books = [r.event for r in listener.drain().heard if r.symbol == symbol]
    sequences = [book.sequence for book in books if isinstance(book, Book)]
    return any(later < before <= earlier for earlier, later in itertools.pairwise(sequences))


def _options(folder: Path, exchange: Simulator, source: str) -> tuple[str, ...]:
    path = exchange.config(folder, extra=f'indexer = ["{exchange.indexer}"]\n')
    return "--config", str(path), "--source", source
