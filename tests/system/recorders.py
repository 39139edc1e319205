"""A recorder in a process of its own, and what it says of itself."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.archive.storage import layout
from tests.simulator.client import simulator
from tests.system.running import COLLECTOR, Running, collector

_SPAN: Final = 8


def record(
    archive: Path,
    publish: str,
    *,
    crash_at: str = "",
    span: int = _SPAN,
    options: Sequence[str] = (),
) -> "subprocess.Popen[bytes]":
    """Start a recorder, perhaps one that dies at a named instant."""
    environment = dict(os.environ, ARCHIVE_CRASH_AT=crash_at)
    command = [*COLLECTOR, "record", "--to", str(archive), "--connect", publish]
    log = (archive.parent / "record.log").open("ab")
    with log:
        return subprocess.Popen(
            [*command, "--part-heights", str(span), *options],
            env=environment,
            stdout=log,
            stderr=log,
        )


def stop(recorder: "subprocess.Popen[bytes]") -> None:
    """Ask a recorder to end, and wait until it has."""
    recorder.send_signal(signal.SIGTERM)
    assert recorder.wait(60) == 0


@contextlib.contextmanager
def busy_collector(folder: Path, markets: int) -> Iterator[Running]:
    """Start a collector of an exchange with ten blocks a second, each of which changes every book."""
    pace = ("--block-time", "0.1", "--history", "100000")
    with (
        simulator("--markets", str(markets), "--touched", "all", *pace) as venue,
        collector(folder, "--config", str(venue.config(folder))) as running,
    ):
        running.await_live()
        yield running


@contextlib.contextmanager
def ended(recorder: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Make sure that a recorder has ended, whatever its test finds."""
    try:
        yield recorder
    finally:
        recorder.kill()
        recorder.wait(60)


def status_of(archive: Path) -> dict[str, Any]:
    """Return what the recorder says of itself; empty while it says nothing."""
    try:
        found: dict[str, Any] = msgspec.json.decode((archive / layout.STATUS).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}
    return found


def sealed_through(archive: Path) -> int:
    """Return the height through which an archive is sealed, by its recorder's word."""
    return int(status_of(archive).get("sealed", 0))
