"""Which shard owns which market."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from collector.sharding import assign


def market_ids(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [f"0x{rng.getrandbits(256):064x}" for _ in range(count)]


def owner(assigned: list[tuple[str, ...]]) -> dict[str, int]:
    return {market_id: n for n, mine in enumerate(assigned) for market_id in mine}


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=60, deadline=None)
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
