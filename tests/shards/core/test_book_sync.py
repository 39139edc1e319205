"""Joining a snapshot to a stream of updates, and noticing when one is missing."""

import pytest
from hypothesis import given, settings, strategies as st

from shards.core import book_sync
from shards.core.book_sync import BookSync
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, BookUpdate, Snapshot
from tests.searches import examples
from tests.shards.chain import FIRST, IDS, Chain

MARKET = IDS[0]


def update(sequence: int) -> BookUpdate:
    """An update that leaves its mark: bid level n is changed by update n."""
    return BookUpdate(MARKET, sequence, [(f"{sequence}.0", "1")], [])


def snapshot(sequence: int, height: int) -> Snapshot:
    return Snapshot(MARKET, height, sequence, [(f"{n}.0", "1") for n in range(1, sequence + 1)], [])


def hear(sync: BookSync, sequence: int, height: int) -> Book | None:
    return sync.receive(update(sequence), height, height * 500, height * 500 + 1, "chain-ws")


def joined(sequence: int, height: int = 100) -> BookSync:
    sync = BookSync(MARKET)
    sync.lose(observed_from=height + 1)
    assert sync.join(snapshot(sequence, height), 1) is not None
    return sync


def test_updates_are_buffered_until_a_snapshot_joins_then_published_after_it() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    assert [hear(sync, n, 90 + n) for n in (10, 11, 12)] == [None] * 3
    published = sync.join(snapshot(10, 100), ts_recv=7)
    assert published is not None
    assert [(b.is_snapshot, b.sequence) for b in published] == [
        (True, 10),
        (False, 11),
        (False, 12),
    ]
    assert sync.in_sync
    assert sync.book.sequence == 12
    assert len(sync.book.bids) == 12


def test_the_snapshot_is_published_as_it_was_fetched_best_levels_first() -> None:
    sync = BookSync(MARKET)
    whole = Snapshot(MARKET, 120, 4, [("2.0", "1"), ("10.0", "1")], [("30.0", "1"), ("4.0", "1")])
    published = sync.join(whole, ts_recv=7)
    bids, asks = [("10.0", "1"), ("2.0", "1")], [("4.0", "1"), ("30.0", "1")]
    assert published == [Book(MARKET, 120, 4, 0, 7, "chain-ws", True, bids, asks)]


def test_a_snapshot_older_than_the_stream_is_refused() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    assert sync.join(snapshot(9, 98), 1) is None
    assert not sync.in_sync
    assert sync.join(snapshot(9, 99), 1) is not None


def test_a_snapshot_that_leaves_a_hole_before_the_first_update_is_refused() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    hear(sync, 12, 100)
    assert sync.join(snapshot(10, 0), 1) is None
    assert sync.join(snapshot(11, 0), 1) is not None
    assert sync.book.sequence == 12


def test_a_hole_inside_the_buffer_is_refused_until_a_snapshot_covers_it() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    for sequence in (11, 13, 14):
        hear(sync, sequence, 100 + sequence)
    assert sync.join(snapshot(10, 0), 1) is None
    assert sync.join(snapshot(11, 0), 1) is None
    published = sync.join(snapshot(12, 0), 1)
    assert published is not None
    assert [b.sequence for b in published] == [12, 13, 14]


def test_updates_that_the_snapshot_covers_are_dropped_before_and_after_it() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    hear(sync, 11, 100)
    published = sync.join(snapshot(12, 101), 1)
    assert published is not None
    assert [b.sequence for b in published] == [12]
    assert hear(sync, 12, 101) is None
    delta = hear(sync, 13, 102)
    assert delta is not None
    assert (delta.height, delta.sequence, delta.is_snapshot) == (102, 13, False)


def test_a_missing_update_ends_the_trust_and_the_later_one_is_kept() -> None:
    sync = joined(10)
    with pytest.raises(SequenceGap) as gap:
        hear(sync, 12, 105)
    assert (gap.value.expected, gap.value.found) == (11, 12)
    assert not sync.in_sync
    assert sync.book.sequence == 10
    assert sync.join(snapshot(10, 103), 1) is None
    published = sync.join(snapshot(11, 104), 1)
    assert published is not None
    assert [b.sequence for b in published] == [11, 12]


