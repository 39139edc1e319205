"""D46: the collector is away for an hour of a busy chain, then starts with other shards."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator

from collector.client.received import Lost
from collector.verify.chain import Chain
from shards.protocol.events import Book
from tests.system.drill.registry import Stage, drill
from tests.system.listening import Listener, assert_books_agree, first_due
from tests.system.running import Devnet, Running, collector, devnet, eventually, free_port_pair

_AWAY_S = float(os.environ.get("DRILL_AWAY_S", "3600"))
_SHORT_S = 8.0


@drill("D46", "an hour away from a busy chain, then other shards", needs_node=True)
def away(stage: Stage) -> None:
    """Every block of the absence is replayed, and a reader that stayed has every trade once."""
    away_s = _SHORT_S if stage.short else _AWAY_S
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    with (
        devnet() as node,
        contextlib.closing(_Record(node)) as record,
        _collector(stage, node, publish, shards=2) as running,
        Listener(running) as listener,
    ):
        record.begin(first_due(node))
        _reach(record, listener, record.last + (8 if stage.short else 15))
        assert running.stop() == 0
        left = record.last
        stage.broke(f"the collector is stopped at block {left}")
        _pass(away_s, record, listener)
        came_back = record.last
        stage.note("done", f"started again with 3 shards at block {came_back}")
        with _collector(stage, node, publish, shards=3) as again:
            _heal(stage, again, record, listener, blocks=came_back - left)


def _heal(stage: Stage, again: Running, record: "_Record", listener: Listener, blocks: int) -> None:
    seen = eventually(again.status, within_s=90, what="an aggregator that answers")
    assert seen["state"]["taken_up"]["markets"] == len(again.markets())
    stage.note("said", f"it takes up {seen['state']['taken_up']['markets']} markets")
    stage.await_(
        "healed",
        f"all live, {blocks} blocks of all markets came again",
        lambda: record.read(0.1) and listener.drain() and again.live(),
        within_s=180 + blocks / 5,
        every_s=0.3,
    )
    _reach(record, listener, record.last + 5)
    due = record.trades
    eventually(
        lambda: not due - listener.drain().trades(record.first, record.last),
        within_s=30,
        what=lambda: f"{(due - listener.trades(record.first, record.last)).total()} trades",
    )
    assert listener.trades(record.first, record.last) == due
    changes = _count_changes(listener)
    assert_books_agree(record.node, again, listener)
    status = again.status()
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]
    stage.note(
        "healed",
        f"{due.total()} trades of blocks {record.first} to {record.last}, by the chain's own "
        f"record: each once; {changes} changes of books without a hole, the books at the end equal "
        f"to the node's; {status['blocks']['replayed']} blocks of markets replayed, "
        "completeness 1.0",
    )


def _count_changes(listener: Listener) -> int:
    """Every change of a book came once and in order, also those before the node's oldest books."""
    lost = {found.symbol: found.event for found in listener.heard if isinstance(found.event, Lost)}
    assert not lost, lost
    newest: dict[str, int] = {}
    changes = 0
    for found in listener.heard:
        if not isinstance(found.event, Book):
            continue
        symbol, sequence, whole = found.symbol, found.event.sequence, found.event.is_snapshot
        due = newest.get(symbol, sequence - (not whole)) + (not whole)
        assert sequence == due, f"{symbol}: {sequence} after {newest[symbol]}"
        newest[symbol] = sequence
        changes += not whole
    return changes


class _Record:
    """The trades of each block as the node has them, read while it still keeps the block."""

    def __init__(self, node: Devnet) -> None:
        self.node = node
        self._chain = Chain(node.rpc, node.grpc, max_rps=200)
        self.close = self._chain.close
        self.trades: Counter[tuple[str, str]] = Counter()
        self.first = self.last = 0

    def begin(self, height: int) -> None:
        """Read from this height on."""
        self.first, self.last = height, height - 1

    def read(self, for_s: float) -> bool:
        """Read what is available, for this time at most."""
        until = time.monotonic() + for_s
        # A busy node counts its newest block before it has stored what that did.
        newest = self._chain.latest() - 1
        while self.last < newest and time.monotonic() < until:
            self.last += 1
            found = self._chain.trades(self.last)
            self.trades.update((trade.market_id, trade.trade_id) for trade in found)
        return True


def _reach(record: _Record, listener: Listener, height: int) -> None:
    eventually(
        lambda: record.read(1.0) and listener.drain() and record.last >= height,
        within_s=60,
        every_s=0.2,
        what=f"block {height}",
    )


def _pass(seconds: float, record: _Record, listener: Listener) -> None:
    until = time.monotonic() + seconds
    eventually(
        lambda: record.read(5.0) and listener.drain() and time.monotonic() > until,
        within_s=seconds + 30,
        every_s=0.5,
        what="the time away",
    )
    _reach(record, listener, record.last)


@contextlib.contextmanager
def _collector(stage: Stage, node: Devnet, publish: str, *, shards: int) -> Iterator[Running]:
    config = str(node.config(stage.folder))
    options = ("--config", config, "--shards", str(shards), "--state", str(stage.folder / "kept"))
    with collector(stage.folder, *options, publish=publish) as running:
        if shards == 2:
            running.await_live()
        yield running
