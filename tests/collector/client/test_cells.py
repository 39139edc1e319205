"""Several cells through one subscriber, over real sockets."""

import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack

import pytest

from collector import Book, Joined, Lost, Received, Subscriber, Trades, Unanswered
from collector.client.whole_book import load_or_apply
from collector.settings.addresses import endpoints_of
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import (
    Script,
    ScriptedPublisher,
    delta,
    free_endpoint,
    market_id,
    publishing,
    snapshot,
    text,
    trades,
)
from tests.collector.client.test_subscriber import INJ, has_subscribed, opened, until
from tests.system.running import eventually

TOPIC = b"trades.INJ-USDT."
MARKETS = [{"market_id": market_id(INJ), "ticker": "INJ/USDT", "symbol": INJ}]


def beginning(publisher: ScriptedPublisher) -> None:
    """Publish a first whole book; have the topics that every aggregator has."""
    opened(publisher)
    for channel in ("trades", "gap"):
        publisher.script.history.begin(f"{channel}.{INJ}.", 101)


def joined_all(subscriber: Subscriber, *publishers: ScriptedPublisher) -> list[Received]:
    """Wait until every cell answered, and has a subscription."""
    out: list[Received] = []

    def done() -> bool:
        while (received := subscriber.poll(0.0)) is not None:
            out.append(received)
        books = [cell.inbox.position(f"book.{INJ}.") for cell in subscriber.cells]
        return (
            all(cell.answers for cell in subscriber.cells)
            and all(book is not None and not book.lacks_book for book in books)
            and all(has_subscribed(publisher, TOPIC) for publisher in publishers)
        )

    eventually(done, within_s=30, what="all cells answer")
    return out


def heights(out: list[Received]) -> list[int]:
    return [r.event.height for r in out if isinstance(r.event, Trades)]


def test_each_fact_comes_once_from_the_cell_that_has_it_first() -> None:
    with publishing() as one, publishing(Script(publisher_epoch=9)) as two:
        for cell in (one, two):
            beginning(cell)
        connect = f"{one.endpoint}, {two.endpoint}"
        with Subscriber(connect, markets=[INJ], keep_books=True) as subscriber:
            out = joined_all(subscriber, one, two)
            for height in range(101, 121):
                first, second = (one, two) if height % 2 else (two, one)
                for cell in (first, second):
                    cell.send(INJ, delta(INJ, height, height - 99))
                    cell.send(INJ, trades(INJ, height))
                    if cell is first:
                        out += until(subscriber, lambda r: r.channel == "trades")
            assert subscriber.poll(0.3) is None
            book = subscriber.book(INJ)
    assert [type(r.event) for r in out if not r.topic] == [Joined]
    assert heights(out) == list(range(101, 121))
    changes = [r for r in out if isinstance(r.event, Book) and not r.event.is_snapshot]
    assert [r.event.sequence for r in changes if isinstance(r.event, Book)] == list(range(2, 22))
    assert {r.publisher for r in out if r.channel == "trades"} == {one.endpoint, two.endpoint}
    assert len([r for r in out if isinstance(r.event, Book) and r.event.is_snapshot]) == 1
    assert book is not None
    assert book.sequence == 21


def test_a_dead_cell_is_not_seen_and_both_dead_are() -> None:
    with ExitStack() as stack, publishing() as one:
        two = stack.enter_context(publishing(Script(publisher_epoch=9)))
        for cell in (one, two):
            beginning(cell)
        endpoints = [one.endpoint, two.endpoint]
        with Subscriber(endpoints, markets=[INJ], silent_s=0.4) as subscriber:
            joined_all(subscriber, one, two)
            two.send(INJ, trades(INJ, 101))
            assert until(subscriber, lambda r: r.channel == "trades")[-1].publisher == two.endpoint
            stack.close()
            one.send(INJ, trades(INJ, 101))
            one.send(INJ, trades(INJ, 102))
            out = until(subscriber, lambda r: r.channel == "trades")
            assert (out[-1].publisher, heights(out)) == (one.endpoint, [102])
            eventually(
                lambda: subscriber.poll(0.0) is None and not subscriber.cells[1].answers,
                within_s=30,
                what="the dead cell is known",
            )
            one.script.silent = True
            out += until(subscriber, lambda r: isinstance(r.event, Unanswered))
            one.script.silent = False
            out += until(subscriber, lambda r: isinstance(r.event, Joined))
    assert not [r for r in out if isinstance(r.event, Lost)]


