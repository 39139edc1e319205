"""
The layout of an archive, and the range of heights of each part. Pure.

::

    DIR/_archive.json                         what this folder is: format, heights a part, chain
    DIR/_lock                                 held by the one writer
    DIR/_sealing                              held while sealed files are created or removed
    DIR/_manifest.jsonl                       one line per sealed range, its files and digests
    DIR/_journal/000000000001.jnl             facts that are not sealed yet
    DIR/_quarantine/                          files that no line of the manifest names
    DIR/channel=book/date=2026-11-28/part-000148210000-000148214999.parquet
    DIR/coverage/date=2026-11-28/part-000148210000-000148214999.parquet

Parts are cut by height alone, ``SPAN`` heights each, so that two recorders cut at the same
places. A part whose block times cross midnight UTC has a file under each date.
"""

import datetime
from pathlib import Path
from typing import Final, NamedTuple

SPAN: Final = 5_000
"""Heights a part, unless the archive was made with another number."""
FORMAT: Final = 1

INFO: Final = "_archive.json"
LOCK: Final = "_lock"
SEALING: Final = "_sealing"
COMPACTING: Final = "_compacting"
"""Where compaction builds the folder of a date, until that takes the old one's place."""
MANIFEST: Final = "_manifest.jsonl"
JOURNAL: Final = "_journal"
QUARANTINE: Final = "_quarantine"
STATUS: Final = "_status.json"
COVERAGE: Final = "coverage"
KEYFRAME: Final = "keyframe"
PARTIAL: Final = ".partial"
PRUNED: Final = ".pruned"
"""A file that was emptied on a full disk; its part is about to be removed."""

_DAY_NS: Final = 86_400_000_000_000
_EPOCH: Final = datetime.date(1970, 1, 1)


class Part(NamedTuple):
    """A range of heights, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def stem(self) -> str:
        """How its files are named."""
        return f"part-{self.first:012}-{self.last:012}"


def part_of(height: int, span: int) -> Part:
    """Return the part that a height belongs to."""
    first = height // span * span
    return Part(first, first + span - 1)


def following(part: Part, span: int) -> Part:
    """Return the part after this one."""
    return part_of(part.last + 1, span)


def date_of(ts_ns: int) -> str:
    """Return the UTC date of an instant, as folders spell it."""
    return (_EPOCH + datetime.timedelta(days=ts_ns // _DAY_NS)).isoformat()


def folder_of(channel: str, date: str) -> str:
    """Return the folder of a channel's files of one date, relative to the archive."""
    name = COVERAGE if channel == COVERAGE else f"channel={channel}"
    return f"{name}/date={date}"


def file_of(channel: str, date: str, part: Part, suffix: str = "") -> str:
    """
    Return a file's path relative to the archive.

    The suffix ``.add1`` marks facts that came after their part was sealed, ``.c2`` a part's files merged
    by compaction. The numbers grow, so no name is used twice.
    """
    return f"{folder_of(channel, date)}/{part.stem}{suffix}.parquet"


def is_inside(path: str) -> bool:
    """Return whether a relative path that somebody wrote down stays in the archive's folder."""
    return bool(path) and path[0] != "/" and "\0" not in path and ".." not in path.split("/")


def generation_of(path: str | Path) -> int:
    """Return the number in a file's suffix; 0 for what was sealed."""
    found = Path(path).name.split(".")
    return int(found[1].lstrip("adc")) if len(found) == 3 else 0


def range_of(path: str | Path) -> Part:
    """
    Read a file's range of heights from its name.

    Raises:
        ValueError: If the name is not a part's.

    """
    stem = Path(path).name.split(".")[0]
    kind, first, last = stem.split("-")
    if kind != "part":
        raise ValueError(f"{path} is not named like a part")
    return Part(int(first), int(last))


def date_in(path: str | Path) -> str:
    """Return the date of a file's folder."""
    return Path(path).parent.name.removeprefix("date=")
