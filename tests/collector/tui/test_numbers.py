"""Numbers keep their width, their unit and their digits."""

import pytest

from collector.tui.numbers import (
    aligned,
    duration,
    megabytes,
    micros,
    rate,
    sparkline,
    trim,
)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "   0 µs"),
        (123.4, " 123 µs"),
        (999.4, " 999 µs"),
        (999.6, "1.00 ms"),
        (9_994, "9.99 ms"),
        (9_996, "10.0 ms"),
        (99_960, " 100 ms"),
        (1_500_000, "1.50 s "),
        (123_000_000, " 123 s "),
        (5e9, "> 999 s"),
    ],
)
def test_latencies_are_seven_characters(us: float, text: str) -> None:
    assert micros(us) == text
    assert len(text) == 7


@pytest.mark.parametrize(
    ("mb", "text"), [(0.4, "   0 MB"), (61.4, "  61 MB"), (999.6, "0.98 GB"), (1_536, "1.50 GB")]
)
def test_memory_is_seven_characters(mb: float, text: str) -> None:
    assert megabytes(mb) == text
    assert len(text) == 7


@pytest.mark.parametrize(
    ("s", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m00s"),
        (123, "2m03s"),
        (3_599.6, "1h00m"),
        (7_500, "2h05m"),
        (90_000, "1d01h"),
        (99 * 86_400, "99d00h"),
    ],
)
def test_durations_are_short(s: float, text: str) -> None:
    assert duration(s) == text


@pytest.mark.parametrize(
    ("per_s", "text"), [(0, "0.0"), (0.42, "0.4"), (9.96, "10"), (12_345.6, "12,346")]
)
def test_rates_have_thousands(per_s: float, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(
    ("values", "width", "top", "drawn"),
    [
        ([], 4, 0.0, "    "),
        ([0.0, 0.0], 2, 0.0, "▁▁"),
        ([0.0, 4.0, 8.0], 3, 0.0, "▁▅█"),
        ([1.0, 2.0, 8.0], 2, 0.0, "▃█"),
        ([50.0, 100.0], 4, 100.0, "  ▅█"),
        ([1.0], 1, 100.0, "▁"),
        ([1.0], 0, 0.0, ""),
    ],
)
def test_sparklines_end_with_the_newest(
    values: list[float], width: int, top: float, drawn: str
) -> None:
    assert sparkline(values, width, top=top) == drawn


def test_prices_are_trimmed_but_exact_and_stand_at_their_points() -> None:
    texts = ["10.013000000000000000", "9.000000000000000000", "0.000000000000000001"]
    assert [trim(text) for text in texts] == ["10.013", "9", "0.000000000000000001"]
    assert aligned(texts) == [
        "10.013               ",
        " 9                   ",
        " 0.000000000000000001",
    ]
    assert aligned([]) == []
