"""
A subscriber's requests to its aggregator, and what it knows about it: no I/O, no clock.

Once a second it polls the last sequence of every topic. A topic that lacks frames, or a whole book,
requests a replay. Only a few replays are pending at once. Answers come in the order of the requests,
so a replay is lost, and requested again, only if a later poll was answered and it was not: on a slow
line answers may take many seconds, and asking for them meanwhile would make it slower still.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from collector.client.received import Lost
from collector.client.topic_cursor import UNKNOWN, Position
from collector.client.whole_book import first_trades

_SPLIT_POLLS: Final = 5
"""Polls, one a second: an aggregator that was replaced answers the next one."""
_POLLS: Final = 256
"""Polls whose answers are still taken: one that took longer than so many seconds tells too little."""


class TopicsReply(msgspec.Struct):
    """The answer to a poll."""

    publisher_epoch: int
    head: int
    topics: dict[str, int]
    ahead: dict[str, int] = {}
    """By symbol, for markets that are ahead of the head, which another market holds back."""
    chain: int = 0
    chain_id: str = ""
    """The network's id; empty where the collector does not know it yet."""
    relays: list[int] = []
    """Epochs of the relays that the frames have passed, the last one first."""
    channels: list[str] = []
    """What is collected; empty from publishers that do not say it."""

    def head_of(self, symbol: str) -> int:
        """Return the height through which everything published of a market is complete."""
        return self.ahead.get(symbol, self.head)

    def collects(self, channel: str) -> bool:
        """Whether a channel is collected, as far as the publisher says it."""
        return not self.channels or channel in self.channels


class ReplayReply(msgspec.Struct):
    """The first part of an answer to a replay request; the frames' bodies follow."""

    publisher_epoch: int
    complete: bool
    last: int
    from_height: int
    chain: int = 0


class Answered(msgspec.Struct):
    """The fields of every answer."""

    id: int
    error: str = ""


read_answered: Final = msgspec.msgpack.Decoder(Answered).decode
read_topics: Final = msgspec.msgpack.Decoder(TopicsReply).decode
read_replay: Final = msgspec.msgpack.Decoder(ReplayReply).decode


