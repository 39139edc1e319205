"""
The replay buffer: the newest frames of every topic, for late joiners and for resends.

Per topic the newest frames are kept in order: published ones, and in between the book's keyframes
(whole books that were not published). A keyframe carries the ``topic_sequence`` of the last delta
that it includes. There are two limits: frames per topic, and bytes in total, enforced when they are
exceeded. Then the largest topics lose their oldest frames first; a topic's size is estimated from
its newest frame. The newest frame from which a book can be built is kept.

Pure: no I/O, no clock. `answer` speaks the request protocol of docs/wire-format.md.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

_encode = msgspec.msgpack.Encoder().encode
ROOM: Final = 16
"""Frames of a topic that are published between two removals of old ones."""

Kept: TypeAlias = tuple[int, int, bytes, bool, bool]
"""topic_sequence, height, body, published, whole (a book can start from it)."""


class KeptTopic:
    """The frames of one topic; `base` is the newest whole book that was dropped from them."""

    __slots__ = ("_last_dropped", "base", "frames", "from_height", "whole")

    def __init__(self, from_height: int) -> None:
        self.frames: deque[Kept] = deque()
        self.base: Kept | None = None
        self.from_height = from_height
        self.whole = -1
        """The newest whole book's topic_sequence, -1 without one."""
        self._last_dropped = 0

    @property
    def last(self) -> int:
        """The topic_sequence of the newest frame; 0 if there never was one."""
        return self.frames[-1][0] if self.frames else self._last_dropped

    @property
    def size(self) -> int:
        """About how many bytes there are: as if every frame were as large as the newest."""
        return len(self.frames) * len(self.frames[-1][2]) if self.frames else 0

    def shorten(self, most: int) -> int:
        """Drop the oldest frames until this many are left; return the bytes freed."""
        freed = 0
        while len(self.frames) > most:
            freed += self.drop_oldest()
        return freed

    def drop_oldest(self) -> int:
        """Drop the oldest frame, keep it as base if it is a whole book; return the bytes freed."""
        oldest = self.frames.popleft()
        topic_sequence, height, body, published, whole = oldest
        self._last_dropped = topic_sequence
        if published and height >= self.from_height:
            self.from_height = height + 1
        base = self.base
        if whole:
            self.base = oldest
            return 0 if base is None else len(base[2])
        if base is None or base[0] >= topic_sequence:
            return len(body)
        # The base's next delta is gone, so no book can be built from it.
        if self.whole == base[0]:
            self.whole = -1
        self.base = None
        return len(body) + len(base[2])

    def after(self, position: int) -> list[bytes]:
        """Return the published bodies after a position."""
        return [body for sequence, _, body, sent, _ in self.frames if sent and sequence > position]

    def reaches(self, position: int) -> bool:
        """Whether every published frame beyond a position is here."""
        return position >= self.last - sum(sent for _, _, _, sent, _ in self.frames)

    def current_book(self) -> list[bytes]:
        """Return the newest whole book and what was published after it; empty without one."""
        for sequence, _, body, _, whole in reversed(self.frames):
            if whole:
                return [body, *self.after(sequence)]
        return [] if self.base is None else [self.base[2], *self.after(self.base[0])]

    def everything(self) -> list[bytes]:
        """Return all published frames, with the oldest whole book in its place."""
        if self.base is not None:
            return [self.base[2], *self.after(0)]
        bodies: list[bytes] = []
        found = False
        for _, _, body, published, whole in self.frames:
            if published or (whole and not found):
                bodies.append(body)
            found = found or whole
        return bodies


