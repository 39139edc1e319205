"""When the ledger is saved: whenever it has changed, and now and then in any case."""

import asyncio
from pathlib import Path

from collector.aggregator.state.market_state import MarketState
from collector.aggregator.state.saved import Saved
from collector.aggregator.state_saver import StateSaver
from collector.aggregator.telemetry.journal import Journal

LEDGER = Saved(markets=[MarketState(market_id="0xa", first=5, last=9)])


def test_a_ledger_is_due_once_for_each_version(tmp_path: Path) -> None:
    async def play(folder: Path) -> None:
        saver = StateSaver(folder)
        assert saver.is_due("first")
        await saver.save(LEDGER, "first")
        assert not saver.is_due("first")
        assert saver.is_due("second")
        # Its age shows that it can be saved.
        saver.saved_at -= 5
        assert saver.is_due("first")

    asyncio.run(play(tmp_path))


def test_one_that_was_saved_at_once_is_due_because_it_is_not_on_the_disk_yet(
    tmp_path: Path,
) -> None:
    saver = StateSaver(tmp_path)
    asyncio.run(saver.save(LEDGER, "first"))
    saver.save_now(LEDGER)
    assert saver.is_due("first")


def test_one_that_could_not_be_saved_stays_due_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    saver = StateSaver(folder)
    asyncio.run(saver.save(LEDGER, "first"))
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()
    folder.write_text("not a folder")
    asyncio.run(saver.save(LEDGER, "second"))
    assert "cannot save the ledger" in saver.error
    assert saver.is_due("first")
    assert saver.is_due("second")
    folder.unlink()
    asyncio.run(saver.save(LEDGER, "second"))
    assert (saver.error, saver.is_due("second")) == ("", False)
    assert saver.load().markets == LEDGER.markets


def test_the_journal_is_saved_though_the_ledger_is_not_due(tmp_path: Path) -> None:
    saver, journal = StateSaver(tmp_path), Journal()
    journal.add("restart", "shard 0 restarted, start 2", ts=1)
    asyncio.run(saver.save_journal(journal))
    assert [entry.text for entry in StateSaver(tmp_path).load_journal()] == [
        "shard 0 restarted, start 2"
    ]
