"""The promise, kept through faults: a short soak, and one of all faults; each with a fixed seed."""

from pathlib import Path

import pytest

from tests.system import prometheus
from tests.system.faults import FAULTS
from tests.system.soak import Result, soak, table

pytestmark = pytest.mark.node

_HOLDS_S = {"freeze": 10.0, "half-open": 10.0}
"""
Not shorter than it takes to be seen: silence is five block times, and after a node's restart
the observed block time is longer for a while.
"""
_NOWHERE_ELSE = ("freeze", "half-open", "kill -9 both", "node restart")
"""The others have tests of their own: test_faults, test_crashes, test_start, test_busy_chain."""


def check(result: Result, faults: set[str]) -> None:
    """Nothing was lost, doubled or altered; every fault was seen, and healed."""
    said = f"{result.findings.table()}\n{table(result.outcomes)}\n{result.scrapes}"
    assert result.passed, said
    assert result.findings.trades.checked > 0
    assert result.findings.books.checked > result.findings.markets
    assert {outcome.name for outcome in result.outcomes} == faults, said
    seen = {outcome.name for outcome in result.outcomes if outcome.detect_s is not None}
    assert seen == faults - {"slow subscriber"}, said


def test_nothing_is_lost_doubled_or_altered_through_faults(tmp_path: Path) -> None:
    faults = [
        fault._replace(hold_s=_HOLDS_S.get(fault.name, fault.hold_s))
        for fault in FAULTS
        if fault.name in _NOWHERE_ELSE
    ]
    result = soak(tmp_path, seconds=300, seed=7, every_s=0.0, faults=faults, rounds=1)
    check(result, set(_NOWHERE_ELSE))


@pytest.mark.nightly
def test_nor_through_each_fault_twice(tmp_path: Path) -> None:
    """With a real Prometheus looking on, where there is one."""
    scraped = prometheus.is_installed()
    result = soak(tmp_path, seconds=1_200, seed=7, every_s=15.0, rounds=2, scraped=scraped)
    check(result, {fault.name for fault in FAULTS})
