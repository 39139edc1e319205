"""Blocks are whole when their trade ids are 0 … max; what cannot be proved is said."""

from hypothesis import given, strategies as st

from collector.aggregator.state.trade_proof import TradeProof
from collector.client.summary import Proof


def begun(settled: int = 9) -> TradeProof:
    proof = TradeProof(every_market=True)
    proof.judge(settled, since=5)
    return proof


def test_a_block_whose_trades_all_came_is_whole() -> None:
    proof = begun()
    proof.add(10, 2, 3)
    proof.add(10, 2, 1)
    proof.judge(10, since=5)
    assert proof.summary() == Proof(provable=True, whole=1, holes=0, heights=[])


def test_a_block_that_lacks_a_trade_is_a_hole() -> None:
    proof = begun()
    proof.add(10, 3, 3)
    proof.judge(11, since=5)
    assert proof.summary() == Proof(provable=True, whole=0, holes=1, heights=[10])


def test_blocks_that_not_every_market_had_joined_for_are_not_judged() -> None:
    proof = begun()
    proof.add(10, 1, 3)
    proof.add(12, 2, 1)
    proof.judge(12, since=11)
    assert proof.summary().whole == 1
    assert proof.summary().holes == 0


def test_of_a_subset_nothing_is_provable_and_that_is_said() -> None:
    proof = TradeProof(every_market=False)
    assert proof.summary() == Proof(reason="not provable: subset of the network's markets")


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30),
    st.lists(st.integers(0, 29), max_size=5),
)
def test_it_finds_exactly_the_blocks_that_lost_a_market(owners: list[int], lost: list[int]) -> None:
    """Trade n belongs to market owners[n]; the trades of some markets never come."""
    proof = begun()
    missing = {owners[n] for n in lost if n < len(owners)}
    for market in set(owners) - missing:
        numbers = [n for n, owner in enumerate(owners) if owner == market]
        proof.add(10, len(numbers), max(numbers))
    proof.judge(10, since=5)
    came = [n for n, owner in enumerate(owners) if owner not in missing]
    # Losing the very last numbers cannot be seen by counting to the highest that came.
    seen_whole = came == list(range(len(came)))
    assert proof.summary().whole == int(bool(came) and seen_whole)
    assert proof.summary().holes == int(bool(came) and not seen_whole)


def test_blocks_that_wait_for_days_are_bounded_and_the_newest_are_judged() -> None:
    proof, most = begun(), 16_384
    for height in range(10, 10 + 2 * most):
        proof.add(height, 1, 1)
        proof.add(height, 1, 0)
    # A replayed block that is older than what was given up, and comes in part.
    proof.add(12, 1, 1)
    assert len(proof._open) == most
    proof.judge(10 + 2 * most, since=5)
    assert proof.summary() == Proof(provable=True, whole=most, holes=0, heights=[])


def test_a_part_does_not_count_blocks_that_it_gave_up() -> None:
    proof = TradeProof(every_market=True, part="1/2")
    proof.judge(9, since=5)
    for height in range(10, 20 + 16_384):
        proof.add(height, 1, 0)
    proof.judge(19, since=5)
    assert (proof.summary().since, proof.summary().blocks) == (20, [])
