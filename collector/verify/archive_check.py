"""
Check an archive: its files, their consistency, and the chain's record.

In this order: a file that differs from the manifest is reported once, and skipped after that.
"""

import itertools
from collections.abc import Iterable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from collector.verify.archive_findings import ArchiveFindings
from collector.verify.archived import Archive, File, facts_digest, file_digest, spell
from collector.verify.block_results import FIELDS, ChainTrade

Ranges = list[tuple[int, int]]
_COMPARED: Final = ("book", "trades")
"""The channels that are compared with the chain."""
_UNPROVED: Final = "first_height", "last_height", "missing_ranges", "sequences_missing"


class Covered(NamedTuple):
    """One market's coverage in one part, according to the archive."""

    market: str
    first: int
    last: int
    missing: Ranges
    sequences_missing: int
    without: dict[str, Ranges]
    """By channel: heights that are here and not in this channel."""

    def lacks(self, channel: str, low: int, high: int) -> bool:
        """Whether one of these heights is listed as missing, or as missing in this channel."""
        listed = itertools.chain(self.missing, self.without[channel])
        return any(first <= high and last >= low for first, last in listed)


class Blocks(Protocol):
    """The queries to a chain (`collector.verify.chain.Chain`)."""

    def lowest(self) -> int:
        """Return the lowest height that the node has."""

    def record(self, height: int) -> tuple[list[ChainTrade], dict[tuple[str, int], Any]]:
        """Return a block's trades, and its book changes by market id and sequence."""


Sides = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]


