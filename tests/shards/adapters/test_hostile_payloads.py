"""
Payloads cut, continued, flipped and made up: a value or a typed error comes out, nothing
else ever.
"""

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from shards.adapters.injective_chain import block_results, ws_extras_decoder
from shards.protocol.errors import DecodeError
from shards.protocol.events import Block, Confirmed, Rejected
from tests.searches import examples
from tests.shards import golden


def _answered(payload: bytes) -> bool:
    """Decode a WebSocket message; say whether it was one."""
    try:
        number, message = ws_extras_decoder.decode(payload)
    except DecodeError:
        return False
    assert isinstance(number, int)
    assert isinstance(message, Block | Confirmed | Rejected)
    return True


def _replayed(payload: bytes) -> bool:
    """Decode an answer of block_results; say whether it was one."""
    try:
        block = block_results.decode(payload, 1, with_extras=True)
    except DecodeError:
        return False
    assert isinstance(block, Block)
    return True


def quietest() -> bytes:
    return min((str(line["ws"]).encode() for line in golden.blocks()), key=len)


def busiest() -> bytes:
    return str(golden.busiest()["ws"]).encode()


def derivative() -> bytes:
    (found,) = (line for line in golden.blocks() if "position_delta" in line["ws"])
    return str(found["ws"]).encode()


def one_of_each() -> bytes:
    """A block cut down to one order of each kind of market, and one oracle price."""
    lines = (json.loads(line["ws"]) for line in golden.orders())
    said = next(line for line in lines if line["result"].get("oracle_prices"))
    for name, rows in said["result"].items():
        if isinstance(rows, list):
            asked = name in ("spot_orders", "derivative_orders", "oracle_prices")
            said["result"][name] = rows[:1] if asked else []
    return json.dumps(said).encode()


DECODERS: dict[str, tuple[Callable[[bytes], bool], Callable[[], bytes]]] = {
    "websocket, empty block": (_answered, quietest),
    "websocket, busiest block": (_answered, busiest),
    "websocket, derivative trades": (_answered, derivative),
    "websocket, orders and prices": (_answered, one_of_each),
    "block results": (_replayed, lambda: golden.block_results(golden.busiest())),
}
each_decoder = pytest.mark.parametrize("name", DECODERS)


@each_decoder
def test_a_payload_cut_at_any_byte_is_a_decode_error(name: str) -> None:
    decode, payload = DECODERS[name][0], DECODERS[name][1]()
    assert decode(payload)
    assert not any(decode(payload[:length]) for length in range(len(payload)))


@each_decoder
@pytest.mark.parametrize("rest", [b"{}", b"x", b"\x00", b"]", b",", b"\xff"])
def test_bytes_behind_the_payload_are_a_decode_error(name: str, rest: bytes) -> None:
    decode, payload = DECODERS[name]
    assert not decode(payload() + rest)


@each_decoder
def test_white_space_behind_the_payload_is_none(name: str) -> None:
    decode, payload = DECODERS[name]
    assert decode(payload() + b" \r\n")


@each_decoder
@settings(max_examples=examples(150), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_flipped_bytes_give_a_value_or_a_decode_error(name: str, seed: int) -> None:
    decode, payload = DECODERS[name]
    rng = random.Random(seed)
    spoilt = bytearray(payload())
    for _ in range(rng.randint(1, 6)):
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    decode(bytes(spoilt))


@settings(max_examples=examples(150), deadline=None)
@given(payload=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_decode_error(payload: bytes) -> None:
    assert not _replayed(payload)
    _answered(payload)


KEYS = st.sampled_from(
    [
        "id",
        "result",
        "error",
        "code",
        "message",
        "data",
        "block_height",
        "block_time",
        "spot_trades",
        "derivative_trades",
        "spot_orderbook_updates",
        "orderbook",
        "market_id",
        "seq",
        "buy_levels",
        "p",
        "q",
        "trade_id",
        "position_delta",
        "spot_orders",
        "order",
        "order_info",
        "status",
        "oracle_prices",
        "price",
        "height",
        "finalize_block_events",
        "txs_results",
        "events",
        "type",
        "attributes",
        "key",
        "value",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["", "1", "-1", "success", "1_0", "0x1", "[]", "null", "9" * 30, "\ud83d\ude00"]
    )
    | st.sampled_from(
        [
            "injective.exchange.v2.EventBatchSpotExecution",
            "injective.exchange.v2.EventOrderbookUpdate",
            "injective.exchange.v2.EventCancelSpotOrder",
            "injective.oracle.v1beta1.EventSetPythPrices",
        ]
    )
)
SHAPES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=examples(200), deadline=None)
@given(shape=SHAPES)
def test_any_json_gives_a_value_or_a_decode_error(shape: object) -> None:
    for payload in (json.dumps(shape), json.dumps({"id": 1, "result": shape})):
        _answered(payload.encode())
        _replayed(payload.encode())


@settings(max_examples=examples(150), deadline=None)
@given(seed=st.integers(0, 2**32), value=SCALARS)
def test_any_field_of_a_real_block_may_hold_anything(seed: int, value: object) -> None:
    rng = random.Random(seed)
    shape = json.loads(rng.choice([str(golden.busiest()["ws"]).encode(), one_of_each()]))
    where = shape["result"]
    while True:
        keys: list[int | str] = list(range(len(where)) if isinstance(where, list) else where)
        key = rng.choice(keys)
        if not isinstance(where[key], list | dict) or not where[key]:
            break
        where = where[key]
    where[key] = value
    _answered(json.dumps(shape).encode())
