"""From answers to a picture, and from its markets to the rows that are shown."""

import pytest

from collector.tui.market_rows import ORDERS, arranged
from collector.tui.view_model import EVENTS, HISTORY, Watched, level
from tests.collector.tui.pictures import ENDPOINT, answers, event, market, point, row


def _watched() -> Watched:
    return Watched(ENDPOINT, 1_000.0)


def test_before_the_first_answer_there_is_only_the_wait() -> None:
    watched = _watched()
    assert watched.picture(0.0, 1_000.0).silent_since is None
    watched.silent()
    picture = watched.picture(5.0, 1_005.0)
    assert (picture.answered, picture.silent_since) == (False, 1_000.0)


def test_silence_lasts_from_the_last_answer_to_the_next() -> None:
    watched = _watched()
    watched.take(answers(market("INJ")), 10.0, 1_010.0)
    watched.silent()
    picture = watched.picture(20.0, 1_020.0)
    assert picture.silent_since == 1_010.0
    assert [row.symbol for row in picture.markets] == ["INJ-USDT"]
    watched.take(answers(market("INJ")), 21.0, 1_021.0)
    assert watched.picture(21.0, 1_021.0).silent_since is None


def test_activity_is_what_is_counted_between_two_answers_and_fades() -> None:
    watched = _watched()
    busy, quiet = {"trades": 400, "book_updates": 100}, {"trades": 400, "book_updates": 100}
    watched.take(answers(market("A", **busy), market("B", **quiet)), 0.0, 0.0)
    for second in range(1, 60):
        busy["book_updates"] += 2
        watched.take(answers(market("A", **busy), market("B", **quiet)), float(second), 0.0)
    a, b = watched.picture(60.0, 0.0).markets
    assert a.per_s == pytest.approx(2.0, rel=0.01)
    assert (a.level, b.per_s, b.level) == (3, 0.0, 0)
    for second in range(60, 200):
        watched.take(answers(market("A", **busy), market("B", **quiet)), float(second), 0.0)
    assert watched.picture(200.0, 0.0).markets[0].level == 0


def test_a_restarted_aggregator_makes_no_negative_rates() -> None:
    watched = _watched()
    watched.take(answers(market("A", trades=500), frames={"published": 900}), 0.0, 0.0)
    watched.take(
        answers(market("A", trades=3), frames={"published": 5}, publisher_epoch=2), 1.0, 1.0
    )
    picture = watched.picture(1.0, 1.0)
    assert picture.markets[0].per_s == 0.0
    assert picture.frames_per_s == 0.0
    watched.take(
        answers(market("A", trades=3), frames={"published": 105}, publisher_epoch=2), 2.0, 2.0
    )
    assert watched.picture(2.0, 2.0).frames_per_s == 100.0


def test_age_counts_from_the_last_new_height() -> None:
    watched = _watched()
    for second, height in enumerate([7, 7, 8, 8, 8]):
        watched.take(answers(market("A", height=height)), float(second), 0.0)
    assert watched.picture(4.5, 0.0).markets[0].age_s == 2.5


@pytest.mark.parametrize(
    ("before", "per_block", "after"),
    [
        (0, 0.0, 0),
        (0, 0.019, 0),
        (0, 0.02, 1),
        (1, 0.015, 1),
        (1, 0.009, 0),
        (1, 0.3, 2),
        (2, 0.2, 2),
        (2, 0.1, 1),
        (2, 1.0, 3),
        (3, 0.6, 3),
        (3, 0.001, 0),
    ],
)
def test_a_mark_that_is_reached_is_kept_for_a_while(
    before: int, per_block: float, after: int
) -> None:
    assert level(before, per_block) == after


def test_events_and_history_are_asked_for_once_and_bounded() -> None:
    watched = _watched()
    assert (watched.last_event, watched.since(10_000.0)) == (0, 10_000 - HISTORY)
    watched.take(answers(events=[event(1), event(2)], points=[point(9_999)]), 0.0, 0.0)
    assert (watched.last_event, watched.since(10_000.0)) == (2, 10_000)
    many = [event(number) for number in range(3, EVENTS + 10)]
    watched.take(answers(events=many), 1.0, 0.0)
    kept = watched.picture(1.0, 0.0).events
    assert (len(kept), kept[-1].id) == (EVENTS, EVENTS + 9)
    watched.take(answers(events=[event(1)]), 2.0, 0.0)
    assert [e.id for e in watched.picture(2.0, 0.0).events] == [1], "a new journal"


ROWS = [
    row("BTC", state="stale", shard=1, age_s=40.0),
    row("ATOM", shard=0, level=3, per_s=9.0),
    row("INJ", shard=2, level=1, per_s=0.5),
    row("OLD", state="inactive", status="Paused", shard=0, age_s=900.0, activity="dead"),
    row("INJ-PERP", state="syncing", shard=1, type="derivative", age_s=10.0),
]


@pytest.mark.parametrize(
    ("order", "symbols"),
    [
        ("symbol", "ATOM BTC INJ-PERP INJ OLD"),
        ("state", "BTC INJ-PERP ATOM INJ OLD"),
        ("activity", "ATOM INJ BTC INJ-PERP OLD"),
        ("shard", "ATOM OLD BTC INJ-PERP INJ"),
        ("age", "BTC INJ-PERP ATOM INJ OLD"),
    ],
)
def test_rows_go_by_each_order(order: str, symbols: str) -> None:
    shown = arranged(ROWS, order=order)
    assert [r.symbol.removesuffix("-USDT") for r in shown] == symbols.split()
    assert order in ORDERS


@pytest.mark.parametrize(
    ("patterns", "text", "symbols"),
    [
        ((), "", "ATOM BTC INJ-PERP INJ OLD"),
        ((), "inj", "INJ-PERP INJ"),
        ((), "INJ/U", "INJ"),
        ((), "*-perp-*", "INJ-PERP"),
        ((), "stale", "BTC"),
        ((), "shard:0", "ATOM OLD"),
        ((), "shard:", "ATOM BTC INJ-PERP INJ OLD"),
        ((), "shard:0 live", "ATOM"),
        ((), "dead", "OLD"),
        ((), "active inj", "INJ-PERP INJ"),
        ((), "nothing", ""),
        (("INJ*", "0xatom"), "", "ATOM INJ-PERP INJ"),
        (("inj/usdt",), "", "INJ"),
        (("INJ*",), "syncing", "INJ-PERP"),
    ],
)
def test_rows_are_chosen_by_pattern_and_by_filter(
    patterns: tuple[str, ...], text: str, symbols: str
) -> None:
    shown = arranged(ROWS, order="symbol", patterns=patterns, text=text)
    assert [r.symbol.removesuffix("-USDT") for r in shown] == symbols.split()
