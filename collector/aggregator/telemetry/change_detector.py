"""
Detect changes from one look to the next, for the journal.

Compared are markets' states, shards' connections and breakers, the chain's halt, and processes.
Pure: ``now`` is monotonic seconds, ``ts`` ns since the epoch.
"""

from collections.abc import Iterable
from typing import Final

from collector.aggregator.state.coverage import Coverage
from collector.aggregator.telemetry.journal import Journal
from collector.aggregator.telemetry.process_table import ProcessRow
from collector.client.performance import process_name
from shards.protocol.control import Report
from shards.protocol.events import Divergence, Gap

_ROLES: Final = {"rpc": "node", "queries": "query server", "events": "event provider"}
"""What a node is called, by what it is asked for."""


class _Shard:
    """A shard as it was at its last report."""

    __slots__ = ("breakers", "connects", "epoch", "halted", "nodes")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.connects = 0
        self.breakers: dict[str, str] = {}
        self.nodes: dict[tuple[str, str], str] = {}
        self.halted = False


class ChangeDetector:
    """The last known state of everything that the journal records."""

    def __init__(self, journal: Journal, coverage: Coverage) -> None:
        self._journal = journal
        self._coverage = coverage
        self._states: dict[str, str] = {}
        self._shards: dict[int, _Shard] = {}
        self._pids: dict[str, int] = {}
        self._halted = False

    def report(self, report: Report, now: float) -> None:
        """Compare a shard's report (already taken by the coverage) with its last one."""
        shard = self._shards.get(report.shard)
        if shard is None or shard.epoch != report.epoch:
            shard = self._shards[report.shard] = _Shard(report.epoch)
        self._connections(report, shard)
        self._breakers(report, shard)
        self._nodes(report, shard)
        shard.halted = report.halted
        self._halt(report)
        self.states((market.market_id for market in report.markets), now, report.ts)

    def stop(self, shard: int) -> None:
        """This shard was stopped for good: its view of the chain is void."""
        self._shards.pop(shard, None)
        self._pids.pop(process_name(shard), None)

    def _connections(self, report: Report, shard: _Shard) -> None:
        if report.connects > shard.connects:
            in_use = [e.endpoint for e in report.endpoints if e.in_use]
            text = f"connects to {in_use[0]}" if in_use else "connects"
            reason = f"connection {report.connects} of this process"
            self._journal.add("connect", text, ts=report.ts, shard=report.shard, reason=reason)
        shard.connects = report.connects

    def _breakers(self, report: Report, shard: _Shard) -> None:
        for endpoint in report.endpoints:
            before = shard.breakers.get(endpoint.endpoint, "closed")
            if endpoint.breaker != before:
                self._journal.add(
                    "breaker",
                    f"breaker of {endpoint.endpoint} {before} → {endpoint.breaker}",
                    ts=report.ts,
                    shard=report.shard,
                    reason=endpoint.reason,
                )
            shard.breakers[endpoint.endpoint] = endpoint.breaker

    def _nodes(self, report: Report, shard: _Shard) -> None:
        for node in report.nodes:
            # The lag of a node, and how long it has stalled, change all the time.
            name = (node.role, node.endpoint)
            if node.cause != shard.nodes.get(name, ""):
                what = "is fit again" if not node.cause else "is not fit"
                text = f"{_ROLES.get(node.role, node.role)} {node.endpoint} "
                text += "cannot tell its chain" if node.cause == "untold" else what
                self._journal.add(
                    "node", text, ts=report.ts, shard=report.shard, reason=node.reason
                )
            shard.nodes[name] = node.cause
        for name in shard.nodes.keys() - {(node.role, node.endpoint) for node in report.nodes}:
            del shard.nodes[name]

    def _halt(self, report: Report) -> None:
        """The chain is halted if all shards say so, and resumes when the first one does."""
        halted = all(shard.halted for shard in self._shards.values())
        if halted != self._halted:
            self._halted = halted
            text = f"chain {'halted' if halted else 'resumed'} at block {report.head}"
            self._journal.add("halt", text, ts=report.ts)

    def states(self, market_ids: Iterable[str], now: float, ts: int) -> None:
        """Compare the states of some markets with what they were."""
        coverage, states = self._coverage, self._states
        for market_id in market_ids:
            market = coverage.states.get(market_id)
            if market is None:
                continue
            state = coverage.state_of(market, now)
            before = states.get(market_id, "pending")
            if state != before:
                states[market_id] = state
                told = state == market.state
                self._journal.note(
                    "state",
                    f"{before} → {state}",
                    ts=ts,
                    shard=market.shard if market.shard >= 0 else None,
                    symbol=coverage.symbol(market_id),
                    reason=market.reason if told else _untold(state),
                )

    def gap(self, event: Gap, shard: int) -> None:
        """Record an announced gap."""
        blocks = f"{event.first}-{event.last}" if event.last else f"{event.first} on"
        self._journal.note(
            "gap",
            f"gap {event.state}, blocks {blocks}",
            ts=event.ts,
            shard=shard,
            symbol=self._coverage.symbol(event.market_id),
            reason=event.cause,
        )

    def divergence(self, event: Divergence, shard: int) -> None:
        """Record that two nodes say different things about a block."""
        wrong = " and ".join(event.wrong)
        self._journal.note(
            "divergence",
            f"block {event.height}: {event.first} and {event.second} differ",
            ts=event.ts_recv,
            shard=shard,
            symbol=self._coverage.symbol(event.market_id),
            reason=f"{', '.join(event.differs)}; "
            + (f"the chain's record contradicts {wrong}" if wrong else "undecided"),
        )

    def processes(self, rows: Iterable[ProcessRow], ts: int) -> None:
        """Compare the coordinator's list of processes with its last one."""
        for row in rows:
            name, pid = row.name, row.pid
            before = self._pids.get(name, 0)
            # A new aggregator has no earlier list; its own restart is worth an entry.
            if pid and pid != before and (before or (name == "aggregator" and row.restarts)):
                text = f"{name} restarted, start {row.restarts + 1}"
                self._journal.add("restart", text, ts=ts, shard=row.shard, reason=row.ended)
            if pid:
                self._pids[name] = pid


def _untold(state: str) -> str:
    """Why a market is in a state that its shard did not report."""
    return "not active on the chain" if state == "inactive" else "its shard does not report"
