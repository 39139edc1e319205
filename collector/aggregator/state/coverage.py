"""
Coverage and completeness: which markets are live, and which blocks of each are accounted for.

Coverage does not mean "something was received". A market is live if its shard says so (blocks
contiguous up to the head, book in sync) and that shard reported recently. Completeness is
(received + replayed) ÷ due over all markets, from the merged ledger.
Pure: instants are passed as ``now`` (monotonic seconds).
"""

from collections import Counter, deque
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from collector.aggregator.state.market_state import NOBODY, UNOWNED, MarketState
from collector.aggregator.state.totals import Totals, add_up
from collector.client.summary import BlockCounts, ChainFeed, Gaps, Hole
from shards.protocol.control import Report, ResumePoint
from shards.protocol.events import Gap
from shards.protocol.settings import CHAIN, Market

SILENT_S: Final = 3.0
"""A shard that has not reported for this long no longer vouches for its markets."""
GRACE_S: Final = 2.0
"""A block is due in every market this long after the first market had it."""


Glance: TypeAlias = tuple[str, str, int, str, int]
"""Symbol, state, shard, reason, trades and book changes so far."""


class Coverage:
    """The state of every market over all shards."""

    def __init__(
        self,
        markets: Iterable[Market],
        saved: Iterable[MarketState] = (),
        *,
        provable: bool = True,
    ) -> None:
        """``provable``: whether the source shows every block; otherwise no blocks are counted."""
        self.provable = provable
        self._markets: dict[str, Market] = {}
        self._status: dict[str, str] = {}
        self.states: dict[str, MarketState] = {}
        self._version = 0
        """Grows whenever something of any market may have changed."""
        self._moves = 0
        """Grows with it, except when ledgers only move on."""
        self._totals: Totals | None = None
        self._totals_of: object = None
        self._standing: tuple[dict[str, str], Mapping[str, int]] | None = None
        self._standing_of: object = None
        self._former = {state.market_id: state for state in saved}
        """The ledgers of markets that are no longer collected."""
        for market in markets:
            self.add(market)
        self._reported_at: dict[int, float] = {}
        self._heads: deque[tuple[float, int]] = deque()
        self.head = max((state.last for state in self.states.values()), default=0)
        self._settled = self.head
        self._weighted = 0.0
        self._weight_s = 0.0
        self._sampled_at: float | None = None
        self._taken_up = self.blocks()
        """The counts of the ledger that an earlier aggregator left."""

    def start_over(self) -> tuple[BlockCounts, Gaps]:
        """
        Close the ledger, because another chain replaced this one, and begin a new one.

        Returns:
            The final counts of the old ledger.

        """
        # Shards count the last blocks before a restart again. If the chain ended before they could,
        # the ledger is closed as it was loaded.
        blocks = max(self.blocks(), self._taken_up, key=lambda counts: counts.last)
        closed, self._taken_up = (blocks, self.gaps()), BlockCounts()
        for market_id, state in self.states.items():
            fresh = MarketState(market_id=market_id, shard=state.shard, symbol=state.symbol)
            fresh.state, fresh.reason = "pending", "the chain was replaced"
            if state.shard == NOBODY:
                fresh.state, fresh.reason = state.state, state.reason
            # Gap ids continue, so that each differs from all earlier ones.
            fresh.gaps.newest = state.gaps.newest
            self.states[market_id] = fresh
        self._changed()
        self._former.clear()
        self._heads.clear()
        self.head = self._settled = 0
        return closed

    def _changed(self) -> None:
        """Note that what was added up and named before is no longer true."""
        self._version += 1
        self._moves += 1

    # ---- which markets --------------------------------------------------------------

    def add(self, market: Market) -> None:
        """Add a market; one that was covered before continues its ledger."""
        self._changed()
        market_id = market.market_id
        self._markets[market_id] = market
        self._status[market_id] = market.status
        if market_id not in self.states:
            self.states[market_id] = self._former.pop(market_id, MarketState(market_id=market_id))
        self.states[market_id].symbol = market.symbol

    def remove(self, market_id: str) -> None:
        """Remove a market; its ledger is kept in case it comes back."""
        self._changed()
        self._former[market_id] = self.states.pop(market_id)

    def own(self, market_id: str, shard: int, *, within: int) -> None:
        """
        Assign an owner to a market without one.

        A removed market that returns after more than `within` blocks begins a new ledger: blocks
        from before its return are not due. Its gap stays open and will name those blocks. The ledger of any
        other market continues, however far behind it is: what cannot be replayed is missing.
        """
        self._changed()
        state = self.states[market_id]
        if state.shard == NOBODY and state.first and self.head - state.last > within:
            fresh = MarketState(market_id=market_id, gaps=state.gaps, symbol=state.symbol)
            state = self.states[market_id] = fresh
        state.shard = shard
        state.state, state.reason = "pending", ""

    def disown(self, market_id: str) -> None:
        """No shard collects this market any more."""
        self._changed()
        state = self.states[market_id]
        state.shard, state.since = NOBODY, 0
        state.state, state.reason = "inactive", "no longer collected"

    def hand_over(self, market_id: str, shard: int, epoch: int) -> None:
        """Make this process of another shard the owner, from the next unaccounted block on."""
        self._changed()
        state = self.states[market_id]
        state.shard, state.since, state.taken_by = shard, state.last + 1, epoch

    @property
    def version(self) -> int:
        """Grows whenever something of any market may have changed."""
        return self._version

    def ledgers(self) -> list[MarketState]:
        """Return the market states to be saved."""
        return [*self.states.values(), *self._former.values()]

    # ---- what comes in --------------------------------------------------------------

    def fresh(self, shard: int) -> None:
        """A new process has this shard: it has not reported yet."""
        self._reported_at.pop(shard, None)

    def silence(self, shard: int) -> None:
        """This shard's process is gone: its last report is void."""
        self._reported_at.pop(shard, None)

    def statuses(self, statuses: Mapping[str, str]) -> None:
        """Take the markets' current statuses from the chain's listing."""
        self._changed()
        self._status.update(statuses)

    def report(self, report: Report, now: float) -> None:
        """Take the states of a shard's markets."""
        self._reported_at[report.shard] = now
        if report.markets:
            self._changed()
        for market in report.markets:
            state = self.states.get(market.market_id)
            if state is not None and state.shard in (report.shard, UNOWNED):
                state.update(market, report)
        if report.head > self.head:
            self.head = report.head
            self._heads.append((now, report.head))

    def account(self, report: Report) -> None:
        """Take a shard's ledgers, once all frames made before the report have arrived."""
        if report.markets:
            self._changed()
        for market in report.markets:
            state = self.states.get(market.market_id)
            if state is None or not market.first or state.shard not in (report.shard, UNOWNED):
                continue
            state.account(market, report.epoch)

    def move_on(self, report: Report, market_ids: Collection[str]) -> None:
        """Account for these markets up to the report's front, after `account`."""
        states, shard, front = self.states, report.shard, report.front
        if market_ids:
            self._version += 1
        for market_id in market_ids:
            state = states.get(market_id)
            if state is not None and state.first and state.shard == shard:
                # A process that took the market over accounts for the blocks from ``since`` on.
                state.last = max(front, state.since - 1)

    def gap(self, event: Gap) -> None:
        """Take an announced gap."""
        state = self.states.get(event.market_id)
        if state is not None:
            self._version += 1
            state.gaps.apply(event)

    def resume_points(self, market_ids: Iterable[str], *, again: int = 0) -> dict[str, ResumePoint]:
        """
        Return where a restarted shard resumes each of these markets.

        The last ``again`` blocks before that are replayed once more.
        """
        points = {}
        for market_id in market_ids:
            state = self.states.get(market_id)
            if state is not None and (state.first or state.gaps.gap is not None):
                points[market_id] = state.resume_point(again)
        return points

    # ---- what is known --------------------------------------------------------------

    def symbol(self, market_id: str) -> str:
        """Return a market's symbol; its id if it is not ours."""
        market = self._markets.get(market_id)
        return market.symbol if market is not None else market_id

    def owner(self, market_id: str) -> int:
        """Return the shard that owns a market, UNOWNED if any may, or NOBODY."""
        state = self.states.get(market_id)
        return state.shard if state is not None else UNOWNED

    def reported_at(self, shard: int) -> float:
        """Return when a shard last reported."""
        return self._reported_at.get(shard, 0.0)

    def first(self, symbol: str) -> int:
        """Return the height at which a market joined; 0 before that, or if it is unknown."""
        return next((s.first for m, s in self.states.items() if self.symbol(m) == symbol), 0)

    def accounted(self) -> int:
        """Return the height through which every market's blocks are accounted for."""
        return self.totals().accounted

    def ahead(self) -> dict[str, int]:
        """Return, by symbol, the markets that are accounted for further than all are."""
        head = self.accounted()
        return {
            self._markets[market_id].symbol: state.last
            for market_id, state in self.states.items()
            if state.last > head
        }

    def joined_from(self) -> int:
        """Return the first block since which every market has joined; 0 while some have not."""
        return self.totals().joined_from

    def state_of(self, state: MarketState, now: float) -> str:
        """Return a market's state, taking into account that its shard may be silent."""
        if self._status[state.market_id] != "Active":
            return "inactive"
        reported_at = self._reported_at.get(state.shard)
        if reported_at is None or now - reported_at > SILENT_S:
            return "stale" if state.first else "pending"
        return state.state

    def names(self, now: float) -> Mapping[str, str]:
        """Return every market's state, by market id; the same object until something changes."""
        return self._standings(now)[0]

    def counts(self, now: float) -> dict[str, int]:
        """Count markets by state, without the chain's own feed."""
        return dict(self._standings(now)[1])

    def _standings(self, now: float) -> tuple[dict[str, str], Mapping[str, int]]:
        vouching = frozenset(s for s, at in self._reported_at.items() if now - at <= SILENT_S)
        version = self._moves, vouching
        if self._standing is None or self._standing_of != version:
            names = {name: self.state_of(state, now) for name, state in self.states.items()}
            markets = self._markets
            counts = Counter(n for name, n in names.items() if markets[name].type != "chain")
            self._standing, self._standing_of = (names, counts), version
        return self._standing

    def chain_feed(self, now: float) -> ChainFeed | None:
        """Describe the chain's own feed; None if it is not collected."""
        state = self.states.get(CHAIN.market_id)
        if state is None:
            return None
        return ChainFeed(state=self.state_of(state, now), shard=state.shard, height=state.last)

    def coverage(self, now: float) -> float:
        """Return live ÷ (requested - inactive), 0 without markets."""
        return live_share(self.counts(now))

    def sample(self, now: float) -> None:
        """Weight the coverage since the last sample into its mean."""
        while self._heads and self._heads[0][0] <= now - GRACE_S:
            self._settled = self._heads.popleft()[1]
        if self._sampled_at is not None:
            elapsed_s = now - self._sampled_at
            self._weighted += self.coverage(now) * elapsed_s
            self._weight_s += elapsed_s
        self._sampled_at = now

    @property
    def mean(self) -> float:
        """The time-weighted mean of the coverage since the start."""
        return self._weighted / self._weight_s if self._weight_s else 0.0

    # ---- what the ledgers add up to --------------------------------------------------

    def totals(self) -> Totals:
        """Return what all ledgers add up to, added up again only if something has changed."""
        version = self._version, self._settled
        if self._totals is None or self._totals_of != version:
            self._totals = add_up(
                self.states, self._settled, statuses=self._status, provable=self.provable
            )
            self._totals_of = version
        return self._totals

    def missing(self, state: MarketState) -> int:
        """Return the number of one market's blocks that are due but missing."""
        return self.totals().missing.get(state.market_id, 0)

    def blocks(self) -> BlockCounts:
        """
        Add up the ledgers.

        A block is due in every market GRACE_S after the first market had it; one that is
        accounted for sooner is due at once.
        """
        return self.totals().blocks

    def completeness(self) -> float:
        """Return (received + replayed) ÷ due; 0 before the first block."""
        return self.blocks().completeness

    def gaps(self) -> Gaps:
        """Count the announced gaps of all markets."""
        return self.totals().gaps

    def holes(self) -> list[Hole]:
        """List what is missing, as ranges of heights per market."""
        return [
            Hole(symbol=self._markets[market_id].symbol, heights=heights)
            for market_id, heights in self.totals().holes.items()
        ]

    # ---- every market ---------------------------------------------------------------

    def glance(self, now: float, events: Mapping[str, int]) -> list[Glance]:
        """Return a short row for every market; ``events`` is by market id."""
        return [
            (
                market.symbol,
                self.state_of(state, now),
                max(state.shard, -1),
                state.reason,
                events.get(market.market_id, 0),
            )
            for market, state in self.shown()
        ]

    def shown(self, symbols: Container[str] | None = None) -> Iterator[tuple[Market, MarketState]]:
        """Yield the visible markets, all or these; without the chain's own feed."""
        for market_id, state in self.states.items():
            market = self._markets[market_id]
            if market.type != "chain" and (symbols is None or market.symbol in symbols):
                yield market, state

    def status(self, market_id: str) -> str:
        """Return a market's current status in the chain's listing."""
        return self._status[market_id]


def live_share(counts: Mapping[str, int]) -> float:
    """Return live ÷ (requested - inactive) from counted states, 0 without markets."""
    wanted = sum(counts.values()) - counts.get("inactive", 0)
    return counts.get("live", 0) / wanted if wanted else 0.0