class FollowedTopic:
    """A topic's position, its held frames, and its pending request."""

    __slots__ = ("asked", "behind", "from_history", "held", "is_unbegun", "position", "stuck")

    def __init__(self, position: Position) -> None:
        self.position = position
        self.held: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(publisher_epoch, topic_sequence) to (body, ts_sub)."""
        self.asked = False
        self.stuck = False
        """The last replay brought nothing new: wait for the next poll before asking again."""
        self.behind = 0
        """The last topic_sequence named by the previous poll, if above ours."""
        self.from_history = False
        """Whether everything that the publisher has kept is wanted, and not requested yet."""
        self.is_unbegun = False
        """Whether the publisher had nothing of it when it was joined, and has nothing yet."""

    def join(self, reply: TopicsReply) -> None:
        """Begin with the frames after an answer to a poll."""
        position = self.position
        position.publisher_epoch = reply.publisher_epoch
        position.chain = reply.chain
        position.complete = position.floor = reply.head_of(position.symbol)

    def await_beginning(self) -> None:
        """Hold its frames until `from_history` has told from which height on the publisher has it."""
        self.is_unbegun = self.asked = True
        self.position.complete = self.position.floor = UNKNOWN

    def is_behind(self, last: int, reply: TopicsReply, publisher: "KnownPublisher") -> bool:
        """Compare the position with the last published frame; return whether a replay is needed."""
        position = self.position
        if last <= position.sequence:
            self.behind = 0
            if position.is_ended and not reply.collects(position.channel):
                return False
            # A publisher's first answer may name a head that it took over from another: shards
            # may still send it frames below that head.
            known = reply if reply.publisher_epoch == publisher.epoch else publisher
            head = known.ahead.get(position.symbol, known.head)
            position.complete = max(position.complete, head)
            position.is_ended = False
            return position.lacks_book
        # It may be in flight: it counts as missing only if it has not arrived by the next poll.
        is_missing = self.behind > position.sequence or bool(self.held) or position.lacks_book
        self.behind = last
        return is_missing

    def replay_request(self, publisher_epoch: int) -> tuple[dict[str, Any], bool]:
        """Return a request for what is missing, and whether only the whole book is."""
        position = self.position
        epoch, sequence = position.publisher_epoch, position.sequence
        own = [held for of_epoch, held in self.held if of_epoch == epoch]
        # Frames of a publisher that ended before it was asked stay held, but do not count here.
        follows = not own or min(own) == sequence + 1
        is_current = epoch == publisher_epoch and self.behind <= sequence
        whole = position.lacks_book and follows and is_current and not self.from_history
        fresh = position.starts_whole and position.fact < 0 and not self.from_history
        if whole or fresh:
            epoch = sequence = 0
        request = {"topic": position.topic, "publisher_epoch": epoch, "after": sequence}
        return request, whole and not fresh

    def begin_history(self, reply: ReplayReply, bodies: Sequence[bytes]) -> None:
        """Begin with everything that the publisher has kept; older facts are not wanted."""
        position, self.from_history = self.position, False
        position.publisher_epoch, position.sequence = reply.publisher_epoch, 0
        position.floor = max(0, min(reply.from_height, first_trades(bodies, reply.from_height)) - 1)
        position.complete = max(position.complete, position.floor)

    def begin_chain(self, publisher_epoch: int, chain: int, from_height: int) -> None:
        """Discard what belongs to a replaced chain, and begin with another one at a height."""
        complete = max(0, from_height - 1)
        self.position = Position(self.position.topic, publisher_epoch, 0, complete)
        self.position.chain = chain
        self.from_history = False
        self.held = {key: held for key, held in self.held.items() if key[0] == publisher_epoch}
        self.behind = 0

    def end(self, reply: TopicsReply) -> Lost | None:
        """
        Take over a publisher that does not collect this channel; another one did.

        Returns:
            What may have been published after our last fact, until the channel ended.

        """
        position, head = self.position, reply.head_of(self.position.symbol)
        self.held.clear()
        self.behind = 0
        if reply.chain > position.chain != UNKNOWN:
            self.begin_chain(reply.publisher_epoch, reply.chain, head + 1)
            self.position.is_ended = True
            return None
        position.chain = reply.chain
        return position.end(reply.publisher_epoch, head)


class KnownPublisher:
    """The aggregator that publishes, as of its last answer, and those that it replaced."""

    def __init__(self) -> None:
        self.epoch = 0
        self.head = 0
        self.ahead: dict[str, int] = {}
        self.offered: dict[str, int] = {}
        """Its topics that are wanted, with the last topic_sequence of each."""
        self.chain = 0
        """Generation of the chain; grows when another chain replaces it."""
        self.chain_id = ""
        """The network's id; empty while it is not known."""
        self.relays: list[int] = []
        """Epochs of the relays that its frames have passed."""
        self.channels: frozenset[str] = frozenset()
        """What it collects; empty while it has not said it."""
        self.first: TopicsReply | None = None
        """Its first answer: that may name the heights of its predecessor."""
        self.former: set[int] = set()
        """Epochs of replaced publishers. Any other epoch is new, even if it is lower: the clock that
        it was taken from may have been set back."""
        self.newest_epoch = 0
        """The last unknown epoch named by a frame."""
        self.frames_of_another = 0
        """Frames since the last answer that are not of the publisher that answers."""
        self.split_polls = 0
        """Consecutive answers between which such frames came."""

    def remember(self, reply: TopicsReply) -> None:
        """Note the answer to a poll."""
        if self.first is None or self.first.publisher_epoch != reply.publisher_epoch:
            self.first = reply
        self.channels = frozenset(reply.channels)
        self.supersede(self.epoch, reply.publisher_epoch)
        self.epoch, self.head, self.ahead = reply.publisher_epoch, reply.head, reply.ahead
        self.chain_id, self.relays = reply.chain_id or self.chain_id, reply.relays

    def has_advanced(self, symbol: str, reply: TopicsReply) -> bool:
        """Whether an answer's height of a market is the publisher's own, and not its predecessor's."""
        first = self.first
        if first is None or first.publisher_epoch != reply.publisher_epoch:
            return False
        return reply.head_of(symbol) > first.head_of(symbol)

    def compare_origins(self, answers: int) -> None:
        """Compare who answered a poll with who published the frames before it."""
        is_other = self.frames_of_another > 0 and answers == self.epoch
        self.split_polls = self.split_polls + 1 if is_other else 0
        self.frames_of_another = 0

    @property
    def is_split(self) -> bool:
        """Whether one collector publishes and another answers."""
        return self.split_polls >= _SPLIT_POLLS

    def supersede(self, former: int, epoch: int) -> None:
        """Note that one publisher replaced another."""
        if former and former != epoch:
            self.former.add(former)

    def replace_chain(self, chain: int) -> int:
        """Continue with another chain; return the head of the replaced one, or -1 without one."""
        former = self.head if self.epoch and self.chain != UNKNOWN else -1
        if former >= 0:
            # They belong to the replaced chain.
            self.head, self.ahead, self.chain_id = 0, {}, ""
        self.chain = chain
        return former

    def is_known(self, position: Position, epoch: int, sequence: int) -> bool:
        """Return whether a frame is behind a position, or from an earlier publisher."""
        if epoch == position.publisher_epoch:
            return sequence <= position.sequence
        return not epoch or epoch in self.former


