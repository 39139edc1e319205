"""The archive's promise: whatever is killed, every fact of every block is in it exactly once."""

from pathlib import Path

import pytest

from tests.system.kill_gate import run
from tests.system.running import Devnet, collector

pytestmark = pytest.mark.node

pytest.importorskip("pyarrow")


def test_killed_recorders_leave_every_fact_once(node: Devnet, tmp_path: Path) -> None:
    config = node.config(tmp_path)
    with collector(tmp_path, "--config", str(config), "--shards", "2") as running:
        running.await_live()
        verdict = run(node, running, [tmp_path], kills=10, seed=5)
    assert verdict.is_clean, verdict
