"""
What a subscriber has received, and what it must request: no I/O, no clock.

Frames, replies and the time come in. Out go events (`ready`), requests to send (`requests`) and
prefixes to subscribe to (`subscriptions`). Each fact is delivered once, in order per topic; a fact
that cannot be delivered is replaced by a `Lost`::

               frame follows            hole, new publisher epoch,
             ┌──────────────┐           or a book without a start
             ▼              │                    │
          FOLLOWING ────────┘                    ▼
             ▲                            HOLDING, replay asked ◄──┐ no answer in time:
             │  replay delivered, then           │                 │ asked again
             └────── the frames held ────────────┴─────────────────┘

Only the affected topic holds its frames; the market's other topics continue. Once a second a poll
of all topics detects quiet topics, frames lost at a topic's end, and an aggregator that restarted
or does not answer.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from collector.client.frame_codec import (
    Header,
    compose,
    decode_event,
    first_trades,
    is_readable,
    other_version,
    read_header,
)
from collector.client.received import ChainReplaced, Joined, Lost, Received, Unanswered
from collector.client.topic_cursor import UNKNOWN, Position
from collector.client.topic_filter import Wanted
from shards.protocol.errors import UNREADABLE
from shards.protocol.events import Event
from shards.protocol.frames import VERSION


class _TopicsReply(msgspec.Struct):
    publisher_epoch: int
    head: int
    topics: dict[str, int]
    ahead: dict[str, int] = {}
    """By symbol, for markets that are further than the head, which another market holds back."""
    chain: int = 0


class _ReplayReply(msgspec.Struct):
    publisher_epoch: int
    complete: bool
    last: int
    from_height: int
    chain: int = 0


class _Answered(msgspec.Struct):
    id: int
    error: str = ""


_read_answered: Final = msgspec.msgpack.Decoder(_Answered).decode
_read_topics: Final = msgspec.msgpack.Decoder(_TopicsReply).decode
_read_replay: Final = msgspec.msgpack.Decoder(_ReplayReply).decode


class _Followed:
    """A topic's position, its held frames, and its pending request."""

    __slots__ = ("asked", "behind", "held", "position", "stuck")

    def __init__(self, position: Position) -> None:
        self.position = position
        self.held: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(publisher_epoch, topic_sequence) to (body, ts_sub)."""
        self.asked = False
        self.stuck = False
        """The last replay brought nothing new: wait for the next poll before asking again."""
        self.behind = 0
        """The last topic_sequence named by the previous poll, if above ours."""


class Inbox:
    """The state of all topics of one subscriber."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        held_frames: int = 1024,
        replays: int = 32,
        poll_s: float = 1.0,
        silent_s: float = 3.0,
    ) -> None:
        """
        Args:
            held_frames: Frames held per topic; beyond, the oldest are dropped and requested.
            replays: Replay requests that may be pending at once.

        """
        self.ready: deque[Received] = deque()
        self.requests: deque[dict[str, Any]] = deque()
        self.subscriptions: deque[str] = deque(wanted.subscriptions())
        self.publisher_epoch = 0
        self.head = 0
        self.chain = 0
        """Generation of the chain; grows when another chain replaces it."""
        self._ahead: dict[str, int] = {}
        self.duplicates = 0
        self.refused = 0
        """Unreadable frames and replies."""
        self._wanted = wanted
        self._held_frames = held_frames
        self._replays = replays
        self._poll_s = poll_s
        self._silent_s = silent_s
        self._topics: dict[bytes, _Followed | None] = {}
        """None for a topic that was received but is not wanted."""
        self._queue: deque[_Followed] = deque()
        self._pending: dict[int, tuple[_Followed, float, bool]] = {}
        """Pending replays by id: topic, time of the request, whether only a book is needed."""
        self._id = 0
        self._poll_id = 0
        self._poll_at = float("-inf")
        self._newest_epoch = 0
        self._former: set[int] = set()
        """Epochs of replaced publishers. Any other epoch is new, even if it is lower: the clock that
        it was taken from may have been set back."""
        self._polling_since: float | None = None
        self._is_silent = False
        for topic in wanted.exact:
            self._meet(topic)

    # -- resuming ----------------------------------------------------------------------

    def resume(self, positions: Iterable[Position], head: int) -> None:
        """
        Go on from where another inbox stood; call it before anything was received.

        A position knows the chain that its facts are of. Where another one took that one's place
        meanwhile, a `ChainReplaced` is handed out, and nothing is joined.
        """
        self.chain = UNKNOWN
        for position in positions:
            self._topics[position.topic.encode()] = _Followed(position)
            self.chain = max(self.chain, position.chain)
            self.publisher_epoch = max(self.publisher_epoch, position.publisher_epoch)
            if self._wanted.needs_subscription(position.topic):
                self.subscriptions.append(position.topic)
        self.head = head

    def positions(self) -> Iterator[Position]:
        """Return the position of every topic."""
        for followed in self._topics.values():
            if followed is not None:
                yield followed.position

    # -- frames ------------------------------------------------------------------------

    def receive(self, topic: bytes, body: bytes, ts_sub: int) -> None:
        """
        Take one frame from the publisher.

        Raises:
            ValueError: If its version is unknown.

        """
        try:
            followed = self._topics[topic]
        except KeyError:
            followed = self._meet(topic.decode("utf-8", "replace"))
        if followed is None:
            return
        if not is_readable(body):
            self._refuse(body)
            return
        header: Header = read_header(body)
        position = followed.position
        if (
            not followed.asked
            and header[0] == position.publisher_epoch
            and header[1] == position.sequence + 1
        ):
            self._deliver(followed, header, body, ts_sub, False)
        else:
            self._hold(followed, header, body, ts_sub)

    def _refuse(self, body: bytes) -> None:
        self.refused += 1
        version = other_version(body)
        if version is not None:
            raise ValueError(f"frame version {version}, but this subscriber reads only {VERSION}")

    def _meet(self, topic: str) -> _Followed | None:
        """Begin to follow a topic, if it is wanted."""
        followed = None
        if self._wanted.matches(topic):
            # What a topic carries that was not there at the last poll is all new.
            followed = _Followed(Position(topic, self.publisher_epoch, 0, self.head))
            followed.position.chain = self.chain
            if self._wanted.needs_subscription(topic):
                self.subscriptions.append(topic)
        self._topics[topic.encode()] = followed
        return followed

    def _deliver(
        self, followed: _Followed, header: Header, body: bytes, ts_sub: int, healed: bool
    ) -> None:
        """Advance the position by one frame and deliver its event if it is new."""
        position = followed.position
        position.sequence = header[1]
        event = decode_event(body)
        if event is None:
            self.refused += 1
            return
        self._admit(position, event, header, ts_sub, healed)
        if position.lacks_book:
            self._ask(followed)

    def _admit(
        self, position: Position, event: Event, header: Header, ts_sub: int, healed: bool
    ) -> None:
        """Deliver an event if it is new, preceded by a `Lost` if facts are missing."""
        verdict = position.admit(event)
        if verdict is False:
            self.duplicates += 1
            return
        if isinstance(verdict, Lost):
            self._lose(position, verdict, ts_sub)
        elif verdict is not True:
            # The other trades of this block were delivered before.
            event = verdict
        self.ready.append(position.hand_out(event, header, ts_sub, healed))

    def _hold(self, followed: _Followed, header: Header, body: bytes, ts_sub: int) -> None:
        position, key = followed.position, (header[0], header[1])
        if self._is_known(position, *key) or key in followed.held:
            self.duplicates += 1
            return
        followed.held[key] = (body, ts_sub)
        if len(followed.held) > self._held_frames:
            del followed.held[next(iter(followed.held))]
        if header[0] not in (self._newest_epoch, self.publisher_epoch):
            self._newest_epoch = header[0]
            self._poll_at = float("-inf")
        self._ask(followed)

    def _is_known(self, position: Position, epoch: int, sequence: int) -> bool:
        """Return whether a frame is behind a position, or from an earlier publisher."""
        if epoch == position.publisher_epoch:
            return sequence <= position.sequence
        return not epoch or epoch in self._former

    def _lose(self, position: Position, lost: Lost, ts_sub: int) -> None:
        header = (position.publisher_epoch, position.sequence, 0, 0, 0, 0, 0)
        self.ready.append(position.hand_out(lost, header, ts_sub, True))

    # -- requests ----------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Queue the requests that are due; call it while no frame waits in the socket."""
        if self._polling_since is not None:
            silent_s = now - self._polling_since
            if silent_s >= self._silent_s and not self._is_silent:
                self._is_silent = True
                self._own(Unanswered(silent_s), self.publisher_epoch, 0)
        if now >= self._poll_at:
            self._poll_at = now + self._poll_s
            self._polling_since = now if self._polling_since is None else self._polling_since
            self._id = self._poll_id = self._id + 1
            prefixes = list(self._wanted.prefixes())
            self.requests.append({"ask": "topics", "id": self._id, "prefixes": prefixes})
        for id_, (followed, asked_at, _) in list(self._pending.items()):
            if now - asked_at >= self._poll_s:
                del self._pending[id_]
                self._queue.append(followed)
        self._request_replays(now)

    def due_s(self, now: float) -> float:
        """Return the seconds until `tick` has something to do."""
        due = self._poll_at
        if self._polling_since is not None and not self._is_silent:
            due = min(due, self._polling_since + self._silent_s)
        return min(self._poll_s, max(0.0, due - now))

    def _ask(self, followed: _Followed) -> None:
        """Queue a replay request, once the aggregator is known."""
        if self.publisher_epoch and not followed.asked and not followed.stuck:
            followed.asked = True
            self._queue.append(followed)

    def _request_replays(self, now: float) -> None:
        while self._queue and len(self._pending) < self._replays:
            followed = self._queue.popleft()
            position = followed.position
            key = (position.publisher_epoch, position.sequence)
            # If no frame is missing, only the book is needed.
            own = [sequence for epoch, sequence in followed.held if epoch == key[0]]
            # Frames of a publisher that ended before it was asked stay held, and follow nothing.
            follows = not own or min(own) == key[1] + 1
            is_current = key[0] == self.publisher_epoch and followed.behind <= key[1]
            whole = position.lacks_book and follows and is_current
            fresh = position.starts_whole and position.fact < 0
            self._id += 1
            self._pending[self._id] = (followed, now, whole and not fresh)
            epoch, after = (0, 0) if whole or fresh else key
            request = {"ask": "replay", "id": self._id, "topic": position.topic}
            self.requests.append(request | {"publisher_epoch": epoch, "after": after})

    # -- replies -----------------------------------------------------------------------

    def reply(self, parts: Sequence[bytes], now: float, ts_sub: int) -> None:
        """Take one reply; replies without a pending request are ignored."""
        try:
            answered = _read_answered(parts[0])
            if answered.error:
                self.refused += 1
            elif answered.id == self._poll_id:
                topics = _read_topics(parts[0])
                self._polled(topics, ts_sub)
            elif answered.id in self._pending:
                replay = _read_replay(parts[0])
                followed, _, only_book = self._pending.pop(answered.id)
                self._replayed(followed, replay, parts[1:], only_book, ts_sub)
        except (*UNREADABLE, IndexError):
            self.refused += 1
        self._request_replays(now)

    def _polled(self, reply: _TopicsReply, ts_sub: int) -> None:
        self._poll_id, self._polling_since = 0, None
        if reply.publisher_epoch in self._former:
            return
        self._meet_chain(reply.chain, reply.publisher_epoch, ts_sub)
        wanted = {t: last for t, last in reply.topics.items() if self._wanted.matches(t)}
        if reply.publisher_epoch != self.publisher_epoch or self._is_silent:
            self._is_silent = False
            joined = Joined(
                reply.publisher_epoch, reply.head, len(wanted), self._wanted.unmatched(wanted)
            )
            self._own(joined, reply.publisher_epoch, ts_sub)
        if not self.publisher_epoch:
            self._join(reply, wanted)
        for topic, last in wanted.items():
            followed = self._topics.get(topic.encode())
            if followed is None:
                followed = self._meet(topic)
                if followed is not None and (last or reply.publisher_epoch != self.publisher_epoch):
                    self._ask(followed)
            else:
                self._compare(followed, reply, last)
        self._remember(reply)

    def _meet_chain(self, chain: int, publisher_epoch: int, ts_sub: int) -> None:
        """Note the chain that the aggregator publishes; deliver a `ChainReplaced` if it is new."""
        if chain <= self.chain:
            return
        if self.publisher_epoch and self.chain != UNKNOWN:
            self._own(ChainReplaced(self.head), publisher_epoch, ts_sub)
            # They belong to the replaced chain.
            self.head, self._ahead = 0, {}
        self.chain = chain

    def _remember(self, reply: _TopicsReply) -> None:
        self._supersede(self.publisher_epoch, reply.publisher_epoch)
        self.publisher_epoch, self.head = reply.publisher_epoch, reply.head
        self._ahead = reply.ahead

    def _supersede(self, former: int, epoch: int) -> None:
        if former and former != epoch:
            self._former.add(former)

    def _join(self, reply: _TopicsReply, wanted: dict[str, int]) -> None:
        """Begin with new frames; book topics with the current book."""
        self._remember(reply)
        for topic in wanted:
            if topic.encode() not in self._topics:
                self._meet(topic)
        for followed in self._topics.values():
            if followed is None:
                continue
            position = followed.position
            position.publisher_epoch = reply.publisher_epoch
            position.chain = reply.chain
            position.complete = position.floor = reply.ahead.get(position.symbol, reply.head)
            position.sequence = wanted.get(position.topic, 0)
            if position.starts_whole:
                self._ask(followed)
            self._release(followed)

    def _compare(self, followed: _Followed, reply: _TopicsReply, last: int) -> None:
        """Compare a topic with the aggregator's last frame; request what is missing."""
        position = followed.position
        followed.stuck = False
        if position.publisher_epoch != reply.publisher_epoch:
            self._ask(followed)
        elif last <= position.sequence:
            followed.behind = 0
            # Use the head of the previous poll: up to this one's, frames may still be on their
            # way to the aggregator.
            head = self._ahead.get(position.symbol, self.head)
            position.complete = max(position.complete, head)
            if position.lacks_book:
                self._ask(followed)
        else:
            # It may be in flight: it counts as missing only if it has not arrived by the next poll.
            if followed.behind > position.sequence or followed.held or position.lacks_book:
                self._ask(followed)
            followed.behind = last

    def _replayed(
        self,
        followed: _Followed,
        reply: _ReplayReply,
        bodies: Sequence[bytes],
        only_book: bool,
        ts_sub: int,
    ) -> None:
        self._meet_chain(reply.chain, reply.publisher_epoch, ts_sub)
        position = followed.position
        before = position.mark()
        if position.chain == UNKNOWN:
            position.chain = reply.chain
        if reply.chain > position.chain:
            self._begin_anew(followed, reply)
            self._replay(followed, bodies, ts_sub)
            followed.position.sequence = max(followed.position.sequence, reply.last)
        elif only_book:
            if reply.publisher_epoch == position.publisher_epoch:
                self._restore(position, bodies, ts_sub)
        elif (
            reply.publisher_epoch == position.publisher_epoch
            or reply.publisher_epoch not in self._former
        ):
            self._supersede(position.publisher_epoch, reply.publisher_epoch)
            if not reply.complete:
                from_height = min(reply.from_height, first_trades(bodies, reply.from_height))
                lost = position.rebase(reply.publisher_epoch, from_height)
                if lost is not None:
                    self._lose(position, lost, ts_sub)
            self._replay(followed, bodies, ts_sub)
            if not reply.complete:
                position.sequence = max(position.sequence, reply.last)
        followed.asked = False
        followed.stuck = followed.position.mark() == before
        self._release(followed)

    def _begin_anew(self, followed: _Followed, reply: _ReplayReply) -> None:
        """Discard a topic's state from a replaced chain."""
        topic, epoch = followed.position.topic, reply.publisher_epoch
        followed.position = Position(topic, epoch, 0, max(0, reply.from_height - 1))
        followed.position.chain = reply.chain
        followed.held = {key: held for key, held in followed.held.items() if key[0] >= epoch}
        followed.behind = 0

    def _replay(self, followed: _Followed, bodies: Sequence[bytes], ts_sub: int) -> None:
        """Deliver a replay's frames; `asked` is set, so that none of them requests another."""
        for body in bodies:
            if is_readable(body):
                self._deliver(followed, read_header(body), body, ts_sub, True)
            else:
                self.refused += 1

    def _restore(self, position: Position, bodies: Sequence[bytes], ts_sub: int) -> None:
        """
        Deliver the whole book as of the last delivered delta.

        The keyframe is older than that; the deltas in between were delivered.
        """
        whole = compose(bodies, position.sequence)
        if whole is not None:
            self._admit(position, whole.event, whole.header, ts_sub, True)

    def _release(self, followed: _Followed) -> None:
        """Deliver the held frames as far as they follow; request a replay if they do not."""
        position, held = followed.position, followed.held
        epoch = position.publisher_epoch
        for key in sorted(held, key=lambda key: (key[0] == epoch, key[1])):
            if self._is_known(position, *key):
                del held[key]
                self.duplicates += 1
            elif key == (epoch, position.sequence + 1) and not followed.asked:
                body, ts_sub = held.pop(key)
                self._deliver(followed, read_header(body), body, ts_sub, False)
        if held or position.lacks_book:
            self._ask(followed)

    def _own(
        self, event: Joined | Unanswered | ChainReplaced, publisher_epoch: int, ts_sub: int
    ) -> None:
        self.ready.append(Received("", "", "", event, publisher_epoch, ts_sub=ts_sub))
