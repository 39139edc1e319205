"""A market at the indexer, step by step: what makes it live, stale, and whole again."""

from typing import Any

import msgspec

from shards.adapters.injective_indexer.decoder import BOOK, PARTS, SPOT_PROBE, TRADES
from shards.adapters.injective_indexer.proofs import Proofs
from shards.adapters.messages import INJECTIVE
from shards.core.pipeline import Pipeline
from shards.core.record_builder import NeedSnapshot, NeedSubscription
from shards.core.states import State
from shards.protocol.events import Gap, Snapshot, Trades
from shards.protocol.frames import KIND_BOOK, KIND_GAP, KIND_TRADES, Record
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Limits, Market
from shards.protocol.trade_ids import TradeIdentity

ONE = "0x06"
MARKET = Market(ONE, "INJ/USDT", "INJ-USDT", "spot", "Active", 18, 6)
SPOT: Any = INJECTIVE.package("injective_spot_exchange_rpc")
DERIVATIVE: Any = INJECTIVE.package("injective_derivative_exchange_rpc")
SECOND = 1_000_000_000
PROBE_ID = PARTS + SPOT_PROBE
LIMITS = Limits(probe_grace_s=2.0, audit_back_s=10.0, trade_hold_s=0.05, fresh_s=15.0)


class One:
    """A pipeline of one market; `now` is in seconds."""

    def __init__(self, ledger: MarketLedger | None = None) -> None:
        self.proofs = Proofs(
            {True: SPOT, False: DERIVATIVE}, channels=("book", "trades"), limits=LIMITS
        )
        self.pipeline = Pipeline(
            [MARKET],
            self.proofs,
            source="indexer-grpc",
            decoder=self.proofs.reader.decode,
            trade_identity=TradeIdentity.ID,
            limits=LIMITS,
            ledgers={ONE: ledger} if ledger else None,
        )
        self.ids = 1
        self.now = 1_000
        self.pipeline.subscribed(PROBE_ID, (), self.ns)

    @property
    def ns(self) -> int:
        return self.now * SECOND

    def expect(self, state: State, why: str = "") -> None:
        assert self.pipeline.feeds[ONE].state is state, why

    def subscribe(self) -> None:
        """Open both streams, and have them proved to be served."""
        self.ids += 1
        for part in (BOOK, TRADES):
            self.pipeline.subscribed(self.ids * PARTS + part, (ONE,), self.ns)
            self.pipeline.confirmed(self.ids * PARTS + part, self.ns)

    def update(self, sequence: int, at: int = 0) -> None:
        level = SPOT.PriceLevelUpdate(price="0.00000000001", quantity="1", is_active=True)
        changes = SPOT.OrderbookLevelUpdates(
            market_id=ONE, sequence=sequence, buys=[level], updated_at=(at or self.now) * 1_000
        )
        message = SPOT.StreamOrderbookUpdateResponse(
            orderbook_level_updates=changes, operation_type="update", market_id=ONE
        )
        self.pipeline.receive(message.SerializeToString(), self.ns, self.ids * PARTS + BOOK)

    def trade(self, name: str) -> None:
        message = SPOT.StreamTradesV2Response(trade=self.listed(name), operation_type="insert")
        self.pipeline.receive(message.SerializeToString(), self.ns, self.ids * PARTS + TRADES)

    def listed(self, name: str, at: int = 0) -> Any:
        price = SPOT.PriceLevel(price="0.00000000001", quantity="1000000000000000000")
        return SPOT.SpotTrade(
            market_id=ONE, trade_id=name, price=price, fee="0", trade_direction="buy",
            trade_execution_type="market", executed_at=(at or self.now) * 1_000,
        )  # fmt: skip

    def join(self, sequence: int) -> bool:
        return self.pipeline.join(Snapshot(ONE, 0, sequence, [], []), self.ns)

    def probe(self, sequence: int) -> None:
        book = SPOT.SpotLimitOrderbookV2(sequence=sequence)
        single = SPOT.SingleSpotLimitOrderbookV2(market_id=ONE, orderbook=book)
        answer = SPOT.OrderbooksV2Response(orderbooks=[single])
        self.pipeline.receive(answer.SerializeToString(), self.ns, PROBE_ID)

    def audit(self, *listed: Any) -> None:
        self.proofs.anchored(self.proofs.unanchored([ONE]), 0)
        self.proofs.audited([ONE], listed, self.ns, self.ns)

    def live(self) -> "One":
        self.subscribe()
        assert self.join(7)
        self.audit()
        self.expect(State.LIVE)
        self.pipeline.take_records()
        self.pipeline.take_requests()
        return self

    def records(self, kind: int) -> list[Record]:
        return [record for record in self.pipeline.take_records() if record.kind == kind]

    def published(self) -> list[tuple[str, list[str]]]:
        """Return source and ids of the trades frames since the last time."""
        events = [msgspec.msgpack.decode(r.event, type=Trades) for r in self.records(KIND_TRADES)]
        return [(event.source, [trade.trade_id for trade in event.trades]) for event in events]


