"""What a sealed part lacks by channel, once facts were added to it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from collector.archive.journal.ledger import Ledger
from collector.archive.storage.by_channel import BY_HEIGHT, EVER, ByChannel, applies
from collector.archive.storage.layout import Part
from shards.protocol.ranges import RangeList, minus, union, within

Rows = Mapping[str, Mapping[str, Any]]
"""A part's coverage, by market."""


def merged(
    part: Part,
    known: ByChannel | None,
    files: Iterable[str],
    ledger: Ledger,
    before: Rows,
    after: Rows,
) -> ByChannel | None:
    """
    Return what the part lacks by channel now.

    Args:
        part: The part.
        known: What the manifest says of it so far. None for an older part, which is taken to have the
            channels for which it has files.
        files: The channels for which it has files.
        ledger: What was added.
        before: Its coverage before that.
        after: Its coverage now.

    """
    if known is None and ledger.channels is None:
        return None
    had = {channel: {} for channel in files} if known is None else known
    found: ByChannel = {}
    for channel in sorted(BY_HEIGHT):
        here = {
            symbol: union(
                [*_had(had, channel, before.get(symbol)), *_added(ledger, channel, symbol, part)]
            )
            for symbol in after
            if applies(channel, symbol)
        }
        if channel in had or any(here.values()):
            lacking = {symbol: minus(_heights(after[symbol]), of) for symbol, of in here.items()}
            found[channel] = {symbol: ranges for symbol, ranges in lacking.items() if ranges}
    return found


def _heights(row: Mapping[str, Any] | None) -> RangeList:
    """Return the heights that a row of the coverage counts as here."""
    if row is None:
        return []
    return minus([(row["first_height"], row["last_height"])], row["missing_ranges"])


def _had(known: ByChannel, channel: str, row: Mapping[str, Any] | None) -> RangeList:
    if row is None or channel not in known:
        return []
    return minus(_heights(row), known[channel].get(row["market"], []))


def _added(ledger: Ledger, channel: str, symbol: str, part: Part) -> RangeList:
    spans = [(0, EVER)] if ledger.channels is None else ledger.channels.get(channel, [])
    here = [r for low, high in spans for r in within(ledger.came(symbol, *part), low, high)]
    return union(here)
