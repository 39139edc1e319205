"""Trades whose ids do not end in a number: one order, however they came into the archive."""

from pathlib import Path

import msgspec

from collector.archive.journal.segment_file import Chunk, Note, Writer
from collector.archive.maintenance import compaction
from collector.archive.reading.tables import read
from collector.archive.sealing import seal
from collector.archive.sealing.additions import add
from collector.archive.storage import manifest
from collector.archive.storage.layout import Part
from collector.verify.archive_check import Check
from shards.protocol.events import Trades
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SYMBOL, entry, trades

_PART = Part(10, 19)
_LATE = 14
_NAMES = ("T#-b", "T#-a", "T#_2", "T#_10", "#" + "9" * 40, f"T#_{2**63}")
_ORDER = [
    *((2, "T#_2"), (10, "T#_10")),
    *((None, name) for name in ("#" + "9" * 40, "T#-a", "T#-b", f"T#_{2**63}")),
]


def _named(height: int, names: tuple[str, ...], source: str = "toy") -> Trades:
    like = trades(height, source)
    of = like.trades[0]
    made = [msgspec.structs.replace(of, trade_id=name.replace("#", str(height))) for name in names]
    return msgspec.structs.replace(like, trades=made)


def _archive(root: Path, *, late: bool) -> str:
    """Make a sealed part; return the digest of its trades."""
    known = _NAMES[3:] if late else _NAMES
    made = [
        entry("trades", _named(height, known if height == _LATE else _NAMES))
        for height in range(_PART.first, _PART.last + 1)
    ]
    written.write(root, made, begin=_PART.first)
    seal.seal(root, _PART, ts=DAY)
    if late:
        writer = Writer(root)
        writer.append(
            Chunk(
                [entry("trades", _named(_LATE, _NAMES, "replay"))],
                [Note("filled", SYMBOL, _LATE, _LATE)],
            )
        )
        writer.sync()
        writer.close()
        add(root, _PART, ts=DAY)
        compaction.compact(root, ts=DAY)
    (file,) = (f for f in manifest.current(manifest.read(root)).values() if f.channel == "trades")
    return file.facts_sha256


def test_late_trades_leave_the_same_file(tmp_path: Path) -> None:
    digests = {_archive(tmp_path / name, late=name == "late") for name in ("whole", "late")}
    assert len(digests) == 1
    for name in ("whole", "late"):
        table = read(tmp_path / name, "trades", start=_LATE, end=_LATE).arrow
        found = list(zip(table["n"].to_pylist(), table["trade_id"].to_pylist(), strict=True))
        assert found == [(n, name.replace("#", str(_LATE))) for n, name in _ORDER]
        assert not Check(tmp_path / name).run().examples
