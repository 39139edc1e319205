"""gRPC amounts and books: against decimal arithmetic, and against the WebSocket's texts."""

import base64
from collections.abc import Iterable
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from shards.adapters.injective_chain import grpc_decoder, ws_decoder
from shards.adapters.injective_chain.grpc_decoder import decimal_text
from shards.adapters.messages import INJECTIVE
from shards.protocol.events import Block, BookUpdate, Level
from shards.protocol.order_book import OrderBook
from tests.searches import examples
from tests.shards import golden

WHOLE = st.integers(-(10**60), 10**60)


@settings(max_examples=examples(200), deadline=None)
@given(scaled=WHOLE)
def test_a_scaled_amount_is_the_exact_decimal_with_18_places(scaled: int) -> None:
    with localcontext(prec=100):
        expected = format(Decimal(scaled).scaleb(-18), "f")
        assert Decimal(decimal_text(str(scaled))) == Decimal(expected)
    if scaled:
        assert decimal_text(str(scaled)) == expected
    assert len(decimal_text(str(scaled)).partition(".")[2]) == 18


@pytest.mark.parametrize(
    ("scaled", "text"),
    [
        ("", "0.000000000000000000"),
        ("0", "0.000000000000000000"),
        ("1", "0.000000000000000001"),
        ("-1", "-0.000000000000000001"),
        ("10010000000000000000", "10.010000000000000000"),
        ("-100000000000000", "-0.000100000000000000"),
    ],
)
def test_amounts_are_spelled_as_the_chain_spells_them(scaled: str, text: str) -> None:
    assert decimal_text(scaled) == text


def levels(rows: Iterable[Any]) -> list[Level]:
    return [(decimal_text(row.p), decimal_text(row.q)) for row in rows]


def updates_of(message: Any) -> list[BookUpdate]:
    rows = [*message.spot_orderbook_updates, *message.derivative_orderbook_updates]
    return [
        BookUpdate(
            row.orderbook.market_id,
            row.seq,
            levels(row.orderbook.buy_levels),
            levels(row.orderbook.sell_levels),
        )
        for row in rows
    ]


def trades_of(message: Any) -> dict[str, tuple[str, ...]]:
    rows: dict[str, tuple[str, ...]] = {}
    for t in message.spot_trades:
        rows[t.trade_id] = (decimal_text(t.price), decimal_text(t.quantity), decimal_text(t.fee))
    for t in message.derivative_trades:
        delta = t.position_delta
        rows[t.trade_id] = (
            decimal_text(delta.execution_price),
            decimal_text(delta.execution_quantity),
            decimal_text(t.fee),
            decimal_text(delta.execution_margin),
            decimal_text(t.payout),
        )
    return rows


def test_grpc_and_websocket_tell_every_recorded_block_in_the_same_texts() -> None:
    response = INJECTIVE.package("injective.stream.v2").StreamResponse
    for line in golden.blocks():
        message = response.FromString(base64.b64decode(line["grpc_b64"]))
        block = ws_decoder.decode(line["ws"].encode())[1]
        assert isinstance(block, Block)
        assert (message.block_height, message.block_time * 10**6) == (block.height, block.ts_event)
        # Both put the markets in an order of their own.
        assert {u.market_id: u for u in updates_of(message)} == {
            u.market_id: u for u in block.updates
        }
        said = {
            t.trade_id: (t.price, t.quantity, t.fee, *((t.margin, t.payout) if t.margin else ()))
            for _, t in block.trades
        }
        assert trades_of(message) == said


def recorded_snapshots() -> list[Any]:
    query = INJECTIVE.package("injective.exchange.v2")
    rows = []
    for line in golden.snapshots():
        # Spot and derivative answers have the same fields and numbers.
        response = query.QuerySpotOrderbookResponse.FromString(
            base64.b64decode(line["response_b64"])
        )
        rows.append(grpc_decoder.snapshot(line["market_id"], line["height"], response))
    return rows


@given(st.lists(st.tuples(st.integers(0, 10**30), st.integers(0, 10**30)), max_size=20))
def test_levels_of_every_size_are_the_exact_decimals(amounts: list[tuple[int, int]]) -> None:
    query: Any = INJECTIVE.package("injective.exchange.v2")
    response = query.QuerySpotOrderbookResponse()
    for price, quantity in amounts:
        response.buys_price_level.add(p=str(price), q=str(quantity))
    bids = grpc_decoder.snapshot("0x00", 1, response).bids
    with localcontext(prec=100):
        exact = [tuple(Decimal(amount).scaleb(-18) for amount in level) for level in amounts]
    assert [(Decimal(price), Decimal(quantity)) for price, quantity in bids] == exact
    assert all(len(text.partition(".")[2]) == 18 for level in bids for text in level)


def test_recorded_snapshots_keep_market_height_sequence_and_levels() -> None:
    for line, snapshot in zip(golden.snapshots(), recorded_snapshots(), strict=True):
        assert (snapshot.market_id, snapshot.height) == (line["market_id"], line["height"])
        assert snapshot.sequence == line["seq"]
        bids = [Decimal(price) for price, _ in snapshot.bids]
        asks = [Decimal(price) for price, _ in snapshot.asks]
        assert not bids or not asks or max(bids) < min(asks)
        assert all(Decimal(quantity) > 0 for _, quantity in snapshot.bids + snapshot.asks)


def test_recorded_updates_lead_from_one_recorded_snapshot_to_the_next() -> None:
    updates: dict[str, list[BookUpdate]] = {}
    for line in golden.blocks():
        block = ws_decoder.decode(line["ws"].encode())[1]
        assert isinstance(block, Block)
        for update in block.updates:
            updates.setdefault(update.market_id, []).append(update)
    books: dict[str, OrderBook] = {}
    checked = 0
    for snapshot in sorted(recorded_snapshots(), key=lambda s: s.height):
        book = books.get(snapshot.market_id)
        if book is None:
            book = books[snapshot.market_id] = OrderBook(snapshot.market_id)
            book.load(snapshot.sequence, snapshot.bids, snapshot.asks)
            continue
        for update in updates[snapshot.market_id]:
            if book.sequence < update.sequence <= snapshot.sequence:
                book.apply(update.sequence, update.bids, update.asks)
        assert (book.bids, book.asks) == (dict(snapshot.bids), dict(snapshot.asks))
        assert book.sequence == snapshot.sequence
        checked += 1
    assert checked == 21
