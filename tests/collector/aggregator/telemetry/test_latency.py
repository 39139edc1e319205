"""The budget of hops: what is counted how often, and when clocks are not to be trusted."""

import msgspec
import pytest

from collector.aggregator.telemetry.latency import BlockClock, Latencies
from collector.client.performance import ClockCheck, Offset
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_TRADES,
    LATE,
    VERSION,
    BatchHeader,
    Record,
)
from shards.protocol.histograms import Histogram

US = 1_000
MS = 1_000_000
S = 1_000_000_000
RECV = 100 * S


def record(height: int, ts_recv: int, kind: int = KIND_BOOK, flags: int = 0) -> Record:
    return Record("t", kind, flags, height, 1, 1, RECV - 200 * MS, ts_recv, b"")


def header(shard: int = 0, ts_push: int = RECV + 300 * US) -> BatchHeader:
    return BatchHeader(VERSION, shard, 1, 1, 1, ts_push, False)


def about(histogram: Histogram, nanoseconds: int, number: int) -> bool:
    return histogram.number == number and histogram.quantile(1.0) == pytest.approx(
        nanoseconds, rel=1 / 16
    )


def test_the_hops_of_a_batch_add_up_to_the_way_of_its_frames() -> None:
    latencies = Latencies()
    records = [record(7, RECV), record(7, RECV), record(7, RECV + 50 * US, KIND_TRADES)]
    latencies.receive(records, header(), 1, RECV + 400 * US)
    latencies.published(0, RECV + 400 * US, RECV + 450 * US)
    assert about(latencies.hop("push_to_aggregator"), 100 * US, 1)
    assert about(latencies.hop("aggregator_to_published"), 50 * US, 1)
    assert about(latencies.hop("block_to_recv"), 200 * MS, 1)
    channels = latencies.recv_to_aggregator()
    # Of a batch, its first frame and its last.
    assert about(channels["book"], 400 * US, 1)
    assert about(channels["trades"], 350 * US, 1)


def test_replayed_frames_say_nothing_about_latency() -> None:
    latencies = Latencies()
    latencies.receive([record(7, RECV - 50 * S, flags=LATE)], header(), 1, RECV)
    assert latencies.recv_to_aggregator() == {}
    assert latencies.hop("block_to_recv").number == 0


def test_the_sum_of_what_a_node_is_late_that_catches_up_can_be_sent() -> None:
    latencies = Latencies()
    years = 4 * 365 * 86_400 * S
    for height in range(1, 1_001):
        now = RECV + years + height * MS
        latencies.receive([record(height, now)], header(ts_push=now), height, now)
    found = latencies.shards[0].block_to_recv
    assert found.maximum > years
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Histogram)
    assert (sent.number, sent.total) == (1_000, 1_000 * 60 * S)


def waits(latencies: Latencies, sequences: range, *, since: int = RECV, every: int = MS) -> None:
    """Send batches of one frame, each pushed at once and waiting 100 µs, but one of them longer."""
    for n, sequence in enumerate(sequences):
        ts_recv = since + n * every
        came = ts_recv + (7 * MS if sequence == sequences[-5] else 100 * US)
        if latencies.receive([record(7, ts_recv)], header(0, came - US), sequence, came):
            latencies.published(0, came, came + US)


def test_of_many_small_batches_an_even_share_is_timed_and_the_longest_wait_is_of_all() -> None:
    latencies = Latencies()
    waits(latencies, range(1, 20_001))
    timed = latencies.hop("push_to_aggregator").number
    assert 20_000 / 32 <= timed < 20_000 / 32 + 2_100
    assert latencies.hop("aggregator_to_published").number == timed
    whole = latencies.recv_to_aggregator()["book"]
    assert (whole.number, whole.maximum) == (timed, 7 * MS)
    assert whole.quantile(0.5) == pytest.approx(100 * US, rel=1 / 16)
    timed_already = whole.number
    latencies.fresh(0)
    assert latencies.receive([record(8, RECV)], header(), 1, RECV + MS)
    assert latencies.recv_to_aggregator()["book"].number == timed_already + 1


