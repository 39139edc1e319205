"""
How a market changes hands without a frame lost or doubled.

A market that is wanted of another shard than its owner is collected by both: the wanted shard
joins it, and what it sends is held back here. It becomes the owner as soon as nothing is
missing between the two:

* it is live, from height F on, so all of its frames from F on are held here;
* the owner is live, and everything before F is accounted for;
* the owner's book has reached the sequence at which the newcomer's began.

From there the newcomer's frames are a contiguous continuation. Those held are published, and
what the former owner has published of them is dropped by height and sequence as ever. The
former owner's frames are refused from then on, and its next assignment takes the market away.
Any process may die at any instant of this: the owner's successor takes up where it was, the
newcomer's joins again.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from collector.aggregator.ownership import Ownership
from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.shard_sessions import ShardSession
from collector.aggregator.telemetry.journal import Journal
from collector.aggregator.topic_state import Topics
from shards.protocol import frames
from shards.protocol.control import Report
from shards.protocol.events import Gap
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    LATE,
    SNAPSHOT,
    BatchHeader,
    Record,
)
from shards.protocol.settings import Market

_HELD_BYTES: Final = 4 << 20
"""Of one market, on its way to another shard. Beyond, all that is held is dropped, and the
owner has to come that far itself."""

Held: TypeAlias = tuple[Record, BatchHeader, int]
"""A frame, its batch, its frame sequence."""


class Join:
    """A market that its wanted shard has, but does not own yet."""

    __slots__ = ("bytes", "has_joined", "height", "held", "sequence", "shard", "through")

    def __init__(self, shard: int, refused: "Refused | None" = None) -> None:
        self.shard = shard
        self.has_joined = False
        self.held: list[tuple[Record, BatchHeader, int]] = []
        self.bytes = 0
        self.through = refused.height if refused is not None else 0
        """Height that the owner has to reach."""
        self.sequence = refused.sequence if refused is not None else -1
        """The same of the book; -1 while nothing of the newcomer's book is here."""
        self.height = refused.book_height if refused is not None else 0
        """Of the newest book frame held."""

    def hold(self, record: Record, header: BatchHeader, sequence: int) -> None:
        """Keep one frame for the moment when the newcomer owns the market."""
        if record.kind == KIND_BOOK:
            if record.flags & SNAPSHOT:
                # A snapshot hides the changes before it, so the owner must reach its sequence.
                if began_again(record, self.sequence, self.height):
                    self.sequence = record.sequence
                elif not record.flags & KEYFRAME or self.sequence < 0:
                    self.sequence = max(self.sequence, record.sequence)
            elif self.sequence < 0:
                self.sequence = record.sequence - 1
            self.height = max(self.height, record.height)
        self.held.append((record, header, sequence))
        self.bytes += len(record.event)
        if self.bytes > _HELD_BYTES:
            refused = Refused()
            refused.sequence = self.sequence
            for lost, _, _ in self.held:
                refused.add(lost)
            self.through = max(self.through, refused.height)
            self.sequence = refused.sequence
            self.held.clear()
            self.bytes = 0


class Refused:
    """How far the frames of one market go that a shard has sent in vain."""

    __slots__ = ("book_height", "height", "sequence")

    def __init__(self) -> None:
        self.height = 0
        self.sequence = -1
        self.book_height = 0

    def add(self, record: Record) -> None:
        """Refuse one more."""
        self.height = max(self.height, record.height)
        if record.kind == KIND_BOOK:
            again = began_again(record, self.sequence, self.book_height)
            self.sequence = record.sequence if again else max(self.sequence, record.sequence)
            self.book_height = max(self.book_height, record.height)


def began_again(record: Record, sequence: int, height: int) -> bool:
    """Say whether a whole book shows that its sequence began again after this one."""
    is_whole = bool(record.flags & SNAPSHOT)
    return is_whole and record.sequence < sequence and record.height > height > 0


