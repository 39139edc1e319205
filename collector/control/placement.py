"""
Placement: which shard collects each market, and how commands and listings change that.

Pure: the coordinator carries the plan out, and the aggregator makes each move lossless
(aggregator/handover.py). Plans are stable (no unnecessary moves) and even: the loads of the shards
differ by no more than one market could correct.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from collector.markets import selection
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Market

SLACK: Final = 0.1
"""Measured loads that differ by less than this share of their mean count as even."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """An admin command while the collector runs."""

    token: str
    kind: Literal["add", "remove", "scale", "rebalance", "drain"]
    markets: tuple[str, ...] = ()
    """Patterns, for add and remove."""
    number: int = 0
    """Number of shards, for scale; number of the shard, for drain."""


class Assignment(msgspec.Struct, frozen=True):
    """The shards, and the shard of each market."""

    shards: frozenset[int]
    wanted: Mapping[str, int]

    def sizes(self) -> dict[int, int]:
        """Count each shard's markets."""
        sizes = dict.fromkeys(sorted(self.shards), 0)
        for shard in self.wanted.values():
            sizes[shard] += 1
        return sizes


def loads(assignment: Assignment, weights: Mapping[str, float]) -> dict[int, float]:
    """Add up the weights of each shard's markets; a market without a weight weighs 1."""
    found = dict.fromkeys(sorted(assignment.shards), 0.0)
    for market_id, shard in assignment.wanted.items():
        found[shard] += weights.get(market_id, 1.0)
    return found


def place(
    assignment: Assignment, market_ids: Iterable[str], weights: Mapping[str, float]
) -> Assignment:
    """Give each of these markets in turn to the shard with the least load."""
    found = loads(assignment, weights)
    wanted = dict(assignment.wanted)
    for market_id in sorted(market_ids, key=lambda m: (-weights.get(m, 1.0), m)):
        shard = min(found, key=lambda s: (found[s], s))
        wanted[market_id] = shard
        found[shard] += weights.get(market_id, 1.0)
    return Assignment(assignment.shards, wanted)


def even(assignment: Assignment, weights: Mapping[str, float], *, slack: float = 0.0) -> Assignment:
    """
    Move as few markets as possible until no move makes the shards more even.

    Loads that differ by less than `slack` of their mean are even enough. No shard is left empty.
    """
    found = loads(assignment, weights)
    wanted = dict(assignment.wanted)
    enough = slack * sum(found.values()) / len(found)
    while True:
        emptiest = min(found, key=lambda s: (found[s], s))
        if found[emptiest] and max(found.values()) - found[emptiest] <= enough:
            break
        for fullest in sorted(found, key=lambda s: (-found[s], s)):
            spread = found[fullest] - found[emptiest]
            movable = [
                (abs(spread - 2 * weights.get(m, 1.0)), m)
                for m, shard in wanted.items()
                if shard == fullest and weights.get(m, 1.0) < spread
            ]
            if movable:
                break
        else:
            break
        _, market_id = min(movable)
        weight = weights.get(market_id, 1.0)
        wanted[market_id] = emptiest
        found[fullest] -= weight
        found[emptiest] += weight
    return Assignment(assignment.shards, wanted)


def without(
    assignment: Assignment, shards: Collection[int], weights: Mapping[str, float]
) -> Assignment:
    """Move the markets of some shards to the others."""
    kept = {m: shard for m, shard in assignment.wanted.items() if shard not in shards}
    homeless = [m for m, shard in assignment.wanted.items() if shard in shards]
    return place(Assignment(assignment.shards - frozenset(shards), kept), homeless, weights)


def scale(assignment: Assignment, number: int, weights: Mapping[str, float]) -> Assignment:
    """
    Change the number of shards: remove the highest numbers, add the lowest free ones.

    Raises:
        ConfigError: If the number is 0, or exceeds the number of markets.

    """
    if not 1 <= number <= len(assignment.wanted):
        raise ConfigError(
            f"{number} shards: there must be at least one, and no more than the "
            f"{len(assignment.wanted)} markets collected"
        )
    shards = sorted(assignment.shards)
    slack = SLACK if weights else 0.0
    if number <= len(shards):
        return even(without(assignment, shards[number:], weights), weights, slack=slack)
    free = [n for n in range(number + len(shards)) if n not in assignment.shards]
    more = assignment.shards | frozenset(free[: number - len(shards)])
    return even(Assignment(more, assignment.wanted), weights, slack=slack)


def drain(assignment: Assignment, shard: int, weights: Mapping[str, float]) -> Assignment:
    """
    Move one shard's markets to the others, and remove it.

    Raises:
        ConfigError: If the shard does not exist, or is the only one.

    """
    if shard not in assignment.shards:
        there = ", ".join(map(str, sorted(assignment.shards)))
        raise ConfigError(f"there is no shard {shard}: the shards are {there}")
    if len(assignment.shards) == 1:
        raise ConfigError(f"shard {shard} is the only one: no other could take its markets")
    return without(assignment, [shard], weights)


def ease(
    assignment: Assignment, hot: int, use: Mapping[int, float], weights: Mapping[str, float]
) -> Assignment:
    """
    Move markets from an overloaded shard to the least loaded one.

    ``use`` is each shard's current usage; a market's share follows its weight. Nothing moves if
    the other shard would soon be overloaded as well.
    """
    others = {shard: use.get(shard, 0.0) for shard in assignment.shards if shard != hot}
    mine = sorted(
        (m for m, shard in assignment.wanted.items() if shard == hot),
        key=lambda m: (-weights.get(m, 1.0), m),
    )
    if not others or len(mine) < 2:
        return assignment
    cool = min(others, key=lambda s: (others[s], s))
    part = use[hot] / sum(weights.get(m, 1.0) for m in mine)
    surplus = (use[hot] - others[cool]) / 2
    wanted = dict(assignment.wanted)
    if surplus < SLACK * use[hot]:
        return assignment
    for market_id in mine[1:] + mine[:1]:
        cost = part * weights.get(market_id, 1.0)
        # Overshooting by up to 50 % beats moving nothing.
        if cost <= 1.5 * surplus:
            wanted[market_id] = cool
            surplus -= cost
    return Assignment(assignment.shards, wanted)


def moved(before: Assignment, after: Assignment) -> list[str]:
    """Return the markets whose shard differs."""
    return [m for m, shard in after.wanted.items() if before.wanted.get(m, shard) != shard]


def chosen(
    found: Sequence[Market], patterns: Sequence[str], types: Collection[str]
) -> list[Market]:
    """Return the markets that a running collector's selection includes; it may be empty."""
    try:
        if not patterns:
            return selection.choose(found, (), types)
        ours: dict[str, Market] = {}
        for pattern in patterns:
            try:
                chosen_now = selection.choose(found, [pattern], types)
            except ConfigError:
                continue
            ours |= {market.market_id: market for market in chosen_now}
        return [market for market in found if market.market_id in ours]
    except ConfigError:
        return []
