"""What is drawn: every line as wide as the screen, nothing cut that matters at 80 columns."""

import msgspec
import pytest
from rich.style import Style

from collector.tui.events import event_lines
from collector.tui.grid import first_line, grid_lines, layout, market_line
from collector.tui.headline import HEIGHT, headline
from collector.tui.ladder import (
    Fill,
    fill_lines,
    funding_text,
    ladder_lines,
    market_lines,
)
from collector.tui.process_table import process_lines
from collector.tui.spans import (
    Line,
    Span,
    change,
    clip,
    fit,
    merged,
    plain,
    printable,
    spread,
)
from collector.tui.tones import LIVE_MARKS, LOOKS, MARKS, STATES, mark, tone_of
from collector.tui.view_model import Picture, Watched
from shards.protocol.events import Funding
from tests.collector.tui.pictures import ENDPOINT, answers, event, market, point, row


def _texts(lines: list[Line], width: int) -> list[str]:
    texts = [plain(line) for line in lines]
    assert {len(text) for text in texts} == {width}
    return [text.rstrip() for text in texts]


def _picture(**fields: object) -> Picture:
    watched = Watched(ENDPOINT, 0.0)
    points = [point(1), point(2)]
    watched.take(answers(market("INJ"), points=points, events=[event(1)], **fields), 0.0, 0.0)
    return watched.picture(0.0, 0.0)


# -- lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("same", "same", None),
        ("height 1", "height 2", (7, 1)),
        ("a b c", "x b y", (0, 5)),
        ("short", "shorter", (5, 2)),
        ("longer", "long", (4, 2)),
        ("", "new", (0, 3)),
    ],
)
def test_only_columns_that_changed_are_drawn(
    old: str, new: str, expected: tuple[int, int] | None
) -> None:
    assert change((Span(old),), (Span(new),)) == expected


def test_another_tone_is_a_change_and_another_cut_is_none() -> None:
    assert change((Span("ab"),), (Span("a"), Span("b", "bad"))) == (1, 1)
    assert change((Span("ab"),), (Span("a"), Span("b"))) is None


def test_lines_fit() -> None:
    line = (Span("left "), Span("middle", "bad"))
    assert plain(fit(line, 8)) == "left mi…"
    assert plain(fit(line, 13)) == "left middle  "
    assert plain(spread(line, (Span("right"),), 20)) == "left middle    right"
    assert plain(spread(line, (Span("right"),), 12)) == "left middle "
    assert merged((Span("a", "x"), Span("b", "x"), Span("c"))) == (Span("ab", "x"), Span("c"))
    assert (clip("", 2), clip("abc", 0), clip("abc", 2)) == ("  ", "", "a…")


def test_what_takes_no_single_column_is_replaced() -> None:
    assert printable("INJ\x1b[31m\n一-USDT") == "INJ?[31m??-USDT"


# -- states --------------------------------------------------------------------------------


def test_every_state_has_a_mark_and_a_look_of_its_own() -> None:
    looks = [
        (mark(state, step), LOOKS[tone_of(state, step)])
        for state in STATES
        for step in (range(4) if state == "live" else (0,))
    ]
    assert len({sign for sign, _ in looks}) == len({look for _, look in looks}) == len(looks)
    assert mark("unheard-of", 0) == "?"
    assert set(MARKS) | {"live"} == set(STATES)
    assert len(LIVE_MARKS) == 4


def test_every_look_is_one() -> None:
    for look in LOOKS.values():
        Style.parse(look)


# -- the headline --------------------------------------------------------------------------


def test_the_headline_at_80_columns() -> None:
    lines = _texts(headline(_picture(), 80, paused=False), 80)
    assert len(lines) == HEIGHT
    assert lines[0].endswith("collector 0.1.0  tcp://127.0.0.1:5590")
    assert lines[1:] == [
        "2 of 2 live   coverage 1.0000 mean 0.9876   completeness 0.999999",
        "block 12,345,678 every 0.65 s   gaps 0 open, 3 closed   replayed 12   missing 0",
        "0.0 frames/s   latency p50 123 µs p99 1.23 ms   dropped 0   1,234 trades, 56,78…",
        "░▒▓█ live 2  X stale 0  F failed 0  S syncing 0  P pending 0  - inactive 1",
    ]


def test_a_wide_headline_has_the_budget_of_hops() -> None:
    text = _texts(headline(_picture(), 200, paused=False), 200)[3]
    assert text.endswith("book changes   p99 of hops: decode 45 µs, publish 67 µs")