class Handover:
    """The markets on their way from one shard to another."""

    def __init__(
        self,
        ownership: Ownership,
        coverage: Coverage,
        topics: Topics,
        sessions: Mapping[int, ShardSession],
        journal: Journal,
    ) -> None:
        self.ownership = ownership
        self.joins: dict[str, Join] = {}
        """By market id."""
        self.unsaved = False
        """Whether owners changed since the ledger was saved."""
        self._coverage = coverage
        self._topics = topics
        self._sessions = sessions
        self._journal = journal
        self._refused: dict[tuple[str, int], Refused] = {}
        """By market and shard. Should the shard be wanted again before it has let go, then the
        owner has to come as far as this."""

    # ---- what begins and ends one ---------------------------------------------------

    def want(self, markets: Iterable[Market], wanted: Mapping[str, int]) -> None:
        """Take the whole assignment: begin the handovers that it asks for, give up the others."""
        self.ownership.want(markets, wanted)
        moving = self.ownership.moving()
        for market_id, join in list(self.joins.items()):
            if moving.get(market_id) != join.shard:
                del self.joins[market_id]
                for record, _, _ in join.held:
                    self._refuse(market_id, join.shard, record)
        for market_id, shard in moving.items():
            if market_id not in self.joins:
                self.joins[market_id] = Join(shard, self._refused.get((market_id, shard)))
        self._topics.own_all()

    def fresh(self, shard: int) -> None:
        """A new process has this shard: what its former one sent of its joins is worth nothing."""
        for market_id, join in self.joins.items():
            if join.shard == shard:
                self.joins[market_id] = Join(shard)
        for key in [key for key in self._refused if key[1] == shard]:
            del self._refused[key]

    def begin_anew(self) -> None:
        """Another chain: what is held of joins is worth nothing, they begin again."""
        self.joins = {market_id: Join(join.shard) for market_id, join in self.joins.items()}
        self._refused.clear()

    # ---- what the shards send -------------------------------------------------------

    def hold_back(self, market_id: str, record: Record, header: BatchHeader, sequence: int) -> bool:
        """Take a frame of a shard that does not own the market; say whether it may be needed."""
        join = self.joins.get(market_id)
        if join is not None and join.shard == header.shard:
            join.hold(record, header, sequence)
            return True
        self._refuse(market_id, header.shard, record)
        return False

    def _refuse(self, market_id: str, shard: int, record: Record) -> None:
        self._refused.setdefault((market_id, shard), Refused()).add(record)

    def joined(self, report: Report) -> None:
        """Note from which height on everything of a newcomer's market is here or will come."""
        if not self.joins or not self.ownership.is_current(report.shard, report.assignment):
            # It may still have to let go of what it has, and to join again.
            return
        for market in report.markets:
            join = self.joins.get(market.market_id)
            if join is not None and join.shard == report.shard and market.first:
                if not join.has_joined:
                    # After a restart of ours it sends again what it has kept, no more.
                    join.through = max(join.through, market.first - 1, report.kept_from - 1)
                    join.has_joined = True
                for _, last in market.missing:
                    join.through = max(join.through, last)

    # ---- changing hands -------------------------------------------------------------

    def change_hands(self, report: Report, ts: int) -> Iterator[Held]:
        """
        Hand over what is ready for it, and end what is collected no more.

        Called when a shard's report is accounted for. Each frame that is yielded has to be
        published before the next one is asked for; ``ts`` is ns since 1970.
        """
        for market_id in self.ownership.left(report):
            yield from self._end(market_id, self._sessions[report.shard], ts)
        for market_id, join in list(self.joins.items()):
            if self._is_ready(market_id, join):
                yield from self._hand_over(market_id, join, ts)

    def _is_ready(self, market_id: str, join: Join) -> bool:
        """Say whether a market can change hands, by the accounted reports of both shards."""
        owner = self._sessions.get(self._coverage.owner(market_id))
        newcomer = self._sessions.get(join.shard)
        # The first report after a restart of ours may be older than the frames it counts.
        if not owner or not newcomer or min(owner.accounts, newcomer.accounts) < 2:
            return False
        if not self.ownership.is_current(join.shard, newcomer.assignment):
            return False
        before, after = owner.accounted.get(market_id), newcomer.accounted.get(market_id)
        if before is None or after is None:
            return False
        published = self._topics.book_sequence(market_id)
        # A shard that never let go sends nothing of a book that does not change: it stands
        # where it stood, for all frames made before the report are here.
        began = join.sequence if join.sequence >= 0 else after.sequence
        return (
            (before.state, after.state) == ("live", "live")
            and join.has_joined
            and join.through <= self._coverage.states[market_id].last
            and (not published or 0 <= began <= published)
        )

    def _hand_over(self, market_id: str, join: Join, ts: int) -> Iterator[Held]:
        coverage, newcomer = self._coverage, self._sessions[join.shard]
        former = coverage.owner(market_id)
        del self.joins[market_id]
        coverage.hand_over(market_id, join.shard, newcomer.epoch)
        self.ownership.assign(former)
        self._topics.own(market_id)
        self.unsaved = True
        for held in join.held:
            if not self._is_stale(held[0]):
                yield held
        if newcomer.report is not None:
            coverage.report(newcomer.report, coverage.reported_at(join.shard))
        self._journal.note(
            "move",
            f"shard {former} → shard {join.shard}",
            ts=ts,
            shard=join.shard,
            symbol=coverage.symbol(market_id),
        )

    def _is_stale(self, record: Record) -> bool:
        """Say whether this is a whole book that what was published includes already."""
        if record.kind != KIND_BOOK or not record.flags & SNAPSHOT:
            return False
        topic = self._topics.by_name.get(record.topic)
        return topic is not None and record.sequence <= topic.sequence

    def _end(self, market_id: str, session: ShardSession, ts: int) -> Iterator[Held]:
        """Announce that no later block comes: a gap, which stays open until the market is back."""
        state = self._coverage.states[market_id]
        if state.first:
            ts = max(ts, state.gaps.newest + 1)
            first, detail = state.last + 1, "not collected any more"
            gap = Gap(market_id, ts, "open", "removed", first, 0, ts, detail)
            name = frames.topic("gap", self._coverage.symbol(market_id))
            event = frames.encode(gap)
            header = BatchHeader(
                frames.VERSION, state.shard, session.epoch, 0, session.frame_sequence, ts, False
            )
            record = Record(name, KIND_GAP, LATE, first, ts, 1, 0, ts, event)
            yield record, header, session.frame_sequence
        self.ownership.end(market_id)
        self._topics.own(market_id)
        self.unsaved = True

    def unsettled(self) -> list[str]:
        """Return the markets that are not where they are wanted yet, or have not joined."""
        return [*self.joins, *self.ownership.leaving, *self.ownership.not_live()]