class Check:
    """One check of one archive."""

    def __init__(self, root: Path, chain: Blocks | None = None) -> None:
        self.archive = Archive(root)
        self.findings = ArchiveFindings()
        self._chain = chain
        self._coverage: dict[str, dict[tuple[int, int], Covered]] = {}
        """By market id and range of heights."""
        self._at: dict[str, tuple[int, int]] = {}
        """Sequence and height of each market's book so far."""
        self._jumps: dict[tuple[str, tuple[int, int]], list[tuple[int, str]]] = {}
        """Changes that are not explained at their height, by market id and part."""

    def run(self) -> ArchiveFindings:
        """Check everything."""
        self._files()
        self._read_coverage()
        for part in sorted({(file.first, file.last) for file in self.archive.files.values()}):
            changes = self._book(part)
            trades = self._trades(part)
            if self._chain is not None:
                self._against(self._chain, part, changes, trades)
        self._tell_jumps()
        return self.findings

    # -- files -------------------------------------------------------------------------

    def _files(self) -> None:
        """Compare every file with the manifest; wrong ones are skipped after that."""
        found = self.findings
        for path in self.archive.unnamed():
            found.find("file", f"{path}: no line of the manifest names it")
        for file in list(self.archive.files.values()):
            found.files += 1
            found.bytes += file.bytes
            found.rows += file.rows
            if (wrong := self._wrong_with(file)) is not None:
                found.find(*wrong)
                del self.archive.files[file.path]
        parts = [file for file in self.archive.files.values() if file.channel == "coverage"]
        found.first = min((file.first for file in parts), default=0)
        found.last = max((file.last for file in parts), default=0)

    def _wrong_with(self, file: File) -> tuple[str, str] | None:
        """Return what is wrong with one file: the kind, and a sentence."""
        path, where = (
            self.archive.root / file.path,
            f"{file.path} (heights {file.first}-{file.last})",
        )
        name = f"part-{file.first:012}-{file.last:012}."
        folder = "coverage" if file.channel == "coverage" else f"channel={file.channel}"
        if not file.path.startswith(f"{folder}/date={file.date}/{name}"):
            return "file", f"{where}: its name and the manifest differ"
        try:
            if file_digest(path) != file.file_sha256:
                size = path.stat().st_size
                return "file", f"{where}: its SHA-256 differs ({size} bytes, {file.bytes} named)"
            rows = pq.ParquetFile(path).metadata.num_rows
            if rows != file.rows:
                return "file", f"{where}: {rows} rows, the manifest names {file.rows}"
            if file.facts_sha256 and facts_digest(path, file.channel) != file.facts_sha256:
                return "facts", f"{where}: its facts and their facts_sha256 differ"
        except FileNotFoundError:
            return "file", f"{where}: is missing"
        except (OSError, pa.ArrowException) as error:
            return "file", f"{where}: cannot be read: {error}"
        return None

    # -- what the archive says of itself ------------------------------------------------

    def _read_coverage(self) -> None:
        columns = ["market_id", "market", *_UNPROVED]
        for file in self.archive.of("coverage"):
            for row in self.archive.rows(file, columns):
                missing = [(r["first"], r["last"]) for r in row["missing_ranges"] or ()]
                where = (row["market"], row["first_height"], row["last_height"])
                part = (file.first, file.last)
                without = {c: self.archive.lacking(part, c, *where) for c in _COMPARED}
                covered = Covered(*where, missing, row["sequences_missing"] or 0, without)
                by_part = self._coverage.setdefault(row["market_id"], {})
                by_part[file.first, file.last] = covered
        self.findings.markets = len(self._coverage)
        self.findings.named_missing = sum(
            last - first + 1
            for by_part in self._coverage.values()
            for covered in by_part.values()
            for first, last in covered.missing
        )
        self._lacking_by_channel()
        for market_id, by_part in self._coverage.items():
            self._whole_parts(market_id, by_part)

    def _lacking_by_channel(self) -> None:
        """Count the heights that are here without channels which the archive has elsewhere."""
        by_part: dict[tuple[int, int], list[Covered]] = {}
        for of_market in self._coverage.values():
            for part, covered in of_market.items():
                by_part.setdefault(part, []).append(covered)
        for channel in self.archive.named_channels():
            if number := sum(self._lacking(channel, *each) for each in by_part.items()):
                self.findings.named_lacking[channel] = number

    def _lacking(self, channel: str, part: tuple[int, int], shares: list[Covered]) -> int:
        """Count the heights of a part that are here without a channel, over its markets."""
        if channel in _OF_CHAIN and all(covered.market != _CHAIN for covered in shares):
            first, last = min(c.first for c in shares), max(c.last for c in shares)
            return _heights_of(self.archive.lacking(part, channel, _CHAIN, first, last))
        found = 0
        for covered in shares:
            if (channel in _OF_CHAIN) == (covered.market == _CHAIN):
                where = (covered.market, covered.first, covered.last)
                lacking = self.archive.lacking(part, channel, *where)
                found += _heights_of(lacking) - _shared(lacking, covered.missing)
        return found

    def _whole_parts(self, market_id: str, by_part: dict[tuple[int, int], Covered]) -> None:
        """Find parts between others without coverage for a market."""
        ordered = sorted(by_part.values(), key=lambda covered: covered.first)
        for before, after in itertools.pairwise(ordered):
            first, last = before.last + 1, after.first - 1
            if first > last or self.archive.is_pruned(first, last):
                continue
            if not self.archive.waits(first, last):
                between = f"heights {first}-{last}"
                said = f"{between} of {after.market} ({market_id[:10]}…): no coverage tells of them"
                self.findings.find("coverage", said)

    # -- sequences and ids ---------------------------------------------------------------

    def _files_of(self, channel: str, part: tuple[int, int]) -> list[File]:
        return [file for file in self.archive.of(channel) if (file.first, file.last) == part]

    def _book(self, part: tuple[int, int]) -> dict[tuple[str, int], tuple[int, Sides]]:
        """Follow the books through one part; return its changes by market id and sequence."""
        columns = ["market_id", "market", "height", "sequence"]
        sides = ["bids", "asks"] if self._chain is not None else []
        found: dict[tuple[str, int], tuple[int, Sides]] = {}
        rows = [
            (file, row)
            for file in self._files_of("book", part)
            for row in self.archive.rows(file, [*columns, *sides])
        ]
        for file, row in sorted(rows, key=lambda pair: (pair[1]["market_id"], pair[1]["sequence"])):
            key, height = (row["market_id"], row["sequence"]), row["height"] or 0
            if key in found:
                where = f"{file.path}: {row['market']} at height {height}"
                self.findings.find("sequence", f"{where}: change {key[1]} is there twice")
            self._follow(file, row, part)
            changed = (_side(row["bids"]), _side(row["asks"])) if sides else _NOTHING
            found[key] = (height, changed)
        return found

    def _follow(self, file: File, row: dict[str, Any], part: tuple[int, int]) -> None:
        """Take a market's next change: its sequence follows, or the coverage says why not."""
        market_id, sequence, height = row["market_id"], row["sequence"], row["height"] or 0
        known = self._at.get(market_id)
        self._at[market_id] = (sequence, height)
        if known is None or sequence == known[0] + 1:
            return
        where = f"{file.path}: {row['market']} at height {height}"
        if sequence <= known[0] or height < known[1]:
            said = f"{where}: change {sequence} comes after {known[0]} of height {known[1]}"
            self.findings.find("sequence", said)
            return
        by_part = self._coverage.get(market_id, {})
        between = (known[1] + 1, height)
        if self.archive.is_pruned(*between) or self.archive.waits(*between):
            return
        if not any(covered.lacks("book", *between) for covered in by_part.values()):
            said = f"{where}: changes {known[0] + 1} to {sequence - 1} are missing"
            self._jumps.setdefault((market_id, part), []).append((sequence - known[0] - 1, said))

    def _tell_jumps(self) -> None:
        """Report missing changes beyond those that the coverage counts as missing."""
        for (market_id, part), jumps in self._jumps.items():
            covered = self._coverage.get(market_id, {}).get(part)
            named = covered.sequences_missing if covered is not None else 0
            if sum(number for number, _ in jumps) > named:
                for _, sentence in jumps:
                    self.findings.find("sequence", sentence)

    def _trades(self, part: tuple[int, int]) -> dict[tuple[str, str], tuple[str, ...]]:
        """Look at the ids of a part's trades; return the trades by market id and id."""
        columns = ["market_id", "market", "height", "n", "trade_id", *_MONEY, "overflow"]
        more = [name for name in FIELDS if name not in columns] if self._chain is not None else []
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        numbers: dict[int, list[int]] = {}
        for file in self._files_of("trades", part):
            for row in self.archive.rows(file, [*columns, *more]):
                key = (row["market_id"], row["trade_id"])
                where = f"{file.path}: {row['market']} at height {row['height']}"
                if key in found:
                    self.findings.find("trade", f"{where}: trade {key[1]} is there twice")
                tail, number = row["trade_id"].rpartition("_")[2], row["n"]
                if str(number) != tail and (
                    number is not None or (tail.isdecimal() and int(tail) < 1 << 63)
                ):
                    self.findings.find("trade", f"{where}: trade {key[1]} has n {number}")
                if not row["overflow"] and row["notional"] != (product := _product(row)):
                    said = f"notional is {row['notional']}, price times quantity {product}"
                    self.findings.find("trade", f"{where}: trade {key[1]}: {said}")
                if number is not None:
                    numbers.setdefault(row["height"], []).append(number)
                found[key] = tuple(_field(row[name]) for name in FIELDS) if more else ()
        self.findings.numbers_skipped += sum(max(ns) + 1 - len(set(ns)) for ns in numbers.values())
        return found

    # -- the chain -----------------------------------------------------------------------

    def _against(
        self,
        chain: Blocks,
        part: tuple[int, int],
        changes: dict[tuple[str, int], tuple[int, Sides]],
        trades: dict[tuple[str, str], tuple[str, ...]],
    ) -> None:
        """Compare one part with the chain's record of its heights."""
        due = {
            market_id: by_part[part]
            for market_id, by_part in self._coverage.items()
            if part in by_part
        }
        if not due:
            return
        low = min(covered.first for covered in due.values())
        high = max(covered.last for covered in due.values())
        first = max(low, chain.lowest())
        self.findings.blocks_unavailable += max(0, min(first, high + 1) - low)
        named = self.archive.channels.get(part, {})
        has_books, has_trades = (c in named or bool(self.archive.of(c)) for c in _COMPARED)
        for height in range(first, high + 1):
            of_chain, changed = chain.record(height)
            self.findings.blocks_compared += 1
            if has_trades:
                self._compare_trades(due, height, of_chain, trades)
            if has_books:
                self._compare_changes(due, height, changed, changes)
        extra = [f"trade {key[1]}" for key in trades if int(key[1].partition("_")[0]) >= first]
        extra += [
            f"change {key[1]} of {key[0][:10]}… at height {height}"
            for key, (height, _) in changes.items()
            if height >= first
        ]
        for what in extra:
            self.findings.find("chain", f"heights {part[0]}-{part[1]}: the chain has no {what}")

    def _compare_trades(
        self,
        due: dict[str, Covered],
        height: int,
        of_chain: Iterable[ChainTrade],
        trades: dict[tuple[str, str], tuple[str, ...]],
    ) -> None:
        for trade in of_chain:
            covered = due.get(trade.market_id)
            had = trades.pop((trade.market_id, trade.trade_id), None)
            if covered is None or (had is None and not _is_due(covered, "trades", height)):
                continue
            where = f"channel=trades: {covered.market} at height {height}: trade {trade.trade_id}"
            if had is None:
                self.findings.find("chain", f"{where} is missing")
            elif had != tuple(trade.fields):
                self.findings.find("chain", f"{where} differs: {_first_difference(had, trade)}")

    def _compare_changes(
        self,
        due: dict[str, Covered],
        height: int,
        changed: dict[tuple[str, int], Sides],
        changes: dict[tuple[str, int], tuple[int, Sides]],
    ) -> None:
        for key, sides in changed.items():
            covered = due.get(key[0])
            had = changes.pop(key, None)
            if covered is None or (had is None and not _is_due(covered, "book", height)):
                continue
            where = f"channel=book: {covered.market} at height {height}: change {key[1]}"
            if had is None:
                self.findings.find("chain", f"{where} is missing")
            elif had != (height, sides):
                self.findings.find("chain", f"{where} differs")


