"""
The recorder's memory over a long time: ``python -m bench.recorder_memory --minutes 60``.

A simulated exchange of 280 markets, a collector, and a recorder whose parts are short, so that it
seals often. Twice a second the recorder and its sealing child are looked at. At the end: the
recorder's growth after it had settled, its peak, and the peak of both while a part was sealed.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
import psutil

from collector.archive.recording.status_file import Status
from tests.simulator.client import simulator
from tests.system.running import COLLECTOR, collector

ALONE_MB: Final = 80.0
SEALING_MB: Final = 200.0
GROWTH_MB: Final = 1.0
SETTLED_MIN: Final = 10.0
_LOOK_S: Final = 0.5
_ROW_S: Final = 60.0
_MB: Final = 1 << 20


class Reading(msgspec.Struct):
    """The recorder at one instant; memory in MB."""

    minute: float
    alone: float
    """The recorder's process, pages that it shares with others among them (RSS)."""
    own: float
    """The part of it that no other process shares (USS)."""
    sealing: float
    """The recorder and the child that seals; 0 while nothing is sealed."""


def read(recorder: psutil.Process, minute: float) -> Reading:
    """Look at the recorder and its children."""
    use = recorder.memory_full_info()
    children = 0.0
    for child in recorder.children():
        with contextlib.suppress(psutil.Error):
            children += child.memory_info().rss / _MB
    alone = use.rss / _MB
    return Reading(minute, alone, use.uss / _MB, alone + children if children else 0.0)


def growth(readings: list[Reading], settled: float) -> float:
    """Return the median of the last fifth less that of the first fifth after it had settled."""
    later = [reading.own for reading in readings if reading.minute >= settled]
    some = max(1, len(later) // 5)
    return statistics.median(later[-some:]) - statistics.median(later[:some]) if later else 0.0


@contextlib.contextmanager
def _recorder(folder: Path, archive: Path, publish: str, heights: int) -> Iterator[psutil.Process]:
    command = [*COLLECTOR, "record", "--to", str(archive), "--connect", publish]
    with (folder / "record.log").open("wb") as log:
        process = psutil.Popen([*command, "--part-heights", str(heights)], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def watch(recorder: psutil.Process, archive: Path, seconds: float) -> Iterator[Reading]:
    """Look until the time is over; print a row a minute."""
    began = printed = time.monotonic()
    seen: list[Reading] = []
    while (now := time.monotonic()) - began < seconds:
        seen.append(read(recorder, (now - began) / 60))
        yield seen[-1]
        if now - printed >= _ROW_S:
            status = msgspec.json.decode((archive / "_status.json").read_bytes(), type=Status)
            own = statistics.median(reading.own for reading in seen)
            most = max(reading.sealing for reading in seen)
            click.echo(
                f"minute {seen[-1].minute:5.1f}  alone {seen[-1].alone:6.1f}  own {own:6.2f}  "
                f"sealing {most:6.1f}  head {status.head}  sealed {status.sealed}  "
                f"facts {status.facts:,}  to fetch {status.to_fetch}  gone {status.gone}"
            )
            sys.stdout.flush()
            printed, seen = now, []
        time.sleep(_LOOK_S)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--markets", default=280, show_default=True)
@click.option("--heights", default=500, show_default=True, help="Heights a part.")
@click.option("--touched", default="0.3", show_default=True, help="Share that changes in a block.")
def main(minutes: float, markets: int, heights: int, touched: str) -> None:
    """Run it."""
    exchange = ("--markets", str(markets), "--touched", touched, "--matches", str(markets / 10))
    with tempfile.TemporaryDirectory() as name, simulator(*exchange, "--paused", "0") as venue:
        folder = Path(name)
        archive = folder / "archive"
        options = ("--config", str(venue.config(folder)), "--shards", "2")
        with collector(folder, *options) as running:
            running.await_live(120)
            with _recorder(folder, archive, running.publish, heights) as recorder:
                time.sleep(5)
                readings = list(watch(recorder, archive, minutes * 60))
        log = (folder / "record.log").read_text().splitlines()
    alone, sealing = (max(getattr(r, n) for r in readings) for n in ("alone", "sealing"))
    grown = growth(readings, min(SETTLED_MIN, minutes / 3))
    click.echo(f"alone at most {alone:.1f} MB (<= {ALONE_MB:.0f})")
    click.echo(f"with a part being sealed at most {sealing:.1f} MB (<= {SEALING_MB:.0f})")
    click.echo(f"growth after it had settled {grown:.2f} MB (<= {GROWTH_MB:.0f})")
    click.echo("\n".join(log[-3:]))
    sys.exit(4 if alone > ALONE_MB or sealing > SEALING_MB or grown > GROWTH_MB else 0)


if __name__ == "__main__":
    main()
