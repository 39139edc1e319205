"""
Record the past: fill an archive's missing heights from the chain's record.

Part by part, oldest first, the blocks that some market lacks are fetched into a separate journal
(``_backfill/``), so that nothing is lost if the process is killed. Then they are sealed like live
blocks, or added to a part that is already sealed.
"""

import asyncio
import datetime
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from collector.archive.journal import segment_file, spool as spooling
from collector.archive.journal.ledger import Ledger
from collector.archive.journal.segment_file import Chunk, Note, Writer
from collector.archive.reading import holes
from collector.archive.reading.holes import InChannel
from collector.archive.reading.unsealed import begun
from collector.archive.recording.fetched import entries_of
from collector.archive.recording.filler import Filler, sources_of
from collector.archive.recording.identity import meet
from collector.archive.recording.past_range import heights_between
from collector.archive.sealing.additions import Adder
from collector.archive.sealing.book_track import Carried
from collector.archive.sealing.carried_books import load_books, save_books
from collector.archive.sealing.seal import Sealer
from collector.archive.storage import layout, manifest
from collector.archive.storage.by_channel import ByChannel, applies
from collector.archive.storage.crash_points import reach
from collector.archive.storage.files import make_folder, open_archive, sealing, writing
from collector.archive.storage.layout import Part, part_of
from collector.archive.storage.part_file import read_file
from collector.archive.storage.recovery import recover
from shards.adapters import registry
from shards.protocol.channels import EXTRAS
from shards.protocol.errors import SourceError
from shards.protocol.events import REPLAY, Block
from shards.protocol.ranges import RangeList, count, minus, union, within
from shards.protocol.settings import CHAIN, Endpoints, Market

log = logging.getLogger(__name__)

_FOLDER: Final = "_backfill"
FILLABLE: Final = ("book", "trades", "orders", "oracle", "blocks")
"""Channels that the chain's record contains."""
_BOOKS_AT_ONCE: Final = 8


class BackfillConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to fetch."""

    to: str
    first: int | str
    """A height, or an instant as ISO 8601 text."""
    last: int | str = ""
    """The same; empty for the newest block."""
    markets: tuple[Market, ...]
    channels: tuple[str, ...] = ("book", "trades")
    endpoints: Endpoints
    per_s: float = 20.0
    """Blocks fetched a second, at most."""
    part_heights: int = 0


class Outcome(msgspec.Struct, kw_only=True):
    """What was fetched."""

    first: int = 0
    last: int = 0
    asked: int = 0
    """Blocks requested from the node."""
    gone: int = 0
    """Blocks that the node no longer has."""
    parts: int = 0
    skipped: list[str] = []
    """Parts that are still being recorded."""


Done: TypeAlias = dict[str, RangeList]
"""Heights, by market."""
Progress = Callable[[int, int], None]
"""Called with the number of blocks fetched, and in total."""


class Backfill:
    """Fills one archive, whose lock the caller holds."""

    def __init__(self, config: BackfillConfig, root: Path, span: int, progress: Progress) -> None:
        self._config = config
        self._root, self._span = root, span
        self._progress = progress
        self._access = registry.open_access(config.endpoints)
        extras = not EXTRAS.isdisjoint(config.channels)
        self._filler = Filler(
            sources_of(config.endpoints, self._access, with_extras=extras), per_s=config.per_s
        )
        self._symbols = {market.market_id: market.symbol for market in config.markets}
        if {"blocks", "oracle"} & set(config.channels):
            self._symbols[CHAIN.market_id] = CHAIN.symbol
        self._channels = " ".join(sorted(config.channels))
        self._done = self._total = 0

    async def run(self, first: int, last: int) -> Outcome:
        """Fetch and seal what is missing between two heights."""
        outcome = Outcome(first=first, last=last)
        lacking = self._lacking(first, last)
        self._total = count(_of_any(lacking))
        recorded = begun(self._root, self._span, manifest.sealed(manifest.read(self._root)))
        part = part_of(first, self._span)
        while part.first <= last:
            of_part = {s: within(r, part.first, part.last) for s, r in lacking.items()}
            of_part = {symbol: ranges for symbol, ranges in of_part.items() if ranges}
            if of_part and part in recorded:
                outcome.skipped.append(str(part))
            elif of_part:
                outcome.gone += await self._part(part, of_part)
                outcome.parts += 1
            part = part_of(part.last + 1, self._span)
        outcome.asked = self._filler.asked
        await self._filler.aclose()
        return outcome

    def _lacking(self, first: int, last: int) -> dict[str, RangeList]:
        """Return the heights that the archive lacks of each market, in one of the channels or more."""
        lines = manifest.read(self._root)
        files, known = manifest.current(lines), _known(lines)
        found: Done = {}
        for channel in self._config.channels:
            wanted = [s for s in self._symbols.values() if applies(channel, s)]
            had: Done = {}
            for row in holes.covered(self._root, files, wanted, InChannel(channel, known)):
                whole = minus([(row.first, row.last)], row.missing)
                had.setdefault(row.market, []).extend(whole)
            for symbol in wanted:
                if ranges := minus([(first, last)], had.get(symbol, [])):
                    found[symbol] = union([*found.get(symbol, ()), *ranges])
        return found

    # -- one part ----------------------------------------------------------------------

    async def _part(self, part: Part, lacking: dict[str, RangeList]) -> int:
        """Fetch a part's blocks into a journal of their own, then seal or add them."""
        folder = self._root / _FOLDER / part.stem
        make_folder(folder)
        done, gone = self._resumed(folder, lacking)
        wanted = {symbol: minus(ranges, done.get(symbol, [])) for symbol, ranges in lacking.items()}
        writer, noted = Writer(folder), Chunk([], self._notes(lacking))
        if writer.number:
            writer.append(noted)
        else:
            writer.begin(noted)
        heights = _of_any(wanted)
        self._done += count(_of_any(lacking)) - count(heights)

        def take(height: int, block: Block | None) -> None:
            nonlocal gone
            gone += block is None
            writer.append(self._chunk(height, block, wanted))
            reach("backfill.fetched")
            self._done += 1
            self._progress(self._done, self._total)

        await self._filler.fetch((h for a, b in heights for h in range(a, b + 1)), take)
        writer.sync()
        writer.close()
        lines = manifest.read(self._root)
        is_sealed = part in manifest.sealed(lines) and part not in manifest.pruned(lines)
        begun = self._begun(part, lacking) if is_sealed else set()
        await self._fetch_books(folder, part, {s: r for s, r in lacking.items() if s not in begun})
        await asyncio.to_thread(self._keep, folder, part, lacking, is_sealed=is_sealed)
        reach("backfill.kept")
        shutil.rmtree(folder)
        return gone

    def _resumed(self, folder: Path, lacking: dict[str, RangeList]) -> tuple[Done, int]:
        """
        Return the heights that an earlier run fetched of each market, and how many of them are gone.

        If that run wanted more than this one, or other channels, what it fetched is dropped: the
        part would have facts that were not asked for, and no record of which heights they cover.
        """
        notes = [
            n for p in segment_file.segments(folder) for c in segment_file.read(p) for n in c.notes
        ]
        found: Done = {}
        for note in notes:
            if note.kind in ("filled", "gone"):
                found.setdefault(note.symbol, []).append((note.first, note.last))
        done = {symbol: union(ranges) for symbol, ranges in found.items()}
        channels = {note.text for note in notes if note.kind == "channels"}
        is_more = any(minus(ranges, lacking.get(symbol, [])) for symbol, ranges in done.items())
        if is_more or channels != {self._channels}:
            shutil.rmtree(folder)
            make_folder(folder)
            return {}, 0
        return done, len({n.first for n in notes if n.kind == "gone"})

    def _notes(self, lacking: dict[str, RangeList]) -> list[Note]:
        types = {market.symbol: market.type for market in self._config.markets}
        return [
            Note("source", "", 0, 0, REPLAY),
            Note("channels", "", 0, 0, self._channels),
            *(
                Note("market", symbol, 0, 0, f"{market_id} {types.get(symbol, '')}")
                for market_id, symbol in self._symbols.items()
                if symbol in lacking
            ),
        ]

    def _chunk(self, height: int, block: Block | None, wanted: dict[str, RangeList]) -> Chunk:
        """Make the journal's chunk of one block: the facts of the markets that need it."""
        symbols = {
            market_id: symbol
            for market_id, symbol in self._symbols.items()
            if any(a <= height <= b for a, b in wanted.get(symbol, ()))
        }
        kind = "gone" if block is None else "filled"
        notes = [Note(kind, symbol, height, height) for symbol in symbols.values()]
        if block is None:
            return Chunk([], notes)
        channels = set(self._config.channels)
        return Chunk(list(entries_of(block, symbols, channels, time.time_ns())), notes)

    def _begun(self, part: Part, lacking: Done) -> set[str]:
        """Return the markets that have a whole book in a sealed part before what they lack."""
        found: set[str] = set()
        for file in manifest.current(manifest.read(self._root)).values():
            if file.channel == layout.KEYFRAME and (file.first, file.last) == part:
                table = read_file(self._root, file, ["market", "height"])
                for symbol, height in zip(*(c.to_pylist() for c in table.columns), strict=True):
                    if symbol in lacking and (height or 0) < lacking[symbol][0][0]:
                        found.add(symbol)
        return found

    async def _fetch_books(self, folder: Path, part: Part, lacking: dict[str, RangeList]) -> None:
        """Fetch each market's book before the part, if a node still has it."""
        if "book" not in self._config.channels:
            return
        had = {book.symbol: book for book in load_books(self._root, part)}
        past = registry.open_past(self._config.endpoints, self._access)
        slots = asyncio.Semaphore(_BOOKS_AT_ONCE)

        async def fetch(market: Market) -> None:
            ranges = lacking.get(market.symbol)
            if market.symbol in had or not ranges:
                return
            before = ranges[0][0] - 1
            async with slots:
                try:
                    book = await past.book(market, before)
                except SourceError as error:
                    log.info("no book of %s at height %d: %s", market.symbol, before, error.reason)
                    return
            if book is None:
                return
            levels = (sorted_levels(book.bids, True), sorted_levels(book.asks, False))
            where = (market.market_id, market.symbol, before, book.sequence)
            had[market.symbol] = Carried(*where, *levels)

        try:
            await asyncio.gather(*map(fetch, self._config.markets))
        finally:
            await past.aclose()
        save_books(folder, part, [had[symbol] for symbol in sorted(had) if symbol in lacking])

    def _keep(
        self, folder: Path, part: Part, lacking: dict[str, RangeList], *, is_sealed: bool
    ) -> None:
        """Make files of what was fetched."""
        with sealing(self._root):
            recover(self._root)
            self._seal_or_add(folder, part, lacking, is_sealed=is_sealed)

    def _seal_or_add(
        self, folder: Path, part: Part, lacking: dict[str, RangeList], *, is_sealed: bool
    ) -> None:
        carried = load_books(folder, part)
        entries, notes = spooling.gather(folder, part, folder)
        try:
            ledger = Ledger()
            ledger.fold([*notes, *_due(lacking)])
            if is_sealed:
                adder = Adder(self._root, part, entries, ledger, carried=carried)
                adder.run(ts=time.time_ns())
                return
            sealer = Sealer(self._root, part, entries, ledger, carried=carried, ts=time.time_ns())
            files = sealer.run()
            missing = {
                symbol: ranges
                for symbol in ledger.markets
                if (ranges := ledger.missing(symbol, part.first, part.last))
            }
        finally:
            entries.close()
        line = manifest.Line(
            act="seal", first=part.first, last=part.last, files=files, missing=missing,
            channels=ledger.by_channel(part.first, part.last), writer="backfill", ts=time.time_ns(),
        )  # fmt: skip
        manifest.append(self._root, line)


