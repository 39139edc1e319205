"""What the journal keeps, how it puts alike things together, and which changes are noticed."""

import msgspec
import pytest

from collector.aggregator.state.coverage import Coverage
from collector.aggregator.telemetry.change_detector import ChangeDetector
from collector.aggregator.telemetry.journal import TOGETHER, Entry, Journal
from collector.aggregator.telemetry.process_table import ProcessRow
from shards.protocol.control import EndpointReport, Report
from shards.protocol.events import Gap
from shards.protocol.settings import Market
from tests.shards.reported import market_report, report

MARKETS = [Market(f"0x{n:064x}", f"T{n}/USDT", f"T{n}-USDT", "spot") for n in range(8)]
NOW = 100.0


def texts(journal: Journal) -> list[str]:
    journal.flush()
    return [entry.text for entry in journal]


def test_only_the_newest_entries_are_kept_and_their_ids_go_on() -> None:
    journal = Journal(limit=3)
    for n in range(5):
        journal.add("move", str(n), ts=n)
    assert [(entry.id, entry.text) for entry in journal] == [(3, "2"), (4, "3"), (5, "4")]
    taken_up = Journal(limit=3, saved=journal)
    taken_up.add("move", "5", ts=5)
    assert taken_up.last == 6


@pytest.mark.parametrize(("after", "ids"), [(0, [3, 4, 5]), (3, [4, 5]), (5, []), (6, [3, 4, 5])])
def test_a_reader_gets_what_came_after_its_last_entry(after: int, ids: list[int]) -> None:
    """An id that is still to come is another aggregator's: that reader needs them all."""
    journal = Journal(limit=3)
    for n in range(5):
        journal.add("move", str(n), ts=n)
    assert [entry.id for entry in journal.after(after)] == ids


def test_an_empty_journal_has_nothing_for_anybody() -> None:
    assert Journal().after(0) == Journal().after(7) == []


def test_many_markets_that_go_the_same_way_get_one_entry() -> None:
    journal = Journal()
    for n in range(TOGETHER):
        journal.note("state", "live → stale", ts=n, shard=1, symbol=f"T{n}", reason="cut")
    journal.note("state", "live → stale", ts=9, shard=2, symbol="X", reason="cut")
    journal.flush()
    assert [(e.ts, e.shard, e.symbol, e.text, e.reason) for e in journal] == [
        (0, 1, None, f"{TOGETHER} markets: live → stale", "cut"),
        (9, 2, "X", "live → stale", "cut"),
    ]
    journal.flush()
    assert journal.last == 2


class Seen:
    """A journal, and the transitions that are entered there."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.coverage = Coverage(MARKETS)
        self.transitions = ChangeDetector(self.journal, self.coverage)

    def report(self, said: Report, now: float = NOW) -> None:
        self.coverage.report(said, now)
        self.coverage.account(said)
        self.transitions.report(said, now)

    def new(self) -> list[tuple[str, str, str]]:
        """What was entered since the last time: kind, text, reason."""
        before = getattr(self, "_seen", 0)
        self.journal.flush()
        self._seen = self.journal.last
        return [(e.kind, e.text, e.reason) for e in self.journal.after(before)]


def test_a_market_that_goes_live_and_stale_is_told_with_the_reason() -> None:
    seen = Seen()
    live = market_report(MARKETS[0].market_id, 1, 5)
    seen.report(report(live))
    assert seen.new()[-1] == ("state", "pending → live", "")
    seen.report(report(live))
    assert seen.new() == []
    stale = market_report(MARKETS[0].market_id, 1, 5, state="stale")
    stale.reason = "mute"
    seen.report(report(stale))
    assert seen.new() == [("state", "live → stale", "mute")]


def test_the_markets_of_a_shard_that_reports_no_more_become_stale() -> None:
    seen = Seen()
    seen.report(report(market_report(MARKETS[0].market_id, 1, 5)))
    seen.new()
    seen.coverage.silence(0)
    seen.transitions.states(seen.coverage.states, NOW + 1, 7)
    assert seen.new() == [("state", "live → stale", "its shard does not report")]


def test_a_connection_and_a_breaker_are_told_once_each() -> None:
    seen = Seen()
    said = report()
    said.endpoints = [EndpointReport("ws://a", "closed", "", True)]
    seen.report(said)
    assert seen.new() == [("connect", "connects to ws://a", "connection 1 of this process")]
    said.endpoints = [EndpointReport("ws://a", "open", "refused", False)]
    for _ in range(2):
        seen.report(said)
    assert seen.new() == [("breaker", "breaker of ws://a closed → open", "refused")]


def test_the_chain_is_halted_when_all_shards_say_so() -> None:
    seen = Seen()
    said = [report(shard=0, head=9), report(shard=1, head=9)]
    for each in said:
        seen.report(each)
    seen.new()
    said[0].halted = True
    seen.report(said[0])
    assert seen.new() == []
    said[1].halted = True
    seen.report(said[1])
    assert seen.new() == [("halt", "chain halted at block 9", "")]
    said[0].halted = False
    seen.report(said[0])
    assert seen.new() == [("halt", "chain resumed at block 9", "")]


def test_a_gap_is_told_with_its_blocks_and_cause() -> None:
    seen = Seen()
    opened = Gap(MARKETS[1].market_id, 4, "open", "mute", 17, 0, 4)
    seen.transitions.gap(opened, shard=2)
    seen.transitions.gap(msgspec.structs.replace(opened, state="closed", last=19), shard=2)
    assert seen.new() == [
        ("gap", "gap open, blocks 17 on", "mute"),
        ("gap", "gap closed, blocks 17-19", "mute"),
    ]
    assert [(entry.symbol, entry.shard) for entry in seen.journal] == [("T1-USDT", 2)] * 2


def test_a_process_with_another_id_was_restarted() -> None:
    seen = Seen()
    row = ProcessRow(name="shard 3", pid=10, shard=3)
    seen.transitions.processes([row], 1)
    assert seen.new() == []
    row.pid, row.ended = 0, "killed by SIGKILL"
    seen.transitions.processes([row], 2)
    row.pid, row.restarts = 11, 1
    seen.transitions.processes([row], 3)
    assert seen.new() == [("restart", "shard 3 restarted, start 2", "killed by SIGKILL")]
    assert next(iter(seen.journal)).shard == 3


def test_an_aggregator_tells_of_its_own_restart() -> None:
    seen = Seen()
    row = ProcessRow(name="aggregator", pid=12, restarts=1, ended="killed by SIGKILL")
    seen.transitions.processes([row], 1)
    seen.transitions.processes([row], 2)
    assert seen.new() == [("restart", "aggregator restarted, start 2", "killed by SIGKILL")]


def test_entries_survive_being_saved() -> None:
    journal = Journal()
    journal.add("listing", "T9-USDT is listed", ts=5, symbol="T9-USDT")
    packed = msgspec.msgpack.encode(list(journal))
    assert msgspec.msgpack.decode(packed, type=list[Entry]) == list(journal)
