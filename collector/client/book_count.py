"""
The count of a book's sequence, which may restart at a low number while the chain goes on.

If a later book or ticker has a sequence below ours, the count has restarted: from then on, facts of
earlier blocks are known. Heights decide what is later; if changes carry none (indexer-grpc), block
times do. Pure.
"""

from shards.protocol.events import Book, Ticker


class Count:
    """The count that a book, or a ticker, follows: where it began, and its newest event."""

    __slots__ = ("_at", "_began_ts", "began_at", "height")

    def __init__(self) -> None:
        self.height = 0
        """Height of the book or ticker delivered last; 0 if it named none."""
        self.began_at = 1
        """Height at which the book's sequence restarted; 1 if it never did."""
        self._at = 0
        """Block time of the newest change that named no height; 0 if all name theirs."""
        self._began_ts = 0
        """Changes without a height belong to an earlier sequence if they are no later than this."""

    @property
    def has_time(self) -> bool:
        """Whether a change that named only its block time was delivered."""
        return self._at > 0

    @property
    def place(self) -> tuple[int, int, int, int]:
        """All of it, to be kept and set again."""
        return self.height, self.began_at, self._at, self._began_ts

    @place.setter
    def place(self, place: tuple[int, int, int, int]) -> None:
        self.height, self.began_at, self._at, self._began_ts = place

    def begins_again(self, event: Book | Ticker, fact: int) -> bool:
        """Return whether the sequence restarted: the event's is below `fact`, and it is later."""
        if event.sequence >= fact:
            return False
        is_later = event.ts_event > self._at if self._at else event.height > self.height > 0
        if is_later:
            self.began_at = event.height or self.began_at
            self._began_ts = self._at
        return is_later

    def is_past(self, event: Book | Ticker) -> bool:
        """Return whether an event belongs to a count before this one."""
        if event.height:
            return event.height < self.began_at
        return 0 < event.ts_event <= self._began_ts

    def follow(self, event: Book | Ticker) -> None:
        """Note the event delivered last."""
        self.height = event.height
        if not event.height or self._at:
            self._at = max(self._at, event.ts_event)
