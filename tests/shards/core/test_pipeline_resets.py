"""
The pipeline where counts begin again: a book's sequence low in a later block, another chain
under the same address. Against the same truth as without.
"""

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.searches import examples
from tests.shards.core.test_pipeline_truth import ACTIONS, PHASES, SMALL, Action, check
from tests.shards.world import LIMITS, World

# A node that does not name its answer's height can only be believed by the sequence.
RESETS: dict[str, Action] = {
    **{name: act for name, act in ACTIONS.items() if "unknown height" not in name},
    "another chain": lambda world, n: world.another_chain(),
}
PLAYS = st.lists(
    st.tuples(st.sampled_from(sorted(RESETS)), st.integers(0, 7)), min_size=5, max_size=70
)


@pytest.mark.parametrize("limits", [LIMITS, SMALL], ids=["usual bounds", "small bounds"])
@settings(
    max_examples=examples(150),
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=False,
)
@given(
    seed=st.integers(0, 2**16),
    again=st.sampled_from([0.0, 0.05, 0.3]),
    grouped=st.booleans(),
    steps=PLAYS,
)
def test_whatever_begins_again_every_fact_of_the_chain_that_is_comes_once(
    limits: object, seed: int, again: float, grouped: bool, steps: list[tuple[str, int]]
) -> None:
    world = World(seed, grouped=grouped, limits=limits, again=again)  # type: ignore[arg-type]
    world.connect()
    world.block()
    for action, number in steps:
        RESETS[action](world, number)
    world.heal()
    check(world)


def test_a_successor_that_begins_before_a_restarted_sequence_comes_to_its_book() -> None:
    world = World(0, grouped=False, again=0.05)
    world.connect()
    world.blocks(2)
    for action, number in [("disconnect", 0), ("block", 0), ("block", 0), ("snapshot", 2)]:
        RESETS[action](world, number)
    # The book was published with its new sequence; the successor's ledger ends before that.
    RESETS["be away for long"](world, 0)
    world.heal()
    check(world)


def test_a_lower_block_with_a_later_time_is_suspected_and_a_late_one_is_not() -> None:
    world = World(1, grouped=True)
    world.connect()
    world.blocks(3)
    world.again(2)
    assert world.pipeline.suspect == 0
    head = world.pipeline.liveness.head
    head.ts_event -= 10 * 500_000_000
    world.again(2)
    assert world.pipeline.suspect == world.head - 2
