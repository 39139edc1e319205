"""With which options the cells of each host run: new ones reach one host after the other. Pure."""

from collections.abc import Mapping

import msgspec

from collector.cluster.plan import SETTLED_S
from collector.cluster.spec import Report, Spec


def rollout(spec: Spec, reports: Mapping[str, Report]) -> dict[str, Spec]:
    """
    Return the spec with which each host's cells are to run next.

    New options restart a host's cells. A host takes them when none of its cells is complete, or each
    that is has a settled replica on another host; one host at a time.
    """
    found, is_taken = {}, False
    for host, report in sorted(reports.items()):
        former = report.running
        if former is None or not report.cells or has_same_options(former, spec):
            found[host] = spec
            continue
        ready = [cell.part for cell in report.cells if cell.is_ready]
        if not ready:
            found[host] = spec
        elif not is_taken and _can_spare(spec, host, ready, reports):
            found[host], is_taken = spec, True
        else:
            found[host] = msgspec.structs.replace(
                spec, arguments=former.arguments, port=former.port
            )
    return found


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