def _product(row: dict[str, Any]) -> Decimal | None:
    """Return price times quantity, exact; None where it needs more than 18 decimals."""
    with localcontext(prec=80):
        product = row["price"] * row["quantity"]
        rounded = product.quantize(_LAST_PLACE)
        return rounded if rounded == product else None


_OF_CHAIN: Final = ("oracle", "blocks")
"""Channels of the chain, which the coverage lists like a market."""
_CHAIN: Final = "chain"


def _heights_of(ranges: Ranges) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _shared(ranges: Ranges, others: Ranges) -> int:
    """Count the heights that are in both."""
    pairs = itertools.product(ranges, others)
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0]) + 1) for a, b in pairs)


_MONEY: Final = ("price", "quantity", "notional")
_LAST_PLACE: Final = Decimal(1).scaleb(-18)
_NOTHING: Final[Sides] = (frozenset(), frozenset())


def _side(levels: list[dict[str, Any]]) -> frozenset[tuple[str, str]]:
    return frozenset((_field(x["price"]), _field(x["quantity"])) for x in levels)


def _field(value: Any) -> str:
    """Format a value like the chain's decoder; absent values are the empty text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else spell(value)


def _is_due(covered: Covered, channel: str, height: int) -> bool:
    is_here = covered.first <= height <= covered.last
    return is_here and not covered.lacks(channel, height, height)


def _first_difference(had: tuple[str, ...], trade: ChainTrade) -> str:
    for name, ours, theirs in zip(FIELDS, had, trade.fields, strict=True):
        if ours != theirs:
            return f"{name} is {ours!r}, on the chain {theirs!r}"
    return "nothing"
