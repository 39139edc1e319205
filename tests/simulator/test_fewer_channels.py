"""A collector that begins again with fewer channels, while what it publishes is recorded."""

import contextlib
import signal
from pathlib import Path

from collector.archive.reading.tables import read
from tests.simulator.client import simulator
from tests.system.recorders import ended, record, sealed_through
from tests.system.running import collector, eventually

SPAN = 10


def test_a_channel_that_ended_is_not_waited_for(tmp_path: Path) -> None:
    root, pace = tmp_path / "archive", ("--block-time", "0.1", "--history", "100000")
    with simulator("--markets", "2", "--touched", "all", *pace) as venue:
        options = ("--config", str(venue.config(tmp_path)))
        more = [text for name in ("book", "trades", "ticker") for text in ("--channel", name)]
        with contextlib.ExitStack() as stack:
            with collector(tmp_path, *options, *more) as running:
                running.await_live()
                publish = running.publish
                recorder = stack.enter_context(ended(record(root, publish, span=SPAN)))
                eventually(lambda: sealed_through(root) > 0, within_s=90)
            with collector(tmp_path, *options, "--publish", publish) as running:
                through = running.await_live()["blocks"]["head"]
                eventually(lambda: sealed_through(root) > through + SPAN, within_s=90)
                recorder.send_signal(signal.SIGTERM)
                assert recorder.wait(60) == 0
    for channel in ("book", "trades"):
        assert not read(root, channel, markets="*-*", end=through, holes="raise").holes
    assert len(read(root, "ticker", holes="allow"))
