"""Books built from the frames, as two plain dicts each, and samples of them to compare."""

from typing import NamedTuple

from collector.verify.amounts import scaled
from collector.verify.published import Book


class Sample(NamedTuple):
    """One book after one block, to be compared with the chain's."""

    market_id: str
    height: int
    sequence: int
    bids: dict[int, int]
    asks: dict[int, int]


class BuiltBook:
    """One market's book; `sequence` is -1 while it is unknown."""

    __slots__ = ("asks", "bids", "height", "market_id", "sequence", "updates")

    def __init__(self, market_id: str) -> None:
        self.market_id = market_id
        self.height = 0
        self.sequence = -1
        self.updates = 0
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def sample(self, height: int = 0) -> Sample:
        """Copy it, as of the last update or of a later height."""
        at = max(self.height, height)
        return Sample(self.market_id, at, self.sequence, dict(self.bids), dict(self.asks))


class Books:
    """
    The books of all markets, and the breaks in their sequences.

    Every Nth update gives a sample; by default the first, second, fourth, eighth and so on.
    Every snapshot gives one.
    """

    def __init__(self, every: int | None) -> None:
        self.of: dict[str, BuiltBook] = {}
        self.broken: list[str] = []
        """Where a sequence did not grow by one, as text."""
        self._every = every

    def take(self, frame: Book) -> Sample | None:
        """Apply a frame; return a sample if one is due."""
        book = self.of.setdefault(frame.market_id, BuiltBook(frame.market_id))
        if book.sequence >= 0:
            self._check_sequence(book, frame)
        elif not frame.is_snapshot:
            return None
        if frame.is_snapshot:
            book.bids, book.asks = {}, {}
        _change(book.bids, frame.bids)
        _change(book.asks, frame.asks)
        book.height, book.sequence = frame.height, frame.sequence
        book.updates += 1
        return book.sample() if frame.is_snapshot or self._is_due(book.updates) else None

    def lose(self, market_id: str) -> None:
        """Discard a book: some of its frames were lost."""
        if market_id in self.of:
            self.of[market_id].sequence = -1

    def _check_sequence(self, book: BuiltBook, frame: Book) -> None:
        # A snapshot may repeat the last change, or contain the next one.
        due = (book.sequence, book.sequence + 1) if frame.is_snapshot else (book.sequence + 1,)
        if frame.sequence not in due:
            what = "whole book" if frame.is_snapshot else "update"
            self.broken.append(
                f"{frame.market_id} at height {frame.height}: {what} {frame.sequence} "
                f"after {book.sequence}"
            )

    def _is_due(self, updates: int) -> bool:
        if self._every is not None:
            return updates % self._every == 0
        return updates & (updates - 1) == 0


def _change(side: dict[int, int], levels: list[tuple[str, str]]) -> None:
    for price, quantity in levels:
        amount = scaled(quantity)
        if amount:
            side[scaled(price)] = amount
        else:
            side.pop(scaled(price), None)
