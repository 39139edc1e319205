"""With which options the cells of each host run: new ones reach one host after the other. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from collector.cluster.plan import SETTLED_S
from collector.cluster.spec import Report, Spec

SURE_S: Final = 10.0
"""
After this time a cell that is not complete counts as useless, and may restart with any other.

For moments every cell seems so: while its host has new orders that its keeper has not read yet, or
when it did not answer in time.
"""


class Rollout:
    """New options restart a host's cells: no part may lose all its replicas by that."""

    def __init__(self) -> None:
        self._useless_since: dict[tuple[str, str], float] = {}
        """Since when a cell is not complete, by host and part."""

    def next(self, spec: Spec, reports: Mapping[str, Report], now: float) -> dict[str, Spec]:
        """
        Return the spec with which each host's cells are to run next.

        A host takes new options if each of its cells has a settled replica on another host, or is
        useless; one host at a time.
        """
        self._look(reports, now)
        found, is_taken = {}, False
        for host, report in sorted(reports.items()):
            former = report.running
            if former is None or not report.cells or has_same_options(former, spec):
                found[host] = spec
                continue
            needed = [
                cell.part
                for cell in report.cells
                if now - self._useless_since.get((host, cell.part), now) < SURE_S
            ]
            if not needed:
                found[host] = spec
            elif not is_taken and _can_spare(spec, host, needed, reports):
                found[host], is_taken = spec, True
            else:
                found[host] = msgspec.structs.replace(
                    spec, arguments=former.arguments, port=former.port
                )
        return found

    def _look(self, reports: Mapping[str, Report], now: float) -> None:
        """Note since when which cells are not complete."""
        before = self._useless_since
        self._useless_since = {
            (host, cell.part): before.get((host, cell.part), now)
            for host, report in reports.items()
            for cell in report.cells
            if not cell.is_ready
        }


def has_same_options(former: Spec, spec: Spec) -> bool:
    """Whether cells that run with the one need no restart for the other."""
    return (former.arguments, former.port) == (spec.arguments, spec.port)


def _can_spare(spec: Spec, host: str, parts: list[str], reports: Mapping[str, Report]) -> bool:
    settled = {
        cell.part
        for other, report in reports.items()
        if other != host
        for cell in report.cells
        if cell.ready_s >= SETTLED_S
    }
    # A part that has one cell only cannot have another one meanwhile.
    return spec.replicas == 1 or settled.issuperset(parts)
