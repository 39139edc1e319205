"""
Which endpoint a stream is read from while endpoints fail, fall behind and come back.

The pool takes steps in any order beside a model that keeps plain lists. And a small world of
endpoints, each so many blocks late or down, is watched as a shard does it: a stream that lags
steadily is left, one that lags for a moment is not, and while the world stays as it is, nothing
goes back and forth.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shards.net.backoff import Backoff
from shards.net.circuit_breaker import CircuitBreaker
from shards.net.endpoint_pool import EndpointPool
from shards.net.fitness import AT_HEAD, BEHIND, STEADY_S
from tests.searches import examples

NAMES = ("a", "b", "c")
LOOK_S = 2.0
_BEHIND = st.integers(-2, 6)


class Pool(EndpointPool):
    """A pool with a clock that is set by hand, and no waits."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.now = 100.0
        super().__init__(names, backoff=Backoff(base_s=0, cap_s=0), clock=lambda: self.now)

    def attempt(self) -> str:
        """Take the next turn; nothing is waited for, so no loop is needed."""
        turn = self.next()
        while True:
            try:
                turn.send(None)
            except StopIteration as done:
                return str(done.value)


# ---- the pool beside a model --------------------------------------------------------------


class Switching(RuleBasedStateMachine):
    """Sessions begin, bring data, lag and end; probes succeed and fail; time goes by."""

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        self.names = NAMES[:count]
        self.pool = Pool(self.names)
        self.breakers = {name: CircuitBreaker() for name in self.names}
        self.unfit: set[str] = set()
        self.behind_since: float | None = None
        self.tried: list[str] = []
        """Those that were tried, the last one at the end."""

    @property
    def in_session(self) -> bool:
        return bool(self.pool.current)

    def closed(self, name: str) -> bool:
        return self.breakers[name].state(self.pool.now) == "closed"

    @precondition(lambda self: not self.in_session)
    @rule()
    def next_session(self) -> None:
        now = self.pool.now
        if not any(self.breakers[n].state(now) != "open" for n in self.names):
            now = self.pool.now = max(now, *(now + b.wait_s(now) for b in self.breakers.values()))
        may = [n for n in self.names if self.breakers[n].state(now) != "open"]
        closed = [n for n in may if self.closed(n)]
        if closed:
            due = min(closed, key=lambda n: self.breakers[n].failures + (n in self.unfit))
        else:
            due = min(may, key=lambda n: self.tried.index(n) if n in self.tried else -1)
        assert self.pool.attempt() == due
        self.tried = [n for n in self.tried if n != due] + [due]
        self.breakers[due].allows(now)
        self.behind_since = None

    @precondition(lambda self: self.in_session)
    @rule(unreachable=st.booleans())
    def session_fails(self, unreachable: bool) -> None:
        self.breakers[self.pool.current].failed(self.pool.now, "x", unreachable=unreachable)
        self.pool.failed("x", unreachable=unreachable)

    @precondition(lambda self: self.in_session)
    @rule()
    def data(self) -> None:
        self.breakers[self.pool.current].succeeded()
        self.pool.succeeded()

    @precondition(lambda self: self.in_session)
    @rule()
    def mute(self) -> None:
        self.unfit.add(self.pool.current)
        self.pool.unfit("mute")
        self.session_fails(False)

    @precondition(lambda self: self.in_session)
    @rule(behind=_BEHIND)
    def look(self, behind: int) -> None:
        now, current = self.pool.now, self.pool.current
        if behind <= AT_HEAD:
            self.unfit.discard(current)
        if behind < BEHIND:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = now
        if self.behind_since is not None and now - self.behind_since >= STEADY_S:
            self.unfit.add(current)
        self.pool.compare(1_000 - behind, 1_000)
        assert self.pool.is_behind == (behind >= BEHIND)

    @precondition(lambda self: self.in_session)
    @rule()
    def late_ourselves(self) -> None:
        self.behind_since = None
        self.pool.cannot_compare()

    @precondition(lambda self: self.in_session)
    @rule(data=st.data(), is_at_head=st.booleans())
    def probe(self, data: st.DataObject, is_at_head: bool) -> None:
        current = self.pool.current
        others = [n for n in self.names if n < current or (current in self.unfit and n > current)]
        due = [n for n in others if self.breakers[n].state(self.pool.now) != "open"]
        assert self.pool.alternatives() == due
        if not due:
            return
        better = data.draw(st.sampled_from(due))
        if not is_at_head:
            self.breakers[better].failed(self.pool.now, "behind")
            self.pool.probed(better, "behind")
            return
        self.breakers[better].succeeded()
        self.unfit.discard(better)
        self.pool.probed(better)
        self.pool.leave()
        self.pool.failed("returning")
        self.next_session()

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 11.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.pool.now += seconds

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "pool"):
            return
        for state in self.pool.states():
            assert state.breaker == self.breakers[state.endpoint].state(self.pool.now)
            if state.endpoint in self.unfit:
                assert state.reason, state


