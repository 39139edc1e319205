"""
The check itself: takes what was published, queries the chain meanwhile, compares at the end.

The chain is queried in a separate thread, so that a slow node delays no frame.
"""

import queue
import threading
from collections.abc import Iterable
from typing import Final, Self

from collector.verify.block_results import ChainTrade
from collector.verify.books import Books, Sample
from collector.verify.capture import End, Market
from collector.verify.chain import Chain
from collector.verify.comparison import compare_blocks, compare_book, compare_trades
from collector.verify.findings import Findings
from collector.verify.published import Book, Gap, Lost, Published, Trades

_SAMPLES: Final = 512
"""Book samples that may wait for the node; further ones are skipped and counted."""
_LOSSES: Final = 5
"""Most losses among the examples, so that differences find a place too."""


class Verifier:
    """
    One check, from `first` on. Pass everything published to `take`; `finish` returns the
    findings.
    """

    def __init__(
        self,
        chain: Chain,
        markets: Iterable[Market],
        first: int,
        *,
        channels: tuple[str, ...] = ("book", "trades"),
        books_every: int | None = None,
        keep_all: bool = False,
    ) -> None:
        """
        Args:
            books_every: Check a book at every Nth of its updates; None: more and more rarely.
            keep_all: Whether all samples wait for the node, for a capture.

        """
        self._markets = {market.market_id: market for market in markets}
        self._by_symbol = {market.symbol: market for market in self._markets.values()}
        self._channels = channels
        self._findings = Findings(first=first, last=first, markets=len(self._markets))
        self._books = Books(books_every)
        self._trades: dict[str, list[Trades]] = {}
        self._chain_trades: list[ChainTrade] = []
        self._asked = first - 1
        self._jobs: queue.Queue[int | Sample | None] = queue.Queue()
        self._limit = 1 << 30 if keep_all else _SAMPLES
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, args=(chain,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)

    def take(self, published: Published | None) -> None:
        """
        Take one frame, or one loss, in order of arrival.

        Raises:
            Unreachable: If the node no longer answers.

        """
        if self._error is not None:
            raise self._error
        match published:
            case Trades(market_id, height) if market_id in self._markets:
                self._trades.setdefault(market_id, []).append(published)
                self._ask_until(height)
            case Book(market_id, height) if market_id in self._markets:
                self._ask_until(height)
                sample = self._books.take(published)
                if sample is not None:
                    self._check(sample)
            case Gap(_, state):
                self._findings.gaps.opened += state == "open"
                self._findings.gaps.closed += state == "closed"
            case Lost(topic, first, last, reason):
                self._lose(topic, first, last, reason)

    def finish(self, end: End) -> Findings:
        """
        Query the chain for the rest, compare, and return the findings.

        Raises:
            Unreachable: If the node does not answer.

        """
        findings = self._findings
        findings.last = end.last
        if "trades" in self._channels:
            self._ask_until(end.last)
        if "book" in self._channels:
            for market in self._markets.values():
                self._check_last(market, end.last)
        self._jobs.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        wanted = (t for t in self._chain_trades if int(t.trade_id.split("_")[0]) <= end.last)
        if "trades" in self._channels:
            compare_trades(findings, self._trades, wanted)
        findings.books.broken = len(self._books.broken)
        for example in self._books.broken:
            findings.note(f"book of {example}")
        findings.gaps.open = end.open
        heights = {symbol: end.heights.get(symbol, 0) for symbol in self._by_symbol}
        compare_blocks(findings, heights, end.holes)
        return findings

    def _ask_until(self, height: int) -> None:
        if "trades" in self._channels:
            while self._asked < height:
                self._asked += 1
                self._jobs.put(self._asked)

    def _check(self, sample: Sample) -> None:
        if sample.height < self._findings.first:
            return
        if self._jobs.qsize() < self._limit:
            self._jobs.put(sample)
        else:
            self._findings.books.unchecked += 1

    def _check_last(self, market: Market, last: int) -> None:
        """Check each book's last update, and that none followed it."""
        book = self._books.of.get(market.market_id)
        if book is not None and book.sequence >= 0:
            self._jobs.put(book.sample(last))
        else:
            self._findings.books.differing += 1
            self._findings.note(f"book of {market.symbol}: no whole book was received")

    def _lose(self, topic: str, first: int, last: int, reason: str) -> None:
        channel, _, symbol = topic.partition(".")
        market = self._by_symbol.get(symbol.rstrip("."))
        if market is not None and channel == "book":
            self._books.lose(market.market_id)
        self._findings.lost += 1
        if self._findings.lost <= _LOSSES:
            self._findings.note(f"lost on {topic} {first} to {last}: {reason}")

    def _work(self, chain: Chain) -> None:
        """Query the chain, in its own thread; `finish` reads the result after the join."""
        try:
            while (job := self._jobs.get()) is not None:
                if isinstance(job, int):
                    trades = chain.trades(job)
                    self._chain_trades += [t for t in trades if t.market_id in self._markets]
                else:
                    market = self._markets[job.market_id]
                    book = chain.book(market.market_id, market.type, job.height)
                    compare_book(self._findings, job, book)
        # No error must pass for "no difference": `take` or `finish` raises it.
        except Exception as error:  # noqa: BLE001
            self._error = error
