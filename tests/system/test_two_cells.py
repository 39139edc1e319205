"""Two cells, one reader, faults of either: the short form of `tests.system.two_cells`."""

from pathlib import Path

from tests.system import two_cells


def test_whatever_happens_to_either_every_fact_comes_once(tmp_path: Path) -> None:
    result = two_cells.run(tmp_path, seconds=20, seed=7, most=3)
    assert result.passed, result
    assert result.trades
    assert result.changes
    assert sum(result.faults.values()) >= 2
