"""The chain's own feed: every block once and in order, lost ones replayed, prices by symbol."""

import json

from shards.adapters.injective_chain import ws_extras_decoder
from shards.core.blocks import Blocks, block_pipeline
from shards.core.pipeline import Pipeline
from shards.core.states import State
from shards.protocol.events import Block, Event, Gap, OptionalEvents, Oracle, Price, Pulse
from shards.protocol.frames import EVENTS, KEYFRAME, Record
from shards.protocol.settings import CHAIN

MS = 1_000_000


def payload(height: int, *prices: tuple[str, str]) -> bytes:
    rows = [{"symbol": symbol, "price": price, "type": "pricefeed"} for symbol, price in prices]
    said = {"block_height": str(height), "block_time": str(height), "oracle_prices": rows}
    return json.dumps({"id": 1, "result": said}).encode()


def pipeline(*channels: str) -> Pipeline[Blocks]:
    """A pipeline of the chain's feed alone, confirmed and live at height 10."""
    made = block_pipeline(
        [CHAIN], source="chain-ws", decoder=ws_extras_decoder.decode, channels=channels
    )
    made.subscribed(1, [CHAIN.market_id], 1)
    made.receive(b'{"id":1,"result":"success"}', 1)
    made.receive(payload(10), 10 * MS)
    assert made.feeds[CHAIN.market_id].state is State.LIVE
    return made


def told(records: list[Record]) -> list[tuple[str, Event]]:
    return [(record.topic, EVENTS[record.kind].decode(record.event)) for record in records]


def heights(records: list[Record]) -> list[tuple[int, str]]:
    return [(e.height, e.source) for _, e in told(records) if isinstance(e, Pulse)]


def test_every_block_is_told_also_an_empty_one() -> None:
    made = pipeline("blocks", "oracle")
    made.receive(payload(11, ("BTC", "1.0"), ("ETH USD", "2.0"), ("BTC", "3.0")), 99)
    made.receive(payload(12), 100)
    assert told(made.take_records()) == [
        ("blocks.chain.", Pulse(10, 10 * MS, 10 * MS, "chain-ws")),
        ("blocks.chain.", Pulse(11, 11 * MS, 99, "chain-ws")),
        (
            "oracle.BTC.",
            Oracle(
                "BTC", 11, 11 * MS, 99, "chain-ws", [Price("pricefeed", p) for p in ("1.0", "3.0")]
            ),
        ),
        (
            "oracle.ETH-USD.",
            Oracle("ETH USD", 11, 11 * MS, 99, "chain-ws", [Price("pricefeed", "2.0")]),
        ),
        ("blocks.chain.", Pulse(12, 12 * MS, 100, "chain-ws")),
    ]


def test_only_what_was_asked_for_is_told() -> None:
    made = pipeline("oracle")
    made.receive(payload(11, ("BTC", "1.0")), 99)
    assert [topic for topic, _ in told(made.take_records())] == ["oracle.BTC."]


def test_lost_blocks_are_replayed_in_their_place() -> None:
    made = pipeline("blocks", "oracle")
    made.receive(payload(13), 100)
    assert made.liveness.due_replays(9) == [11, 12]
    price = OptionalEvents(prices=[("BTC", Price("pyth", "5.0"))])
    made.liveness.replay(12, Block(12, 12 * MS, [], [], True, price), 101)
    made.liveness.replay(11, Block(11, 11 * MS, [], []), 102)
    records = made.take_records()
    assert heights(records) == [
        *((10, "chain-ws"), (11, "replay"), (12, "replay"), (13, "chain-ws"))
    ]
    assert [e.state for _, e in told(records) if isinstance(e, Gap)] == ["open", "closed"]
    assert [e.height for _, e in told(records) if isinstance(e, Oracle)] == [12]


def test_a_block_that_only_an_indexer_knew_lacks_its_prices_and_so_is_missing() -> None:
    for channels, missing in ((("blocks", "oracle"), 1), (("blocks",), 0)):
        made = pipeline(*channels)
        made.receive(payload(12), 100)
        made.liveness.replay(11, Block(11, 11 * MS, [], [], has_books=False), 101)
        assert len(made.feeds[CHAIN.market_id].ledger.missing) == missing
        assert [height for height, _ in heights(made.take_records())] == [10, 11, 12]


def test_a_new_aggregator_is_given_the_newest_of_each_topic() -> None:
    made = pipeline("blocks", "oracle")
    made.receive(payload(11, ("BTC", "1.0")), 99)
    made.receive(payload(12), 100)
    made.take_records()
    made.keyframes(200)
    kept = made.take_records()
    assert all(record.flags & KEYFRAME for record in kept)
    assert {record.topic: record.height for record in kept} == {
        "blocks.chain.": 12,
        "oracle.BTC.": 11,
    }


def test_dropped_frames_are_had_again_from_the_chain() -> None:
    made = pipeline("blocks", "oracle")
    made.receive(payload(11, ("BTC", "1.0")), 99)
    made.take_records()
    made.receive(payload(12, ("BTC", "2.0")), 100)
    lost = [record for record in made.take_records() if record.topic == "oracle.BTC."]
    assert made.dropped(lost, 101) == 1
    assert made.liveness.due_replays(9) == [12]
