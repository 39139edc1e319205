"""
Work on books that is done after the frames have gone out.

Subscribers wait for changes. Our own book is needed for keyframes and snapshots only, and keyframes
are for those who join later. In a block that changes every market, both are a third of a shard's
work. So they are put off until the source pauses:

- A published change counts at once, and its levels change later. If the source does not pause, and
  `MOST` changes wait, further changes are not put off.
- A keyframe is made in the pause, or once it is overdue (`RecordBuilder.is_overdue`), whichever is first.
"""

from collections.abc import Callable
from typing import Final

from shards.protocol.order_book import OrderBook

MOST: Final = 256
"""Changes that may wait; each keeps its encoded event, about 1 kB."""


class LateChanges:
    """What one shard has put off."""

    __slots__ = ("_books", "_keyframes", "is_open")

    def __init__(self, *, is_open: bool = True) -> None:
        self._books: list[OrderBook] = []
        """Once for each change that waits."""
        self._keyframes: dict[str, Callable[[], None]] = {}
        """By market id: makes it."""
        self.is_open = is_open
        """Whether more may be put off."""

    def __bool__(self) -> bool:
        return bool(self._books or self._keyframes)

    def defer(self, book: OrderBook, event: bytes) -> None:
        """Put off a change of a book, by its encoded event."""
        book.defer(event)
        self._books.append(book)
        if len(self._books) >= MOST:
            self.is_open = False

    def postpone(self, market_id: str, keyframe: Callable[[], None]) -> bool:
        """Put off a keyframe, in place of the market's earlier one; return False if nothing is put off."""
        if self is NEVER:
            return False
        self._keyframes[market_id] = keyframe
        return True

    def forget(self, market_id: str) -> None:
        """The market is removed, or its keyframe is made now: none is made later."""
        self._keyframes.pop(market_id, None)

    def settle(self, most: int) -> None:
        """Do a part of the work: of at most so many changes, or one keyframe."""
        books, keyframes = self._books, self._keyframes
        if books:
            for book in books[-most:]:
                # One change for each entry: a single book may have all that wait.
                book.settle(1)
            del books[-most:]
        elif keyframes:
            keyframes.pop(next(iter(keyframes)))()
        self.is_open = self.is_open or not books


NEVER: Final = LateChanges(is_open=False)
"""Puts nothing off."""
