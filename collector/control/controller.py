"""
Steer a running collector: carry out what the fleet plans, and tell it how far that is.

::

    chain ──listing──► fleet ──assignment──► aggregator ──► shards, each with its next report
    people ──orders──►   │ ◄──── how far ────────┘
                         └── processes to start and to let go ──► supervisor
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from collector.client.requests import RequestClient
from collector.control.desired_state import Fleet
from collector.control.supervisor import Child, Supervisor
from collector.markets.listing import Listing
from collector.settings.parts import Steering

log = logging.getLogger(__name__)

_MARKETS_S: Final = 2.0


class Helm:
    """Stands between the fleet, which decides, and everything that carries it out."""

    def __init__(
        self,
        fleet: Fleet,
        listing: Listing,
        supervisor: Supervisor,
        shard: Callable[[int], Child],
    ) -> None:
        self._fleet = fleet
        self._listing = listing
        self._supervisor = supervisor
        self._shard = shard
        self._known = fleet.revision
        """Revision of the assignment that the aggregator has."""

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way, so that it pays to look more often."""
        return self._fleet.is_busy or self._known != self._fleet.revision

    def fields(self) -> dict[str, Any]:
        """Return what the aggregator is to be told."""
        fleet = self._fleet
        steering = Steering(
            revision=fleet.revision,
            every_market=fleet.every_market,
            listed_through=fleet.listed_through,
            answers=fleet.answers,
        )
        if self._known != fleet.revision:
            steering.markets = fleet.markets
            steering.assignment = dict(fleet.assignment.wanted)
        return {"steering": steering, "statuses": fleet.statuses}

    def heed(self, answer: Mapping[str, Any], client: RequestClient) -> None:
        """Take the aggregator's answer; plan, start and stop what follows from it."""
        fleet = self._fleet
        now = time.monotonic()
        self._known = answer["revision"]
        head = answer["status"]["blocks"]["head"]
        listed = self._listing.look(head, now=now, at_once=fleet.wants_listing)
        if listed is not None:
            fleet.listed(listed.markets, listed.through)
        elif fleet.wants_listing and not self._listing.is_asking:
            fleet.wants_listing = False
        running = self._running()
        fleet.arrived(answer["unsettled"], running, self._known)
        for shard in fleet.spare(running, answer["loads"], self._known):
            self._supervisor.retire(_name(shard))
        if answer["orders"]:
            rebalances = any(order.get("kind") == "rebalance" for order in answer["orders"])
            fleet.order(answer["orders"], _measured(client) if rebalances else {})
        self._ease(answer["status"], now, client)
        for shard in sorted(fleet.assignment.shards - set(running)):
            self._supervisor.add(self._shard(shard))
        while fleet.notes:
            log.info("%s", fleet.notes.popleft())

    def _running(self) -> list[int]:
        names = self._supervisor.children
        return [int(name.removeprefix("shard ")) for name in names if name.startswith("shard ")]

    def _ease(self, status: Mapping[str, Any], now: float, client: RequestClient) -> None:
        """Let a shard that does too much give some of it away."""
        cpu = {
            int(use["name"].removeprefix("shard ")): float(use["cpu_percent"])
            for use in status["processes"]
            if use["name"].startswith("shard ")
        }
        lags = {row["shard"]: row["lag_us"] / 1e6 for row in status["shards"]}
        use = {shard: (percent, lags.get(shard, 0.0)) for shard, percent in cpu.items()}
        hot = self._fleet.over_budget(now, use)
        if hot is not None:
            self._fleet.ease(hot, now, cpu, _measured(client))


def _name(shard: int) -> str:
    return f"shard {shard}"


def _measured(client: RequestClient) -> dict[str, float]:
    """Weigh the markets by what they bring; empty if the aggregator does not say."""
    try:
        rows = client.ask("markets", within_s=_MARKETS_S)["markets"]
    except TimeoutError:
        return {}
    return {row["market_id"]: float(row["weight"]) for row in rows if row.get("weight")}
