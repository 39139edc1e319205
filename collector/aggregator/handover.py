"""
How a market moves to another shard without a frame lost or duplicated.

If a market is assigned to a shard other than its owner, both collect it. The new shard joins it,
and its frames are held back here. It becomes the owner as soon as nothing is missing between the
two:

* it is live from height F on, so all of its frames from F on are held here;
* the owner is live, and everything before F is accounted for;
* the owner's book has reached the sequence at which the new shard's book began.

From there the new shard's frames are a contiguous continuation. The held ones are published;
those that the former owner has already published are dropped by height and sequence, as always.
From then on the former owner's frames are refused, and its next assignment removes the market.
Any process may die at any moment: the owner's successor resumes where it was, the new shard's
successor joins again.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from collector.aggregator.ownership import Ownership
from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.shard_sessions import ShardSession
from collector.aggregator.telemetry.journal import Journal
from collector.aggregator.topic_state import Topics, is_later
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
"""Limit per market in handover. Beyond it all held frames are dropped, and the owner itself has
to reach that point."""
Held: TypeAlias = tuple[Record, BatchHeader, int]
"""A frame, its batch, its frame sequence."""


class PendingHandover:
    """A market that its assigned shard collects but does not own yet."""

    __slots__ = ("bytes", "has_joined", "height", "held", "sequence", "shard", "through")

    def __init__(self, shard: int, refused: "Refused | None" = None) -> None:
        self.shard = shard
        self.has_joined = False
        self.held: list[tuple[Record, BatchHeader, int]] = []
        self.bytes = 0
        self.through = refused.height if refused is not None else 0
        """Height that the owner has to reach."""
        self.sequence = refused.sequence if refused is not None else -1
        """Book sequence that the owner has to reach; -1 until the new shard has sent a book."""
        self.height = refused.book_height if refused is not None else 0
        """Height of the newest book frame held."""

    def hold(self, record: Record, header: BatchHeader, sequence: int) -> None:
        """Hold one frame until the new shard owns the market."""
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
    """How far the refused frames of one market and shard go."""

    __slots__ = ("book_height", "height", "sequence")

    def __init__(self) -> None:
        self.height = 0
        self.sequence = -1
        self.book_height = 0

    def add(self, record: Record) -> None:
        """Refuse one more frame."""
        self.height = max(self.height, record.height)
        if record.kind == KIND_BOOK:
            again = began_again(record, self.sequence, self.book_height)
            self.sequence = record.sequence if again else max(self.sequence, record.sequence)
            self.book_height = max(self.book_height, record.height)


def began_again(record: Record, sequence: int, height: int) -> bool:
    """Return whether a snapshot shows that the book's sequence restarted after this one."""
    is_whole = bool(record.flags & SNAPSHOT)
    return is_whole and record.sequence < sequence and record.height > height > 0