def test_the_headline_says_pause_and_halt() -> None:
    assert "PAUSED" in _texts(headline(_picture(), 80, paused=True), 80)[0]
    assert "THE CHAIN IS HALTED" in _texts(headline(_picture(halted=True), 80, paused=False), 80)[0]


@pytest.mark.parametrize("answered", [True, False])
def test_silence_fills_the_first_line(answered: bool) -> None:
    watched = Watched(ENDPOINT, 100.0)
    if answered:
        watched.take(answers(market("INJ")), 0.0, 100.0)
    watched.silent()
    lines = headline(watched.picture(0.0, 165.0), 120, paused=False)
    (text,) = {span.tone for span in lines[0]}
    assert text == "bad"
    assert "NO ANSWER from tcp://127.0.0.1:5590 since " in plain(lines[0])
    assert "(1m05s)" in plain(lines[0])
    assert ("Is a collector running" in plain(lines[1])) is not answered


# -- the grid ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "width", "height", "view", "shape"),
    [
        (16, 80, 8, "auto", (5, 4, 10)),
        (300, 80, 6, "auto", (40, 8, 0)),
        (300, 99, 43, "auto", (7, 43, 10)),
        (300, 80, 6, "names", (5, 60, 10)),
        (16, 80, 8, "marks", (40, 1, 0)),
        (0, 80, 8, "auto", (5, 0, 1)),
        (3, 2, 1, "auto", (1, 3, 0)),
    ],
)
def test_names_give_way_to_marks_where_there_is_no_room(
    number: int, width: int, height: int, view: str, shape: tuple[int, int, int]
) -> None:
    rows = [row(f"T{i:04}") for i in range(number)]
    found = layout(rows, width, height, view)
    assert found.columns * found.lines >= number
    assert found == shape or (number, view) == (0, "auto")


@pytest.mark.parametrize(
    ("cursor", "first", "lines", "height", "expected"),
    [(0, 0, 8, 6, 0), (7, 0, 8, 6, 2), (3, 2, 8, 6, 2), (1, 2, 8, 6, 1), (0, 5, 3, 6, 0)],
)
def test_the_grid_scrolls_as_little_as_possible(
    cursor: int, first: int, lines: int, height: int, expected: int
) -> None:
    assert first_line(cursor, first, lines, height) == expected


def test_cells_show_state_activity_and_choice() -> None:
    rows = [row("A", level=3), row("B", state="stale"), row("C", state="inactive"), row("D")]
    named = grid_lines(rows, 1, layout(rows, 40, 4, "names"), 0, 40, 2)
    assert _texts(named, 40) == ["█ A-USDT  X B-USDT  - C-USDT  ░ D-USDT", ""]
    assert Span("X", "stale cursor") in named[0]
    marks = grid_lines(rows, 3, layout(rows, 40, 4, "marks"), 0, 40, 1)
    assert _texts(marks, 40) == ["█ X - ░"]
    assert Span("░", "live0 cursor") in marks[0]


def test_a_long_line_of_like_markets_is_one_span() -> None:
    rows = [row(f"T{i}") for i in range(40)]
    (line,) = grid_lines(rows, -1, layout(rows, 80, 1, "auto"), 0, 80, 1)
    assert line == (Span("░ " * 39 + "░", "live0"), Span(" "))
    (line,) = grid_lines(rows, -1, layout(rows, 39, 1, "auto"), 0, 39, 1)
    assert line == (Span("░ " * 19 + "░", "live0"),)


def test_the_chosen_market_in_a_line() -> None:
    chosen = row("INJ", state="stale", reason="cut", per_s=1.25, age_s=61.0)
    (text,) = _texts([market_line(chosen, 80)], 80)
    assert text == "X INJ-USDT  stale  shard 0  block 1,000  age 1m01s  1.2/s  cut"
    assert _texts([market_line(None, 80)], 80) == ["no market matches"]


# -- processes and events ------------------------------------------------------------------


def test_processes_at_80_columns() -> None:
    lines = _texts(process_lines(_picture(), 80, 5), 80)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["shard", "2"],
        ["shard", "10"],
        ["aggregator", "12.3"],
        ["coordinator", "12.3"],
    ]
    assert lines[1].split() == [
        *("shard", "2", "95.0", "▅▅", "1.50", "GB", "▅▅", "2.35", "ms", "██", "100", "1"),
    ]
    assert len(lines[0]) == len(lines[1]), "the last column's title ends above its numbers"


