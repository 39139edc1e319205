"""
Control a running collector: carry out the desired state, and track the progress.

::

    chain ───listing──► desired state ──assignment──► aggregator ──► shards, each with its next report
    people ──commands─►   │ ◄────── progress ────────────┘
                          └── processes to start and to stop ──► supervisor
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from collector.aggregator.coordination import Standing
from collector.client.market_status import read_markets
from collector.client.performance import process_name
from collector.client.requests import RequestClient
from collector.client.summary import Summary
from collector.control.desired_state import DesiredState
from collector.control.supervisor import Child, Supervisor
from collector.markets.listing import Listing
from collector.settings.parts import Steering

log = logging.getLogger(__name__)

_MARKETS_S: Final = 2.0


class Controller:
    """Carries out what the desired state decides."""

    def __init__(
        self,
        desired: DesiredState,
        listing: Listing,
        supervisor: Supervisor,
        shard: Callable[[int], Child],
    ) -> None:
        self._desired = desired
        self._listing = listing
        self._supervisor = supervisor
        self._shard = shard
        self._known = desired.revision
        """Revision of the assignment that the aggregator has."""
        self._publisher = 0
        """The aggregator's epoch."""
        self._sent: Mapping[str, str] | None = None
        """The statuses in the last direction; None if it had none."""
        self._told: Mapping[str, str] | None = None
        """The statuses that this aggregator has; None if that is unknown."""

    @property
    def is_busy(self) -> bool:
        """Whether a change is in progress, so that more frequent polls are worthwhile."""
        return self._desired.is_busy or self._known != self._desired.revision

    def steering(self) -> Steering:
        """Return the assignment of markets, for the aggregator."""
        desired = self._desired
        steering = Steering(
            revision=desired.revision,
            every_market=desired.every_market,
            listed_through=desired.listed_through,
            answers=desired.commands.answers,
        )
        if self._known != desired.revision:
            steering.markets = desired.markets
            steering.assignment = dict(desired.assignment.wanted)
        return steering

    def statuses(self) -> dict[str, str]:
        """Return the markets' statuses by market id, for the aggregator; empty if it has them."""
        statuses, is_known = self._desired.statuses, self._known == self._desired.revision
        # The same object until something changes: there is no need to compare thousands.
        self._sent = None if is_known and statuses is self._told else statuses
        return statuses if self._sent is not None else {}

    def take(self, standing: Standing, cpu: Mapping[int, float], client: RequestClient) -> None:
        """
        Process the aggregator's answer; plan, start and stop accordingly.

        ``cpu`` is each shard's usage, in percent of a core.
        """
        desired, supervisor = self._desired, self._supervisor
        now = time.monotonic()
        self._known = standing.revision
        if standing.status.publisher_epoch != self._publisher:
            # Another aggregator answered, or it starts over: it knows the listing of its start.
            self._publisher, self._told = standing.status.publisher_epoch, None
        elif self._sent is not None:
            self._told = self._sent
        head = standing.status.blocks.head
        # A part without a market waits for one to be listed.
        has_begun = bool(head) or not desired.assignment.wanted
        listed = self._listing.look(
            head, now=now, has_begun=has_begun, at_once=desired.commands.wants_listing
        )
        if listed is not None:
            desired.listed(listed.markets, listed.through)
        elif desired.commands.wants_listing and not self._listing.is_asking:
            desired.commands.wants_listing = False
        running = supervisor.shards()
        desired.arrived(standing.unsettled, running, self._known, now)
        for shard in desired.spare(running, standing.loads, self._known):
            supervisor.retire(process_name(shard))
        if commands := standing.commands:
            rebalances = any(command.fields.get("kind") == "rebalance" for command in commands)
            desired.order(commands, _measured(client) if rebalances else {}, now)
        self._ease(standing.status, cpu, now, client)
        for shard in sorted(desired.assignment.shards - set(running)):
            supervisor.add(self._shard(shard))
        while desired.notes:
            log.info("%s", desired.notes.popleft())

    def _ease(
        self, status: Summary, cpu: Mapping[int, float], now: float, client: RequestClient
    ) -> None:
        """Move markets away from an overloaded shard."""
        lags = {shard.shard: shard.lag_us / 1e6 for shard in status.shards}
        use = {shard: (percent, lags.get(shard, 0.0)) for shard, percent in cpu.items()}
        hot = self._desired.overload.look(now, use, is_busy=self._desired.is_busy)
        if hot is not None:
            self._desired.ease(hot, now, cpu, _measured(client))


def _measured(client: RequestClient) -> dict[str, float]:
    """Return the markets' weights from their measured rates; empty if there is no answer."""
    try:
        rows = read_markets(client.ask("markets", within_s=_MARKETS_S))
    except TimeoutError:
        return {}
    return {row.market_id: row.weight for row in rows if row.weight}
