"""
The published topics: what each has published, so that each fact is published once.

The channel defines how facts are identified (protocol/channels.py). A topic belongs to a market and
carries the frames of the shard that owns it. Pure: no I/O, no clock.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from collector.aggregator.replay_buffer import Kept, KeptTopic
from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.market_state import NOBODY, UNOWNED
from collector.aggregator.telemetry.activity_meter import Counts
from shards.protocol import channels, frames
from shards.protocol.channels import Channel, Identity
from shards.protocol.frames import BY_ID, KIND_BOOK, SNAPSHOT, Record
from shards.protocol.settings import CHAIN, Market
from shards.protocol.trade_ids import KnownTrades

_NEVER: Final = 1 << 63
"""A height beyond all blocks."""


class TopicState:
    """The state of one published topic."""

    __slots__ = (
        "at",
        "began_at",
        "began_ts",
        "head",
        "height",
        "identity",
        "keep",
        "kept",
        "known",
        "market_id",
        "more",
        "name",
        "next_from",
        "sequence",
        "shard",
        "topic_sequence",
    )

    def __init__(self, name: str, market_id: str, channel: Channel, publisher_epoch: int) -> None:
        self.name = name.encode()
        self.market_id = market_id
        self.identity = channel.identity
        self.head = frames.head(channel.kind, publisher_epoch)
        """The first bytes of all its frames."""
        self.kept: KeptTopic | None = None
        """Its newest frames, from the first one on (replay_buffer.py)."""
        self.keep: Callable[[Kept], None]
        """Appends to them; set together with ``kept``."""
        self.shard = UNOWNED
        """The shard whose frames are published."""
        self.topic_sequence = 0
        self.height = 0
        self.sequence = 0
        """Of the book, or of the last gap."""
        self.began_at = 1 if channel.identity is Identity.SEQUENCE else _NEVER
        """Height of the snapshot with which the book's sequence restarted; 1 if it never did."""
        self.next_from = _NEVER
        """From this height on, a higher sequence is the next change, and nothing has to be judged.
        Equals ``began_at`` once there is a first frame."""
        self.at = 0
        """Block time of the newest change that names no height; 0 if all name theirs."""
        self.began_ts = 0
        """Changes without a height belong to an earlier sequence if they are no later than this."""
        self.more = 0
        """Events published, beyond one per frame."""
        self.known: KnownTrades | None = None
        """Used only if trades are identified by id."""

    @property
    def count(self) -> int:
        """Events published."""
        return self.topic_sequence + self.more

    def begin(self, kept: KeptTopic) -> None:
        """Publish the first frame: from now on its frames are kept here."""
        self.kept, self.keep = kept, kept.frames.append
        self.next_from = self.began_at

    def restart(self, height: int) -> None:
        """The book's sequence restarted with a snapshot of this height."""
        self.began_at, self.began_ts = height, self.at
        if self.kept is not None:
            self.next_from = height


class Topics:
    """All topics, and the markets that they belong to."""

    def __init__(self, markets: Iterable[Market], coverage: Coverage) -> None:
        self.by_name: dict[str, TopicState] = {}
        self.markets: dict[str, Market] = {}
        """By symbol."""
        self.symbols: dict[str, str] = {}
        """By market id."""
        self.begun: set[str] = set()
        """Markets whose topics were declared to late joiners."""
        self._of_market: dict[str, list[TopicState]] = {}
        self._of_channel: dict[str, list[TopicState]] = {}
        self._published: dict[str, tuple[int, int]] = {}
        """By channel, how many events had been published with so many frames."""
        self._coverage = coverage
        self._publisher_epoch = 0
        self.enter(markets)

    def start_over(self, publisher_epoch: int) -> None:
        """Forget every topic: the publisher has a new epoch."""
        self._publisher_epoch = publisher_epoch
        self.by_name.clear()
        self.begun.clear()
        self._of_market.clear()
        self._of_channel.clear()
        self._published.clear()

    def enter(self, markets: Iterable[Market]) -> None:
        """Add markets, or update known ones."""
        for market in markets:
            self.markets[market.symbol] = market
            self.symbols[market.market_id] = market.symbol

    def open(self, name: str) -> TopicState:
        """Return a topic by name; its first frame creates it."""
        found = self.by_name.get(name)
        if found is not None:
            return found
        channel, _, symbol = name.partition(".")
        # Oracle prices have their own symbols and come with the chain's feed.
        named = CHAIN.symbol if channel == "oracle" else symbol.rstrip(".")
        market = self.markets.get(named)
        row = channels.BY_NAME[channel]
        topic = TopicState(name, market.market_id if market else "", row, self._publisher_epoch)
        topic.shard = self._owner(topic.market_id)
        if topic.market_id:
            self._of_market.setdefault(topic.market_id, []).append(topic)
        self._of_channel.setdefault(channel, []).append(topic)
        self.by_name[name] = topic
        return topic

    # ---- whose frames they carry ----------------------------------------------------

    def own(self, market_id: str) -> None:
        """Make a market's topics carry the frames of its current owner."""
        for topic in self._of_market.get(market_id, ()):
            topic.shard = self._owner(market_id)

    def own_all(self) -> None:
        """Do so for every market."""
        for market_id in self._of_market:
            self.own(market_id)

    def _owner(self, market_id: str) -> int:
        is_removed = market_id and market_id not in self._coverage.states
        return NOBODY if is_removed else self._coverage.owner(market_id)

    # ---- what is known --------------------------------------------------------------

    def book_sequence(self, market_id: str) -> int:
        """Return the sequence of a market's published book; 0 if none was published."""
        book = self.by_name.get(frames.topic("book", self.symbols[market_id]))
        return book.sequence if book is not None else 0

    def published(self, channel: str, frames_published: int) -> int:
        """
        Return the number of events of a channel, over all markets.

        They are counted only if more frames were published since the last call.
        """
        as_of, events = self._published.get(channel, (-1, 0))
        if as_of != frames_published:
            topics = self._of_channel.get(channel, ())
            events = sum([topic.topic_sequence + topic.more for topic in topics])
            self._published[channel] = frames_published, events
        return events

    def published_markets(self) -> list[str]:
        """Return the ids of the markets of which anything was published."""
        return list(self._of_market)

    def counts(self, market_ids: Iterable[str] | None = None) -> dict[str, Counts]:
        """Count trades and book updates by market id, of all markets or of these."""
        of_market = self._of_market
        chosen = of_market if market_ids is None else market_ids
        return {market_id: _counted(of_market.get(market_id, ())) for market_id in chosen}

    def events(self) -> dict[str, int]:
        """Return trades plus book updates by market id; cheaper than `counts`."""
        events: dict[str, int] = {}
        for topic in self.by_name.values():
            if topic.name.startswith((b"book.", b"trades.")):
                events[topic.market_id] = events.get(topic.market_id, 0) + topic.count
        return events

    def statuses(self, statuses: Mapping[str, str]) -> list[Market]:
        """Return the markets updated with these statuses, given by market id."""
        return [
            msgspec.structs.replace(market, status=statuses.get(market.market_id, market.status))
            for market in self.markets.values()
        ]


