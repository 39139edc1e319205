"""
Who owns each market, and how it changes hands without a frame lost or doubled.

The coordinator says which shard is *wanted* for each market. A market whose owner is another
one is collected by both: the wanted shard joins it, and what it sends is held back here. It
becomes the owner as soon as nothing is missing between the two:

* it is live, from height F on, so all of its frames from F on are held here;
* the owner is live, and everything before F is accounted for;
* the owner's book has reached the sequence at which the newcomer's began.

From there the newcomer's frames are a contiguous continuation: those held are let through,
what the former owner has published of them is dropped by height and sequence as ever, and
the former owner is heard no more and told to let the market go. Any process may die at any
instant of this: the owner's successor takes up where it was, the newcomer's joins anew.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from collector.aggregator.state.coverage import UNOWNED, Coverage
from shards.protocol.control import Assignment, MarketReport, Report, ResumePoint
from shards.protocol.frames import KEYFRAME, KIND_BOOK, SNAPSHOT, BatchHeader, Record
from shards.protocol.settings import Market

_HELD_BYTES: Final = 4 << 20
"""Of one market, on its way to another shard. Beyond, all that is held is let go, and the
owner has to come that far itself."""


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
                # Nobody can say from a whole book what led to it: the owner has to say that.
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


class Ownership:
    """The owners of all markets, kept in the coverage's states, and where they are to go."""

    def __init__(self, coverage: Coverage, *, version: int, resume_within: int) -> None:
        """
        Args:
            version: Greater than that of any assignment given out before.
            resume_within: Blocks after which a market that comes back begins anew.

        """
        self._coverage = coverage
        self._version = version
        self._resume_within = resume_within
        self._assignments: dict[int, Assignment] = {}
        self._markets: dict[str, Market] = {}
        self.wanted: dict[str, int] = {}
        self.joins: dict[str, Join] = {}
        self.arriving: set[str] = set()
        """Markets that were given to a shard while running and have not become live since."""
        self.leaving: set[str] = set()
        """Markets that nobody wants any more, and whose owner has not let go yet."""
        self._refused: dict[tuple[str, int], Refused] = {}
        """By market and shard. Should the shard be wanted again before it has let go, then the
        owner has to come as far as this."""

    # ---- what the coordinator wants -------------------------------------------------

    def want(self, markets: Iterable[Market], wanted: Mapping[str, int]) -> None:
        """
        Take the whole assignment; markets without a shard are known, but not collected.
        """
        coverage = self._coverage
        self._markets = {market.market_id: market for market in markets}
        self.wanted = {m: shard for m, shard in wanted.items() if m in self._markets}
        for market in self._markets.values():
            coverage.add(market)
        for market_id, state in list(coverage.states.items()):
            self._want(market_id, self.wanted.get(market_id, -1), state.shard)
        owners = {state.shard for state in coverage.states.values() if state.shard >= 0}
        for shard in {*self._assignments, *self.wanted.values(), *owners}:
            self._assign(shard)

    def _want(self, market_id: str, shard: int, owner: int) -> None:
        self.leaving.discard(market_id)
        join = self.joins.get(market_id)
        if join is not None and (shard != join.shard or shard == owner):
            del self.joins[market_id]
            for record, _, _ in join.held:
                self.refuse(market_id, join.shard, record)
        if shard < 0 and owner >= 0:
            self.leaving.add(market_id)
        elif shard < 0:
            self._forget(market_id)
        elif owner < 0:
            self._coverage.own(market_id, shard, within=self._resume_within)
            self.arriving.add(market_id)
        elif shard != owner and market_id not in self.joins:
            self.joins[market_id] = Join(shard, self._refused.get((market_id, shard)))

    def _forget(self, market_id: str) -> None:
        """Nobody collects it; if it is not even listed any more, it need not be shown."""
        self._coverage.disown(market_id)
        if market_id not in self._markets:
            self._coverage.remove(market_id)

    # ---- what a shard is told -------------------------------------------------------

    def _assign(self, shard: int) -> None:
        """Note what a shard has to collect: what it owns, and what it is wanted for."""
        states = self._coverage.states
        markets = [
            self._markets[market_id]
            for market_id, wanted in self.wanted.items()
            if shard in (wanted, states[market_id].shard)
        ]
        before = self._assignments.get(shard)
        if before is None or before.markets != markets:
            self._version += 1
            self._assignments[shard] = Assignment(self._version, markets)

    def assignment(self, report: Report) -> Assignment | None:
        """Return what a shard has to collect, if its report does not say that it does."""
        assignment = self._assignments.get(report.shard)
        if assignment is None or (assignment.version == report.assignment and not report.fresh):
            return None
        return assignment

    def resume_points(self, shard: int, *, again: int = 0) -> dict[str, ResumePoint]:
        """Say where a shard takes up the markets that it owns."""
        states = self._coverage.states
        owned = [
            market_id for market_id, state in states.items() if state.shard in (shard, UNOWNED)
        ]
        return self._coverage.resume_points(owned, again=again)

    # ---- what a shard says ----------------------------------------------------------

    def fresh(self, shard: int) -> None:
        """A new process has this shard: what its former one sent of its joins is worth nothing."""
        for market_id, join in self.joins.items():
            if join.shard == shard:
                self.joins[market_id] = Join(shard)
        for key in [key for key in self._refused if key[1] == shard]:
            del self._refused[key]

    def refuse(self, market_id: str, shard: int, record: Record) -> None:
        """Take note of a frame that is not wanted from this shard."""
        self._refused.setdefault((market_id, shard), Refused()).add(record)

    def joined(self, report: Report) -> None:
        """Note from which height on everything of a newcomer's market is here or will come."""
        if not self.joins or not self.is_current(report.shard, report.assignment):
            # It may still have to let go of what it has, and to join anew.
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

    def is_current(self, shard: int, version: int) -> bool:
        """Say whether a shard that reports this version has carried out its assignment."""
        assignment = self._assignments.get(shard)
        return assignment is not None and assignment.version == version

    def ready(
        self, market_id: str, owner: MarketReport, newcomer: MarketReport, sequence: int
    ) -> bool:
        """
        Say whether a joining market can change hands, by the accounted reports of both shards.

        ``sequence`` is that of the published book, 0 where none was.
        """
        join = self.joins[market_id]
        # A shard that never let go says nothing of a book that does not change: it stands
        # where it stood, for all frames made before the report are here.
        began = join.sequence if join.sequence >= 0 else newcomer.sequence
        return (
            (owner.state, newcomer.state) == ("live", "live")
            and join.has_joined
            and join.through <= self._coverage.states[market_id].last
            and (not sequence or 0 <= began <= sequence)
        )

    def hand_over(self, market_id: str, epoch: int) -> Join:
        """Make the newcomer the owner; return what is held of it, to be let through."""
        join = self.joins.pop(market_id)
        former = self._coverage.states[market_id].shard
        self._coverage.hand_over(market_id, join.shard, epoch)
        self._assign(former)
        return join

    def left(self, report: Report) -> list[str]:
        """Return the markets that this report shows to be let go; they are nobody's now."""
        if not self.leaving or not self.is_current(report.shard, report.assignment):
            return []
        states = self._coverage.states
        return [market_id for market_id in self.leaving if states[market_id].shard == report.shard]

    def end(self, market_id: str) -> None:
        """Nobody collects this market any more."""
        self.leaving.discard(market_id)
        self._forget(market_id)

    def stop(self, shard: int) -> None:
        """This shard is gone for good."""
        self._assignments.pop(shard, None)

    def begin_anew(self) -> None:
        """Another chain: what is held of joins is worth nothing, they begin again."""
        self.joins = {market_id: Join(join.shard) for market_id, join in self.joins.items()}
        self._refused.clear()

    # ---- what is known --------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """Return the markets that are not where they are wanted yet, or have not joined."""
        states = self._coverage.states
        self.arriving = {
            market_id
            for market_id in self.arriving & self.wanted.keys()
            if states[market_id].state not in ("live", "failed")
        }
        return [*self.joins, *self.leaving, *self.arriving]

    def loads(self) -> dict[int, int]:
        """Count, per shard, the markets that it owns or is wanted for."""
        return {shard: len(found.markets) for shard, found in self._assignments.items()}
