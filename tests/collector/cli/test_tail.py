"""`collector tail` in a process of its own, against a scripted publisher."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from collector.client.formatting import text_line
from collector.client.received import Lost, Received
from shards.protocol.event_text import trim
from shards.protocol.events import (
    Event,
    Funding,
    Metadata,
    Oracle,
    Order,
    Orders,
    Price,
    Pulse,
    Ticker,
)
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import (
    Script,
    ScriptedPublisher,
    delta,
    free_endpoint,
    gap,
    market_id,
    publishing,
    snapshot,
    trades,
)

TAIL = [sys.executable, "-c", "from collector.cli.tail import tail; tail(prog_name='tail')"]
INJ, PERP = "INJ-USDT", "INJ-USDT-PERP"
MARKETS = [
    {"market_id": market_id(symbol), "ticker": symbol.replace("-", "/", 1), "symbol": symbol}
    for symbol in (INJ, PERP, "BTC-USDT")
]


@contextmanager
def busy_publisher() -> Iterator[ScriptedPublisher]:
    """Both channels of one market, with one frame of each kind, then whatever a test sends."""
    with publishing(Script(markets=MARKETS, head=100)) as publisher:
        book = OrderBook(market_id(INJ))
        book.load(7, [("1.500000000000000000", "2.000000000000000000")], [])
        publisher.send(INJ, snapshot(INJ, 100, book))
        publisher.send(INJ, delta(INJ, 101, 8))
        yield publisher


def run(*arguments: str, timeout_s: float = 90) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TAIL, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


@contextmanager
def tailing(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*TAIL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_json_lines_carry_every_field_by_name_and_exact_texts() -> None:
    with busy_publisher() as publisher:
        done = run("--connect", publisher.endpoint, "--market", INJ, "-n", "2", "--json")
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["kind"] == "book"
    assert first["topic"] == "book.INJ-USDT."
    assert first["event"]["is_snapshot"] is True
    assert first["event"]["bids"] == [["1.500000000000000000", "2.000000000000000000"]]
    assert second["event"]["sequence"] == 8
    assert set(second) == {"kind", *Received.__struct_fields__}


def test_lines_for_people_are_aligned_and_trimmed() -> None:
    with busy_publisher() as publisher, tailing("--connect", publisher.endpoint) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        publisher.send(INJ, trades(INJ, 102, 5))
        lines.append(process.stdout.readline())
        publisher.send(INJ, gap(INJ, 3, 103))
        lines.append(process.stdout.readline())
    assert [re.sub(r"^[\d:.]{12}  ", "", line.rstrip()) for line in lines] == [
        "book     INJ-USDT                100  #7  snapshot, 1 bids, 0 asks, bid 2 @ 1.5",
        "book     INJ-USDT                101  #8  bid 8 @ 2",
        "trades   INJ-USDT                102  sell 1 @ 10, buy 2 @ 10, sell 3 @ 10, 2 more",
        "gap      INJ-USDT                103  open #3, mute, height 103 on",
    ]


def test_ctrl_c_ends_it_with_0() -> None:
    with busy_publisher() as publisher, tailing("--connect", publisher.endpoint) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 0


def test_a_reader_that_goes_away_ends_it_quietly_with_0() -> None:
    with busy_publisher() as publisher, tailing("--connect", publisher.endpoint) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        deadline = time.monotonic() + 60
        height = 102
        while process.poll() is None and time.monotonic() < deadline:
            publisher.send(INJ, trades(INJ, height))
            height += 1
        assert process.wait(90) == 0
        assert "Error" not in process.stderr.read()
        process.stdout = None


@pytest.mark.parametrize("market", [INJ, PERP], ids=["after a line", "before any"])
def test_a_reader_that_goes_away_ends_it_also_when_nothing_is_published(market: str) -> None:
    with (
        busy_publisher() as publisher,
        tailing("--connect", publisher.endpoint, "--market", market, "-n", "9") as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        if market == INJ:
            assert [process.stdout.readline()[14:19] for _ in range(2)] == ["book "] * 2
        process.stdout.close()
        assert process.wait(90) == 0
        assert "Error" not in process.stderr.read()
        process.stdout = None


def test_nobody_at_the_endpoint_is_one_sentence_and_3() -> None:
    endpoint = free_endpoint()
    done = run("--connect", endpoint)
    assert done.returncode == 3
    assert re.fullmatch(
        rf"tail: no collector answered at {endpoint} \(requests go to port \d+\) within 5 s: "
        r"is one running \('collector start'\), and is this its endpoint \(--connect\)\?\n",
        done.stderr,
    )


def test_a_channel_that_there_is_not_is_one_sentence_and_2() -> None:
    done = run("--channel", "tardes")
    assert done.returncode == 2
    assert "not 'tardes'; did you mean trades" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--market", "INJUSDT"], "no market matches 'INJUSDT'; did you mean INJ-USDT"),
        (["--market", "ETH*"], "no market matches 'ETH*'"),
    ],
)
def test_what_cannot_match_is_one_sentence_and_3(arguments: list[str], text: str) -> None:
    with busy_publisher() as publisher:
        done = run("--connect", publisher.endpoint, *arguments)
    assert done.returncode == 3
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("pattern", ["INJ/USDT", "INJ-USD?", market_id(INJ)])
def test_a_market_may_be_named_by_ticker_glob_or_id(pattern: str) -> None:
    with busy_publisher() as publisher:
        done = run("--connect", publisher.endpoint, "--market", pattern, "-n", "1")
    assert done.returncode == 0, done.stderr
    assert "INJ-USDT " in done.stdout


def test_help_needs_no_zeromq() -> None:
    code = (
        "import sys; from collector.cli.tail import tail; tail(['--help'], standalone_mode=False);"
        "assert not {'zmq', 'asyncio'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "--market" in done.stdout


def test_a_loss_reads_as_one() -> None:
    lost = Lost("height", 5, 9, "the history does not reach back")
    line = text_line(Received("trades.X.", "trades", "X", lost))
    assert line.endswith("LOST height 5 to 9: the history does not reach back")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Ticker("0xa", 9, 7, 1, 2, "chain-ws", "10.50", "2.0", "", ""),
            "9  #7  bid 2 @ 10.5, ask none",
        ),
        (
            Orders(
                *("0xa", 9, 1, 2, "chain-ws"),
                [Order("0xh", "cancelled", "sell", "SELL", "10.50", "3.0", "2.0", "0xs", "inj1")],
            ),
            "9  cancelled sell 2 @ 10.5",
        ),
        (
            Oracle("BTC", 9, 1, 2, "chain-ws", [Price("pyth", "9.50"), Price("stork", "9.60")]),
            "9  pyth 9.5, stork 9.6",
        ),
        (Pulse(9, 1_000_000_000, 1_250_000_000, "replay"), "9  replay, 250 ms after its time"),
        (
            Metadata(
                *("0xa", 2, "A/B", "A-B", "spot", "Paused", "a", "b", 18, 6),
                *("0.10", "1.0", "5", "-0.1", "0.1", "", "", ""),
            ),
            "Paused, spot, price tick 0.1, quantity tick 1",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_event_reads_as_a_line(event: Event, line: str) -> None:
    assert text_line(Received("t.X.", "t", "X", event)).endswith(line)


def test_funding_reads_with_what_is_due() -> None:
    numbers = ("0.10", "0.2", 3, 3600, 3600, "0.0", "0.0", "9.60")
    event = Funding("0xa", 9, 0, 2, "query", *numbers)
    line = text_line(Received("funding.X.", "funding", "X", event))
    assert re.search(r"9  cumulative 0\.1, next at \d\d:00:00, mark price 9\.6$", line)


@pytest.mark.parametrize(
    ("exact", "shown"),
    [("10.500000000000000000", "10.5"), ("100.000000000000000000", "100"), ("-0.10", "-0.1")],
)
def test_trailing_zeros_are_left_out(exact: str, shown: str) -> None:
    assert trim(exact) == shown


def test_a_channel_that_is_not_collected_is_refused_and_not_waited_for() -> None:
    script = Script(markets=MARKETS, head=100, status={"collected": ["book", "trades"]})
    with publishing(script) as publisher:
        done = run("--connect", publisher.endpoint, "--channel", "oracle")
        assert done.returncode == 3
        assert "--channel oracle is not collected there, only book, trades" in done.stderr
        publisher.send(INJ, gap(INJ, 1, 5))
        for channel in ("gap", "book"):
            with tailing("--connect", publisher.endpoint, "--channel", channel) as process:
                assert process.stderr is not None
                assert "following" in process.stderr.readline()


def test_n_frames_are_the_newest_of_all_and_not_the_first_books() -> None:
    with busy_publisher() as publisher:
        for height in range(102, 112):
            publisher.send(INJ, delta(INJ, height, height - 93))
        book = OrderBook(market_id(PERP))
        book.load(1, [], [])
        publisher.send(PERP, snapshot(PERP, 111, book))
        done = run("--connect", publisher.endpoint, "-n", "3", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    told = [(row["topic"], row["event"]["height"]) for row in rows]
    assert told == [
        ("book.INJ-USDT.", 110),
        ("book.INJ-USDT.", 111),
        ("book.INJ-USDT-PERP.", 111),
    ]


def test_names_are_taken_in_any_case() -> None:
    with busy_publisher() as publisher:
        done = run("--connect", publisher.endpoint, "--market", "inj/usdt", "-n", "2", "--json")
    assert done.returncode == 0, done.stderr
