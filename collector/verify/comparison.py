"""Compare what was published with the chain's record; pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from collector.verify.block_results import FIELDS, ChainTrade
from collector.verify.books import Sample
from collector.verify.chain import ChainBook
from collector.verify.findings import Findings
from collector.verify.published import Trades


def compare_trades(
    findings: Findings,
    published: Mapping[str, Sequence[Trades]],
    chain: Iterable[ChainTrade],
) -> None:
    """
    Check that every trade of the chain was published exactly once, and no other.

    Args:
        published: Frames by market id, in order of arrival.
        chain: All trades of the window in the checked markets.

    """
    due = {trade.trade_id: trade for trade in chain}
    times: Counter[str] = Counter()
    for market_id, frames in published.items():
        newest = (0, -1)
        for frame in frames:
            if not findings.first <= frame.height <= findings.last:
                continue
            for fields in frame.trades:
                times[fields[0]] += 1
                newest = _check_trade(findings, due, market_id, frame.height, fields, newest)
    for trade_id, trade in due.items():
        if not times[trade_id]:
            findings.trades.missing += 1
            findings.note(f"trade {trade_id} of {trade.market_id} is missing")
        elif times[trade_id] > 1:
            findings.trades.doubled += times[trade_id] - 1
            findings.note(f"trade {trade_id} of {trade.market_id} came {times[trade_id]} times")
    findings.trades.checked += len(due)


def _check_trade(
    findings: Findings,
    due: Mapping[str, ChainTrade],
    market_id: str,
    height: int,
    fields: tuple[str, ...],
    newest: tuple[int, int],
) -> tuple[int, int]:
    """Compare one published trade; return the newest ``(height, n)`` of its market."""
    trade = due.get(fields[0])
    if trade is None:
        findings.trades.extra += 1
        findings.note(f"trade {fields[0]} of {market_id} is not on the chain")
        return newest
    differences = [
        f"{name} {found!r}, on the chain {expected!r}"
        for name, found, expected in zip(FIELDS, fields, trade.fields, strict=False)
        if found != expected
    ]
    if market_id != trade.market_id:
        differences.append(f"market {market_id}, on the chain {trade.market_id}")
    place = tuple(map(int, fields[0].split("_")))
    if height != place[0]:
        differences.append(f"height {height}")
    if differences:
        findings.trades.altered += 1
        findings.note(f"trade {fields[0]}: {'; '.join(differences)}")
    if place < newest:
        findings.trades.disordered += 1
        findings.note(f"trade {fields[0]} of {market_id} came after {newest[0]}_{newest[1]}")
        return newest
    return place[0], place[1]


def compare_book(findings: Findings, sample: Sample, book: ChainBook) -> None:
    """Compare all levels and the sequence of one book at one height."""
    findings.books.checked += 1
    where = f"book of {sample.market_id} at height {sample.height}"
    if sample.sequence != book.sequence:
        findings.books.differing += 1
        findings.note(f"{where}: sequence {sample.sequence}, on the chain {book.sequence}")
        return
    sides = (("bids", sample.bids, book.bids), ("asks", sample.asks, book.asks))
    for side, built, expected in sides:
        if built != expected:
            findings.books.differing += 1
            differing = len(dict(built.items() ^ expected.items()))
            findings.note(f"{where}: {differing} of {len(expected)} {side} differ")
            return


def compare_blocks(
    findings: Findings,
    heights: Mapping[str, int],
    holes: Mapping[str, Sequence[tuple[int, int]]],
) -> None:
    """
    Check that every market's ledger accounts for every height of the window.

    Args:
        heights: Height through which each market is accounted for, by symbol.
        holes: Heights that the collector itself lists as missing, by symbol.

    """
    for symbol, height in heights.items():
        missing: set[int] = set(range(max(height + 1, findings.first), findings.last + 1))
        for first, last in holes.get(symbol, ()):
            missing.update(range(max(first, findings.first), min(last, findings.last) + 1))
        findings.blocks.checked += findings.last - findings.first + 1
        findings.blocks.missing += len(missing)
        if missing:
            findings.note(f"{symbol}: {len(missing)} blocks of {min(missing)} to {max(missing)}")
