"""What the aggregator remembers, against a list that remembers everything."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from collector.access.rights import Rights
from collector.aggregator.forwarder import Publisher
from collector.aggregator.replay_buffer import ROOM, ReplayBuffer
from shards.core import record_builder
from shards.core.record_builder import RecordBuilder
from shards.protocol.settings import Limits
from shards.protocol.trade_ids import TradeIdentity

EPOCH = 7
BOOK = "book.INJ-USDT."
TRADES = "trades.INJ-USDT."


def body(topic_sequence: int, *, whole: bool = False, size: int = 20) -> bytes:
    return f"{'W' if whole else 'd'}{topic_sequence}".encode().ljust(size)


def add(history: ReplayBuffer, count: int, *, topic: str = TRADES, keyframes: int = 0) -> None:
    for n in range(1, count + 1):
        history.add(topic, n, 100 + n, body(n))
        if keyframes and n % keyframes == 0:
            history.add(topic, n, 100 + n, body(n, whole=True), published=False, whole=True)


def replay(
    history: ReplayBuffer, *, topic: str = TRADES, epoch: int = EPOCH, after: int = 0
) -> tuple[dict[str, Any], list[str]]:
    ask = {"ask": "replay", "id": 5, "topic": topic, "publisher_epoch": epoch, "after": after}
    reply, *bodies = history.answer(ask, EPOCH, 999)
    return msgspec.msgpack.decode(reply), [b.decode().strip() for b in bodies]


def test_topics_are_listed_by_prefix_with_their_last_sequence() -> None:
    history = ReplayBuffer()
    add(history, 3)
    add(history, 2, topic=BOOK)
    history.begin("gap.INJ-USDT.", 50)
    ask = {"ask": "topics", "id": 9, "prefixes": ["trades.", "gap."]}
    (reply,) = history.answer(ask, EPOCH, 103, {"BTC-USDT": 107})
    assert msgspec.msgpack.decode(reply) == {
        "id": 9,
        "publisher_epoch": EPOCH,
        "head": 103,
        "ahead": {"BTC-USDT": 107},
        "topics": {TRADES: 3, "gap.INJ-USDT.": 0},
        "chain": 0,
    }


def test_a_hole_is_answered_by_exactly_what_followed() -> None:
    history = ReplayBuffer()
    add(history, 5, topic=BOOK, keyframes=2)
    reply, bodies = replay(history, topic=BOOK, after=2)
    assert bodies == ["d3", "d4", "d5"]
    assert reply == {
        "id": 5,
        "topic": BOOK,
        "publisher_epoch": EPOCH,
        "complete": True,
        "last": 5,
        "from_height": 101,
        "chain": 0,
    }


def test_a_late_joiner_gets_the_newest_book_and_no_old_trades() -> None:
    history = ReplayBuffer()
    add(history, 9, topic=BOOK, keyframes=4)
    add(history, 9)
    reply, bodies = replay(history, topic=BOOK, epoch=0)
    assert (reply["complete"], bodies) == (False, ["W8", "d9"])
    reply, bodies = replay(history, epoch=0)
    assert (reply["complete"], reply["last"], bodies) == (False, 9, [])


def test_a_published_snapshot_serves_as_a_keyframe() -> None:
    history = ReplayBuffer()
    history.add(BOOK, 1, 101, body(1, whole=True), whole=True)
    history.add(BOOK, 2, 102, body(2))
    assert replay(history, topic=BOOK, epoch=0)[1] == ["W1", "d2"]
    assert replay(history, topic=BOOK)[1] == ["W1", "d2"]


def test_another_epoch_gets_all_there_is_with_the_oldest_book_in_its_place() -> None:
    history = ReplayBuffer(frames_per_topic=4)
    add(history, 3, topic=BOOK)
    history.add(BOOK, 3, 103, body(3, whole=True), published=False, whole=True)
    assert replay(history, topic=BOOK, epoch=EPOCH - 1, after=90)[1] == ["d1", "d2", "d3", "W3"]
    for n in (4, 5, 6):
        history.add(BOOK, n, 100 + n, body(n))
    reply, bodies = replay(history, topic=BOOK, epoch=EPOCH - 1)
    assert bodies == ["W3", "d4", "d5", "d6"]
    assert (reply["complete"], reply["from_height"]) == (False, 104)


def test_what_was_evicted_is_not_called_complete() -> None:
    history = ReplayBuffer(frames_per_topic=3)
    add(history, 5)
    reply, bodies = replay(history, after=1)
    assert (reply["complete"], reply["from_height"], bodies) == (False, 103, ["d3", "d4", "d5"])
    assert replay(history, after=2)[0]["complete"]


def test_a_topic_begins_at_the_height_it_was_declared_from() -> None:
    history = ReplayBuffer()
    history.begin(TRADES, 90)
    assert replay(history)[0]["from_height"] == 90
    add(history, 1)
    assert replay(history)[0]["from_height"] == 90
    assert replay(history, topic="trades.NEW.")[0] == {
        "id": 5,
        "topic": "trades.NEW.",
        "publisher_epoch": EPOCH,
        "complete": True,
        "last": 0,
        "from_height": 1000,
        "chain": 0,
    }


@pytest.mark.parametrize(
    "request_",
    [
        None,
        7,
        [],
        {},
        {"ask": "dance", "id": 4},
        {"ask": "topics", "id": 4},
        {"ask": "topics", "id": 4, "prefixes": "book."},
        {"ask": "replay", "id": 4, "topic": BOOK, "publisher_epoch": "x", "after": 0},
    ],
)
def test_a_malformed_request_gets_an_error_in_one_sentence(request_: object) -> None:
    (reply,) = ReplayBuffer().answer(request_, EPOCH, 1)
    answer = msgspec.msgpack.decode(reply)
    assert answer["id"] == (request_.get("id") if isinstance(request_, dict) else None)
    assert answer["error"].startswith("request not understood: ")
    assert "\n" not in answer["error"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["book.A.", "book.B.", "trades.A."]),
            st.sampled_from(["delta", "delta", "delta", "keyframe", "snapshot"]),
            st.integers(10, 400),
        ),
        max_size=120,
    ),
    frames=st.integers(1, 12),
    total=st.integers(100, 4_000),
)
def test_whatever_is_forgotten_answers_stay_true(
    steps: list[tuple[str, str, int]], frames: int, total: int
) -> None:
    history = ReplayBuffer(frames, total)
    published: dict[str, list[bytes]] = {}
    books: dict[str, int] = {}
    for topic, kind, size in steps:
        log = published.setdefault(topic, [])
        if topic.startswith("trades.") or kind == "delta":
            log.append(body(len(log) + 1, size=size))
            history.add(topic, len(log), len(log), log[-1])
        elif kind == "snapshot":
            log.append(body(len(log) + 1, whole=True, size=size))
            history.add(topic, len(log), len(log), log[-1], whole=True)
            books[topic] = len(log)
        else:
            whole = body(len(log), whole=True, size=size)
            history.add(topic, len(log), len(log), whole, published=False, whole=True)
            books[topic] = len(log)
        kept = [k for t in history._topics.values() for k in (*t.frames, t.base) if k]
        assert history.bytes == sum(len(k[2]) for k in kept)
        assert all(len(t.frames) <= frames for t in history._topics.values())
    for topic, log in published.items():
        check_topic(history, topic, [b.decode().strip() for b in log], books.get(topic))


def check_topic(history: ReplayBuffer, topic: str, log: list[str], book: int | None) -> None:
    for after in range(len(log) + 1):
        reply, bodies = replay(history, topic=topic, after=after)
        assert reply["last"] == len(log)
        if reply["complete"]:
            assert bodies == log[after:]
            # Heights equal sequences here: what is kept begins no later than it says.
            assert reply["from_height"] <= after + 1
        else:
            deltas = [b for b in bodies if b in log]
            assert deltas == log[len(log) - len(deltas) :] or bodies[0] == f"W{len(log)}"
            assert after < reply["from_height"] - 1
    _, bodies = replay(history, topic=topic, epoch=0)
    if bodies:
        first = int(bodies[0][1:])
        assert bodies[0] == f"W{first}"
        assert bodies[1:] == log[first:]
        assert first == book


@given(
    counts=st.lists(st.integers(1, 400), min_size=1, max_size=6),
    every=st.integers(1, 30),
    total=st.integers(5_000, 20_000),
)
def test_a_book_that_gets_keyframes_can_always_be_built(
    counts: list[int], every: int, total: int
) -> None:
    history = ReplayBuffer(64, total)
    for i, count in enumerate(counts):
        add(history, count, topic=f"book.{i}.", keyframes=every)
        if count >= every:
            assert replay(history, topic=f"book.{i}.", epoch=0)[1]


def test_bytes_stay_bounded_and_the_largest_topic_pays() -> None:
    history = ReplayBuffer(1_000, 100_000)
    add(history, 10, topic="trades.QUIET.")
    for n in range(1, 900):
        history.add("trades.BUSY.", n, n, body(n, size=1_000))
        assert history.bytes <= 100_000
    assert len(replay(history, topic="trades.QUIET.")[1]) == 10
    assert not replay(history, topic="trades.BUSY.")[0]["complete"]


def test_under_byte_pressure_a_book_gives_way_after_topics_that_are_none() -> None:
    history = ReplayBuffer(1_000, 10_000)
    history.add(BOOK, 1, 101, body(1, whole=True), whole=True)
    for n in range(2, 300):
        history.add(BOOK, n, 100 + n, body(n))
    add(history, 400)
    assert history.bytes <= 10_000
    assert len(replay(history, topic=BOOK, epoch=0)[1]) == 299


def test_half_a_million_prefixes_cost_little_also_with_few_rights() -> None:
    """A reader's request of a megabyte; it took seven seconds, in which no frame was published."""
    history = ReplayBuffer()
    for channel in ("book", "trades"):
        for number in range(300):
            history.add(f"{channel}.M{number}-USDT.", 1, 100, b"x")
    rights = Rights(f"trades.M{number}-USDT" for number in range(50))
    ask = {"ask": "topics", "id": 1, "prefixes": [""] * 500_000 + ["book."] * 50_000}
    began = time.process_time()
    (reply,) = history.answer(ask, EPOCH, 103, None, rights.may_read)
    assert time.process_time() - began < 1.0
    topics = msgspec.msgpack.decode(reply)["topics"]
    assert sorted(topics) == sorted(f"trades.M{number}-USDT." for number in range(50))


@pytest.mark.parametrize(("every", "at_most"), [(64, 96), (90, 96), (100, 101), (1_000, 1_001)])
def test_a_keyframe_that_is_put_off_and_what_follows_it_fit_into_what_is_kept(
    every: int, at_most: int
) -> None:
    builder = RecordBuilder(
        trade_identity=TradeIdentity.HEIGHT, limits=Limits(keyframe_every=every)
    )
    assert builder._overdue == at_most
    kept = Publisher(lambda part, flags=0: None).replay.frames_per_topic
    assert kept - ROOM > record_builder._OVERDUE
