"""
The initial placement of markets on shards: a pure function, even and stable.

Every market ranks the shards by a hash of (market, shard) and takes the first one with room
(rendezvous hashing with a bound), so that adding or removing a market moves few others. Without
weights room is counted in markets, and shards differ by at most one. With weights it is counted in
load: no two shards differ by more than the weight of the heaviest market. No shard is empty.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

_ROUNDING: Final = 1e-9
"""Relative difference below which sums of weights count as equal."""


def _rank(market_id: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{market_id}/{shard}".encode(), digest_size=8).digest()


def _by_rank(market_id: str, shards: int) -> list[int]:
    return sorted(range(shards), key=lambda shard: _rank(market_id, shard))


def assign(
    market_ids: Sequence[str], *, shards: int, weights: Mapping[str, float] | None = None
) -> list[tuple[str, ...]]:
    """
    Distribute markets over shards; entry i has shard i's markets, in the given order.

    A market without a weight weighs 1; equal weights have no effect.

    Raises:
        ValueError: If there are fewer markets than shards, no shard at all, or a weight
            that is not above 0.

    """
    if not 1 <= shards <= len(market_ids):
        raise ValueError(f"{len(market_ids)} markets cannot be split over {shards} shards")
    given = weights or {}
    weighed = {market_id: given.get(market_id, 1.0) for market_id in market_ids}
    if min(weighed.values()) <= 0.0:
        raise ValueError("a market's weight must be above 0")
    even = len(set(weighed.values())) == 1
    owned = _by_number(market_ids, shards) if even else _by_load(weighed, shards)
    return [tuple(m for m in market_ids if m in mine) for mine in owned]


def _by_number(market_ids: Sequence[str], shards: int) -> list[set[str]]:
    floor, larger = divmod(len(market_ids), shards)
    owned: list[set[str]] = [set() for _ in range(shards)]
    # In order of their ids: the order of the list must not matter.
    for market_id in sorted(market_ids):
        for shard in _by_rank(market_id, shards):
            if len(owned[shard]) < floor:
                break
            if len(owned[shard]) == floor and larger:
                larger -= 1
                break
        owned[shard].add(market_id)
    return owned


def _by_load(weights: Mapping[str, float], shards: int) -> list[set[str]]:
    """
    Give each market its first choice with room, or the least loaded shard.

    Only the latter exceeds a shard's share, so no shard ends more than that one market above
    the least loaded.
    """
    owned: list[set[str]] = [set() for _ in range(shards)]
    loads = [0.0] * shards
    # Heaviest first, so that the markets that find no room are light.
    order = sorted(weights, key=lambda market_id: (-weights[market_id], market_id))
    share = _share([weights[market_id] for market_id in order], shards) * (1.0 + _ROUNDING)
    for placed, market_id in enumerate(order):
        weight = weights[market_id]
        choices = _by_rank(market_id, shards)
        empty = [shard for shard in choices if not owned[shard]]
        if len(empty) == len(order) - placed:
            shard = empty[0]
        else:
            fitting = (shard for shard in choices if loads[shard] + weight <= share)
            shard = next(fitting, min(choices, key=lambda shard: loads[shard]))
        owned[shard].add(market_id)
        loads[shard] += weight
    return owned


def _share(heaviest_first: Sequence[float], shards: int) -> float:
    """Return each shard's share of the load; a market above it gets a shard of its own."""
    rest = sum(heaviest_first)
    for weight in heaviest_first:
        if weight <= rest / shards or shards == 1:
            break
        rest -= weight
        shards -= 1
    return rest / shards
