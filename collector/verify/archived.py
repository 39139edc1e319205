"""
An archive on disk: its manifest and Parquet files, read by code independent of the writer.

Names and digests follow docs/archive.md; nothing is shared with the recorder.
"""

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from shards.protocol.errors import UNREADABLE, ConfigError

LOCAL: Final = frozenset({"market", "ts_recv", "ts_pub", "source", "shard", "reason", "overflow"})
"""Columns about how a fact was received; all others are the fact itself."""
_NULL: Final = frozenset({"notional"})
"""Amounts that are null if unknown; others are then the empty text."""
_BATCH: Final = 8_192
_EVER: Final = 1 << 62
_encode: Final = msgspec.msgpack.Encoder().encode


class File(msgspec.Struct):
    """One file according to the manifest; heights of the range are inclusive."""

    path: str
    channel: str
    date: str
    first: int
    last: int
    rows: int
    bytes: int
    file_sha256: str
    facts_sha256: str = ""


class _Line(msgspec.Struct):
    act: str
    first: int
    last: int
    files: list[File]
    removed: list[str] = []
    channels: dict[str, dict[str, list[tuple[int, int]]]] | None = None


class _Entry(msgspec.Struct, array_like=True):
    topic: str
    kind: int
    height: int


class _Chunk(msgspec.Struct, array_like=True):
    entries: list[_Entry] = []


_decode: Final = msgspec.json.Decoder(_Line).decode
_decode_chunk: Final = msgspec.msgpack.Decoder(_Chunk).decode
_HEAD: Final = struct.Struct(">II")
"""Of a chunk of the journal: its length, and its CRC-32."""


class Identity(msgspec.Struct):
    """Whose facts an archive holds, by its own word."""

    chain_id: str = ""
    marks: list[tuple[int, str, int]] = []
    """Some blocks of that chain: height, hash, time."""


