"""Reports as a shard makes them."""

from shards.protocol.control import Answer, MarketReport, Report
from shards.protocol.ledger import MarketLedger


def market_report(
    market_id: str,
    first: int = 0,
    last: int = 0,
    *,
    state: str = "live",
    replayed: tuple[tuple[int, int], ...] = (),
    missing: tuple[tuple[int, int], ...] = (),
    resyncs: int = 0,
    sequence: int = -1,
) -> MarketReport:
    """One market's row: its ledger and its state."""
    made = MarketReport(market_id=market_id, state=state, resyncs=resyncs, sequence=sequence)
    made.copy_ledger(MarketLedger(first, last, replayed, missing).state())
    return made


def report(
    *markets: MarketReport,
    shard: int = 0,
    epoch: int = 1,
    head: int = 0,
    fresh: bool = False,
    frames: int = 0,
    kept: int = 1,
) -> Report:
    """One shard's report; the head is the newest of its markets' unless given."""
    return Report(
        shard=shard,
        epoch=epoch,
        pid=100 + epoch,
        ts=0,
        fresh=fresh,
        head=head or max((market.last for market in markets), default=0),
        head_ts_event=0,
        block_time_s=0.5,
        halted=False,
        markets=list(markets),
        endpoints=[],
        connects=1,
        payloads=0,
        frames=frames,
        kept=kept,
        kept_from=0,
        dropped=0,
        backlog_bytes=0,
        lag_us=0.0,
    )


class Changes:
    """Leaves out of whole reports what the aggregator has, as a shard does; written naively."""

    def __init__(self) -> None:
        self._number = 0
        self._answered = 0
        self._shown: dict[str, object] = {}

    def of(self, said: Report) -> Report:
        """Make one of the numbered reports of a process."""
        self._number += 1
        said.number, said.front = self._number, said.head
        shown = {row.market_id: _standing(row, said.front) for row in said.markets}
        if shown.keys() == self._shown.keys():
            said.since = self._answered
        if said.since:
            changed = [name for name in shown if shown[name] != self._shown[name]]
            said.markets = [row for row in said.markets if row.market_id in changed]
        self._shown, self._answered = shown, 0
        return said

    def answered(self, answer: Answer) -> None:
        """The newest report was answered; without that, the next one is whole."""
        self._answered = 0 if answer.whole else self._number


def _standing(row: MarketReport, front: int) -> object:
    last = "front" if row.last == front else row.last
    return (row.state, row.reason, row.first, last, row.replayed, row.missing, row.sequence < 0)
