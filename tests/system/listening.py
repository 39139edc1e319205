"""A subscriber that keeps everything it hears, and the chain's own record to hold against it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from collector.client.received import ChainReplaced, Joined, Lost, Received
from collector.client.subscriber import Subscriber
from collector.verify.amounts import scaled
from collector.verify.chain import Chain, ChainBook
from shards.protocol.events import Book, Gap, Level, Trades
from tests.system.running import Devnet, Running, eventually


def configure(folder: Path, node: Devnet, *, ws: Sequence[str] = (), tables: str = "") -> str:
    """Write a configuration file for a node, reached through these WebSockets in this order."""
    path = folder / "collector.toml"
    chain_ws = ", ".join(f'"{url}"' for url in ws or (node.ws,))
    path.write_text(
        f'[network]\nchain_ws = [{chain_ws}]\nchain_grpc = ["{node.grpc}"]\n'
        f'rpc = ["{node.rpc}"]\n{tables}\n'
    )
    return str(path)


def blocks_later(node: Devnet, count: int) -> int:
    """Wait until the chain has so many more blocks; return its height."""
    chain = Chain(node.rpc, node.grpc)
    try:
        height = chain.latest() + count
        eventually(lambda: chain.latest() >= height, within_s=30 + 3 * count, what="more blocks")
        return height
    finally:
        chain.close()


def first_due(node: Devnet) -> int:
    """
    Return the first height whose events a listener that has just joined receives completely.

    Blocks above its ``head`` may have gone out before it joined, up to the chain's newest, or to
    the one after that, which the node streams before it counts it.
    """
    return blocks_later(node, 1) + 1


class Listener:
    """A `Subscriber` to everything that a collector publishes; it hears when it is drained."""

    def __init__(self, running: Running, *, hwm: int = 50_000) -> None:
        self.heard: list[Received] = []
        self._subscriber = Subscriber(running.publish, hwm=hwm, keep_books=True)
        self._heights: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._subscriber.__enter__()
        eventually(lambda: self.drain().joined, within_s=30, what="an aggregator that answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._subscriber.close()

    def drain(self) -> Self:
        """Take all that has come."""
        while (received := self._subscriber.poll(0.0)) is not None:
            self.heard.append(received)
            if isinstance(received.event, ChainReplaced):
                self._heights.clear()
            if isinstance(received.event, Book):
                self._heights[received.symbol] = received.event.height
        return self

    @property
    def joined(self) -> list[Joined]:
        """Each time a new aggregator answered."""
        return [r.event for r in self.heard if isinstance(r.event, Joined)]

    @property
    def lost(self) -> list[Lost]:
        """What was not available any more."""
        return [r.event for r in self.heard if isinstance(r.event, Lost)]

    def gaps(self, state: Literal["open", "closed"]) -> list[Gap]:
        """Return the gap events of this state."""
        gaps = [r.event for r in self.heard if isinstance(r.event, Gap)]
        return [gap for gap in gaps if gap.state == state]

    def snapshots(self, since: int) -> set[str]:
        """Return the symbols whose whole book was received, as of this height or later."""
        books = [r for r in self.heard if isinstance(r.event, Book) and r.event.is_snapshot]
        return {r.symbol for r in books if isinstance(r.event, Book) and r.event.height >= since}

    def trades(self, first: int, last: int) -> Counter[tuple[str, str]]:
        """Count how often each trade of these blocks was heard, by market id and trade id."""
        events = [r.event for r in self.heard if isinstance(r.event, Trades)]
        return Counter(
            (event.market_id, trade.trade_id)
            for event in events
            if first <= event.height <= last
            for trade in event.trades
        )

    def book(self, symbol: str) -> tuple[int, ChainBook | None]:
        """Return a market's book and the height it stands at."""
        book = self._subscriber.book(symbol)
        if book is None:
            return 0, None
        bids, asks = book.levels()
        return self._heights[symbol], ChainBook(book.sequence, _numbers(bids), _numbers(asks))


def _numbers(levels: list[Level]) -> dict[int, int]:
    return {scaled(price): scaled(quantity) for price, quantity in levels}


def assert_every_trade_once(node: Devnet, listener: Listener, first: int, last: int) -> None:
    """Compare the trades of these blocks with those of the chain's own record, ids and all."""
    chain = Chain(node.rpc, node.grpc, max_rps=200)
    try:
        due = Counter(
            (trade.market_id, trade.trade_id)
            for height in range(first, last + 1)
            for trade in chain.trades(height)
        )
    finally:
        chain.close()
    assert due, f"no trade in the blocks {first} to {last}"
    eventually(
        lambda: not due - listener.drain().trades(first, last),
        within_s=30,
        what=lambda: (
            f"every trade of the blocks {first} to {last}; still due "
            f"{sorted(due - listener.trades(first, last))[:5]}"
        ),
    )
    assert listener.trades(first, last) == due


def assert_books_agree(node: Devnet, running: Running, listener: Listener) -> None:
    """Compare every book, as last heard, with what the node says of the same height."""
    chain = Chain(node.rpc, node.grpc, max_rps=200)
    listener.drain()
    try:
        for row in running.markets():
            height, book = listener.book(row["symbol"])
            assert book == chain.book(row["market_id"], row["type"], height), row["symbol"]
    finally:
        chain.close()
