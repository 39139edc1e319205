"""A market's page: its book as a ladder, its last trades. Pure; prices stay exact."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from collector.tui.market_rows import MarketRow
from collector.tui.numbers import aligned, clock, duration, rate, trim
from collector.tui.spans import Line, Span, fit, merged, printable, section, spread
from collector.tui.tones import mark, tone_of
from shards.protocol.events import Funding, Level

_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Fill(NamedTuple):
    """One trade, as far as it is shown."""

    ts: float
    side: str
    price: str
    quantity: str


def market_lines(row: MarketRow, sequence: int, notice: str, width: int) -> list[Line]:
    """Say in three lines how the market stands; the third is its reason, or what else is known."""
    shard = f"shard {row.shard}" if row.shard >= 0 else "no shard"
    activity = "" if row.activity == "active" else f", {row.activity}"
    who = (
        Span(printable(row.symbol), "title"),
        Span(f"  {printable(row.ticker)}  {row.type}  {row.status}{activity}", "label"),
    )
    state = (
        Span(f"{shard}  ", "label"),
        Span(f"{mark(row.state, row.level)} {row.state}", tone_of(row.state, row.level)),
    )
    how = (
        *(Span("block ", "label"), Span(f"{row.height:,}")),
        *(Span("   age ", "label"), Span(duration(row.age_s) if row.height else "-")),
        *(Span("   sequence ", "label"), Span(f"{sequence or row.sequence:,}")),
        *(Span("   changes ", "label"), Span(f"{row.book_updates:,}")),
        *(Span("   trades ", "label"), Span(f"{row.trades:,}")),
        Span(f"   {rate(row.per_s)}/s", "label"),
    )
    said = printable(row.reason or notice)
    return [
        spread(who, state, width),
        fit(how, width),
        fit((Span(said, "warn" if row.reason else "label"),), width),
    ]


def funding_text(funding: Funding, ts: float) -> str:
    """Say when the funding of a perpetual is applied next, and to which price."""
    mark_price = f"mark price {trim(funding.mark_price)}   " if funding.mark_price else ""
    left_s = max(0.0, funding.next_funding_timestamp - ts)
    return f"{mark_price}funding in {duration(left_s)}, every {duration(funding.funding_interval)}"


def ladder_lines(
    bids: Sequence[Level], asks: Sequence[Level], width: int, height: int
) -> list[Line]:
    """
    Draw the best levels, asks above and bids below the spread; bars are depth so far.

    Both sides come best level first.
    """
    room = max(2, height - 2)
    above = list(asks[: room // 2])
    below = list(bids[: room - room // 2])
    shown = above[::-1] + below
    prices = aligned([price for price, _ in shown])
    sizes = aligned([size for _, size in shown])
    depths = _depths(above)[::-1] + _depths(below)
    deepest = max(depths, default=0.0)
    taken = (len(prices[0]) + len(sizes[0]) + 4) if shown else 0
    bar = max(0, width - taken)
    head = (Span("BOOK ", "title"), Span(f"{len(bids):,} bids, {len(asks):,} asks"))
    lines = [section(head, width)]
    lines += [fit((), width)] * (room // 2 - len(above))
    for index, (price, size, depth) in enumerate(zip(prices, sizes, depths, strict=True)):
        if index == len(above):
            lines.append(_spread(bids, asks, width))
        side = "ask" if index < len(above) else "bid"
        drawn = _bar(depth / deepest if deepest else 0.0, bar)
        row = (Span(f" {price} ", side), Span(f" {size} "), Span(drawn, f"{side}-bar"))
        lines.append(merged(fit(row, width)))
    if not below:
        lines.append(_spread(bids, asks, width))
    return (lines + [fit((), width)] * height)[:height]


def _depths(levels: Sequence[Level]) -> list[float]:
    depths, total = [], 0.0
    for _, size in levels:
        total += float(size)
        depths.append(total)
    return depths


def _bar(share: float, width: int) -> str:
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _spread(bids: Sequence[Level], asks: Sequence[Level], width: int) -> Line:
    if not bids or not asks:
        missing = "no book" if not bids and not asks else "no bids" if not bids else "no asks"
        return fit((Span(f" {missing}", "label"),), width)
    bid, ask = Decimal(bids[0][0]), Decimal(asks[0][0])
    points = (ask - bid) / ((ask + bid) / 2) * 10_000
    return fit(
        (
            Span(" spread ", "label"),
            Span(trim(f"{ask - bid:f}")),
            Span(f"  {points:.2f} bp", "label"),
        ),
        width,
    )


def fill_lines(fills: Sequence[Fill], width: int, height: int) -> list[Line]:
    """Draw the newest trades, newest first."""
    shown = list(fills)[:-height:-1]
    lines = [section((Span("TRADES ", "title"), Span("newest first")), width)]
    prices = aligned([fill.price for fill in shown])
    sizes = aligned([fill.quantity for fill in shown])
    for fill, price, size in zip(shown, prices, sizes, strict=True):
        tone = "bid" if fill.side == "buy" else "ask"
        # The price last: where orders were filled at several it is a mean of eighteen digits.
        row = (
            Span(f"{clock(fill.ts)} ", "label"),
            Span(f"{fill.side:<4} ", tone),
            Span(f"{size} "),
            Span(price, tone),
        )
        lines.append(fit(row, width))
    if not shown and height > 1:
        lines.append(fit((Span(" none since this page was opened", "label"),), width))
    return lines + [fit((), width)] * (height - len(lines))