def test_a_sequence_that_begins_again_in_a_later_block_is_no_old_update() -> None:
    sync = joined(10, height=100)
    assert hear(sync, 3, 100) is None
    with pytest.raises(SequenceGap, match="restarted"):
        hear(sync, 3, 101)
    assert not sync.in_sync
    hear(sync, 4, 102)
    published = sync.join(snapshot(3, 101), 1)
    assert published is not None
    assert [(b.sequence, b.height) for b in published] == [(3, 101), (4, 102)]


@pytest.mark.parametrize("height", [102, 0], ids=["known height", "unknown height"])
def test_a_sequence_that_begins_again_while_a_snapshot_is_awaited_is_joined(height: int) -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    for sequence, of in ((11, 100), (12, 101), (1, 102), (2, 103)):
        hear(sync, sequence, of)
    published = sync.join(snapshot(1, height), 1)
    assert published is not None
    assert [b.sequence for b in published] == [1, 2]


def test_updates_that_a_snapshot_of_unknown_height_covers_are_still_old() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    hear(sync, 11, 100)
    assert sync.join(snapshot(14, 0), 1) is not None
    assert [hear(sync, n, 89 + n + 1) for n in (12, 13, 14)] == [None] * 3
    assert hear(sync, 15, 110) is not None
    with pytest.raises(SequenceGap):
        hear(sync, 2, 111)


def test_a_buffer_that_overflows_starts_over_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_sync, "_BUFFERED", 3)
    sync = BookSync(MARKET)
    sync.lose(observed_from=100)
    for n in range(4):
        hear(sync, 11 + n, 100 + n)
    assert sync.join(snapshot(10, 102), 1) is None
    hear(sync, 15, 104)
    published = sync.join(snapshot(14, 103), 1)
    assert published is not None
    assert [b.sequence for b in published] == [14, 15]


def test_a_book_that_nobody_wants_is_never_waited_for() -> None:
    sync = BookSync(MARKET, wanted=False)
    assert sync.in_sync
    sync.lose(observed_from=100)
    assert sync.in_sync


@settings(max_examples=examples(100), deadline=None)
@given(
    seed=st.integers(0, 2**16),
    start=st.integers(0, 10),
    query=st.integers(-3, 30),
    lost=st.sets(st.integers(0, 29)),
)
def test_whatever_is_lost_a_book_in_sync_is_the_true_one(
    seed: int, start: int, query: int, lost: set[int]
) -> None:
    chain = Chain(seed, 31)
    sync = BookSync(MARKET)
    sync.lose(observed_from=FIRST + start)
    for height in range(FIRST + start, FIRST + 31):
        updates = [u for u in chain.whole(height).updates if u.market_id == MARKET]
        truth = chain.books[height][MARKET]
        for each in updates if height - FIRST not in lost else ():
            try:
                sync.receive(each, height, 0, 0, "chain-ws")
            except SequenceGap:
                assert lost
            else:
                assert not sync.in_sync or sync.book.sequence >= each.sequence
        if not sync.in_sync and height - FIRST >= query + start:
            sync.join(chain.snapshot(MARKET, max(FIRST - 1, height - 1)), 0)
        if sync.in_sync and sync.book.sequence == truth.sequence:
            assert (sync.book.bids, sync.book.asks) == (truth.bids, truth.asks)


def test_a_passed_on_book_of_unknown_height_joins_once_a_later_block_left_it_as_it_is() -> None:
    sync = BookSync(MARKET)
    sync.lose(observed_from=101, passes_on=True)
    looks = ((9, 100, True), (9, 100, True), (10, 101, True), (10, 102, False))
    assert all(
        sync.is_ahead(snapshot(sequence, 0), height, is_complete=is_complete)
        for sequence, height, is_complete in looks
    )
    assert not sync.is_ahead(snapshot(10, 0), 102, is_complete=True)
    hear(sync, 10, 103)
    assert sync.is_ahead(snapshot(11, 0), 104, is_complete=True)
    assert not sync.is_ahead(snapshot(10, 0), 104, is_complete=True)