class Handover:
    """The markets in handover from one shard to another."""

    def __init__(
        self,
        ownership: Ownership,
        coverage: Coverage,
        topics: Topics,
        sessions: Mapping[int, ShardSession],
        journal: Journal,
    ) -> None:
        self.ownership = ownership
        self.joins: dict[str, PendingHandover] = {}
        """By market id."""
        self.unsaved = False
        """Whether owners have changed since the ledger was saved."""
        self._coverage = coverage
        self._topics = topics
        self._sessions = sessions
        self._journal = journal
        self._refused: dict[tuple[str, int], Refused] = {}
        """By market and shard. If the shard is assigned the market again before it has released it, the
        owner has to reach this point."""

    # ---- what begins and ends one ---------------------------------------------------

    def want(self, markets: Iterable[Market], wanted: Mapping[str, int]) -> None:
        """Take the whole assignment: begin its handovers, give up all others."""
        self.ownership.want(markets, wanted)
        moving = self.ownership.moving()
        for market_id, join in list(self.joins.items()):
            if moving.get(market_id) != join.shard:
                del self.joins[market_id]
                for record, _, _ in join.held:
                    self._refuse(market_id, join.shard, record)
        for market_id, shard in moving.items():
            if market_id not in self.joins:
                self.joins[market_id] = PendingHandover(
                    shard, self._refused.get((market_id, shard))
                )
        self._topics.own_all()

    def fresh(self, shard: int) -> None:
        """A new process has this shard: frames held from its predecessor are void."""
        for market_id, join in self.joins.items():
            if join.shard == shard:
                self.joins[market_id] = PendingHandover(shard)
        for key in [key for key in self._refused if key[1] == shard]:
            del self._refused[key]

    def start_over(self) -> None:
        """The chain was replaced: discard all held frames; the handovers begin again."""
        self.joins = {
            market_id: PendingHandover(join.shard) for market_id, join in self.joins.items()
        }
        self._refused.clear()

    # ---- what the shards send -------------------------------------------------------

    def hold_back(self, market_id: str, record: Record, header: BatchHeader, sequence: int) -> bool:
        """Take a frame from a shard that does not own the market; return whether it may be needed."""
        join = self.joins.get(market_id)
        if join is not None and join.shard == header.shard:
            join.hold(record, header, sequence)
            return True
        self._refuse(market_id, header.shard, record)
        return False

    def _refuse(self, market_id: str, shard: int, record: Record) -> None:
        self._refused.setdefault((market_id, shard), Refused()).add(record)

    def joined(self, report: Report) -> None:
        """Note the height from which all of the new shard's frames are held or will arrive."""
        if not self.joins or not self.ownership.is_current(report.shard, report.assignment):
            # It may still have to release the market, and to join it again.
            return
        markets = self._sessions[report.shard].markets
        for market_id, join in self.joins.items():
            market = markets.get(market_id) if join.shard == report.shard else None
            if market is not None and market.first:
                if not join.has_joined:
                    # After our restart it sends again only what it has kept.
                    join.through = max(join.through, market.first - 1, report.kept_from - 1)
                    join.has_joined = True
                for _, last in market.missing:
                    join.through = max(join.through, last)

    # ---- changing hands -------------------------------------------------------------

    def change_hands(self, report: Report, ts: int) -> Iterator[Held]:
        """
        Complete the handovers that are ready, and end the collection of removed markets.

        Call it when a shard's report is accounted for. Publish each yielded frame before
        requesting the next; ``ts`` is ns since the epoch.
        """
        for market_id in self.ownership.left(report):
            yield from self._end(market_id, self._sessions[report.shard], ts)
        for market_id, join in list(self.joins.items()):
            if self._is_ready(market_id, join):
                yield from self._hand_over(market_id, join, ts)

    def _is_ready(self, market_id: str, join: PendingHandover) -> bool:
        """Return whether a handover is ready, by the accounted reports of both shards."""
        owner = self._sessions.get(self._coverage.owner(market_id))
        newcomer = self._sessions.get(join.shard)
        # The first report after our restart may be older than the frames it counts.
        if not owner or not newcomer or min(owner.accounts, newcomer.accounts) < 2:
            return False
        if not self.ownership.is_current(join.shard, newcomer.assignment):
            return False
        before, after = owner.accounted.get(market_id), newcomer.accounted.get(market_id)
        if before is None or after is None:
            return False
        published = self._topics.book_sequence(market_id)
        # A shard that never released the market sends nothing while the book does not change: its
        # position is unchanged, because all frames made before the report are here.
        began = join.sequence if join.sequence >= 0 else after.sequence
        return (
            (before.state, after.state) == ("live", "live")
            and join.has_joined
            and join.through <= self._coverage.states[market_id].last
            and (not published or 0 <= began <= published)
        )

    def _hand_over(self, market_id: str, join: PendingHandover, ts: int) -> Iterator[Held]:
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
        row = newcomer.markets.get(market_id)
        if newcomer.report is not None and row is not None:
            report = msgspec.structs.replace(newcomer.report, markets=[row])
            coverage.report(report, coverage.reported_at(join.shard))
            newcomer.account_again(market_id)
        self._journal.note(
            "move",
            f"shard {former} → shard {join.shard}",
            ts=ts,
            shard=join.shard,
            symbol=coverage.symbol(market_id),
        )

    def _is_stale(self, record: Record) -> bool:
        """Return whether the published frames already include this book or change."""
        topic = self._topics.by_name.get(record.topic)
        if record.kind != KIND_BOOK or topic is None:
            return False
        if 0 < record.height < topic.height:
            # By sequence it may seem new, if the sequence restarted since.
            return True
        is_known = bool(record.flags & SNAPSHOT) and record.sequence <= topic.sequence
        return is_known and not (record.sequence < topic.sequence and is_later(topic, record))

    def _end(self, market_id: str, session: ShardSession, ts: int) -> Iterator[Held]:
        """Announce that no more blocks follow: a gap, which stays open until the market is back."""
        state = self._coverage.states[market_id]
        if state.first:
            gap = state.ended(ts)
            header = BatchHeader(
                frames.VERSION, state.shard, session.epoch, 0, session.frame_sequence, gap.ts, False
            )
            yield gap_record(self._coverage.symbol(market_id), gap), header, session.frame_sequence
        self.ownership.end(market_id)
        self._topics.own(market_id)
        self.unsaved = True

    def unsettled(self) -> list[str]:
        """Return the markets that are not on their assigned shard yet, or have not joined."""
        return [*self.joins, *self.ownership.leaving, *self.ownership.not_live()]


def gap_record(symbol: str, gap: Gap) -> Record:
    """Make the record of a gap that the aggregator itself announces."""
    name, event = frames.topic("gap", symbol), frames.encode(gap)
    return Record(name, KIND_GAP, LATE, gap.first, gap.gap_id, 1, 0, gap.ts, event)