class ReplayBuffer:
    """The newest frames of every topic, bounded in number and bytes."""

    def __init__(self, frames_per_topic: int = 256, total_bytes: int = 64 << 20) -> None:
        self.frames_per_topic = frames_per_topic
        self._total_bytes = total_bytes
        self._evict_beyond = total_bytes
        self._topics: dict[str, KeptTopic] = {}
        self.chain = 0
        """Generation of the chain whose topics these are."""
        self.bytes = 0

    def begin(self, topic: str, from_height: int) -> KeptTopic:
        """
        Declare a topic before its first frame, complete from a height on, if it is new.

        Otherwise a topic counts as complete from the height of its first frame.
        """
        kept = self._topics.get(topic)
        if kept is None:
            kept = self._topics[topic] = KeptTopic(from_height)
        return kept

    def add(
        self,
        topic: str,
        topic_sequence: int,
        height: int,
        body: bytes,
        *,
        published: bool = True,
        whole: bool = False,
    ) -> None:
        """
        Keep a frame; a topic's frames must be added in order.

        Args:
            published: False for a keyframe: then `topic_sequence` is the topic's last.
            whole: The event is a whole book, a keyframe's or a published snapshot.

        """
        kept = self.begin(topic, height)
        kept.frames.append((topic_sequence, height, body, published, whole))
        if whole:
            kept.whole = topic_sequence
        self.bytes -= kept.shorten(self.frames_per_topic)
        self.grow(len(body))

    def make_room(self, kept: KeptTopic) -> None:
        """Drop a topic's oldest frames, so that `ROOM` more can be appended to it without `add`."""
        self.bytes -= kept.shorten(self.frames_per_topic - ROOM)

    def grow(self, size: int) -> None:
        """Count the bytes of frames that were kept; if they are too many, drop old ones."""
        self.bytes += size
        if self.bytes > self._evict_beyond:
            self._evict()

    def mean_bytes(self) -> float:
        """Say how large frames are, of those kept; looks at every topic."""
        number = sum(len(kept.frames) for kept in self._topics.values())
        return self.bytes / number if number else 0.0

    def topics(self, prefixes: Iterable[str]) -> dict[str, int]:
        """Last topic_sequence of each topic that begins with one of the prefixes."""
        chosen = set(prefixes)
        # By length: thousands of prefixes cost no more than one of each length.
        lengths = sorted({len(prefix) for prefix in chosen})
        return {
            name: kept.last
            for name, kept in self._topics.items()
            if any(name[:length] in chosen for length in lengths if length <= len(name))
        }

    def answer(
        self,
        request: Any,
        publisher_epoch: int,
        head: int,
        ahead: Mapping[str, int] | None = None,
        may_read: Callable[[str], bool] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> list[bytes]:
        """
        Answer a request for topics or a replay; anything else gets an error in one sentence.

        Args:
            may_read: Which topics are listed; by default all.
            origin: What is known of the frames: ``chain_id``, ``channels`` and ``relays``.

        """
        try:
            wanted = msgspec.convert(request, _TopicsRequest | _ReplayRequest)
        except msgspec.ValidationError as error:
            id_ = request.get("id") if isinstance(request, dict) else None
            return [_encode({"id": id_, "error": f"request not understood: {error}"})]
        if isinstance(wanted, _TopicsRequest):
            topics = self.topics(wanted.prefixes)
            if may_read is not None:
                # The topics are narrowed, not the prefixes: those may be half a million.
                topics = {name: last for name, last in topics.items() if may_read(name)}
            reply: dict[str, Any] = {
                "publisher_epoch": publisher_epoch,
                "head": head,
                "topics": topics,
            }
            reply |= {"ahead": dict(ahead or {}), "chain": self.chain} | dict(origin or {})
            return [_encode({"id": wanted.id} | reply)]
        kept = self._topics.get(wanted.topic) or KeptTopic(head + 1)
        bodies = _choose(kept, wanted, publisher_epoch)
        reply = {
            "id": wanted.id,
            "topic": wanted.topic,
            "publisher_epoch": publisher_epoch,
            "complete": wanted.publisher_epoch == publisher_epoch and kept.reaches(wanted.after),
            "last": kept.last,
            "from_height": kept.from_height,
            "chain": self.chain,
        }
        return [_encode(reply), *bodies]

    def _evict(self) -> None:
        """Reduce the bytes by an eighth, so that this is rare."""
        target = self._total_bytes - self._total_bytes // 8
        largest = sorted(self._topics.values(), key=lambda kept: kept.size, reverse=True)
        # First drop what no book needs; then deltas after a topic's last whole book.
        for spare_book in (True, False):
            for kept in largest:
                floor = len(kept.frames) // 2
                while len(kept.frames) > floor and self.bytes > target:
                    if spare_book and kept.frames[0][0] > kept.whole >= 0:
                        break
                    self.bytes -= kept.drop_oldest()
        # If even that is not enough, try again only after as much again has been added.
        self._evict_beyond = max(self._total_bytes, self.bytes + self._total_bytes // 8)


class _TopicsRequest(msgspec.Struct, tag_field="ask", tag="topics"):
    id: int
    prefixes: list[str]


class _ReplayRequest(msgspec.Struct, tag_field="ask", tag="replay"):
    id: int
    topic: str
    publisher_epoch: int
    after: int


def _choose(kept: KeptTopic, wanted: _ReplayRequest, publisher_epoch: int) -> list[bytes]:
    """Return the frames to send: what followed, the current book, or everything."""
    if wanted.publisher_epoch == publisher_epoch and kept.reaches(wanted.after):
        return kept.after(wanted.after)
    if wanted.publisher_epoch == 0:
        return kept.current_book()
    return kept.everything()
