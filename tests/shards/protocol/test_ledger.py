"""A market's ledger and its arithmetic."""

import msgspec
import pytest

from shards.protocol.ledger import MarketLedger


def test_a_market_that_has_not_joined_owes_nothing() -> None:
    ledger = MarketLedger()
    assert (ledger.due, ledger.received) == (0, 0)
    ledger.begin(100)
    assert (ledger.due, ledger.received) == (0, 0)


def test_every_due_block_is_received_replayed_or_missing() -> None:
    ledger = MarketLedger(100, 119, replayed=[(105, 107)], missing=[(110, 110), (112, 113)])
    assert ledger.due == 20
    assert ledger.received == 14
    assert repr(ledger) == "<MarketLedger 100..119, 3 replayed, 3 missing>"


@pytest.mark.parametrize(
    ("height", "replayed", "missing"),
    [
        (119, [(105, 107)], [(110, 110), (112, 113)]),
        (112, [(105, 107)], [(110, 110), (112, 112)]),
        (109, [(105, 107)], []),
        (105, [(105, 105)], []),
        (99, [], []),
    ],
)
def test_a_rewound_ledger_forgets_all_that_lies_after(
    height: int, replayed: list[tuple[int, int]], missing: list[tuple[int, int]]
) -> None:
    ledger = MarketLedger(100, 119, replayed=[(105, 107)], missing=[(110, 110), (112, 113)])
    ledger.rewind(height)
    assert ledger.last == height
    assert list(ledger.replayed) == replayed
    assert list(ledger.missing) == missing
    assert ledger.received + len(ledger.replayed) + len(ledger.missing) == ledger.due


def test_a_ledger_of_months_is_small_and_counts_exactly() -> None:
    ledger = MarketLedger(100, 99)
    for cut in range(5_000):
        ledger.replayed.add(100 + 20 * cut, 103 + 20 * cut)
        ledger.missing.add(110 + 20 * cut)
        ledger.last = 119 + 20 * cut
    assert (ledger.due, ledger.received) == (100_000, 75_000)
    assert (len(ledger.replayed), len(ledger.missing)) == (20_000, 5_000)
    assert len(msgspec.msgpack.encode(ledger.state())) < 4_096
    assert MarketLedger.of(ledger.state()).state() == ledger.state()
    # A shard that takes it up a few blocks earlier counts those again.
    ledger.rewind(100_090)
    assert (len(ledger.replayed), len(ledger.missing)) == (20_000, 5_000)
    ledger.rewind(100_062)
    assert (len(ledger.replayed), len(ledger.missing)) == (19_995, 4_998)