TestSwitching: Any = Switching.TestCase
TestSwitching.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)


# ---- a small world, watched as a shard does it ----------------------------------------------


class World:
    """Endpoints that are so many blocks late; None is down. One pool reads one of them."""

    def __init__(self, late: Sequence[int | None]) -> None:
        self.late = list(late)
        self.pool = Pool(NAMES[: len(late)])
        self.read: list[str] = []
        """The endpoints read, one after another."""
        self._trial_at = 0.0

    def _late(self, name: str) -> int | None:
        return self.late[NAMES.index(name)]

    def run(self, seconds: float, *, trial_s: float = 6.0) -> None:
        """Look at the stream in use every two seconds, and try others out now and then."""
        pool = self.pool
        until = pool.now + seconds
        while pool.now < until:
            pool.now += LOOK_S
            if not pool.current:
                self._begin()
            if not pool.current:
                continue
            late = self._late(pool.current)
            if late is None:
                pool.failed("down", unreachable=True)
                continue
            pool.succeeded()
            pool.compare(1_000 - late, 1_000)
            if pool.now >= self._trial_at:
                self._trial_at = pool.now + trial_s
                self._try_others(late)

    def _begin(self) -> None:
        pool = self.pool
        if not any(state.breaker != "open" for state in pool.states()):
            return
        name = pool.attempt()
        if self._late(name) is not None and self.read[-1:] != [name]:
            self.read.append(name)

    def _try_others(self, late: int) -> None:
        for better in self.pool.alternatives():
            found = self._late(better)
            # Held against the stream in use, and against the nodes, as ChainSource does it.
            if found is None or found > late + AT_HEAD or found >= BEHIND:
                self.pool.probed(better, "no block at the head")
                continue
            self.pool.probed(better)
            self.pool.leave()
            self.pool.failed("changing")
            return


def test_a_stream_that_lags_steadily_is_left_and_returned_to_once_it_is_at_the_head() -> None:
    world = World([4, 0])
    world.run(STEADY_S - LOOK_S)
    assert world.read == ["a"]
    world.run(60)
    assert world.read == ["a", "b"]
    (first, _) = world.pool.states()
    assert "behind" in first.reason or "head" in first.reason
    world.late[0] = 1
    world.run(30)
    assert world.read == ["a", "b", "a"]
    assert [s.reason for s in world.pool.states()] == ["", ""]


def test_a_moment_of_lag_is_no_reason_to_leave() -> None:
    world = World([0, 0])
    for _ in range(20):
        world.late[0] = 5
        world.run(STEADY_S - LOOK_S)
        world.late[0] = BEHIND - 1
        world.run(LOOK_S)
    assert world.read == ["a"]


def test_where_all_lag_one_stays_in_use() -> None:
    world = World([6, 7])
    world.run(1_000)
    assert world.read == ["a"]
    world.late = [6, 2]
    world.run(1_000)
    assert world.read == ["a", "b"]


@pytest.mark.parametrize("first", [None, 9])
def test_a_spare_that_stumbles_once_is_tried_again_before_the_one_that_was_left(
    first: int | None,
) -> None:
    world = World([first, 0])
    world.run(60)
    assert world.read[-1] == "b"
    world.pool.failed("the server ended the stream")
    assert world.pool.attempt() == "b"


_LATE = st.one_of(st.none(), st.integers(0, 8))


@settings(max_examples=examples(200), deadline=None)
@given(
    worlds=st.lists(st.lists(_LATE, min_size=3, max_size=3), min_size=1, max_size=4),
    trial_s=st.sampled_from([2.0, 6.0, 30.0]),
)
def test_nothing_goes_back_and_forth(worlds: list[list[int | None]], trial_s: float) -> None:
    """However the world is: it comes to rest, at an endpoint that no other is clearly ahead of."""
    world = World(worlds[0])
    for late in worlds:
        world.late = list(late)
        switches = len(world.read)
        world.run(300, trial_s=trial_s)
        assert len(world.read) - switches <= len(late), world.read
        rest = list(world.read)
        world.run(300, trial_s=trial_s)
        assert world.read == rest
        up = [n for n in late if n is not None]
        if up and min(up) == 0:
            found = late[NAMES.index(world.pool.current)] if world.pool.current else None
            assert found is not None
            assert found < BEHIND, (late, world.read)
