"""What the coordinator sends the aggregator twice a second, and what it knows from the answers."""

import os
import time

import msgspec

from collector.aggregator.coordination import Direction, Standing
from collector.aggregator.telemetry.process_table import ProcessRow, Use
from collector.client.requests import RequestClient
from collector.client.summary import Summary
from collector.control.controller import Controller
from collector.control.process_usage import Usage
from collector.control.recorder_status import recorder_status
from collector.control.supervisor import Child, Supervisor
from collector.control.systemd import ServiceManager


class AggregatorView:
    """The aggregator as the coordinator sees it."""

    def __init__(self, archive: str, manager: ServiceManager) -> None:
        """
        Args:
            archive: The folder of `start --record`, or "".
            manager: Learns whether the aggregator answers.

        """
        self.summary: Summary | None = None
        """The last summary, with its age; None before the first."""
        self._archive = archive
        self._manager = manager
        self._usage = Usage()
        self._answered_at = 0.0
        """When the aggregator returned that summary, monotonic."""

    def ask(
        self,
        client: RequestClient,
        supervisor: Supervisor,
        controller: Controller,
        *,
        within_s: float,
    ) -> None:
        """Send the aggregator the desired state, and receive the current one."""
        children = supervisor.children.values()
        pids = {"coordinator": os.getpid()} | {child.name: child.pid for child in children}
        uses = self._usage.read(pids, time.monotonic())
        ours = ProcessRow(name="coordinator", pid=os.getpid(), use=uses.get("coordinator", Use()))
        rows = [ours, *(_row(child, uses.get(child.name, Use())) for child in children)]
        direction = Direction(
            processes=rows,
            recorder=recorder_status(self._archive),
            statuses=controller.statuses(),
            steering=controller.steering(),
        )
        try:
            answer = client.ask("processes", within_s=within_s, **msgspec.structs.asdict(direction))
        except TimeoutError:
            self._grow_old()
            return
        standing = msgspec.convert(answer, Standing)
        self._answered_at = time.monotonic()
        self.summary = msgspec.structs.replace(standing.status, stale_s=0.0)
        self._manager.answered(self.summary)
        cpu = {row.shard: row.use.cpu_percent for row in rows if row.shard is not None}
        controller.take(standing, cpu, client)

    def _grow_old(self) -> None:
        """The last summary is getting older and must not be shown as current."""
        self._manager.waiting()
        if self.summary is not None:
            stale_s = round(time.monotonic() - self._answered_at, 3)
            self.summary = msgspec.structs.replace(self.summary, stale_s=stale_s)


def _row(child: Child, use: Use) -> ProcessRow:
    return ProcessRow(
        name=child.name,
        pid=child.pid,
        shard=child.shard,
        restarts=child.restarts,
        ended=child.ended,
        use=use,
    )
