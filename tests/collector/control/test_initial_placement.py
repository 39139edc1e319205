"""Which shard owns which market."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from collector.control.initial_placement import assign
from tests.searches import examples


def market_ids(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [f"0x{rng.getrandbits(256):064x}" for _ in range(count)]


def owner(assigned: list[tuple[str, ...]]) -> dict[str, int]:
    return {market_id: n for n, mine in enumerate(assigned) for market_id in mine}


@settings(max_examples=examples(100), deadline=None)
@given(count=st.integers(1, 120), shards=st.integers(1, 16), seed=st.integers(0, 2**16))
def test_every_market_has_one_shard_and_shards_differ_by_at_most_one(
    count: int, shards: int, seed: int
) -> None:
    ids = market_ids(count, seed)
    shards = min(shards, count)
    assigned = assign(ids, shards=shards)
    sizes = [len(mine) for mine in assigned]
    assert len(assigned) == shards
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert sorted(m for mine in assigned for m in mine) == sorted(ids)


@settings(max_examples=examples(60), deadline=None)
@given(count=st.integers(1, 60), shards=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_it_does_not_matter_in_which_order_the_markets_are_listed(
    count: int, shards: int, seed: int
) -> None:
    ids = market_ids(count, seed)
    shards = min(shards, count)
    shuffled = random.Random(seed).sample(ids, count)
    assert owner(assign(ids, shards=shards)) == owner(assign(shuffled, shards=shards))


def test_a_shards_markets_keep_the_given_order() -> None:
    ids = market_ids(40)
    for mine in assign(ids, shards=3):
        assert list(mine) == [m for m in ids if m in mine]


@pytest.mark.parametrize("shards", [2, 4, 8, 16])
def test_a_market_that_comes_moves_few_others_however_many_there_are(shards: int) -> None:
    """Only a full shard pushes on, so the number of shards bounds the moves, not the markets'."""
    moves = []
    for count in (shards, 50, 101, 300):
        ids = market_ids(count + 40, seed=count)
        for more in range(40):
            before = owner(assign(ids[: count + more], shards=shards))
            after = owner(assign(ids[: count + more + 1], shards=shards))
            moves.append(sum(after[market_id] != shard for market_id, shard in before.items()))
    assert max(moves) <= 1 + shards // 2
    assert sum(moves) / len(moves) < 2.5


@pytest.mark.parametrize(("count", "shards"), [(3, 4), (0, 1), (5, 0), (5, -1)])
def test_a_split_that_leaves_a_shard_empty_is_refused(count: int, shards: int) -> None:
    with pytest.raises(ValueError, match=f"{count} markets cannot be split over {shards} shards"):
        assign(market_ids(count), shards=shards)


# ---- by weight ------------------------------------------------------------------------

_WEIGHTS = st.sampled_from([1.0, 1.0, 2.0, 4.0, 8.0, 32.0])


def loads(assigned: list[tuple[str, ...]], weights: dict[str, float]) -> list[float]:
    return [sum(weights[market_id] for market_id in mine) for mine in assigned]


@settings(max_examples=examples(80), deadline=None)
@given(each=st.lists(_WEIGHTS, min_size=1, max_size=100), shards=st.integers(1, 16))
def test_no_two_shards_differ_by_more_than_the_heaviest_market(
    each: list[float], shards: int
) -> None:
    weights = dict(zip(market_ids(len(each)), each, strict=True))
    assigned = assign(list(weights), shards=min(shards, len(each)), weights=weights)
    assert all(assigned), "an empty shard"
    assert sorted(m for mine in assigned for m in mine) == sorted(weights)
    carried = loads(assigned, weights)
    assert max(carried) - min(carried) <= max(each)


@settings(max_examples=examples(25), deadline=None)
@given(seed=st.integers(0, 2**16), shards=st.integers(2, 8))
def test_many_markets_of_a_few_kinds_split_into_equal_loads(seed: int, shards: int) -> None:
    rng = random.Random(seed)
    weights = {m: rng.choice([1.0, 1.0, 2.0, 4.0]) for m in market_ids(200, seed)}
    carried = loads(assign(list(weights), shards=shards, weights=weights), weights)
    assert max(carried) - min(carried) <= 2.0


def test_a_market_heavier_than_all_others_has_a_shard_of_its_own() -> None:
    ids = market_ids(21)
    assigned = assign(ids, shards=3, weights={ids[7]: 100.0})
    assert sorted(len(mine) for mine in assigned) == [1, 10, 10]
    assert (ids[7],) in assigned


@settings(max_examples=examples(25), deadline=None)
@given(each=st.lists(_WEIGHTS, min_size=1, max_size=60), shards=st.integers(1, 8))
def test_by_weight_too_the_order_of_the_list_does_not_matter(
    each: list[float], shards: int
) -> None:
    weights = dict(zip(market_ids(len(each)), each, strict=True))
    shards = min(shards, len(each))
    turned = list(reversed(weights))
    assert owner(assign(list(weights), shards=shards, weights=weights)) == owner(
        assign(turned, shards=shards, weights=weights)
    )


@pytest.mark.parametrize("shards", [2, 4, 8])
def test_a_market_that_comes_or_wakes_leaves_most_others_where_they_are(shards: int) -> None:
    ids = market_ids(320)
    rng = random.Random(shards)
    weights = {market_id: rng.choice([1.0, 1.0, 1.0, 2.0, 8.0]) for market_id in ids}
    moved = []
    for count in range(300, 320):
        before = owner(assign(ids[:count], shards=shards, weights=weights))
        for changed in (
            assign(ids[: count + 1], shards=shards, weights=weights),
            assign(ids[:count], shards=shards, weights=weights | {ids[count - 300]: 16.0}),
        ):
            after = owner(changed)
            moved.append(sum(after[market_id] != shard for market_id, shard in before.items()))
    assert sum(moved) / len(moved) < 300 * 0.05
    assert max(moved) < 300 * 0.2


@settings(max_examples=examples(25), deadline=None)
@given(count=st.integers(1, 60), shards=st.integers(1, 8), weight=st.floats(0.1, 100.0))
def test_equal_weights_are_no_weights(count: int, shards: int, weight: float) -> None:
    ids = market_ids(count)
    shards = min(shards, count)
    assert assign(ids, shards=shards, weights=dict.fromkeys(ids, weight)) == assign(
        ids, shards=shards
    )


def test_a_market_without_weight_is_refused() -> None:
    ids = market_ids(4)
    with pytest.raises(ValueError, match="weight must be above 0"):
        assign(ids, shards=2, weights={ids[0]: 0.0})
