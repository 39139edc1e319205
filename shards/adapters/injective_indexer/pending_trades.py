"""One market's trades on their way: those that wait for others of their block, and those only listed."""

from collections.abc import Callable, Iterable

from shards.adapters.injective_indexer.decoder import StreamMessage
from shards.protocol.events import Trade
from shards.protocol.trade_ids import KnownTrades


class WaitingTrades:
    """Trades waiting for others of their block, so that they are published in order."""

    __slots__ = ("_at", "_of", "_publish", "_trades")

    def __init__(self, publish: Callable[[int, int, int, list[Trade]], None]) -> None:
        self._publish = publish
        self._trades: list[Trade] = []
        self._of = (0, 0, 0)
        """Height, ``ts_event`` and ``ts_recv`` of the waiting trades."""
        self._at = 0

    def add(self, told: StreamMessage, trade: Trade, ts_recv: int) -> None:
        """Add a trade; waiting trades of another block are published."""
        if self._trades and told.height != self._of[0]:
            self.flush()
        if not self._trades:
            self._of = told.height, told.ts_event, ts_recv
        self._trades.append(trade)
        self._at = ts_recv

    def clock_set(self, now: int) -> None:
        """The wall clock was set: measure the wait from now on."""
        self._at = min(self._at, now)

    def flush(self, before: int | None = None) -> None:
        """Publish the waiting trades, unless some arrived after this instant."""
        if self._trades and (before is None or self._at <= before):
            trades, self._trades = self._trades, []
            self._publish(*self._of, trades)


class ListedTrades:
    """Which trades of one market are known, expected, or listed but never streamed."""

    __slots__ = ("known", "since", "unseen")

    def __init__(self) -> None:
        self.known = KnownTrades()
        self.since = 0
        """Trades executed earlier are not expected: they precede our baseline."""
        self.unseen: dict[str, int] = {}
        """Ids found by an audit that no stream has sent, and when."""

    def fresh(self, listed: Iterable[StreamMessage]) -> list[StreamMessage]:
        """Return the listed trades that are expected and not yet published."""
        return [
            told
            for told in listed
            if told.trade is not None
            and told.ts_event >= self.since
            and told.trade not in self.known
        ]

    def are_missing(self, fresh: Iterable[StreamMessage], begun: int, grace: int) -> bool:
        """Return whether a listed trade is overdue on the stream."""
        before, self.unseen = self.unseen, {}
        for told in fresh:
            assert told.trade is not None
            name = told.trade.trade_id
            self.unseen[name] = before.get(name, begun)
        return any(begun - since >= grace for since in self.unseen.values())
