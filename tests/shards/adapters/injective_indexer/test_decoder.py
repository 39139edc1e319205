"""The indexer's messages, golden and cut: the chain's own form comes out, or a typed error."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from shards.adapters.injective_indexer.decoder import IndexerDecoder, Units, amount, snapshot
from shards.adapters.messages import INJECTIVE
from shards.protocol.errors import DecodeError
from shards.protocol.events import ZERO, Snapshot
from shards.protocol.settings import Market
from tests.searches import examples
from tests.shards import golden

INJ = Market("0x06", "INJ/USDT", "INJ-USDT", "spot", "Active", 18, 6)
PERP = Market("0x17", "BTC/USDT PERP", "BTC-USDT-PERP", "derivative", "Active", 0, 6)


def messages(name: str) -> Any:
    return INJECTIVE.package(f"injective_{name}_exchange_rpc")


DECODERS = {spot: IndexerDecoder(messages(n), spot=spot) for n, spot in (("spot", True), ("derivative", False))}  # fmt: skip


def wire(name: str) -> bytes:
    return bytes.fromhex(golden.read(f"pb_indexer_{name}.json")["wire_hex"])


def test_a_spot_book_update() -> None:
    told = DECODERS[True].book(wire("spot_stream_orderbook_update"), INJ, Units.of(INJ))
    assert told.update is not None
    assert told.ts_event == 1_698_982_083_606_000_000
    assert (told.update.sequence, told.is_whole) == (5_506_752, True)
    assert told.update.bids == [("14.198000000000000000", "142.000000000000000000")]
    assert told.update.asks == [("956.990000000000000000", "0.189000000000000000")]


def test_a_level_that_is_not_active_is_removed() -> None:
    module = messages("derivative")
    level = module.PriceLevelUpdate(price="25000000000", quantity="5", is_active=False)
    changes = module.OrderbookLevelUpdates(market_id="0x17", sequence=4, buys=[level])
    payload = module.StreamOrderbookUpdateResponse(
        orderbook_level_updates=changes, operation_type="update"
    ).SerializeToString()
    told = DECODERS[False].book(payload, PERP, Units.of(PERP))
    assert told.update is not None
    assert told.update.bids == [("25000.000000000000000000", ZERO)]
    assert told.ts_event == 0


@pytest.mark.parametrize(("kind", "sequence"), [("delete", 5), ("", 5), ("update", 0)])
def test_what_is_no_plain_update_says_so(kind: str, sequence: int) -> None:
    module = messages("spot")
    changes = module.OrderbookLevelUpdates(market_id="0x06", sequence=sequence)
    payload = module.StreamOrderbookUpdateResponse(
        orderbook_level_updates=changes, operation_type=kind
    ).SerializeToString()
    assert not DECODERS[True].book(payload, INJ, Units.of(INJ)).is_whole


def test_trades_of_both_services() -> None:
    told = DECODERS[True].trade(wire("spot_stream_trades_v2"), INJ, Units.of(INJ))
    assert told.trade is not None
    assert (told.height, told.ts_event) == (8_662_464, 1_677_563_766_350_000_000)
    assert told.trade.price == "6.024000000000000000"
    assert told.trade.quantity == "0.010000000000000000"
    assert told.trade.fee == "0.000036144000000000"
    assert (told.trade.side, told.trade.execution_type) == ("buy", "LimitMatchNewOrder")
    told = DECODERS[False].trade(wire("derivative_stream_trades_v2"), PERP, Units.of(PERP))
    assert told.trade is not None
    assert told.trade.price == "13.945600000000000000"
    assert told.trade.quantity == "5.000000000000000000"
    assert told.trade.margin == "69.728000000000000000"
    assert told.trade.payout == ZERO


def test_a_probe_shows_sequences_and_a_query_whole_books() -> None:
    payload = wire("spot_fetch_orderbooks_v2")
    (seen,) = DECODERS[True].seen(payload)
    assert (seen.sequence, seen.height) == (5_506_752, 1_000)
    (single,) = messages("spot").OrderbooksV2Response.FromString(payload).orderbooks
    book = snapshot(INJ, single.orderbook)
    assert book == Snapshot(
        "0x06",
        1_000,
        5_506_752,
        [("14.198000000000000000", "142.000000000000000000")],
        [("956.990000000000000000", "0.189000000000000000")],
    )


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999999", "--5", "0x10", "1,5", "abc"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        amount(text, 3)


def test_amounts_with_exponents_and_signs() -> None:
    assert amount("1.5e-7", 6) == "0.150000000000000000"
    assert amount("-0.0", 3) == amount("", -4) == ZERO
    assert amount("-12.5", -1) == "-1.250000000000000000"
    assert amount("007", 1) == "70.000000000000000000"


def _read(payload: bytes) -> None:
    for spot, market in ((True, INJ), (False, PERP)):
        decoder = DECODERS[spot]
        for read in (decoder.book, decoder.trade):
            with contextlib.suppress(DecodeError):
                read(payload, market, Units.of(market))
        with contextlib.suppress(DecodeError):
            list(decoder.seen(payload))


@settings(max_examples=examples(150))
@given(st.binary(max_size=80))
def test_made_up_payloads_are_read_or_refused(payload: bytes) -> None:
    _read(payload)


def test_every_truncation_is_read_or_refused() -> None:
    for name in ("spot_stream_orderbook_update", "derivative_stream_trades_v2"):
        payload = wire(name)
        for end in range(len(payload)):
            _read(payload[:end])