def test_a_shard_of_few_batches_has_each_timed_also_after_a_rush() -> None:
    latencies = Latencies()
    waits(latencies, range(1, 51), every=S // 5)
    assert latencies.hop("push_to_aggregator").number == 50
    waits(latencies, range(51, 5_051), since=RECV + 20 * S)
    rush = latencies.hop("push_to_aggregator").number
    waits(latencies, range(5_051, 5_151), since=RECV + 30 * S, every=S)
    assert latencies.hop("push_to_aggregator").number >= rush + 100 - 32


def test_what_was_taken_by_the_second_stays_in_the_total() -> None:
    latencies = Latencies()
    latencies.receive([record(7, RECV)], header(0), 1, RECV + MS)
    latencies.receive([record(7, RECV)], header(1), 1, RECV + 3 * MS)
    taken = latencies.take_recent(RECV)
    assert about(taken[0], MS, 1)
    assert about(taken[1], 3 * MS, 1)
    assert [histogram.number for histogram in latencies.take_recent(RECV).values()] == [0, 0]
    latencies.receive([record(8, RECV)], header(1), 2, RECV + MS)
    assert latencies.recv_to_aggregator(1)["book"].number == 2
    latencies.stop(1)
    assert latencies.shards.keys() == {0}
    assert latencies.recv_to_aggregator()["book"].number == 3
    assert latencies.hop("push_to_aggregator").number == 3


def test_a_block_spans_from_the_first_shard_that_had_it_to_the_last_frame_out() -> None:
    latencies = Latencies()
    latencies.receive([record(7, RECV + 2 * MS)], header(0), 1, RECV + 3 * MS)
    latencies.published(0, RECV + 3 * MS, RECV + 4 * MS)
    latencies.receive([record(7, RECV)], header(1), 1, RECV + 5 * MS)
    latencies.published(1, RECV + 5 * MS, RECV + 6 * MS)
    latencies.receive([record(7, RECV + 7 * MS)], header(0), 1, RECV + 8 * MS)
    latencies.published(0, RECV + 8 * MS, RECV + 9 * MS)
    # What comes later and is not the block's live frames does not make it longer.
    for sequence, (height, flags) in enumerate(((7, LATE), (7, KEYFRAME), (6, 0)), start=1):
        latencies.receive([record(height, RECV, flags=flags)], header(0), sequence, RECV + 600 * MS)
        latencies.published(0, RECV + 600 * MS, RECV + 601 * MS)
    latencies.take_recent(RECV + S)
    assert latencies.block_span.number == 0
    latencies.take_recent(RECV + 4 * S)
    assert about(latencies.block_span, 9 * MS, 1)


# ---- clocks -------------------------------------------------------------------------------


def test_clocks_that_agree_are_trusted() -> None:
    clock = BlockClock()
    for height in range(1, 100):
        clock.hear(height, (200 + height) * MS)
        clock.hear(height, 9 * S)
    said = clock.summary()
    assert (said.trusted, said.reason, said.blocks) == (True, "", 99)
    assert said.offset_ms == Offset(min=201.0, p50=250.0, max=299.0)


def test_a_block_that_came_before_it_was_made_shows_a_slow_clock() -> None:
    clock = BlockClock()
    clock.hear(1, 200 * MS)
    clock.hear(2, -30 * MS)
    said = clock.summary()
    assert not said.trusted
    assert said.reason.startswith("a block came 30 ms before its own time: our clock is behind")


def test_blocks_that_are_very_late_show_a_fast_clock_or_a_node_that_lags() -> None:
    clock = BlockClock()
    for height in range(1, 4):
        clock.hear(height, 60 * S)
    assert clock.summary().reason.startswith("blocks come 60 s after their time")


def test_old_blocks_do_not_speak_against_a_clock_that_was_set_right() -> None:
    clock = BlockClock()
    clock.hear(1, -S)
    for height in range(2, 502):
        clock.hear(height, 100 * MS)
    assert clock.summary().trusted


def test_without_a_block_nothing_is_known() -> None:
    assert BlockClock().summary() == ClockCheck(trusted=False, reason="no block yet")
