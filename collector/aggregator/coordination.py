"""
What the coordinator and the aggregator say to each other, some times a second.

The coordinator is the one that asks (request ``processes``): a `Direction` goes to the
aggregator, a `Standing` comes back. Pure.
"""

from typing import Any

import msgspec

from collector.aggregator.telemetry.process_table import ProcessRow
from collector.client.summary import Recorder, Summary
from collector.settings.parts import Steering


class Direction(msgspec.Struct, kw_only=True):
    """What there is to be, as the coordinator knows it."""

    processes: list[ProcessRow] = []
    """All of them, the coordinator first."""
    recorder: Recorder | None = None
    """How the recorder stands; None without one."""
    statuses: dict[str, str] = {}
    """The markets' statuses as the chain lists them, by market id."""
    steering: Steering | None = None
    """Where the markets belong."""


class PendingCommand(msgspec.Struct, frozen=True):
    """An admin command that is neither done nor refused."""

    token: str
    fields: dict[str, Any]
    """As its client gave them; nothing has checked them yet."""


class Standing(msgspec.Struct, kw_only=True):
    """How far the aggregator is."""

    revision: int
    """Of the assignment that it has."""
    unsettled: list[str]
    """Ids of markets that are not where they belong yet."""
    loads: dict[int, int]
    """By shard, the markets that it owns or is wanted for."""
    commands: list[PendingCommand]
    status: Summary
