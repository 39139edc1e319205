"""
What a subscriber has received, and what it must request: no I/O, no clock.

Frames, replies and the time come in. Out go events (`ready`), requests to send (`requests`) and
prefixes to subscribe to (`subscriptions`). Each fact is delivered once, in order per topic; a fact
that cannot be delivered is replaced by a `Lost`::

               frame follows            hole, new publisher epoch,
             ┌──────────────┐           or a book without a start
             ▼              │                    │
          FOLLOWING ────────┘                    ▼
             ▲                            HOLDING, replay asked ◄──┐ a later poll is
             │  replay delivered, then           │                 │ answered: asked again
             └────── the frames held ────────────┴─────────────────┘

Only the affected topic holds its frames; the market's other topics continue. Once a second a poll
of all topics detects quiet topics, frames lost at a topic's end, and an aggregator that restarted
or does not answer.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from collector.client.received import ChainReplaced, Joined, Lost, Received, Unanswered
from collector.client.topic_cursor import UNKNOWN, Position
from collector.client.topic_filter import Wanted
from collector.client.topic_requests import (
    FollowedTopic,
    KnownPublisher,
    ReplayReply,
    Requests,
    TopicsReply,
    read_answered,
    read_replay,
    read_topics,
)
from collector.client.whole_book import compose, first_trades
from shards.protocol.errors import UNREADABLE, OtherVersion
from shards.protocol.events import Book, Event
from shards.protocol.frames import (
    VERSION,
    Header,
    decode_event,
    is_readable,
    other_version,
    read_header,
)


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
        history: bool = False,
        beginnings: bool = False,
    ) -> None:
        """
        Args:
            held_frames: Frames held per topic; beyond, the oldest are dropped and requested.
            replays: Replay requests that may be pending at once.
            history: Whether to begin with what the aggregator has kept, instead of with new frames.
            beginnings: Whether to ask where a topic begins that the aggregator has only later: one of
                several cells may have been starting when it was joined.

        """
        self.ready: deque[Received] = deque()
        self.subscriptions: deque[str] = deque(wanted.subscriptions())
        self.duplicates = 0
        self.refused = 0
        """Unreadable frames and replies."""
        self.publisher = KnownPublisher()
        self._wanted = wanted
        self._held_frames = held_frames
        self._with_history = history
        self._with_beginnings = beginnings
        self._is_joined = False
        self._topics: dict[bytes, FollowedTopic | None] = {}
        """None for a topic that was received but is not wanted."""
        self._asking = Requests(poll_s=poll_s, silent_s=silent_s, replays=replays)
        self.requests = self._asking.unsent
        for topic in wanted.exact:
            self._follow(topic)

    # -- resuming ----------------------------------------------------------------------

    def resume(self, positions: Iterable[Position], head: int) -> None:
        """
        Continue from another inbox's positions; call it before the first frame.

        Each position has the generation of its chain. If another chain replaced it meanwhile, a
        `ChainReplaced` is delivered instead of joining.
        """
        publisher = self.publisher
        publisher.chain = UNKNOWN
        for position in positions:
            self._topics[position.topic.encode()] = FollowedTopic(position)
            publisher.chain = max(publisher.chain, position.chain)
            publisher.epoch = max(publisher.epoch, position.publisher_epoch)
            if self._wanted.needs_subscription(position.topic):
                self.subscriptions.append(position.topic)
        publisher.head = head

    def position(self, topic: str) -> Position | None:
        """Return a topic's position; None if it is not followed."""
        followed = self._topics.get(topic.encode())
        return None if followed is None else followed.position

    def is_current(self, position: Position) -> bool:
        """
        Whether a position is not one of the chain before this one.

        A topic keeps that until the publisher has begun it on the new chain, whose heights are lower.
        """
        return position.chain in (UNKNOWN, self.publisher.chain)

    def complete(self, topic: str) -> int:
        """Return the height through which a topic was delivered; -1 if not of the present chain."""
        position = self.position(topic)
        return position.complete if position is not None and self.is_current(position) else -1

    def floor(self, topic: str) -> int | None:
        """Return the height at which a topic begins here; None while that is not known."""
        followed = self._topics.get(topic.encode())
        if followed is None or followed.from_history or followed.is_unbegun:
            return None
        position = followed.position
        return position.floor if position.chain == self.publisher.chain else None

    def awaits_history(self) -> bool:
        """Whether the frames that the aggregator has kept of a topic are still on their way."""
        return any(f is not None and f.from_history for f in self._topics.values())

    def offers(self, topic: str) -> bool:
        """Whether the aggregator had this topic when it last answered."""
        return topic in self.publisher.offered

    def offered(self) -> Iterable[str]:
        """Return the aggregator's topics that are wanted, as of its last answer."""
        return self.publisher.offered.keys()

    def want_book(self, topic: str) -> None:
        """Deliver the whole book once more, as of the last delivered change."""
        followed = self._topics.get(topic.encode())
        if followed is not None and not followed.position.lacks_book:
            followed.position.in_sync = False
            self._ask(followed)

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
            OtherVersion: If its version is unknown.

        """
        try:
            followed = self._topics[topic]
        except KeyError:
            followed = self._follow(topic.decode("utf-8", "replace"))
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
            raise OtherVersion(
                f"frame version {version}, but this subscriber reads only {VERSION}: update this "
                "side, or read another publisher"
            )

    def _follow(self, topic: str) -> FollowedTopic | None:
        """Begin to follow a topic, if it is wanted."""
        followed = None
        if self._wanted.matches(topic):
            # A topic that did not exist at the last poll carries only new facts.
            publisher = self.publisher
            followed = FollowedTopic(Position(topic, publisher.epoch, 0, publisher.head))
            followed.position.chain = publisher.chain
            if self._is_joined and self._with_beginnings:
                followed.await_beginning()
            if self._wanted.needs_subscription(topic):
                self.subscriptions.append(topic)
        self._topics[topic.encode()] = followed
        return followed

    def _deliver(
        self, followed: FollowedTopic, header: Header, body: bytes, ts_sub: int, healed: bool
    ) -> None:
        """Advance the position by one frame and deliver its event if it is new."""
        position = followed.position
        position.sequence = header[1]
        event = decode_event(body)
        if event is None:
            self.refused += 1
            return
        if (
            # The common case: the next change of a book in sync.
            type(event) is Book
            and position.in_sync
            and event.sequence == position.fact + 1
            and not event.is_snapshot
            and event.height >= position.began_at
        ):
            position.fact, position.height = event.sequence, event.height
            position.overlaps, position.linked = False, True
            topic = position.topic, position.channel, position.symbol
            # Positional: keywords take twice as long.
            self.ready.append(Received(*topic, event, *header, ts_sub, healed, "", body))
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

    def _hold(self, followed: FollowedTopic, header: Header, body: bytes, ts_sub: int) -> None:
        position, key = followed.position, (header[0], header[1])
        if self.publisher.is_known(position, *key) or key in followed.held:
            self.duplicates += 1
            return
        if header[0] != self.publisher.epoch:
            self.publisher.frames_of_another += 1
        followed.held[key] = (body, ts_sub)
        if len(followed.held) > self._held_frames:
            del followed.held[next(iter(followed.held))]
        publisher = self.publisher
        if header[0] not in (publisher.newest_epoch, publisher.epoch):
            publisher.newest_epoch = header[0]
            self._asking.poll_soon()
        self._begin(followed)
        self._ask(followed)

    def _lose(self, position: Position, lost: Lost, ts_sub: int) -> None:
        header = (position.publisher_epoch, position.sequence, 0, 0, 0, 0, 0)
        self.ready.append(position.hand_out(lost, header, ts_sub, True))

    # -- requests ----------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Queue the requests that are due; call it while no frame waits in the socket."""
        if silent_s := self._asking.silence(now):
            self._announce(Unanswered(silent_s), self.publisher.epoch, 0)
        self._asking.poll(now, self._wanted.prefixes())
        self._asking.request_replays(self.publisher.epoch)

    def due_s(self, now: float) -> float:
        """Return the seconds until `tick` has something to do."""
        return self._asking.due_s(now)

    def _begin(self, followed: FollowedTopic) -> None:
        """The aggregator has something of a topic: ask from which height on, if that is awaited."""
        if followed.is_unbegun and self._is_joined:
            followed.is_unbegun = followed.asked = False
            followed.from_history = True

    def _ask(self, followed: FollowedTopic) -> None:
        """Queue a replay request, once the aggregator is known."""
        if self.publisher.epoch:
            self._asking.want_replay(followed)

    # -- replies -----------------------------------------------------------------------

    def reply(self, parts: Sequence[bytes], ts_sub: int) -> None:
        """Take one reply; replies without a pending request are ignored."""
        try:
            answered = read_answered(parts[0])
            if answered.error:
                self.refused += 1
            elif self._asking.awaits_poll(answered.id):
                topics = read_topics(parts[0])
                self._asking.polled(answered.id)
                self._polled(topics, ts_sub)
            elif self._asking.awaits(answered.id):
                replay = read_replay(parts[0])
                topic, only_book = self._asking.take(answered.id)
                self._replayed(topic, replay, parts[1:], only_book, ts_sub)
        except (*UNREADABLE, IndexError):
            self.refused += 1
        self._asking.request_replays(self.publisher.epoch)

    def _polled(self, reply: TopicsReply, ts_sub: int) -> None:
        publisher = self.publisher
        if reply.publisher_epoch in publisher.former:
            return
        self._meet_chain(reply.chain, reply.publisher_epoch, ts_sub)
        wanted = {t: last for t, last in reply.topics.items() if self._wanted.matches(t)}
        if reply.publisher_epoch != publisher.epoch or self._asking.is_silent:
            self._asking.is_silent = False
            joined = Joined(
                reply.publisher_epoch, reply.head, len(wanted), self._wanted.unmatched(wanted)
            )
            self._announce(joined, reply.publisher_epoch, ts_sub)
        if not publisher.epoch:
            self._join(reply, wanted)
        publisher.compare_origins(reply.publisher_epoch)
        publisher.offered = wanted
        for topic, last in wanted.items():
            followed = self._topics.get(topic.encode())
            is_new = followed is None
            followed = self._follow(topic) if followed is None else followed
            if followed is None:
                continue
            if followed.is_unbegun:
                self._begin(followed)
                self._ask(followed)
            elif not is_new:
                self._compare(followed, reply, last)
            elif last or reply.publisher_epoch != publisher.epoch:
                self._ask(followed)
        self._compare_others(wanted, reply, ts_sub)
        publisher.remember(reply)

    def _compare_others(self, offered: Mapping[str, int], reply: TopicsReply, ts_sub: int) -> None:
        """Find out about wanted topics that are not offered, or whose channel is not collected."""
        for followed in self._topics.values():
            if followed is None or followed.is_unbegun:
                continue
            topic = followed.position.topic
            if not self._wanted.matches(topic):
                continue
            if not reply.collects(followed.position.channel):
                self._end(followed, offered.get(topic), reply, ts_sub)
            elif topic not in offered:
                self._nothing_of(followed, reply)

    def _nothing_of(self, followed: FollowedTopic, reply: TopicsReply) -> None:
        """Advance a wanted topic that was never published: it lacks nothing."""
        position = followed.position
        if position.sequence or position.is_ended or position.chain != reply.chain:
            # It had frames, so a new aggregator or chain may be about to publish it.
            return
        if position.publisher_epoch == reply.publisher_epoch:
            followed.is_behind(0, reply, self.publisher)
        elif position.fact < 0:
            position.publisher_epoch = reply.publisher_epoch

    def _end(
        self, followed: FollowedTopic, last: int | None, reply: TopicsReply, ts_sub: int
    ) -> None:
        """
        End a topic whose channel is not collected; ``last`` is its last frame, if it is offered.

        The publisher has to say that: a topic that is not offered may be about to begin, at another
        aggregator or on another chain.
        """
        position = followed.position
        if position.is_ended and not followed.held:
            return
        if last is not None:
            # A relay still has what was published before.
            is_current = position.publisher_epoch == reply.publisher_epoch
            is_had = is_current and not followed.from_history
            position.is_ended = is_had and last <= position.sequence
        elif self.publisher.has_advanced(position.symbol, reply):
            lost = followed.end(reply)
            if lost is not None:
                self._lose(followed.position, lost, ts_sub)

    def _meet_chain(self, chain: int, publisher_epoch: int, ts_sub: int) -> None:
        """Note the chain that the aggregator publishes; deliver a `ChainReplaced` if it is new."""
        if chain <= self.publisher.chain:
            return
        former_head = self.publisher.replace_chain(chain)
        if former_head >= 0:
            self._announce(ChainReplaced(former_head), publisher_epoch, ts_sub)

    def _join(self, reply: TopicsReply, wanted: dict[str, int]) -> None:
        """Begin with new frames; book topics with the current book."""
        self.publisher.remember(reply)
        for topic in wanted:
            if topic.encode() not in self._topics:
                self._follow(topic)
        for followed in self._topics.values():
            if followed is None:
                continue
            followed.join(reply)
            position = followed.position
            position.is_ended = position.topic not in wanted and not reply.collects(
                position.channel
            )
            if self._with_beginnings and followed.position.topic not in wanted:
                followed.await_beginning()
                continue
            if self._with_history:
                followed.from_history = True
                self._ask(followed)
                continue
            position = followed.position
            position.sequence = wanted.get(position.topic, 0)
            if position.starts_whole:
                self._ask(followed)
            self._release(followed)
        self._is_joined = True

    def _compare(self, followed: FollowedTopic, reply: TopicsReply, last: int) -> None:
        """Compare a topic with the aggregator's last frame; request what is missing."""
        followed.stuck = False
        is_other = followed.position.publisher_epoch != reply.publisher_epoch
        if is_other or followed.is_behind(last, reply, self.publisher):
            self._ask(followed)

    def _replayed(
        self,
        followed: FollowedTopic,
        reply: ReplayReply,
        bodies: Sequence[bytes],
        only_book: bool,
        ts_sub: int,
    ) -> None:
        self._meet_chain(reply.chain, reply.publisher_epoch, ts_sub)
        position = followed.position
        if position.is_ended and position.topic not in self.publisher.offered:
            # Requested before the publisher said that it does not collect the channel.
            followed.asked = False
            return
        before = position.mark()
        if position.chain == UNKNOWN:
            position.chain = reply.chain
        if reply.chain > position.chain:
            followed.begin_chain(reply.publisher_epoch, reply.chain, reply.from_height)
            self._replay(followed, bodies, ts_sub)
            followed.position.sequence = max(followed.position.sequence, reply.last)
        elif followed.from_history:
            followed.begin_history(reply, bodies)
            self._replay(followed, bodies, ts_sub)
            position.sequence = max(position.sequence, reply.last)
        elif only_book:
            if reply.publisher_epoch == position.publisher_epoch:
                self._restore(position, bodies, ts_sub)
        elif (
            reply.publisher_epoch == position.publisher_epoch
            or reply.publisher_epoch not in self.publisher.former
        ):
            self.publisher.supersede(position.publisher_epoch, reply.publisher_epoch)
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

    def _replay(self, followed: FollowedTopic, bodies: Sequence[bytes], ts_sub: int) -> None:
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
            event = whole.event
            if not position.has_time:
                # Its last change may name only a time, which nothing delivered compares with.
                event = msgspec.structs.replace(event, height=whole.not_before)
            self._admit(position, event, whole.header, ts_sub, True)

    def _release(self, followed: FollowedTopic) -> None:
        """Deliver the held frames as far as they follow; request a replay if they do not."""
        position, held = followed.position, followed.held
        epoch = position.publisher_epoch
        for key in sorted(held, key=lambda key: (key[0] == epoch, key[1])):
            if self.publisher.is_known(position, *key):
                del held[key]
                self.duplicates += 1
            elif key == (epoch, position.sequence + 1) and not followed.asked:
                body, ts_sub = held.pop(key)
                self._deliver(followed, read_header(body), body, ts_sub, False)
        if held or position.lacks_book:
            self._ask(followed)

    def _announce(
        self, event: Joined | Unanswered | ChainReplaced, publisher_epoch: int, ts_sub: int
    ) -> None:
        self.ready.append(Received("", "", "", event, publisher_epoch, ts_sub=ts_sub))
