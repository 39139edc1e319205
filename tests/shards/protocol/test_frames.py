"""Our own wire, byte by byte."""

import msgpack
import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from shards.protocol import frames
from shards.protocol.events import (
    Book,
    Event,
    Funding,
    Gap,
    Metadata,
    Oracle,
    Order,
    Orders,
    Price,
    Pulse,
    Ticker,
    Trade,
    Trades,
)
from shards.protocol.frames import BatchHeader, Record
from tests.searches import examples

UINT64 = st.integers(0, 2**64 - 1)
BOOK = Book("0xa", 100, 7, 1, 2, "chain-ws", True, [("9.5", "1")], [("10.5", "2")])
TRADES = Trades(
    *("0xa", 100, 1, 2, "replay"),
    [Trade("100_0", "buy", "1.5", "2", "-0.1", "Market", "0xh", "0xs", "inj1", "mine")],
)
GAP = Gap("0xa", 55, "open", "mute", 100, 0, 55, "because")
ORDER = Order("0xh", "booked", "sell", "SELL_PO", "10.5", "2", "2", "0xs", "inj1")
EVENTS: dict[int, Event] = {
    frames.KIND_BOOK: BOOK,
    frames.KIND_TRADES: TRADES,
    frames.KIND_GAP: GAP,
    frames.KIND_TICKER: Ticker("0xa", 100, 7, 1, 2, "chain-ws", "9.5", "1", "", ""),
    frames.KIND_ORACLE: Oracle("0xa", 100, 1, 2, "chain-ws", [Price("pyth", "9.6")]),
    frames.KIND_FUNDING: Funding(
        *("0xa", 100, 0, 2, "query", "0.1", "0.2", 3, 3600, 3600, "0.000625", "0.0", "9.6")
    ),
    frames.KIND_MARKETS: Metadata(
        *("0xa", 2, "A/B", "A-B", "spot", "Active", "a", "b", 18, 6),
        *("0.1", "1", "5", "-0.1", "0.1", "", "", ""),
    ),
    frames.KIND_BLOCKS: Pulse(100, 1, 2, "chain-grpc"),
    frames.KIND_ORDERS: Orders("0xa", 100, 1, 2, "replay", [ORDER]),
}
each_kind = pytest.mark.parametrize("kind", EVENTS)


def body(kind: int = frames.KIND_BOOK) -> bytes:
    event = EVENTS.get(kind, GAP)
    return frames.prefix(kind, 11, 12, 13, 14, 3, 15, 16) + frames.encode(event)


def _first(event: Event) -> object:
    """What names the thing that an event is about."""
    return event.height if isinstance(event, Pulse) else "0xa"


@settings(max_examples=examples(100), deadline=None)
@given(
    numbers=st.tuples(UINT64, UINT64, UINT64, UINT64, st.integers(0, 2**16 - 1), UINT64, UINT64),
    kind=st.sampled_from(sorted(EVENTS)),
)
def test_a_frame_is_decoded_as_it_was_made_by_us_and_by_any_messagepack_reader(
    numbers: tuple[int, int, int, int, int, int, int], kind: int
) -> None:
    made = frames.prefix(kind, *numbers) + frames.encode(EVENTS[kind])
    frame, event = frames.decode(made)
    said = (*msgspec.structs.astuple(frame)[2:9],)
    assert (frame.version, frame.kind) == (1, kind)
    assert said == numbers
    assert event == EVENTS[kind]
    plain = msgpack.unpackb(made)
    assert plain[:9] == [1, kind, *numbers]
    assert plain[9][0] == _first(EVENTS[kind])


def test_every_field_stands_at_the_offset_that_the_document_says() -> None:
    one, two, three, four = (0x1111111111111111 * n for n in range(1, 5))
    made = frames.prefix(2, one, two, three, four, 0x5555, 0x6666666666666666, 0x7777777777777777)
    assert len(made) == frames.PREFIX_SIZE == 60
    assert made[:3] == b"\x9a\x01\x02"
    for offset, digit in ((3, 1), (12, 2), (21, 3), (30, 4), (42, 6), (51, 7)):
        assert made[offset : offset + 9] == b"\xcf" + bytes([0x11 * digit]) * 8
    assert made[39:42] == b"\xcd\x55\x55"


@each_kind
def test_an_events_fields_have_the_order_of_the_document(kind: int) -> None:
    event = EVENTS[kind]
    plain = msgpack.unpackb(frames.encode(event))
    assert len(plain) == len(event.__struct_fields__)
    assert plain[0] == _first(event)
    if isinstance(event, Trades):
        assert plain[-1][0][:3] == ["100_0", "buy", "1.5"]


def test_a_kind_that_this_reader_does_not_know_has_no_event_but_its_header() -> None:
    frame, event = frames.decode(body(kind=99))
    assert (frame.kind, frame.topic_sequence, event) == (99, 12, None)
    assert frames.kind_of(body(kind=99)) == 99


def test_a_field_appended_by_a_newer_writer_is_passed_over() -> None:
    longer = msgpack.packb([*msgpack.unpackb(frames.encode(GAP)), "new"])
    frame = frames.prefix(frames.KIND_GAP, 11, 12, 13, 14, 3, 15, 16) + longer
    assert frames.decode(frame)[1] == GAP


@pytest.mark.parametrize("version", [0, 2, 127])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    other = bytearray(body())
    other[1] = version
    with pytest.raises(
        ValueError, match=f"frame version {version}, but this reader knows only version 1"
    ):
        frames.decode(bytes(other))


@each_kind
def test_a_body_cut_at_any_byte_is_refused(kind: int) -> None:
    whole = body(kind)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"."):
            frames.decode(whole[:length])


def test_what_is_no_frame_is_refused() -> None:
    for other in (b"", b"\x9b" + body()[1:], body() + b"\x00", b"\xff" * 100):
        with pytest.raises(ValueError, match=r"."):
            frames.decode(other)


def test_topics_end_with_a_dot_so_that_no_symbol_is_the_prefix_of_another() -> None:
    assert frames.topic("book", "INJ-USDT") == "book.INJ-USDT."
    perpetual = frames.topic("book", "INJ-USDT-PERP")
    assert not perpetual.startswith(frames.topic("book", "INJ-USDT"))


def test_batches_come_back_as_they_went() -> None:
    records = [
        Record("book.A.", 1, 3, 100, 7, 1, 0, 5, b"event"),
        Record("gap.A.", 3, 4, 0, 1, 2, 3, 4, b""),
    ]
    assert frames.decode_records(frames.encode(records)) == records
    header = BatchHeader(1, 2, 3, 4, 5, 6, True)
    assert frames.decode_header(frames.encode(header)) == header