def _known(lines: list[manifest.Line]) -> dict[Part, ByChannel]:
    """Return what each part lacks by channel; an older part has the channels for which it has files."""
    files: dict[Part, ByChannel] = {}
    for file in manifest.current(lines).values():
        files.setdefault(Part(file.first, file.last), {})[file.channel] = {}
    return files | manifest.by_channel(lines)


def _of_any(ranges: dict[str, RangeList]) -> RangeList:
    """Return the heights that are in the ranges of any market."""
    return union(heights for of_market in ranges.values() for heights in of_market)


def _due(lacking: dict[str, RangeList]) -> Iterator[Note]:
    """Note from where to where each market is due: what was asked for, and nothing more."""
    for symbol, ranges in lacking.items():
        yield Note("start", symbol, ranges[0][0], 0)
        yield Note("end", symbol, 0, ranges[-1][1])


def sorted_levels(levels: Sequence[Any], highest_first: bool) -> list[Any]:
    """Order a whole book's levels, best first."""
    return sorted(levels, key=lambda level: (len(level[0]), level[0]), reverse=highest_first)


async def backfill(
    config: BackfillConfig, progress: Progress = lambda done, total: None
) -> Outcome:
    """
    Fill an archive's range from the chain's record.

    Raises:
        ConfigError: If the options cannot be carried out.

    """
    root = Path(config.to)
    first, last = await heights_between(config.endpoints, config.first, config.last)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    info = open_archive(root, span=config.part_heights, create=True, now=now)
    with writing(root):
        endpoints = await meet(root, info, config.endpoints)
        config = msgspec.structs.replace(config, endpoints=endpoints)
        return await Backfill(config, root, info.span, progress).run(first, last)