def test_a_quiet_market_is_live_once_it_was_compared() -> None:
    one = One()
    one.expect(State.PENDING)
    one.subscribe()
    one.expect(State.SYNCING)
    assert one.pipeline.take_requests() == [NeedSnapshot(ONE, 0)]
    one.join(7)
    one.expect(State.SYNCING, "its trades were not compared yet")
    one.audit()
    one.expect(State.LIVE)


def test_it_stays_live_as_long_as_probes_agree_and_no_longer() -> None:
    one = One().live()
    for _ in range(20):
        one.now += 5
        one.probe(7)
        one.audit()
        one.proofs.tick(one.ns)
        one.expect(State.LIVE)
    one.now += 16
    one.proofs.tick(one.ns)
    one.expect(State.STALE)
    one.probe(7)
    one.audit()
    one.expect(State.LIVE)
    assert not one.records(KIND_GAP), "nothing was lost"


def test_a_stream_behind_its_own_query_is_mute_after_the_grace() -> None:
    one = One().live()
    one.probe(9)
    one.now += 2
    one.probe(9)
    one.expect(State.LIVE)
    one.now += 1
    one.probe(11)
    one.expect(State.STALE)
    assert one.pipeline.take_requests() == [NeedSubscription(ONE)]
    one.subscribe()
    one.join(11)
    one.audit()
    one.expect(State.LIVE)
    opened, closed = (msgspec.msgpack.decode(r.event, type=Gap) for r in one.records(KIND_GAP))
    assert (opened.state, opened.cause, closed.state) == ("open", "mute", "closed")
    assert closed.detail == "book changes 8 to 11 are only in the snapshot"


def test_a_stream_that_brings_what_was_shown_is_not_mute_however_far_the_query_is() -> None:
    one = One().live()
    for sequence in range(8, 30):
        one.now += 1
        one.probe(sequence + 20)
        one.update(sequence)
        one.audit()
        one.expect(State.LIVE)


def test_a_jump_of_the_sequence_costs_a_whole_book_and_is_announced() -> None:
    one = One().live()
    one.update(8)
    one.update(10)
    one.expect(State.SYNCING)
    assert one.pipeline.take_requests() == [NeedSnapshot(ONE, 0)]
    assert not one.join(8), "it lacks update 9"
    assert one.join(9)
    one.expect(State.LIVE)
    records = one.pipeline.take_records()
    assert [r.sequence for r in records if r.kind == KIND_BOOK] == [8, 9, 10]
    assert len([r for r in records if r.kind == KIND_GAP]) == 2


