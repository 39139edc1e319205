"""The home of a chain does not grow without end."""

from pathlib import Path

from collector.devnet.home import tidy


def test_only_the_newest_parts_of_the_consensus_log_stay(tmp_path: Path) -> None:
    log = tmp_path / "data" / "cs.wal"
    log.mkdir(parents=True)
    for name in ("wal", "wal.998", "wal.999", "wal.1000", "wal.1001", "wal.007"):
        (log / name).touch()
    tidy(tmp_path)
    assert {path.name for path in log.iterdir()} == {"wal", "wal.999", "wal.1000", "wal.1001"}
    # Nothing more to do, and a chain that has not begun is none either.
    tidy(tmp_path)
    tidy(tmp_path / "nowhere")
    assert len(list(log.iterdir())) == 4
