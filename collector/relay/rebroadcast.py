"""
The core of a relay: it numbers the events of its upstream, and keeps their history.

A relay is a publisher like an aggregator. It has a publisher epoch, numbers each topic from 1, and
keeps the newest frames of each topic. For late joiners it also keeps a whole book from time to
time. If the relay itself loses events, it publishes a gap with the cause ``slow-subscriber``, so
that readers know.

Pure: no I/O; instants are arguments.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from collector.aggregator.replay_buffer import ReplayBuffer
from collector.client.received import ChainReplaced, Lost, Received
from collector.client.topic_cursor import Position
from collector.client.whole_book import load_or_apply
from shards.protocol import frames, gap_details
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, Gap
from shards.protocol.frames import KIND_BOOK, KIND_BY_CHANNEL, KIND_GAP, STATES
from shards.protocol.order_book import OrderBook

_FRAMES: Final = 256
_BYTES: Final = 64 << 20
_WHOLE_EVERY: Final = 64
"""Book changes after which a whole book is kept for late joiners."""
_GONE_S: Final = 300.0
"""A topic that no cell has offered for this long has ended with its market. Sooner, an aggregator that
has just begun may not have heard of it."""


class _FollowedBook:
    """A market's book, and the number of changes since a whole one was kept."""

    def __init__(self, market_id: str) -> None:
        self.book = OrderBook(market_id)
        self.changes = 0


class Rebroadcast:
    """Numbers events, keeps their history, and answers requests for it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        """The publisher epoch; each relay, and each chain, has another one."""
        self.published = 0
        self.head = 0
        """Height through which all markets are complete."""
        self.ahead: dict[str, int] = {}
        """The same by symbol, for markets that are further."""
        self.buffer = ReplayBuffer(_FRAMES, _BYTES)
        self._sequences: dict[str, int] = {}
        self._books: dict[str, _FollowedBook] = {}
        self._market_ids: dict[str, str] = {}
        self._gap_id = 0
        self._begun: set[str] = set()
        """Topics whose first complete height is known."""
        self._unoffered: dict[str, float] = {}
        """Topics that no cell offers any more, and since when."""

    def take(self, received: Received, now: int) -> list[tuple[bytes, bytes]]:
        """Process the delivered events; return the frames to send. ``now`` is in ns."""
        event: Any = received.event
        if isinstance(event, Lost):
            return self._lose(received, event, now)
        if isinstance(event, ChainReplaced):
            self._start_over(now)
        if not received.topic:
            return []
        self._market_ids.setdefault(received.symbol, getattr(event, "market_id", ""))
        header = (
            *(received.ts_pub, received.ts_push, received.shard, received.epoch),
            received.frame_sequence,
        )
        kind = KIND_BY_CHANNEL[received.channel]
        height = event.first if isinstance(event, Gap) else getattr(event, "height", self.head)
        is_whole = received.channel in STATES or (isinstance(event, Book) and event.is_snapshot)
        frame = self._publish(received.topic, kind, height, header, event, is_whole)
        if isinstance(event, Book):
            self._follow(received, event, header)
        return [frame]

    def _publish(
        self, topic: str, kind: int, height: int, header: Any, event: Any, is_whole: bool
    ) -> tuple[bytes, bytes]:
        sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
        body = frames.prefix(kind, self.epoch, sequence, *header) + frames.encode(event)
        self.buffer.add(topic, sequence, height, body, whole=is_whole)
        self.published += 1
        return topic.encode(), body

    def _follow(self, received: Received, event: Book, header: Any) -> None:
        """Update a market's book; keep a whole one from time to time."""
        followed = self._books.get(received.symbol)
        if followed is None:
            if not event.is_snapshot:
                return
            followed = self._books[received.symbol] = _FollowedBook(event.market_id)
        try:
            load_or_apply(followed.book, event)
        except SequenceGap:
            del self._books[received.symbol]
            return
        followed.changes = 0 if event.is_snapshot else followed.changes + 1
        if followed.changes < _WHOLE_EVERY:
            return
        followed.changes = 0
        bids, asks = followed.book.levels()
        whole = Book(
            *(event.market_id, event.height, event.sequence, event.ts_event, event.ts_recv),
            *(event.source, True, bids, asks),
        )
        number = self._sequences[received.topic]
        body = frames.prefix(KIND_BOOK, self.epoch, number, *header) + frames.encode(whole)
        self.buffer.add(received.topic, number, event.height, body, published=False, whole=True)

    def _lose(self, received: Received, lost: Lost, now: int) -> list[tuple[bytes, bytes]]:
        """Announce facts that were lost before they reached this relay."""
        if received.channel == "book":
            self._books.pop(received.symbol, None)
        if lost.unit == "sequence":
            first = last = self.head + 1
        else:
            first, last = lost.first, lost.last
        self._gap_id = max(now, self._gap_id + 1)
        detail = gap_details.lost_upstream(received.channel, lost.reason)
        market_id = self._market_ids.get(received.symbol, "")
        gap = Gap(market_id, self._gap_id, "open", "slow-subscriber", first, last, now, detail)
        topic = frames.topic("gap", received.symbol)
        return [self._publish(topic, KIND_GAP, first, (now, now, 0, 0, 0), gap, False)]

    def _start_over(self, now: int) -> None:
        """Switch to another chain, as another publisher."""
        self.epoch = max(now, self.epoch + 1)
        self.buffer = ReplayBuffer(_FRAMES, _BYTES)
        self.buffer.chain = self.epoch
        self._sequences.clear()
        self._books.clear()
        self._begun.clear()
        self.head, self.ahead = 0, {}

    def stand(
        self, positions: Iterable[Position], offers: Callable[[str], bool], now: float
    ) -> None:
        """
        Note how far everything published is complete; call it when no event is waiting.

        Args:
            positions: Those in all topics, also in topics that have ended.
            offers: Whether a cell has a topic, as of its last answer.
            now: Monotonic seconds.

        """
        heights: dict[str, int] = {}
        for position in positions:
            if not position.publisher_epoch or self._is_gone(position.topic, offers, now):
                continue
            if position.is_ended:
                # Its channel is not collected any more.
                continue
            if position.topic not in self._begun:
                self._begun.add(position.topic)
                kept = self.buffer.begin(position.topic, position.floor + 1)
                # Its first frame may have come long after the height from which it is complete.
                kept.from_height = min(kept.from_height, position.floor + 1)
            before = heights.get(position.symbol, position.complete)
            heights[position.symbol] = min(before, position.complete)
        if heights:
            self.head = max(self.head, min(heights.values()))
            self.ahead = {s: height for s, height in heights.items() if height > self.head}

    def _is_gone(self, topic: str, offers: Callable[[str], bool], now: float) -> bool:
        """Whether a topic has ended: it gets no further, and nothing waits for it."""
        if offers(topic):
            self._unoffered.pop(topic, None)
            return False
        return now - self._unoffered.setdefault(topic, now) >= _GONE_S
