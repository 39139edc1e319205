"""
The messages between coordinator and aggregator, several times a second.

The coordinator sends a `Direction` (request ``processes``) and receives a `Standing`. Pure.
"""

from typing import Any

import msgspec

from collector.aggregator.telemetry.process_table import ProcessRow
from collector.client.summary import Recorder, Summary
from collector.settings.parts import Steering


class Direction(msgspec.Struct, kw_only=True):
    """The desired state, from the coordinator."""

    processes: list[ProcessRow] = []
    """All processes, the coordinator first."""
    recorder: Recorder | None = None
    """State of the recorder; None without one."""
    statuses: dict[str, str] = {}
    """The markets' statuses as the chain lists them, by market id; empty if they are as before."""
    steering: Steering | None = None
    """The assignment of markets to shards."""


class PendingCommand(msgspec.Struct, frozen=True):
    """An admin command that is neither done nor refused."""

    token: str
    fields: dict[str, Any]
    """As its client sent them, unchecked."""


class Standing(msgspec.Struct, kw_only=True):
    """How far the aggregator has carried out the desired state."""

    revision: int
    """Revision of the assignment that it has."""
    unsettled: list[str]
    """Ids of markets that are not on their assigned shard yet."""
    loads: dict[int, int]
    """Per shard, the number of markets that it owns or is assigned."""
    commands: list[PendingCommand]
    status: Summary