def test_processes_that_do_not_fit_are_counted() -> None:
    assert _texts(process_lines(_picture(), 120, 3), 120)[-1] == "and 3 more"


def test_events_show_the_newest_or_earlier_ones() -> None:
    log = [event(number, text=f"what {number}", reason="") for number in range(1, 11)]
    lines = _texts(event_lines(log, 80, 4), 80)
    assert lines[0] == "EVENTS 10"
    assert [line.split("  ")[-1] for line in lines[1:]] == ["what 8", "what 9", "what 10"]
    lines = _texts(event_lines(log, 80, 4, back=7), 80)
    assert lines[0].endswith("7 newer below")
    assert [line.split("  ")[-1] for line in lines[1:]] == ["what 1", "what 2", "what 3"]
    assert _texts(event_lines([], 80, 2), 80) == ["EVENTS none yet", ""]


def test_an_event_names_what_it_is_about_once() -> None:
    log = [
        event(1, text="shard 1 restarted", reason="killed by SIGKILL"),
        event(2, kind="gap", symbol="INJ-USDT", text="gap open", reason=""),
    ]
    lines = [line[10:] for line in _texts(event_lines(log, 80, 3), 80)[1:]]
    assert lines == [
        "state    shard 1 restarted: killed by SIGKILL",
        "gap      shard 1 INJ-USDT  gap open",
    ]


# -- a market's page -----------------------------------------------------------------------

BIDS = [("10.5", "2"), ("10.25", "1"), ("9", "7")]
ASKS = [("11", "1"), ("12.125", "3")]


def test_the_ladder_has_the_best_levels_beside_the_spread() -> None:
    lines = _texts(ladder_lines(BIDS, ASKS, 40, 8), 40)
    assert lines[0] == "BOOK 3 bids, 2 asks"
    assert [line[:11].strip() for line in lines[2:4]] == ["12.125  3", "11      1"]
    assert lines[4].split() == ["spread", "0.5", "465.12", "bp"]
    assert [line[:11].strip() for line in lines[5:]] == [
        "10.5    2",
        "10.25   1",
        " 9      7".strip(),
    ]
    assert len(lines[7].split("█")) > len(lines[5].split("█")), "depth grows away from the spread"


@pytest.mark.parametrize(
    ("bids", "asks", "said"),
    [([], [], "no book"), (BIDS, [], "no asks"), ([], ASKS, "no bids")],
)
def test_an_empty_side_is_said(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]], said: str
) -> None:
    for height in (1, 2, 3, 8, 20):
        lines = ladder_lines(bids, asks, 40, height)
        assert len(lines) == height
    assert said in "\n".join(map(plain, ladder_lines(bids, asks, 40, 8)))


def test_trades_are_newest_first() -> None:
    fills = [Fill(float(n), "buy", f"{n}.500", "1.000") for n in range(30)]
    lines = _texts(fill_lines(fills, 40, 4), 40)
    assert [line.split()[3] for line in lines[1:]] == ["29.5", "28.5", "27.5"]
    mean = Fill(0.0, "sell", "22.978607142857142857", "19.500000000000000000")
    assert _texts(fill_lines([mean], 41, 2), 41)[1].endswith("sell 19.5 22.978607142857142857")
    assert "none since" in _texts(fill_lines([], 40, 4), 40)[1]


def test_a_perpetual_says_when_funding_is_applied() -> None:
    state = Funding(
        *("0xinj", 7, 0, 0, "query", "0", "0", 900, 4_600, 3_600),
        hourly_rate_cap="0.1",
        hourly_interest_rate="0.01",
        mark_price="23.010000000000000000",
    )
    assert funding_text(state, 1_000.0) == "mark price 23.01   funding in 1h00m, every 1h00m"
    unpriced = msgspec.structs.replace(state, mark_price="")
    assert funding_text(unpriced, 4_700.0) == "funding in 0.0 s, every 1h00m"


def test_a_market_says_how_it_stands() -> None:
    lines = _texts(market_lines(row("INJ", trades=1_234), 0, "waiting for the book", 80), 80)
    assert lines[0].endswith("shard 0  ░ live")
    assert lines[0].startswith("INJ-USDT  INJ/USDT  spot  Active  ")
    quiet = market_lines(row("INJ", activity="quiet"), 0, "", 80)
    assert "Active, quiet" in plain(quiet[0])
    assert lines[1] == ("block 1,000   age 0.5 s   sequence 5   changes 0   trades 1,234   0.0/s")
    assert lines[2] == "waiting for the book"
