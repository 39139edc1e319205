"""
Which shard owns which market: a pure function, even and stable.

Every market ranks the shards by a hash of (market, shard) and takes the first that has
room (rendezvous hashing with a bound). Shards differ by at most one market, none is
empty, and a market that comes or goes moves few others.
"""

import hashlib
from collections.abc import Sequence


def _rank(market_id: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{market_id}/{shard}".encode(), digest_size=8).digest()


def assign(market_ids: Sequence[str], *, shards: int) -> list[tuple[str, ...]]:
    """
    Split markets over shards; entry i is what shard i owns, in the given order.

    Raises:
        ValueError: If there are fewer markets than shards, or no shard at all.

    """
    if not 1 <= shards <= len(market_ids):
        raise ValueError(f"{len(market_ids)} markets cannot be split over {shards} shards")
    floor, larger = divmod(len(market_ids), shards)
    owned: list[set[str]] = [set() for _ in range(shards)]
    # In the order of their ids, not of the list: it must not matter who comes first.
    for market_id in sorted(market_ids):
        for shard in sorted(range(shards), key=lambda s: _rank(market_id, s)):
            if len(owned[shard]) < floor:
                break
            if len(owned[shard]) == floor and larger:
                larger -= 1
                break
        owned[shard].add(market_id)
    return [tuple(m for m in market_ids if m in mine) for mine in owned]