def test_a_later_change_with_a_lower_sequence_means_that_it_restarted() -> None:
    one = One().live()
    one.update(8)
    # Twice, and one of before: neither is later.
    one.update(8)
    one.update(5, at=one.now - 3)
    one.expect(State.LIVE)
    one.now += 1
    one.update(1)
    one.expect(State.SYNCING)
    assert one.pipeline.take_requests() == [NeedSnapshot(ONE, 0)]
    one.update(2, at=one.now + 1)
    assert one.join(1)
    one.expect(State.LIVE)
    records = one.pipeline.take_records()
    books = [r for r in records if r.kind == KIND_BOOK]
    assert [r.sequence for r in books] == [8, 1, 2]
    # Only by its time do readers know that the whole book is no old one.
    assert [r.ts_event // SECOND for r in books] == [1_000, 1_002, 1_002]
    opened = next(r for r in records if r.kind == KIND_GAP)
    assert "restarted, after 8" in msgspec.msgpack.decode(opened.event, type=Gap).detail


def test_a_restart_while_whole_books_are_awaited_lets_a_new_one_join() -> None:
    one = One().live()
    one.update(8)
    one.update(10)
    one.now += 1
    one.update(1)
    one.update(2, at=one.now + 1)
    assert one.join(1)
    assert [r.sequence for r in one.records(KIND_BOOK)] == [8, 1, 2]


def test_whole_books_that_stay_below_ours_show_a_restart_that_nobody_streamed() -> None:
    one = One().live()
    one.update(8)
    one.pipeline.lost(one.ids * PARTS + BOOK, "disconnect", one.ns, "cut")
    one.subscribe()
    for _ in range(5):
        assert not one.join(3), "a backend may be behind for a while"
        one.now += 3
    assert one.join(3)
    whole = one.records(KIND_BOOK)[-1]
    assert (whole.sequence, whole.ts_event) == (3, 1_000 * SECOND + 1)
    one.update(4)
    assert [r.sequence for r in one.records(KIND_BOOK)] == [4]


def test_a_book_of_a_backend_behind_is_not_taken() -> None:
    one = One().live()
    one.update(8)
    one.pipeline.lost(one.ids * PARTS + BOOK, "disconnect", one.ns, "cut")
    one.subscribe()
    assert not one.join(6)
    assert not one.join(0), "0 stands for what is not known"
    assert "does not return" in one.pipeline.feeds[ONE].reason
    assert one.join(8)


def test_trades_of_one_block_go_out_together_and_in_order() -> None:
    one = One().live()
    for name in ("12_5", "12_1", "12_3"):
        one.trade(name)
    one.proofs.tick(one.ns + SECOND // 100)
    assert not one.published()
    one.trade("13_0")
    assert one.published() == [("indexer-grpc", ["12_1", "12_3", "12_5"])]
    one.proofs.tick(one.ns + SECOND // 10)
    one.trade("12_4")
    one.trade("12_5")
    one.proofs.tick(one.ns + SECOND)
    assert one.published() == [("indexer-grpc", ["13_0"]), ("indexer-grpc", ["12_4"])]


def test_a_trade_that_no_stream_brings_is_taken_from_the_list() -> None:
    one = One().live()
    one.trade("12_0")
    one.audit(one.listed("12_0"), one.listed("12_1"))
    one.expect(State.LIVE, "it may be on its way")
    first = one.now
    one.now += 3
    one.audit(one.listed("12_0", first), one.listed("12_1", first))
    one.expect(State.STALE)
    assert one.pipeline.take_requests() == [NeedSubscription(ONE)]
    assert one.published() == [("indexer-grpc", ["12_0"]), ("indexer-replay", ["12_1"])]
    one.subscribe()
    one.join(7)
    one.audit(one.listed("12_0", first), one.listed("12_1", first))
    one.expect(State.LIVE)
    assert not one.published()


def test_an_audit_asks_again_for_what_may_be_on_its_way() -> None:
    one = One().live()
    begun = one.now
    one.audit(one.listed("12_1"), one.listed("14_0", begun + 60))
    assert one.proofs.audit_from([ONE]) == (begun - 10) * SECOND


def test_trades_from_before_the_beginning_are_not_due() -> None:
    one = One()
    one.subscribe()
    one.join(7)
    one.proofs.anchored([ONE], 900 * SECOND)
    one.audit(one.listed("3_0", 900), one.listed("4_0", 901))
    assert one.published() == [("indexer-replay", ["4_0"])]


def test_a_successor_lists_again_from_where_its_predecessor_was() -> None:
    one = One(MarketLedger(5, 40, audited_to=950 * SECOND))
    one.pipeline.resume(one.ns, {ONE: None})
    assert one.proofs.audit_from([ONE]) == 940 * SECOND
    one.subscribe()
    one.join(7)
    one.audit(one.listed("39_0", 941), one.listed("41_0", 951))
    one.expect(State.LIVE)
    assert one.published() == [("indexer-replay", ["39_0"]), ("indexer-replay", ["41_0"])]


def test_what_was_dropped_is_had_again() -> None:
    one = One().live()
    one.trade("12_0")
    one.proofs.tick(one.ns + SECOND)
    records = one.pipeline.take_records()
    assert one.pipeline.dropped(records, one.ns) == 1
    one.join(7)
    one.audit(one.listed("12_0"))
    assert one.published() == [("indexer-replay", ["12_0"])]


def test_a_payload_that_is_none_costs_its_market_the_streams() -> None:
    one = One().live()
    one.pipeline.receive(b"\x0a\xff\xff", one.ns, one.ids * PARTS + BOOK)
    one.expect(State.STALE)
    assert one.pipeline.take_requests() == [NeedSubscription(ONE)]
    one.pipeline.receive(b"\x0a\xff\xff", one.ns, PROBE_ID)
    assert not one.pipeline.take_requests(), "a probe that cannot be read proves nothing"
