"""
Which shard owns each market, which one it is assigned to, and what each shard must collect.

The coordinator *assigns* each market to a shard. A market without an owner gets that shard at
once; a change of owner takes a handover (handover.py). Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Mapping

from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.market_state import NOBODY, UNOWNED
from shards.protocol.control import Assignment, Report, ResumePoint
from shards.protocol.events import Gap
from shards.protocol.settings import Market


class Ownership:
    """The owners of all markets (kept in the coverage's states) and their assigned shards."""

    def __init__(self, coverage: Coverage, *, version: int, resume_within: int) -> None:
        """
        Args:
            version: Greater than the version of any earlier assignment.
            resume_within: Blocks after which a returning market starts over instead of resuming.

        """
        self._coverage = coverage
        self.version = version
        """The version of the newest assignment."""
        self._resume_within = resume_within
        self._assignments: dict[int, Assignment] = {}
        self._markets: dict[str, Market] = {}
        self.wanted: dict[str, int] = {}
        """The assigned shard of each market, by market id."""
        self.arriving: set[str] = set()
        """Markets assigned while running that have not become live since."""
        self.leaving: set[str] = set()
        """Markets no longer assigned, whose owner still collects them."""

    # ---- what the coordinator wants -------------------------------------------------

    def want(self, markets: Iterable[Market], wanted: Mapping[str, int]) -> None:
        """Take the whole assignment; markets without a shard are known but not collected."""
        coverage = self._coverage
        self._markets = {market.market_id: market for market in markets}
        self.wanted = {m: shard for m, shard in wanted.items() if m in self._markets}
        for market in self._markets.values():
            coverage.add(market)
        for market_id, state in list(coverage.states.items()):
            self._want(market_id, self.wanted.get(market_id, -1), state.shard)
        owners = {state.shard for state in coverage.states.values() if state.shard >= 0}
        for shard in {*self._assignments, *self.wanted.values(), *owners}:
            self.assign(shard)

    def end_unwanted(self, wanted: Mapping[str, int], ts: int) -> list[tuple[str, Gap]]:
        """
        Let go of the markets that a former run collected and this one does not.

        Returns:
            The gap with which each of them ends, with its symbol.

        """
        found = []
        for state in self._coverage.ledgers():
            is_left = state.shard == UNOWNED and wanted.get(state.market_id, UNOWNED) < 0
            if is_left and state.first and state.symbol:
                gap = state.ended(ts)
                state.gaps.apply(gap)
                state.shard = NOBODY
                found.append((state.symbol, gap))
        return found

    def _want(self, market_id: str, shard: int, owner: int) -> None:
        self.leaving.discard(market_id)
        if shard < 0 and owner >= 0:
            self.leaving.add(market_id)
        elif shard < 0:
            self._forget(market_id)
        elif owner < 0:
            self._coverage.own(market_id, shard, within=self._resume_within)
            self.arriving.add(market_id)

    def _forget(self, market_id: str) -> None:
        """Stop collecting it; if it is no longer listed either, it is not shown."""
        self._coverage.disown(market_id)
        if market_id not in self._markets:
            self._coverage.remove(market_id)

    def moving(self) -> dict[str, int]:
        """Return the markets whose assigned shard is not their owner, and that shard."""
        states = self._coverage.states
        return {
            market_id: shard
            for market_id, shard in self.wanted.items()
            if shard >= 0 and states[market_id].shard not in (shard, UNOWNED)
        }

    # ---- what a shard has to collect ------------------------------------------------

    def assign(self, shard: int) -> None:
        """Update a shard's assignment: the markets that it owns or is assigned."""
        states = self._coverage.states
        markets = [
            self._markets[market_id]
            for market_id, wanted in self.wanted.items()
            if shard in (wanted, states[market_id].shard)
        ]
        before = self._assignments.get(shard)
        if before is None or before.markets != markets:
            self.version += 1
            self._assignments[shard] = Assignment(self.version, markets)

    def assignment(self, report: Report) -> Assignment | None:
        """Return a shard's assignment, unless its report shows that it has it."""
        assignment = self._assignments.get(report.shard)
        if assignment is None or (assignment.version == report.assignment and not report.fresh):
            return None
        return assignment

    def is_current(self, shard: int, version: int) -> bool:
        """Return whether a shard that reports this version has applied its current assignment."""
        assignment = self._assignments.get(shard)
        return assignment is not None and assignment.version == version

    def resume_points(self, shard: int, *, again: int = 0) -> dict[str, ResumePoint]:
        """Return where a shard resumes the markets that it owns."""
        states = self._coverage.states
        owned = [
            market_id for market_id, state in states.items() if state.shard in (shard, UNOWNED)
        ]
        return self._coverage.resume_points(owned, again=again)

    # ---- what a shard lets go -------------------------------------------------------

    def left(self, report: Report) -> list[str]:
        """Return the markets that a shard's report no longer contains; they now have no owner."""
        if not self.leaving or not self.is_current(report.shard, report.assignment):
            return []
        states = self._coverage.states
        return [market_id for market_id in self.leaving if states[market_id].shard == report.shard]

    def end(self, market_id: str) -> None:
        """Note that a market is no longer collected."""
        self.leaving.discard(market_id)
        self._forget(market_id)

    def stop(self, shard: int) -> None:
        """Forget a shard that has been stopped for good."""
        self._assignments.pop(shard, None)

    # ---- what is known --------------------------------------------------------------

    def not_live(self) -> set[str]:
        """Return the markets assigned while running that have not become live yet."""
        states = self._coverage.states
        self.arriving = {
            market_id
            for market_id in self.arriving & self.wanted.keys()
            if states[market_id].state not in ("live", "failed")
        }
        return self.arriving

    def loads(self) -> dict[int, int]:
        """Return, per shard, the number of markets that it owns or is assigned."""
        return {shard: len(found.markets) for shard, found in self._assignments.items()}