@pytest.mark.parametrize(("markets", "prefix"), [("*", b"trades."), (INJ, TOPIC)])
def test_a_cell_that_is_only_starting_hides_nothing(markets: str, prefix: bytes) -> None:
    with publishing(Script(1)) as one, publishing(Script(2)) as two:
        one.script.history.begin(f"trades.{INJ}.", 90)
        one.script.head = 100
        endpoints = [one.endpoint, two.endpoint]
        with Subscriber(endpoints, markets=markets, channels="trades", silent_s=0.4) as subscriber:

            def is_read() -> bool:
                subscriber.poll(0.0)
                has_all = all(has_subscribed(cell, prefix) for cell in (one, two))
                return has_all and all(cell.answers for cell in subscriber.cells)

            eventually(is_read, within_s=30, what="both cells answer")
            one.send(INJ, trades(INJ, 101))
            until(subscriber, lambda r: r.channel == "trades")
            one.script.silent = True
            # Its shards begin with the market.
            two.script.history.begin(f"trades.{INJ}.", 110)
            two.send(INJ, trades(INJ, 112))
            lost, last = until(subscriber, lambda r: isinstance(r.event, Trades))
    assert isinstance(lost.event, Lost)
    assert (lost.event.first, lost.event.last) == (102, 109)
    assert heights([last]) == [112]


def test_what_both_lost_is_named_and_the_book_is_whole_again() -> None:
    with (
        publishing(Script(1)) as one,
        publishing(Script(9)) as two,
    ):
        for cell in (one, two):
            cell.script.history.frames_per_topic = 2
            beginning(cell)
        both = [one.endpoint, two.endpoint]
        with Subscriber(both, markets=[INJ], channels=["book", "trades"]) as subscriber:
            out = joined_all(subscriber, one, two)
            book = OrderBook(INJ)
            book.load(1, [(text(1), text(2))], [])
            for sequence in (2, 3, 4, 5):
                change = delta(INJ, 99 + sequence, sequence)
                load_or_apply(book, change)
                # One loses 2 to 4 on the wire, the other 3 to 5; neither can resend them.
                for cell, lost in ((one, range(2, 5)), (two, range(3, 6))):
                    (cell.drop if sequence in lost else cell.send)(INJ, change)
            for cell in (one, two):
                cell.script.keyframe(INJ, snapshot(INJ, 104, book))
            out += until(
                subscriber,
                lambda r: isinstance(r.event, Book) and r.event.is_snapshot,
                deadline_s=20,
            )
    events = [r.event for r in out if r.channel == "book"]
    named = [(e.first, e.last) for e in events if isinstance(e, Lost)]
    assert named == [(3, 4)]
    assert [e.sequence for e in events if isinstance(e, Book)] == [1, 2, 5, 5]


def test_a_cell_of_another_version_is_done_without() -> None:
    with publishing() as one, publishing() as two:
        for cell in (one, two):
            beginning(cell)
        both = [one.endpoint, two.endpoint]
        with Subscriber(both, markets=[INJ]) as subscriber:
            joined_all(subscriber, one, two)
            newer = bytearray(one.script.publish(INJ, trades(INJ, 101))[1])
            newer[1] = 2
            two.send_parts(TOPIC, bytes(newer))
            eventually(
                lambda: subscriber.poll(0.0) is None and subscriber.cells[1].refused,
                within_s=30,
                what="the newer cell is refused",
            )
            assert subscriber.cells[1].refused.startswith("frame version 2")
            one.send(INJ, trades(INJ, 102))
            out = until(subscriber, lambda r: r.channel == "trades")
            one.send_parts(TOPIC, bytes(newer))
            with pytest.raises(ValueError, match="frame version 2"):
                until(subscriber, lambda r: False)
    assert out[-1].publisher == one.endpoint


def test_a_cell_of_another_chain_is_refused_before_anything_of_it_is_delivered() -> None:
    """The first one to answer names the chain."""
    names = ("injective-1", "injective-888")
    origins = [{"chain_id": name} for name in names]
    with publishing(Script(origin=origins[0])) as one, publishing(Script(origin=origins[1])) as two:
        for cell in (one, two):
            beginning(cell)
        with Subscriber([one.endpoint, two.endpoint], markets=[INJ]) as subscriber:
            until(subscriber, lambda r: r.channel == "book")
            eventually(
                lambda: subscriber.poll(0.0) is None and any(c.refused for c in subscriber.cells),
                within_s=30,
                what="the cell of another chain is refused",
            )
            read, other = (0, 1) if subscriber.cells[1].refused else (1, 0)
            endpoint = (one, two)[read].endpoint
            assert not subscriber.cells[read].refused
            assert subscriber.cells[other].refused == (
                f"collects the chain {names[other]}, and {endpoint} {names[read]}"
            )
            (one, two)[other].send(INJ, trades(INJ, 101, 3))
            (one, two)[read].send(INJ, trades(INJ, 102))
            out = until(subscriber, lambda r: r.channel == "trades")
            assert subscriber.cells[other].first_copies == 0
    assert [(r.publisher, r.event.height) for r in out if isinstance(r.event, Trades)] == [
        (endpoint, 102)
    ]


@pytest.mark.parametrize("known", ["", "injective-1"])
def test_a_cell_that_learns_its_chain_later_is_read(known: str) -> None:
    with publishing(Script(origin={"chain_id": known})) as one, publishing() as two:
        for cell in (one, two):
            beginning(cell)
        with Subscriber([one.endpoint, two.endpoint], markets=[INJ]) as subscriber:
            joined_all(subscriber, one, two)
            two.script.origin = {"chain_id": "injective-1"}
            eventually(
                lambda: subscriber.poll(0.0) is None and subscriber.cells[1].chain_id,
                within_s=30,
                what="the cell's chain is known",
            )
            assert all(cell.answers for cell in subscriber.cells)


