"""The aggregator behind a real XPUB: what it refuses, what it repeats, when reports count."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from collector.aggregator.aggregator import OWN_SHARD, Aggregator
from collector.aggregator.forwarder import Publisher
from collector.aggregator.state.saved import Saved
from collector.aggregator.telemetry.activity_meter import Counts
from collector.settings.parts import AggregatorConfig
from shards.protocol import frames
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.control import Report
from shards.protocol.events import Book, Event, Gap, Metadata, Ticker, Trade, Trades
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TICKER,
    KIND_TRADES,
    SNAPSHOT,
    BatchHeader,
    Record,
)
from shards.protocol.settings import Endpoints, Market
from shards.push import plain_send
from tests.shards.reported import market_report, report

MARKET = Market("0x" + "a" * 64, "INJ/USDT", "INJ-USDT", "spot")
PUBLISHER = 5_000
EPOCH = 70
WAIT_MS = 5_000
NOW = 1_000.0
END = b"book.END."


def book(sequence: int, height: int, flags: int = 0) -> Record:
    ids = (MARKET.market_id, height, sequence, 0, 1)
    event = Book(*ids, "chain-ws", bool(flags & SNAPSHOT), [("9.5", str(sequence))], [])
    packed = frames.encode(event)
    return Record("book.INJ-USDT.", KIND_BOOK, flags, height, sequence, 1, 0, 1, packed)


def trades(height: int, count: int = 1) -> Record:
    fills = [Trade(f"{height}_{n}", "buy", *["1"] * 7) for n in range(count)]
    event = frames.encode(Trades(MARKET.market_id, height, 0, 1, "chain-ws", fills))
    name = "trades.INJ-USDT."
    return Record(name, KIND_TRADES, 0, height, count - 1, count, 0, 1, event)


def gap(height: int) -> Record:
    event = frames.encode(Gap(MARKET.market_id, 1, "open", "mute", height, 0, 1))
    return Record("gap.INJ-USDT.", KIND_GAP, 0, height, 1, 1, 0, 1, event)


class Bench:
    """An aggregator, its shards played by hand, and one subscriber of everything."""

    def __init__(
        self,
        directory: Path,
        epoch: int = PUBLISHER,
        channels: tuple[str, ...] = DEFAULT_CHANNELS,
        saved: Saved | None = None,
    ) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.publisher = self.context.socket(zmq.XPUB)
        self.publisher.bind(f"ipc://{directory}/publish")
        self.subscriber = self.context.socket(zmq.SUB)
        self.subscriber.subscribe(b"")
        self.subscriber.connect(f"ipc://{directory}/publish")
        assert self.publisher.poll(WAIT_MS)
        assert self.publisher.recv() == b"\x01"
        config = AggregatorConfig(
            epoch=epoch,
            publish=(),
            pull="",
            link="",
            folder="",
            markets=(MARKET,),
            endpoints=Endpoints(),
            every_market=False,
            channels=channels,
        )
        publisher = Publisher(plain_send(self.publisher))
        self.aggregator = Aggregator(config, publisher, clock=time.time_ns, saved=saved)

    def close(self) -> None:
        self.context.destroy(linger=0)

    def batch(
        self, first: int, *records: Record, epoch: int = EPOCH, publisher: int = PUBLISHER
    ) -> None:
        """Push one batch, its first frame numbered ``first``."""
        header = BatchHeader(frames.VERSION, 0, epoch, publisher, first, 0, False)
        self.aggregator.forwarder.receive(frames.encode(header), frames.encode(list(records)))

    def report(self, said: Report) -> bool:
        """Send a report; return whether its shard was asked to stop."""
        return self.aggregator.report(said, NOW).fenced

    def start_shard(self, epoch: int = EPOCH) -> None:
        assert not self.report(report(epoch=epoch, fresh=True))

    def published(self) -> list[tuple[frames.Frame, Event]]:
        """Take all that was published: everything up to a mark that follows it."""
        self.publisher.send_multipart([END, b""])
        out: list[tuple[frames.Frame, Event]] = []
        while True:
            assert self.subscriber.poll(WAIT_MS)
            topic, body = self.subscriber.recv_multipart()
            if topic == END:
                return out
            frame, event = frames.decode(body)
            assert event is not None
            out.append((frame, event))

    def published_books(self) -> list[int]:
        return [event.sequence for _, event in self.published() if isinstance(event, Book)]

    def published_trades(self) -> list[int]:
        return [event.height for _, event in self.published() if isinstance(event, Trades)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.context.destroy(linger=0)


def test_frames_go_out_under_their_topics_numbered_per_topic(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, book(1, 100, SNAPSHOT), trades(101), book(2, 101))
    bench.batch(4, trades(102, count=3), gap(103))
    out = bench.published()
    assert [(type(e).__name__, f.topic_sequence, f.frame_sequence) for f, e in out] == [
        ("Book", 1, 1),
        ("Trades", 1, 2),
        ("Book", 2, 3),
        ("Trades", 2, 4),
        ("Gap", 1, 5),
    ]
    assert {(f.publisher_epoch, f.shard, f.epoch) for f, _ in out} == {(PUBLISHER, 0, EPOCH)}
    assert bench.aggregator.publisher.published == 5
    counts = Counts(trades=4, book_updates=2, sequence=2)
    assert bench.aggregator.topics.counts()[MARKET.market_id] == counts


# ---- a sequence that restarts, told by time ---------------------------------------------


def change(sequence: int, ts: int, flags: int = 0, height: int = 0) -> Record:
    """A record of a book whose changes name no height."""
    ids = (MARKET.market_id, height, sequence, ts, 1)
    event = Book(*ids, "indexer-grpc", bool(flags & SNAPSHOT), [("9.5", str(sequence))], [])
    packed = frames.encode(event)
    return Record("book.INJ-USDT.", KIND_BOOK, flags, height, sequence, 1, ts, 1, packed)


def test_where_changes_name_no_height_their_times_tell_that_a_sequence_restarted(
    bench: Bench,
) -> None:
    bench.start_shard()
    bench.batch(1, change(200, 0, SNAPSHOT, 90), change(201, 1_000), change(202, 1_100))
    # Old ones, and a whole book of a backend that is behind.
    bench.batch(4, change(201, 1_000), change(150, 0, SNAPSHOT, 95), change(151, 900))
    assert bench.published_books() == [200, 201, 202]
    bench.batch(7, change(3, 1_200, SNAPSHOT, 99), change(4, 1_200), change(5, 1_300))
    # The rest of the earlier count comes late.
    bench.batch(10, change(203, 1_100), change(202, 1_100), change(202, 0, SNAPSHOT, 91))
    bench.batch(13, change(6, 1_400))
    assert bench.published_books() == [3, 4, 5, 6]
    # Nobody saw the whole book: its changes alone are later.
    bench.batch(14, change(1, 1_500), change(2, 1_600))
    assert bench.published_books() == [1, 2]


# ---- fencing ----------------------------------------------------------------------------


def test_a_shard_that_never_reported_is_not_heard(bench: Bench) -> None:
    bench.batch(1, trades(100))
    assert bench.published() == []
    assert bench.aggregator.forwarder.fenced == 1


def test_frames_of_an_older_process_are_refused_once_a_younger_one_has_reported(
    bench: Bench,
) -> None:
    bench.start_shard(EPOCH)
    bench.batch(1, trades(100))
    bench.start_shard(EPOCH + 1)
    bench.batch(2, trades(101), trades(102))
    bench.batch(1, trades(103), epoch=EPOCH + 1)
    assert bench.published_trades() == [100, 103]
    assert bench.aggregator.forwarder.fenced == 2


def test_an_older_process_that_reports_is_told_to_stop_and_changes_nothing(bench: Bench) -> None:
    bench.start_shard(EPOCH)
    old = report(market_report(MARKET.market_id, 100, 200), epoch=EPOCH - 1, kept=0)
    assert bench.report(old)
    assert bench.aggregator.coverage.blocks().due == 0
    assert bench.aggregator.coverage.coverage(NOW) == 0.0


@pytest.mark.parametrize("publisher", [0, PUBLISHER - 1, PUBLISHER + 1])
def test_a_batch_that_is_meant_for_another_aggregator_is_refused(
    bench: Bench, publisher: int
) -> None:
    bench.start_shard()
    bench.batch(1, trades(100), publisher=publisher)
    assert bench.published() == []
    assert bench.aggregator.forwarder.fenced == 1


# ---- duplicates ---------------------------------------------------------------------------


def test_trades_of_a_height_go_out_once_whoever_repeats_them(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, trades(100), trades(102))
    bench.batch(3, trades(102), trades(101), trades(103))
    bench.start_shard(EPOCH + 1)
    bench.batch(1, trades(103), trades(104), epoch=EPOCH + 1)
    assert bench.published_trades() == [100, 102, 103, 104]
    assert bench.aggregator.forwarder.duplicates == 3


def test_a_book_whose_sequence_begins_again_in_a_later_block_goes_out(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, book(5, 100, SNAPSHOT), book(6, 101), book(7, 102))
    bench.batch(4, book(2, 103, SNAPSHOT), book(3, 104))
    # What a successor repeats of the blocks before is known by its height alone.
    bench.start_shard(EPOCH + 1)
    repeated = book(6, 101, SNAPSHOT), book(7, 102), book(2, 103), book(3, 104), book(4, 105)
    bench.batch(1, *repeated, epoch=EPOCH + 1)
    out = [(e.sequence, e.height) for _, e in bench.published() if isinstance(e, Book)]
    assert out == [(5, 100), (6, 101), (7, 102), (2, 103), (3, 104), (4, 105)]


def test_a_ticker_whose_books_sequence_begins_again_goes_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, channels=("book", "ticker"))
    try:
        bench.start_shard()
        bench.batch(1, ticker(7, 102), ticker(2, 103), ticker(7, 102), ticker(3, 104))
        out = [(e.sequence, e.height) for _, e in bench.published() if isinstance(e, Ticker)]
    finally:
        bench.close()
    assert out == [(7, 102), (2, 103), (3, 104)]


def test_book_changes_go_out_once_by_their_sequence(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, book(5, 100, SNAPSHOT), book(6, 101), book(7, 102))
    bench.start_shard(EPOCH + 1)
    bench.batch(1, book(6, 101, SNAPSHOT), book(7, 102), book(8, 103), epoch=EPOCH + 1)
    assert bench.published_books() == [5, 6, 7, 8]
    assert bench.aggregator.forwarder.duplicates == 2


def test_the_whole_book_at_the_known_sequence_goes_out_again(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, book(5, 100, SNAPSHOT), book(6, 101), book(6, 101, SNAPSHOT), book(7, 102))
    assert bench.published_books() == [5, 6, 6, 7]
    assert bench.aggregator.forwarder.duplicates == 0


def test_gaps_are_never_taken_for_duplicates(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, gap(100), gap(100))
    assert len(bench.published()) == 2


# ---- states -------------------------------------------------------------------------------


def ticker(sequence: int, height: int, flags: int = SNAPSHOT) -> Record:
    event = Ticker(MARKET.market_id, height, sequence, 0, 1, "chain-ws", "9", str(sequence), "", "")
    packed = frames.encode(event)
    return Record("ticker.INJ-USDT.", KIND_TICKER, flags, height, sequence, 1, 0, 1, packed)


def newest_state(bench: Bench, topic: str = "ticker.INJ-USDT.") -> list[Event | None]:
    """What a late joiner is given."""
    asked = {"ask": "replay", "id": 1, "topic": topic, "publisher_epoch": 0, "after": 0}
    _, *bodies = bench.aggregator.publisher.replay.answer(asked, PUBLISHER, 0)
    return [frames.decode(body)[1] for body in bodies]


def test_a_late_joiner_is_given_the_newest_state_alone(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, ticker(5, 100), ticker(6, 101), ticker(7, 101))
    assert [event.sequence for _, event in bench.published() if isinstance(event, Ticker)] == [
        *(5, 6, 7)
    ]
    [found] = newest_state(bench)
    assert isinstance(found, Ticker)
    assert found.sequence == 7


def test_a_state_that_is_told_again_is_not_published_twice(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, ticker(5, 100), ticker(5, 101), ticker(4, 99))
    assert len(bench.published()) == 1
    assert bench.aggregator.forwarder.duplicates == 2


def test_a_new_aggregator_keeps_the_states_that_shards_tell_it_again(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, ticker(5, 100, SNAPSHOT | KEYFRAME))
    assert bench.published() == []
    [found] = newest_state(bench)
    assert isinstance(found, Ticker)
    assert found.sequence == 5


def test_markets_are_told_at_the_start_and_when_something_changed(tmp_path: Path) -> None:
    with contextlib.closing(Bench(tmp_path, channels=("markets",))) as bench:
        [first] = newest_state(bench, "markets.INJ-USDT.")
        assert isinstance(first, Metadata)
        assert (first.symbol, first.status) == ("INJ-USDT", "Active")
        bench.published()
        bench.aggregator.statuses({MARKET.market_id: "Active"})
        assert bench.published() == []
        bench.aggregator.statuses({MARKET.market_id: "Paused"})
        [(frame, event)] = bench.published()
        assert isinstance(event, Metadata)
        assert event.status == "Paused"
        assert (frame.shard, frame.topic_sequence, frame.frame_sequence) == (OWN_SHARD, 2, 2)
        assert newest_state(bench, "markets.INJ-USDT.") == [event]


def test_markets_are_not_told_where_that_was_not_asked_for(bench: Bench) -> None:
    bench.aggregator.statuses({MARKET.market_id: "Paused"})
    assert newest_state(bench, "markets.INJ-USDT.") == []
    assert bench.published() == []


# ---- keyframes ----------------------------------------------------------------------------


def test_a_keyframe_is_kept_for_late_joiners_and_not_published(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, book(5, 100, SNAPSHOT), book(6, 101))
    bench.batch(3, book(6, 101, SNAPSHOT | KEYFRAME), book(7, 102))
    assert bench.published_books() == [5, 6, 7]
    assert late_joiners_books(bench) == [(6, True), (7, False)]


def test_an_old_keyframe_is_not_kept(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, book(5, 100, SNAPSHOT), book(6, 101), book(5, 100, SNAPSHOT | KEYFRAME))
    assert late_joiners_books(bench) == [(5, True), (6, False)]


def late_joiners_books(bench: Bench) -> list[tuple[int, bool]]:
    asked: dict[str, object] = {"ask": "replay", "id": 1, "topic": "book.INJ-USDT."}
    asked |= {"publisher_epoch": 0, "after": 0}
    _, *bodies = bench.aggregator.publisher.replay.answer(asked, PUBLISHER, 0)
    events = [frames.decode(body)[1] for body in bodies]
    return [(e.sequence, e.is_snapshot) for e in events if isinstance(e, Book)]


# ---- reports ------------------------------------------------------------------------------


def accounted(bench: Bench) -> int:
    return bench.aggregator.coverage.states[MARKET.market_id].last


def test_a_reports_ledger_counts_only_once_its_frames_have_arrived(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, trades(100))
    bench.report(report(market_report(MARKET.market_id, 100, 105), epoch=EPOCH, frames=3))
    assert accounted(bench) == 0
    bench.batch(2, trades(101))
    assert accounted(bench) == 0
    bench.batch(3, trades(104))
    assert accounted(bench) == 105


def test_a_report_of_a_shard_that_has_nothing_on_its_way_counts_at_once(bench: Bench) -> None:
    """The aggregator is new: the frames went to its predecessor, and will not come again."""
    row = market_report(MARKET.market_id, 100, 105)
    bench.report(report(row, epoch=EPOCH, frames=30, kept=0))
    assert accounted(bench) == 105


def test_frames_that_die_with_their_process_take_its_report_with_them(bench: Bench) -> None:
    bench.start_shard()
    row = market_report(MARKET.market_id, 100, 105)
    bench.report(report(row, epoch=EPOCH, frames=2))
    bench.batch(1, trades(100))
    answer = bench.aggregator.report(report(epoch=EPOCH + 1, fresh=True), NOW)
    assert answer.resume == {}
    bench.batch(2, trades(101))
    assert accounted(bench) == 0


def test_a_fresh_shard_is_told_where_to_take_up(bench: Bench) -> None:
    bench.start_shard()
    row = market_report(MARKET.market_id, 100, 105, replayed=((102, 103),), missing=((104, 104),))
    answer = bench.aggregator.report(report(row, epoch=EPOCH, kept=0), NOW)
    assert answer.resume == {}, "only a fresh one asks"
    answer = bench.aggregator.report(report(epoch=EPOCH + 1, fresh=True), NOW)
    assert (answer.publisher_epoch, answer.fenced) == (PUBLISHER, False)
    point = answer.resume[MARKET.market_id]
    assert (point.first, point.last) == (100, 105)
    assert (point.replayed, point.missing) == ([(102, 103)], [(104, 104)])


def test_until_a_new_aggregator_has_what_a_shard_kept_its_successor_sends_some_again(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The shard's frames may have died with the former aggregator, and then with the shard."""
    bench.start_shard()
    row = market_report(MARKET.market_id, 100, 205)
    bench.report(report(row, epoch=EPOCH, kept=0))
    saved = bench.aggregator.ledger()
    with contextlib.closing(
        Bench(tmp_path_factory.mktemp("next"), PUBLISHER + 1, saved=saved)
    ) as after:
        changes = report(epoch=EPOCH, head=206, frames=30)
        changes.number, changes.since = 8, 7
        assert after.aggregator.report(changes, NOW).whole
        # It dies before it sends again what it kept.
        answer = after.aggregator.report(report(epoch=EPOCH + 1, fresh=True), NOW)
        assert answer.resume[MARKET.market_id].last == 205 - 32
        # Its successor dies too, once all that it pushed is here.
        after.report(report(row, epoch=EPOCH + 1, kept=0))
        answer = after.aggregator.report(report(epoch=EPOCH + 2, fresh=True), NOW)
        assert answer.resume[MARKET.market_id].last == 205


def test_frames_skipped_by_a_batchs_number_are_counted_as_lost(bench: Bench) -> None:
    bench.start_shard()
    bench.batch(1, trades(100))
    bench.batch(6, trades(105))
    assert bench.aggregator.sessions[0].lost == 4


def test_a_report_whose_frames_were_dropped_never_counts(bench: Bench) -> None:
    """Its shard has taken those blocks back; killed now, it must have them again."""
    bench.start_shard()
    bench.batch(1, trades(100))
    bench.report(report(market_report(MARKET.market_id, 100, 105), epoch=EPOCH, frames=3))
    bench.batch(4, trades(106))
    assert accounted(bench) == 0