class Requests:
    """The requests of one subscriber: one poll, and some replays."""

    def __init__(self, *, poll_s: float, silent_s: float, replays: int) -> None:
        """``replays`` requests may be pending at once."""
        self.unsent: deque[dict[str, Any]] = deque()
        self._poll_s = poll_s
        self._silent_s = silent_s
        self._replays = replays
        self._queue: deque[FollowedTopic] = deque()
        """Topics that need a replay."""
        self._pending: dict[int, tuple[FollowedTopic, bool]] = {}
        """Pending replays by id: topic, whether only a book is needed."""
        self._id = 0
        self._polls: deque[int] = deque(maxlen=_POLLS)
        """Ids of the polls without an answer, oldest first."""
        self._poll_at = float("-inf")
        self._unheard_since: float | None = None
        """When the first poll after the last answer was made; None before that."""
        self.is_silent = False
        """Whether the aggregator has not answered for too long."""

    def poll(self, now: float, prefixes: tuple[str, ...]) -> None:
        """Queue a poll if one is due."""
        if now >= self._poll_at:
            self._poll_at = now + self._poll_s
            self._unheard_since = now if self._unheard_since is None else self._unheard_since
            self._id += 1
            self._polls.append(self._id)
            self.unsent.append({"ask": "topics", "id": self._id, "prefixes": list(prefixes)})

    def poll_soon(self) -> None:
        """Make a poll due."""
        self._poll_at = float("-inf")

    def awaits_poll(self, id_: int) -> bool:
        """Whether a poll with this id is pending."""
        return id_ in self._polls

    def polled(self, id_: int) -> None:
        """A poll was answered: what was requested before it and is still pending was lost."""
        self._unheard_since = None
        while self._polls and self._polls[0] <= id_:
            self._polls.popleft()
        for lost in [pending for pending in self._pending if pending < id_]:
            topic, _ = self._pending.pop(lost)
            self._queue.append(topic)

    def silence(self, now: float) -> float:
        """Return the seconds without an answer, once they become too many; otherwise 0."""
        if self._unheard_since is None or self.is_silent:
            return 0.0
        silent_s = now - self._unheard_since
        self.is_silent = silent_s >= self._silent_s
        return silent_s if self.is_silent else 0.0

    def due_s(self, now: float) -> float:
        """Return the seconds until a poll is due, or silence becomes too long."""
        due = self._poll_at
        if self._unheard_since is not None and not self.is_silent:
            due = min(due, self._unheard_since + self._silent_s)
        return min(self._poll_s, max(0.0, due - now))

    def want_replay(self, topic: FollowedTopic) -> None:
        """Queue a replay of a topic, unless one is pending."""
        if not topic.asked and not topic.stuck:
            topic.asked = True
            self._queue.append(topic)

    def request_replays(self, publisher_epoch: int) -> None:
        """Turn queued topics into requests, as many as may be pending."""
        while self._queue and len(self._pending) < self._replays:
            topic = self._queue.popleft()
            request, only_book = topic.replay_request(publisher_epoch)
            self._id += 1
            self._pending[self._id] = (topic, only_book)
            self.unsent.append({"ask": "replay", "id": self._id} | request)

    def awaits(self, id_: int) -> bool:
        """Whether a replay with this id is pending."""
        return id_ in self._pending

    def take(self, id_: int) -> tuple[FollowedTopic, bool]:
        """Return the topic of a pending replay, and whether it is only for the whole book."""
        self._unheard_since = None
        return self._pending.pop(id_)
