"""
Reports of changes against whole reports: the aggregator's ledgers are the same after each step.

A real pipeline goes through the faults of `tests/shards/world.py`. Two records of its shard are
kept: one takes the reports that it makes, of which some are lost, or their answers, and the other
takes whole reports at the same moments. Frames may be on their way when a report is taken, or be
lost; the aggregator may begin again, the shard may be replaced, a market may come from another
shard.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from collector.aggregator.state.coverage import Coverage
from collector.aggregator.state.market_state import MarketState
from collector.aggregator.state.shard_sessions import ShardSession
from shards.core.feed import Feed
from shards.core.report import MarketReports
from shards.protocol.control import MarketReport, Report
from tests.searches import examples
from tests.shards.chain import IDS, MARKETS
from tests.shards.core.test_pipeline_truth import ACTIONS
from tests.shards.reported import report
from tests.shards.world import World

REPORTS: Final = (
    "taken",
    "taken while frames are on their way",
    "taken while frames are lost",
    "lost",
    "taken, but its answer is lost",
)
OTHERS: Final = (
    "the aggregator begins again",
    "a market is another shard's",
    "a market comes from another shard",
)
NAMES: Final = (*REPORTS, *OTHERS, *sorted(ACTIONS))


class Kept:
    """What an aggregator keeps of one shard."""

    def __init__(self, epoch: int, saved: Sequence[MarketState] = ()) -> None:
        self.coverage = Coverage(MARKETS, saved)
        self.session = ShardSession()
        self.session.begin(epoch, 1)

    def take(self, said: Report) -> bool:
        if not self.session.take(said):
            return False
        self.coverage.report(said, 1.0)
        return True

    def account(self) -> None:
        found = self.session.account()
        if found is not None:
            self.coverage.account(found[0])
            self.coverage.move_on(*found)

    def states(self) -> object:
        return msgspec.to_builtins(self.coverage.states)

    def encoded(self) -> bytes:
        return msgspec.msgpack.encode(self.coverage.ledgers())

    def saved(self) -> list[MarketState]:
        return msgspec.msgpack.decode(self.encoded(), type=list[MarketState])


def standing(session: ShardSession) -> dict[str, MarketReport]:
    """Return what a shard's reports say of its markets now, without the books' sequences."""
    newest = session.report
    assert newest is not None
    return {
        name: msgspec.structs.replace(
            row, sequence=-1, last=newest.front if name in session.at_front else row.last
        )
        for name, row in session.markets.items()
    }


class Both:
    """The shard, and both records of it."""

    def __init__(self, seed: int, *, grouped: bool) -> None:
        self.world = World(seed, grouped=grouped)
        self.frames = 0
        self.epoch = 1
        self.changes = MarketReports()
        self.of_changes, self.of_all = Kept(1), Kept(1)

    @property
    def both(self) -> tuple[Kept, Kept]:
        return self.of_changes, self.of_all

    def take_step(self, name: str, number: int) -> None:
        """Take one step; a ledger that it changes has another version, by which it is saved."""
        before = [(kept.coverage, kept.coverage.version, kept.encoded()) for kept in self.both]
        self._take_step(name, number)
        for kept, (coverage, version, encoded) in zip(self.both, before, strict=True):
            if name != "a market is another shard's" and kept.coverage is coverage:
                assert version != coverage.version or encoded == kept.encoded()

    def _take_step(self, name: str, number: int) -> None:
        if name in REPORTS:
            self.report(name)
        elif name == "the aggregator begins again":
            self.of_changes, self.of_all = (Kept(self.epoch, kept.saved()) for kept in self.both)
        elif name == "a market is another shard's":
            for kept in self.both:
                state = kept.coverage.states[IDS[number % len(IDS)]]
                # Nothing moves before its first owner has reported it.
                state.shard = 1 if state.first else state.shard
        elif name == "a market comes from another shard":
            market_id = IDS[number % len(IDS)]
            for kept in self.both:
                row, newest = kept.session.markets.get(market_id), kept.session.report
                if kept.coverage.owner(market_id) == 1 and row is not None and newest is not None:
                    kept.coverage.hand_over(market_id, 0, self.epoch)
                    kept.coverage.report(msgspec.structs.replace(newest, markets=[row]), 1.0)
                    kept.session.account_again(market_id)
        else:
            ACTIONS[name](self.world, number)
        if name in ("restart", "be away for long"):
            self.epoch += 1
            self.changes, self.frames = MarketReports(), 0
            for kept in self.both:
                kept.session.begin(self.epoch, self.epoch)

    def report(self, how: str) -> None:
        rows = self.changes.make(self.world.pipeline, "")
        if how == "lost":
            return
        self.frames += 2
        if how == "taken while frames are lost":
            for kept in self.both:
                # The next batch shows that those before it are lost.
                kept.session.frame_sequence = max(kept.session.frame_sequence, 1)
                kept.session.count(self.frames + 1, 1)
                kept.session.frame_sequence = self.frames + 1
        said = self._said(rows)
        said.number, said.since = self.changes.number, self.changes.since
        is_taken = self.of_changes.take(said)
        if how != "taken, but its answer is lost":
            self.changes.answered(whole=not is_taken)
        if is_taken:
            # Whole, as `MarketReports` would make it for the first time.
            whole = MarketReports().make(self.world.pipeline, "")
            self.of_all.take(self._said(whole))
            assert standing(self.of_changes.session) == standing(self.of_all.session)
        if how == "taken":
            for kept in self.both:
                kept.session.frame_sequence = self.frames
        for kept in self.both:
            kept.account()

    def _said(self, rows: list[MarketReport]) -> Report:
        front = self.world.pipeline.head
        said = report(*rows, epoch=self.epoch, head=front or 1, frames=self.frames)
        said.front = front
        return said


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    seed=st.integers(0, 5),
    grouped=st.booleans(),
    is_live=st.booleans(),
    steps=st.lists(
        st.tuples(st.one_of(st.sampled_from(REPORTS), st.sampled_from(NAMES)), st.integers(0, 7)),
        max_size=60,
    ),
)
def test_the_ledgers_are_those_of_whole_reports(
    seed: int, grouped: bool, is_live: bool, steps: list[tuple[str, int]]
) -> None:
    both = Both(seed, grouped=grouped)
    both.world.connect()
    both.world.block()
    if is_live:
        both.world.heal()
        both.report("taken")
        both.report("taken")
    for name, number in steps:
        both.take_step(name, number)
        assert both.of_changes.states() == both.of_all.states(), name
    both.world.heal()
    # At most one report is refused, after which everything is reported.
    both.report("taken")
    both.report("taken")
    for number in range(len(IDS)):
        both.take_step("a market comes from another shard", number)
    both.report("taken")
    assert both.of_changes.states() == both.of_all.states()
    for feed in both.world.pipeline.feeds.values():
        state = both.of_changes.coverage.states[feed.market_id]
        assert (state.state, state.last) == ("live", both.world.head)


def begun() -> Both:
    """Three live markets, whose last report had only what changed."""
    both = Both(1, grouped=False)
    both.world.connect()
    both.world.block()
    both.world.heal()
    both.report("taken")
    both.world.block_at_last()
    both.report("taken")
    return both


def test_what_was_reported_while_frames_were_on_their_way_counts_up_to_the_next_front() -> None:
    both = Both(1, grouped=False)
    both.world.connect()
    both.world.block()
    both.world.heal()
    both.report("taken while frames are on their way")
    both.world.block_at_last()
    both.report("taken")
    assert both.of_changes.states() == both.of_all.states()
    assert both.of_changes.coverage.accounted() == both.world.head


def test_a_market_that_falls_behind_the_front_is_not_moved_on_with_it() -> None:
    both = begun()
    both.world.block(deaf=1)
    both.report("taken")
    assert both.of_changes.states() == both.of_all.states()
    assert both.of_changes.coverage.states[IDS[1]].last == both.world.head - 1


def test_a_market_that_comes_from_another_shard_counts_though_nothing_of_it_changed() -> None:
    both = begun()
    both.take_step("a market is another shard's", 0)
    both.world.block(deaf=0)
    both.world.block()
    for _ in range(4):
        both.world.answer_replays(0)
    for _ in range(3):
        both.report("taken")
    both.take_step("a market comes from another shard", 0)
    both.report("taken")
    assert both.of_changes.states() == both.of_all.states()
    assert both.of_changes.coverage.states[IDS[0]].replayed


def test_changes_after_another_report_are_refused() -> None:
    session = ShardSession()
    session.begin(1, 1)
    for number, since, is_taken in ((1, 0, True), (2, 1, True), (4, 3, False), (5, 2, True)):
        said = report(epoch=1)
        said.number, said.since = number, since
        assert session.take(said) == is_taken


def test_markets_that_only_follow_the_chain_are_not_named() -> None:
    both = begun()
    before = both.changes.number
    both.world.block_at_last()
    rows = both.changes.make(both.world.pipeline, "")
    assert (rows, both.changes.since, both.changes.number) == ([], before, before + 1)


def test_one_that_misses_a_block_is() -> None:
    both = begun()
    both.world.block(deaf=1)
    (row,) = both.changes.make(both.world.pipeline, "")
    assert (row.market_id, row.last) == (IDS[1], both.world.head - 1)


def test_one_that_has_caught_up_is_named_once_more() -> None:
    both = begun()
    head = both.world.head + 1
    both.world.block(deaf=1)
    both.report("taken")
    both.world.hear(list(both.world.subscriptions)[1], head)
    (row,) = both.changes.make(both.world.pipeline, "")
    assert (row.market_id, row.last) == (IDS[1], both.world.head)
    both.changes.answered(whole=False)
    assert both.changes.make(both.world.pipeline, "") == []


def test_one_whose_first_change_waits_for_the_book_does_not_follow_the_front() -> None:
    both = Both(4, grouped=False)
    both.world.connect()
    both.world.block()
    both.report("taken")
    both.report("taken")
    first = both.world.pipeline.feeds[IDS[0]].sync
    assert first.waits_from == 0
    both.world.block()
    assert first.waits_from == both.world.head
    rows = {row.market_id: row for row in both.changes.make(both.world.pipeline, "")}
    assert rows[IDS[0]].last == both.world.head - 1


class Looked(dict[str, Feed]):
    """The feeds of a pipeline, which notes the markets that are looked at."""

    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        super().__init__(feeds)
        self.at: list[str] = []

    def __getitem__(self, market_id: str) -> Feed:
        self.at.append(market_id)
        return super().__getitem__(market_id)


def test_a_report_looks_only_at_markets_that_may_have_changed() -> None:
    both = begun()
    both.world.pipeline.feeds = looked = Looked(both.world.pipeline.feeds)
    both.world.block_at_last()
    both.report("taken")
    # The whole report that is compared with it looks at all.
    assert looked.at == list(looked)
    both.world.block(deaf=1)
    both.report("taken")
    assert looked.at[len(looked) :] == [IDS[1], *looked]


@pytest.mark.parametrize("how", ["lost", "taken, but its answer is lost"])
def test_after_a_lost_report_or_answer_all_markets_are_named(how: str) -> None:
    both = begun()
    both.report(how)
    assert len(both.changes.make(both.world.pipeline, "")) == len(IDS)
    assert both.changes.since == 0


def test_an_aggregator_that_lacks_the_report_before_takes_no_changes() -> None:
    both = begun()
    both.take_step("the aggregator begins again", 0)
    both.world.block_at_last()
    before = both.of_changes.states()
    both.report("taken")
    assert both.of_changes.states() == before
    both.report("taken")
    assert both.of_changes.coverage.accounted() == both.world.head


def test_a_shard_whose_assignment_changed_names_all_markets() -> None:
    both = begun()
    assert len(both.changes.make(both.world.pipeline, "another assignment")) == len(IDS)