def test_the_markets_are_those_of_all_parts() -> None:
    others = [{"market_id": market_id("BTC-USDT"), "ticker": "BTC/USDT", "symbol": "BTC-USDT"}]
    with publishing(Script(markets=MARKETS)) as one, publishing(Script(markets=others)) as two:
        beginning(one)
        beginning(two)
        with Subscriber([one.endpoint, two.endpoint], markets=[INJ]) as subscriber:
            joined_all(subscriber, one, two)
            assert subscriber.markets() == [*others, *MARKETS]


def test_parts_have_a_name_each_and_what_none_has_is_unmatched() -> None:
    with publishing() as one, publishing() as two:
        opened(one)
        book = OrderBook("BTC-USDT")
        book.load(1, [], [])
        two.send("BTC-USDT", snapshot("BTC-USDT", 100, book))
        both = [one.endpoint, two.endpoint]
        with Subscriber(both, markets=[INJ, "BTC-USDT", "NOSUCH"]) as subscriber:
            out = until(
                subscriber, lambda r: isinstance(r.event, Joined) and bool(r.event.unmatched)
            )
            joined = [r.event for r in out if isinstance(r.event, Joined)]
            assert joined[-1].unmatched == ("NOSUCH",)
            symbols = {r.symbol for r in out if r.channel == "book"}
            while symbols != {INJ, "BTC-USDT"}:
                symbols |= {until(subscriber, lambda r: r.channel == "book")[-1].symbol}


def test_it_is_iterated_on_a_loop() -> None:
    async def read(one: ScriptedPublisher, two: ScriptedPublisher) -> list[int]:
        got: list[int] = []
        async with Subscriber([one.endpoint, two.endpoint], channels="trades") as subscriber:
            async for received in subscriber:
                if isinstance(received.event, Joined):
                    await asyncio.sleep(0)
                    sent = 100
                if isinstance(received.event, Trades):
                    got.append(received.event.height)
                if got[-1:] == [105]:
                    break
                sent = 101 + len(got)
                one.send(INJ, trades(INJ, sent))
                two.send(INJ, trades(INJ, sent))
        return got

    with publishing() as one, publishing() as two:
        for cell in (one, two):
            beginning(cell)
        assert asyncio.run(asyncio.wait_for(read(one, two), 60)) == [101, 102, 103, 104, 105]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connect": []}, "no endpoint"),
        ({"connect": ["tcp://a:1", "tcp://a:1"]}, "named twice"),
        ({"connect": "tcp://a:1,udp://b:1"}, "neither tcp"),
        ({"connect": ["tcp://a:1", "tcp://b:1"], "requests": ["tcp://a:2"]}, "one for each"),
        ({"connect": ["tcp://a:1", "tcp://b:1"], "keys": ["a.key"]}, "one for each"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Subscriber(**options)  # type: ignore[arg-type]


def test_a_comma_in_a_path_separates_nothing() -> None:
    assert endpoints_of("ipc:///a,b") == ("ipc:///a,b",)
    assert endpoints_of("ipc:///a,tcp://b:1 , tcp://c:1") == ("ipc:///a", "tcp://b:1", "tcp://c:1")


def test_commands_read_cells_and_do_without_one_that_is_away() -> None:
    away = free_endpoint()
    with publishing(Script(markets=MARKETS, head=100)) as one:
        beginning(one)
        tail = [sys.executable, "-m", "collector", "tail", "--json", "-n", "1"]
        out = subprocess.run(
            [*tail, "--connect", f"{one.endpoint},{away}"],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert out.returncode == 0, out.stderr
        assert json.loads(out.stdout)["publisher"] == one.endpoint
        assert f"no collector answered at {away} (requests go to port " in out.stderr
        status = [sys.executable, "-m", "collector", "status", "--connect"]
        out = subprocess.run(
            [*status, f"{away},{one.endpoint}"],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert "no answer" in out.stdout
    assert one.endpoint in out.stdout.splitlines()[0]


def test_a_map_with_cells_that_cannot_be_read_ends_no_reader() -> None:
    with publishing() as one, publishing() as other:
        wrong = ["nonsense", "tcp://x:99999", "ipc://", "inproc://x", ""]
        places = [
            {"part": "1/2", "host": "h", "endpoint": at}
            for at in (one.endpoint, *wrong, other.endpoint)
        ]
        one.script.cluster = {"generation": 1, "cells": places[:1]}
        with Subscriber(cluster=one.endpoint) as reader:
            one.script.cluster = {"generation": 2, "cells": places}

            def names() -> list[str]:
                reader.poll(0.0)
                return [cell.name for cell in reader.cells]

            eventually(lambda: len(names()) == 2, within_s=30, what="the other cell")
            assert names() == [one.endpoint, other.endpoint]
