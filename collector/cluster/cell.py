"""One cell on its host: a `collector start`, kept running, and asked whether it is complete."""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from collector.client.cluster_map import FILE, ClusterMap
from collector.client.requests import Refused, RequestClient
from collector.client.sockets import PLAIN
from collector.client.summary import read_summary
from collector.cluster.folder import HostFolder
from collector.cluster.processes import Kept, save
from collector.cluster.readiness import Readiness
from collector.cluster.spec import CellReport, Placed, Spec, endpoint

_STOP_S: Final = 20.0
_REST_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Rest before each start of a cell that keeps ending."""
_STEADY_S: Final = 60.0
_ASK_S: Final = 0.4
_EACH_S: Final = 0.5


class KeptCell:
    """A cell's process, and what is known about it."""

    def __init__(self, folder: HostFolder, slot: int) -> None:
        self.slot = slot
        self._folder = folder
        self._kept = Kept(folder.cell(slot))
        self._failures = 0
        self._started_at = 0.0
        self._asked_at = 0.0
        self._ready_since = -1.0
        self._readiness = Readiness()
        self._problem = ""
        self._written = (ClusterMap(), "")

    @property
    def part(self) -> str:
        """The part that it runs, or ran."""
        return self._kept.record.tag if self._kept.record else ""

    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._kept.is_running()

    def stop(self) -> None:
        """End it. Call it until it is gone."""
        self._ready_since = -1.0
        self._kept.stop(_STOP_S)

    def keep(self, placed: Placed, spec: Spec, host: str, now: float) -> None:
        """Have it run as wanted; one that runs otherwise is ended first."""
        command = command_of(placed, spec, host, self._folder.state(placed.part))
        if self._kept.is_running():
            if self._kept.was_started_with(command):
                self._look(now)
            else:
                self.stop()
            return
        self._ready_since = -1.0
        self._start(command, placed.part, now)

    def _start(self, command: Sequence[str], part: str, now: float) -> None:
        if self._started_at:
            if not self._problem:
                self._failures = 0 if now - self._started_at > _STEADY_S else self._failures + 1
                self._problem = self._kept.last_words() or "it ended without a word"
            if now - self._started_at < _REST_S[min(self._failures, len(_REST_S) - 1)]:
                return
        self._started_at, self._problem = now, ""
        self._readiness = Readiness()
        place = self._folder.cell(self.slot) / "tmp"
        try:
            # Its sockets are there: a name that is short enough for them.
            short = Path(tempfile.mkdtemp(prefix="cell-"))
            _point(place, short)
            self._folder.state(part).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._kept.start(command, part, {**os.environ, "TMPDIR": str(short)})
        except OSError as error:
            self._problem = str(error)

    def _look(self, now: float) -> None:
        """Ask it whether it is complete, now and then."""
        if now - self._asked_at < _EACH_S:
            return
        self._asked_at = now
        self._kept.trim()
        if not self._is_complete(now):
            self._ready_since = -1.0
        elif self._ready_since < 0:
            self._ready_since, self._failures = now, 0

    def _is_complete(self, now: float) -> bool:
        # Its own user needs no key there.
        doors = sorted((self._folder.cell(self.slot) / "tmp").glob("collector-*/admin"))
        if not doors:
            return False
        try:
            with RequestClient(f"ipc://{doors[-1].resolve()}", PLAIN) as client:
                summary = read_summary(client.ask("status", within_s=_ASK_S))
        except (TimeoutError, Refused, ValueError):
            return False
        return self._readiness.take(summary, now)

    def write_map(self, newest: ClusterMap) -> None:
        """Put the map where the cell finds it."""
        state = self._folder.state(self.part)
        if self.part and (newest, self.part) != self._written and state.is_dir():
            save(state / FILE, newest)
            self._written = (newest, self.part)

    def report(self, placed: Placed, spec: Spec, host: str, now: float) -> CellReport:
        """Describe it."""
        running = self._kept.is_running() and self.part == placed.part
        record = self._kept.record
        return CellReport(
            part=placed.part,
            slot=self.slot,
            endpoint=endpoint(host, spec, self.slot),
            pid=record.pid if running and record is not None else 0,
            # Whole seconds, so that the report changes once a second at most.
            ready_s=float(int(now - self._ready_since))
            if running and self._ready_since >= 0
            else -1.0,
            starts=self._kept.starts,
            problem="" if running else self._problem,
        )


def command_of(placed: Placed, spec: Spec, host: str, state: Path) -> list[str]:
    """Return the command that runs a cell."""
    arguments = list(spec.arguments)
    if "--record" in arguments:
        at = arguments.index("--record") + 1
        arguments[at] = str(Path(arguments[at]) / placed.part.replace("/", "-of-"))
    # By its own name: after a change of size, cells of the former size run for a while.
    part = [] if placed.part == "1/1" else ["--part", placed.part]
    publish = endpoint(host, spec, placed.slot)
    fixed = ["--publish", publish, "--state", str(state), *part]
    return [sys.executable, "-m", "collector", "start", *fixed, *arguments]


def _point(link: Path, target: Path) -> None:
    """Let a symbolic link point there; where it pointed before is removed."""
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