def _counted(topics: Iterable[TopicState]) -> Counts:
    """Count what was published of one market."""
    counts = Counts()
    for topic in topics:
        if topic.name.startswith(b"book."):
            counts.book_updates += topic.count
            counts.sequence = topic.sequence
        elif topic.name.startswith(b"trades."):
            counts.trades += topic.count
    return counts


def is_new_book(topic: TopicState, record: Record) -> bool:
    """
    Return whether a book topic lacks this change or snapshot; likewise for a ticker.

    The sequence decides. A later record with a sequence not above ours shows that the sequence
    restarted: from then on only later records are new. What is later is told by heights, or, where
    changes name none, by block times.
    """
    if not record.height:
        return _is_new_by_time(topic, record)
    if record.sequence > topic.sequence:
        return record.height >= topic.began_at
    if not record.flags & SNAPSHOT:
        return False
    if record.sequence < topic.sequence and is_later(topic, record):
        topic.restart(record.height)
        topic.at = max(topic.at, record.ts_event)
        return True
    is_same = record.sequence == topic.sequence and record.height >= topic.began_at
    return record.kind == KIND_BOOK and is_same


def is_later(topic: TopicState, record: Record) -> bool:
    return record.ts_event > topic.at if topic.at else record.height > topic.height > 0


def _is_new_by_time(topic: TopicState, record: Record) -> bool:
    """Do the same for a record that names no height."""
    ts = record.ts_event
    if 0 < ts <= topic.began_ts:
        return False
    if record.sequence == topic.sequence:
        return record.kind == KIND_BOOK and bool(record.flags & SNAPSHOT)
    if record.sequence < topic.sequence:
        if not ts > topic.at > 0:
            return False
        topic.began_ts = topic.at
    topic.at = max(topic.at, ts)
    return True


def unpublished(topic: TopicState, record: Record) -> Record | None:
    """Return the part of a record that its topic has not published yet; None if there is none."""
    match topic.identity:
        case Identity.SEQUENCE:
            # Two tickers of one height differ if the book was fetched again in between.
            is_new = is_new_book(topic, record)
        case Identity.TRADES if record.flags & BY_ID:
            return _unknown_trades(topic, record)
        case Identity.GAP:
            # Shards send again only what a new aggregator has not published.
            is_new = True
        case _:
            is_new = record.height > topic.height
    if not is_new:
        return None
    topic.sequence = record.sequence
    return record


def stands_for(topic: TopicState, record: Record) -> bool:
    """Return whether an unpublished snapshot or state includes everything published so far."""
    if record.kind == KIND_BOOK:
        is_newest = record.sequence >= topic.sequence
    elif topic.identity is Identity.SEQUENCE:
        is_newest = is_new_book(topic, record)
    else:
        is_newest = record.height > topic.height
    if is_newest:
        topic.sequence = record.sequence
        if record.kind != KIND_BOOK:
            topic.height = record.height
    return is_newest


def _unknown_trades(topic: TopicState, record: Record) -> Record | None:
    """
    Remove the trades that were published before from a record; None if all were.

    A source that sends trades one by one sends some late, and a shard that takes over lists again
    what its predecessor may have published: heights prove nothing there, ids do.
    """
    if topic.known is None:
        topic.known = KnownTrades()
    event = frames.decode_trades(record.event)
    fresh = topic.known.take(event.trades)
    if len(fresh) == len(event.trades):
        return record
    if not fresh:
        return None
    event = msgspec.structs.replace(event, trades=fresh)
    return msgspec.structs.replace(record, count=len(fresh), event=frames.encode(event))