class Archive:
    """One folder: its valid files, and the number of unreadable manifest lines."""

    def __init__(self, root: Path) -> None:
        """
        Read the manifest.

        Raises:
            ConfigError: If the folder is not an archive.

        """
        self.root = root
        self.files: dict[str, File] = {}
        self.torn = 0
        """Lines that a kill cut short; a writer wrote them again."""
        self.pruned: set[tuple[int, int]] = set()
        """Parts that were removed to make room; heights, both ends included."""
        self.channels: dict[tuple[int, int], dict[str, dict[str, list[tuple[int, int]]]]] = {}
        """By part: its channels, with the heights of the coverage that each lacks, by market. Older
        parts do not say it."""
        try:
            said = (root / "_archive.json").read_bytes()
            self.identity = msgspec.json.decode(said, type=Identity)
        except FileNotFoundError:
            raise ConfigError(f"{root}: no archive is here (there is no _archive.json)") from None
        except NotADirectoryError:
            raise ConfigError(f"{root}: is not a folder; an archive is one") from None
        except OSError as error:
            raise ConfigError(f"{root}: cannot be read: {error.strerror}") from None
        except UNREADABLE as error:
            raise ConfigError(f"{root}/_archive.json cannot be read: {error}") from None
        try:
            content = (root / "_manifest.jsonl").read_bytes()
        except FileNotFoundError:
            content = b""
        for text in content.split(b"\n")[:-1]:
            try:
                line = _decode(text)
            except msgspec.MsgspecError:
                self.torn += 1
                continue
            for path in line.removed:
                self.files.pop(path, None)
            self.files.update((file.path, file) for file in line.files)
            if line.channels is not None:
                self.channels[line.first, line.last] = line.channels
            elif line.act in ("seal", "prune"):
                self.channels.pop((line.first, line.last), None)
            if line.act == "prune":
                self.pruned.add((line.first, line.last))
            elif line.files:
                self.pruned.discard((line.first, line.last))

    def of(self, channel: str) -> list[File]:
        """Return a channel's files, lowest heights first."""
        found = (file for file in self.files.values() if file.channel == channel)
        return sorted(found, key=lambda file: (file.first, file.path))

    def lacking(
        self, part: tuple[int, int], channel: str, market: str, first: int, last: int
    ) -> list[tuple[int, int]]:
        """Return the heights of a market's share of a part that a channel lacks, by its own word."""
        if (known := self.channels.get(part)) is None:
            return []
        return known[channel].get(market, []) if channel in known else [(first, last)]

    def named_channels(self) -> list[str]:
        """Return the channels that some part has, by the archive's own word."""
        return sorted({channel for known in self.channels.values() for channel in known})

    def is_pruned(self, first: int, last: int) -> bool:
        """Whether some of these heights were removed to make room."""
        return any(low <= last and high >= first for low, high in self.pruned)

    def waits(self, first: int, last: int) -> bool:
        """Whether a recorder has some of these heights in its journal, and has not sealed their part."""
        return any(first <= height <= last for height in self._waiting)

    @cached_property
    def _waiting(self) -> list[int]:
        """The heights in the journal that are in no sealed part."""
        parts = sorted({(file.first, file.last) for file in self.files.values()})
        found = []
        for height in _in_journal(self.root):
            at = bisect_right(parts, (height, _EVER)) - 1
            if at < 0 or parts[at][1] < height:
                found.append(height)
        return found

    def unnamed(self) -> list[str]:
        """Return the part files that no manifest line names."""
        there = (str(p.relative_to(self.root)) for p in self.root.glob("*/date=*/*.parquet"))
        return sorted(set(there) - set(self.files))

    def rows(self, file: File, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Read columns of a file, row by row."""
        with pq.ParquetFile(self.root / file.path) as opened:
            for batch in opened.iter_batches(_BATCH, columns=columns):
                yield from batch.to_pylist()


def _in_journal(root: Path) -> set[int]:
    """Return the heights of what is in the journal."""
    found: set[int] = set()
    for path in root.glob("_journal/*.jnl"):
        data, at = path.read_bytes(), 0
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            packed = data[at + _HEAD.size : at + _HEAD.size + length]
            if not length or len(packed) < length or zlib.crc32(packed) != crc:
                break
            chunk = _decode_chunk(zstandard.ZstdDecompressor().decompress(packed))
            found.update(entry.height for entry in chunk.entries)
            at += _HEAD.size + length
    return found


def file_digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def facts_digest(path: Path, channel: str) -> str:
    """Return the SHA-256 over the rows' facts, as described in docs/archive.md."""
    digest = hashlib.sha256()
    with pq.ParquetFile(path) as opened:
        schema = opened.schema_arrow
        facts = [field for field in schema if field.name not in LOCAL]
        names = [field.name for field in facts]
        extra = ["overflow", *(["reason"] if channel == "keyframe" else [])]
        for batch in opened.iter_batches(_BATCH, columns=[*names, *extra]):
            columns = [_values(batch[field.name], field) for field in facts]
            beside = [batch[name].to_pylist() for name in extra]
            for i, row in enumerate(zip(*columns, strict=True)):
                if len(beside) > 1 and beside[1][i] != "part":
                    continue
                cells = list(row)
                if beside[0][i]:
                    _put_back(cells, names, beside[0][i])
                digest.update(_encode(cells))
    return digest.hexdigest()


def _values(array: Any, field: Any) -> list[Any]:
    """Return a column in the facts' format: amounts as texts, instants as nanoseconds."""
    if pa.types.is_timestamp(field.type):
        return list(array.cast(pa.int64()).to_pylist())
    if pa.types.is_decimal(field.type):
        absent = None if field.name in _NULL else ""
        return [absent if v is None else spell(v) for v in array.to_pylist()]
    if pa.types.is_list(field.type):
        return [
            [[_text(x["price"]), _text(x["quantity"])] for x in levels]
            for levels in array.to_pylist()
        ]
    return list(array.to_pylist())


def spell(value: Decimal) -> str:
    """Format an amount with its 18 decimals."""
    return f"{value:f}"


def _text(value: Decimal | None) -> str | None:
    return None if value is None else spell(value)


def _put_back(cells: list[Any], names: list[str], notes: Iterable[dict[str, str]]) -> None:
    """Restore the texts of amounts that do not fit into their column."""
    for note in notes:
        name, _, leaf = note["column"].partition(".")
        at = names.index(name)
        if not leaf:
            cells[at] = note["text"]
            continue
        place = 0 if leaf == "price" else 1
        # Those of one side are in the order of its levels.
        next(level for level in cells[at] if level[place] is None)[place] = note["text"]
