"""Two recorders, started at different times on two collectors, keep the same facts."""

import contextlib
import signal
from pathlib import Path

import pytest

from collector.archive.storage import manifest
from collector.archive.storage.layout import Part
from tests.system.recorders import record
from tests.system.running import Devnet, collector, eventually

pytestmark = pytest.mark.node

pytest.importorskip("pyarrow")


def _whole(root: Path) -> set[Part]:
    """Return the parts that an archive has from their first height on."""
    return set(sorted(manifest.sealed(manifest.read(root)))[1:])


def _digests(root: Path, parts: set[Part]) -> dict[tuple[str, int, str], str]:
    files = manifest.current(manifest.read(root)).values()
    return {
        (f.channel, f.first, f.date): f.facts_sha256
        for f in files
        if f.facts_sha256 and Part(f.first, f.last) in parts
    }


def test_every_part_that_both_have_has_the_same_digest(node: Devnet, tmp_path: Path) -> None:
    roots = []
    with contextlib.ExitStack() as stack:
        for number, shards in enumerate(("1", "2")):
            folder = tmp_path / str(number)
            folder.mkdir()
            options = ("--config", str(node.config(folder)), "--shards", shards)
            running = stack.enter_context(collector(folder, *options))
            running.await_live(90)
            roots.append(folder / "archive")
            recorder = record(roots[-1], running.publish)
            stack.callback(recorder.wait, 90)
            stack.callback(recorder.send_signal, signal.SIGTERM)
        one, other = roots
        both = eventually(
            lambda: parts if len(parts := _whole(one) & _whole(other)) >= 3 else set(),
            within_s=180,
            every_s=0.5,
            what="three parts that both have",
        )
    found = _digests(one, both)
    assert found == _digests(other, both)
    assert {channel for channel, _, _ in found} >= {"book", "trades", "keyframe"}
