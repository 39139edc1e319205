"""Where markets belong after an order: stable, even, and refused in one sentence where it cannot be."""

import random

import pytest

from collector.control import placement
from collector.control.placement import Assignment
from shards.protocol.errors import ConfigError

WEIGHTS = {f"m{n}": 1.0 + n % 7 for n in range(60)}


def assignment(*sizes: int) -> Assignment:
    """Shards 0, 1, … with so many markets each."""
    wanted: dict[str, int] = {}
    for shard, size in enumerate(sizes):
        for _ in range(size):
            wanted[f"m{len(wanted)}"] = shard
    return Assignment(frozenset(range(len(sizes))), wanted)


def sizes(found: Assignment) -> dict[int, int]:
    return found.sizes()


@pytest.mark.parametrize(
    ("before", "number", "after", "moves"),
    [
        ((10, 10), 4, {0: 5, 1: 5, 2: 5, 3: 5}, 10),
        ((5, 5, 5, 5), 1, {0: 20}, 15),
        ((7, 7, 6), 2, {0: 10, 1: 10}, 6),
        ((20,), 3, {0: 7, 1: 7, 2: 6}, 13),
        ((9, 1), 2, {0: 5, 1: 5}, 4),
        ((3, 3), 2, {0: 3, 1: 3}, 0),
    ],
)
def test_scaling_moves_as_few_markets_as_it_takes(
    before: tuple[int, ...], number: int, after: dict[int, int], moves: int
) -> None:
    start = assignment(*before)
    found = placement.scale(start, number, {})
    assert sizes(found) == after
    assert len(placement.moved(start, found)) == moves


@pytest.mark.parametrize("number", [0, 21])
def test_scaling_to_no_shard_or_to_more_than_there_are_markets_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match=r"no more than the 20 markets collected"):
        placement.scale(assignment(10, 10), number, {})


def test_scaling_up_takes_the_lowest_free_numbers() -> None:
    drained = placement.drain(assignment(4, 4, 4), 1, {})
    assert sizes(drained) == {0: 6, 2: 6}
    assert sizes(placement.scale(drained, 4, {})) == {0: 3, 1: 3, 2: 3, 3: 3}


@pytest.mark.parametrize(
    ("shards", "shard", "why"),
    [
        ((4, 4), 7, "there is no shard 7: the shards are 0, 1"),
        ((4,), 0, "shard 0 is the only one"),
    ],
)
def test_a_drain_that_cannot_be_is_refused(shards: tuple[int, ...], shard: int, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        placement.drain(assignment(*shards), shard, {})


def test_a_drain_moves_the_markets_of_that_shard_alone() -> None:
    start = assignment(3, 6, 3)
    found = placement.drain(start, 1, {})
    assert sizes(found) == {0: 6, 2: 6}
    assert set(placement.moved(start, found)) == {m for m, s in start.wanted.items() if s == 1}


def test_new_markets_go_where_the_load_is_least() -> None:
    found = placement.place(assignment(2, 5), ["a", "b", "c", "d"], {})
    assert sizes(found) == {0: 6, 1: 5}
    heavy = placement.place(assignment(2, 2), ["a", "b", "c"], {"a": 9.0, "b": 1.0, "c": 1.0})
    assert heavy.wanted["b"] == heavy.wanted["c"] != heavy.wanted["a"]


@pytest.mark.parametrize("seed", range(20))
def test_even_loads_differ_by_no_more_than_a_market_could_mend(seed: int) -> None:
    rng = random.Random(seed)
    shards = rng.randint(2, 6)
    wanted = {m: rng.randrange(shards) for m in WEIGHTS}
    found = placement.even(Assignment(frozenset(range(shards)), wanted), WEIGHTS)
    loads = placement.loads(found, WEIGHTS)
    emptiest = min(loads, key=lambda s: loads[s])
    for market_id, shard in found.wanted.items():
        assert WEIGHTS[market_id] >= loads[shard] - loads[emptiest]
    assert placement.even(found, WEIGHTS) == found, "and then nothing moves any more"


def test_measured_loads_that_are_nearly_even_are_left_alone() -> None:
    start = assignment(30, 29)
    weights = {m: 1.0 + 0.001 * n for n, m in enumerate(start.wanted)}
    assert placement.even(start, weights, slack=0.1) == start
    lopsided = {m: 9.0 if shard == 0 else 1.0 for m, shard in start.wanted.items()}
    assert placement.even(start, lopsided, slack=0.1) != start


def test_a_hot_shard_gives_to_the_coolest_until_both_do_the_same() -> None:
    start = assignment(10, 10, 10)
    found = placement.ease(start, 0, {0: 90.0, 1: 60.0, 2: 30.0}, {})
    assert sizes(found) == {0: 7, 1: 10, 2: 13}


@pytest.mark.parametrize(
    ("sizes_before", "use"),
    [
        ((10, 10), {0: 90.0, 1: 85.0}),
        ((10,), {0: 99.0}),
        ((1, 10), {0: 95.0, 1: 10.0}),
    ],
)
def test_a_hot_shard_keeps_its_markets_where_nobody_has_room(
    sizes_before: tuple[int, ...], use: dict[int, float]
) -> None:
    start = assignment(*sizes_before)
    assert placement.ease(start, 0, use, {}) == start
