"""Parts of the markets: each market is in exactly one, and few move when there is one more."""

import pytest
from hypothesis import given, strategies as st

from collector.aggregator.state.trade_proof import TradeProof
from collector.client.cells.added_proof import added_up
from collector.client.summary import Proof
from collector.markets.parts import Part
from shards.protocol.settings import CHAIN, Market


def markets(count: int) -> list[Market]:
    return [Market(f"0x{n:064x}", f"T{n}/USDT", f"T{n}-USDT", "spot") for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_market_is_in_one_part_and_parts_are_even(count: int) -> None:
    listed = markets(3_000)
    shares = [Part(number, count).of(listed) for number in range(1, count + 1)]
    assert sorted(m.market_id for share in shares for m in share) == [m.market_id for m in listed]
    assert all(abs(len(share) - 3_000 / count) < 3_000 / count * 0.15 for share in shares)


def test_with_one_part_more_only_its_own_share_moves() -> None:
    for market in markets(1_000):
        before = [number for number in range(1, 4) if Part(number, 3).has(market)]
        after = [number for number in range(1, 5) if Part(number, 4).has(market)]
        assert after in (before, [4])


def test_the_chain_is_in_every_part() -> None:
    assert all(Part(number, 3).has(CHAIN) for number in (1, 2, 3))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1/1001"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no part: write 1/3"):
        Part.parse(text)


def test_a_part_is_read_as_it_is_written() -> None:
    assert str(Part.parse(" 2/3 ")) == "2/3"


def proof_of(part: str, blocks: list[tuple[int, int, int]], through: int) -> Proof:
    """Let a cell's own proof count blocks; the first height only sets the start."""
    proof = TradeProof(every_market=True, part=part)
    proof.judge(10, since=0)
    for block in blocks:
        proof.add(*block)
    proof.judge(through, since=0)
    return proof.summary()


@given(
    blocks=st.lists(st.lists(st.integers(1, 3), max_size=6), max_size=8),
    gone=st.integers(0, 47),
)
def test_counts_of_parts_add_up_unless_a_trade_is_missing(
    blocks: list[list[int]], gone: int
) -> None:
    through = 10 + len(blocks)
    rows: dict[int, list[tuple[int, int, int]]] = {1: [], 2: [], 3: []}
    holes, seen = [], 0
    for height, owners in enumerate(blocks, 11):
        lost = None
        if seen <= gone < seen + len(owners):
            lost = gone - seen
        seen += len(owners)
        for part in rows:
            mine = [n for n, owner in enumerate(owners) if owner == part and n != lost]
            if mine:
                rows[part].append((height, len(mine), max(mine)))
        if lost is not None and lost != len(owners) - 1:
            holes.append(height)
    proofs = [proof_of(f"{part}/3", found, through) for part, found in rows.items()]
    together = added_up(proofs)
    assert together is not None
    assert together.provable
    assert together.heights == holes
    # A replica that has the trade closes the hole.
    replicas = []
    for part in rows:
        whole: list[tuple[int, int, int]] = []
        for height, owners in enumerate(blocks, 11):
            mine = [n for n, owner in enumerate(owners) if owner == part]
            if mine:
                whole.append((height, len(mine), max(mine)))
        replicas.append(proof_of(f"{part}/3", whole, through))
    healed = added_up([*proofs, *replicas])
    assert healed is not None
    assert healed.holes == 0


def test_a_part_that_is_away_and_parts_of_other_numbers_prove_nothing() -> None:
    one, two = proof_of("1/2", [], 20), proof_of("1/3", [], 20)
    away = added_up([one])
    assert away is not None
    assert away.reason == "not provable: part 2/2 does not answer"
    mixed = added_up([one, two])
    assert mixed is not None
    assert mixed.reason == "not provable: the cells are parts of 2 and of 3"
    assert added_up([Proof(provable=True)]) is None


def test_a_market_outside_of_the_listing_stops_the_count() -> None:
    proof = TradeProof(every_market=True, part="1/2")
    proof.judge(10, since=0)
    proof.add(11, 1, 0)
    proof.judge(11, since=0)
    proof.listed(20, every_market=False)
    proof.judge(12, since=0)
    proof.listed(30, every_market=True)
    proof.add(13, 2, 3)
    proof.judge(13, since=0)
    summary = proof.summary()
    assert (summary.since, summary.through, summary.blocks) == (13, 13, [(13, 2, 3)])
