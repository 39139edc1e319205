"""Which hosts there are, which of them answer, and what each reported last. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from collector.cluster.spec import HostRow, LostHost, Report

GONE_S: Final = 4.0
"""
A host that Ray calls alive, but that has not answered for this time, gets no cells.

It is shorter than Ray's own patience. A mistake of ours costs a few surplus cells for a while; a
mistake of Ray's ends Ray on that host.
"""
SERVING_S: Final = 60.0
"""
How long a host may not answer while its cells do: there Ray has ended, or is busy.

Its cells do not depend on Ray, so they stay where they are. Ray is back long before.
"""
_QUIET_S: Final = 1.5
"""After this silence, the cells of a host are tried."""
START_S: Final = 10.0
"""How long the agent of a host may take to start, before its silence counts."""
_PAUSE_S: Final = 2.0
"""A longer time between two turns is a pause of the manager, in which it could hear no host."""
_LOST_S: Final = 24 * 3_600.0
"""How long a lost host is mentioned. By then one that was taken away for good is forgotten."""


class Roll:
    """The hosts of a cluster."""

    def __init__(self, now: float) -> None:
        self.rooms: Mapping[str, int] = {}
        """How many cells each host may have that Ray calls alive."""
        self._since: dict[str, float] = {}
        self._heard: dict[str, tuple[float, Report]] = {}
        self._served: dict[str, float] = {}
        self._lost: dict[str, tuple[float, int]] = {}
        self._problems: dict[str, str] = {}
        self._turned_at = now

    def take(self, rooms: Mapping[str, int], now: float) -> None:
        """Take which hosts Ray calls alive, and how many cells each may have; once a turn."""
        self._excuse(now)
        for gone in self._heard.keys() - rooms.keys():
            _, report = self._heard.pop(gone)
            self._problems.pop(gone, None)
            self._served.pop(gone, None)
            if report.cells:
                self._lost[gone] = (now, len(report.cells))
        self.rooms = rooms
        self._since = {host: self._since.get(host, now) for host in rooms}
        self._lost = {
            host: (at, cells)
            for host, (at, cells) in self._lost.items()
            if host not in rooms and now - at < _LOST_S
        }

    def _excuse(self, now: float) -> None:
        """Do not count the manager's own pauses (Ray's head was away) as silence of the hosts."""
        pause_s = now - self._turned_at
        self._turned_at = now
        if pause_s > _PAUSE_S:
            self._heard = {host: (at + pause_s, was) for host, (at, was) in self._heard.items()}

    def expect(self, host: str, now: float) -> None:
        """Note that a host's agent starts now: the host cannot answer until it runs."""
        if host in self._heard:
            at, report = self._heard[host]
            self._heard[host] = (max(at, now + START_S - GONE_S), report)

    def report(self, host: str, report: Report, now: float) -> None:
        """Take what a host reports."""
        self._heard[host] = (now, report)
        self._problems.pop(host, None)

    def quiet(self, now: float) -> dict[str, Sequence[str]]:
        """Return hosts that have not answered for a moment, with the endpoints of their cells."""
        return {
            host: [cell.endpoint for cell in report.cells]
            for host, (at, report) in self._heard.items()
            if _QUIET_S < now - at < SERVING_S and report.cells
        }

    def serves(self, host: str, now: float) -> None:
        """Note that all cells of a quiet host accept connections."""
        self._served[host] = now

    def problem(self, host: str, sentence: str) -> None:
        """Note why a host could not be asked."""
        self._problems[host] = sentence

    def present(self, now: float) -> dict[str, Report]:
        """Return the hosts that answer, or whose cells do, with their last reports."""
        return {
            host: report
            for host, (at, report) in self._heard.items()
            if now - max(at, self._served.get(host, at)) < GONE_S
        }

    def room(self, host: str, now: float) -> int:
        """Return how many cells a present host may have; a host that does not answer gets no more."""
        at, report = self._heard[host]
        return self.rooms[host] if now - at < GONE_S else len(report.cells)

    def knows(self, host: str, generation: int) -> bool:
        """Whether a host has reported that it was given this generation, or a newer one."""
        return host in self._heard and self._heard[host][1].generation >= generation

    def rows(self, now: float) -> Sequence[HostRow]:
        """Describe the hosts that Ray calls alive."""
        rows, present = [], self.present(now)
        for host, room in sorted(self.rooms.items()):
            at, report = self._heard.get(host, (self._since[host], Report()))
            rows.append(
                HostRow(
                    host=host,
                    room=room,
                    silent_s=max(0.0, now - at),
                    is_present=host in present,
                    report=report,
                )
            )
        return tuple(rows)

    def lost(self, now: float) -> Sequence[LostHost]:
        """Describe the hosts that ran cells when Ray lost them."""
        return tuple(
            LostHost(host=host, cells=cells, away_s=now - at)
            for host, (at, cells) in sorted(self._lost.items())
        )

    def problems(self) -> Sequence[str]:
        """Return why hosts could not be asked, a sentence for each."""
        return tuple(f"{host}: {sentence}" for host, sentence in sorted(self._problems.items()))
