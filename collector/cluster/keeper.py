"""
The keeper: one process on each host, which runs the host's cells, and Ray.

It does what `wanted.json` says, until a newer one comes. Ray brings it, and may die after that: the
cells go on, and so does the keeper. If the keeper itself is killed, its cells go on too; the next
keeper finds them by their records. It imports nothing of Ray.

``python -m collector.cluster.keeper FOLDER``; SIGTERM ends it with everything that it runs.
With ``--detach`` it goes into the background, as no one's child: Ray ends the children of its
processes.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil
import setproctitle

from collector.cluster.cell import KeptCell
from collector.cluster.folder import HostFolder, read
from collector.cluster.processes import Kept, save
from collector.cluster.ray_node import KeptRay, RayNode
from collector.cluster.spec import CellReport, Report, Spec, Wanted
from shards.runtime import logs

log = logging.getLogger(__name__)

TURN_S: Final = 0.2
_LEAVE_S: Final = 2.0
_CELLS_FIRST_S: Final = 8.0
"""After a boot Ray waits so long for the cells: its start takes ten seconds of CPU, theirs two."""
_TRIES: Final = 3
"""A new keeper gives up if another process tries the lock at the same instant."""
_NOTHING: Final = Wanted(generation=0, host="", spec=Spec())


class Keeper:
    """The processes of one host."""

    def __init__(self, folder: HostFolder) -> None:
        self._folder = folder
        self._ray = KeptRay(folder)
        self._cells: dict[int, KeptCell] = {}
        self._written = Report(generation=-1)
        self._leaving_since = 0.0
        self._began = 0.0
        self._tidied = 0
        for path in sorted((folder.path / "cells").glob("*")):
            if path.name.isdecimal():
                self._cells[int(path.name)] = KeptCell(folder, int(path.name))

    def turn(self, now: float) -> bool:
        """Do what is due; return whether there is anything to keep."""
        self._leave(now)
        wanted = self._folder.read_wanted() or _NOTHING
        rows = self._keep_cells(wanted, now)
        self._forget_states(wanted)
        for cell in self._cells.values():
            cell.write_map(wanted.map)
        self._began = self._began or now
        are_complete = all(row.is_ready for row in rows)
        may_start = are_complete or now - self._began > _CELLS_FIRST_S
        keeps_ray = self._ray.keep(now, may_start=may_start)
        self._report(Report(generation=wanted.generation, spec=wanted.spec, cells=tuple(rows)))
        return keeps_ray or bool(self._cells)

    def _keep_cells(self, wanted: Wanted, now: float) -> list[CellReport]:
        places = {placed.slot: placed for placed in wanted.cells}
        for slot, cell in list(self._cells.items()):
            if slot not in places:
                if cell.is_running():
                    cell.stop()
                else:
                    del self._cells[slot]
        rows = []
        for slot, placed in places.items():
            if slot not in self._cells:
                self._cells[slot] = KeptCell(self._folder, slot)
            self._cells[slot].keep(placed, wanted.spec_of_cells, wanted.host, now)
            rows.append(self._cells[slot].report(placed, wanted.spec_of_cells, wanted.host, now))
        return rows

    def _forget_states(self, wanted: Wanted) -> None:
        """
        Remove the states of cells that run elsewhere now.

        With an old state, a cell that comes back would first fill the gap since then. Its readers
        have those blocks from other cells. The end of the cluster removes nothing: then no one has.
        """
        parts = {placed.part for placed in wanted.cells}
        running = {cell.part for cell in self._cells.values()}
        if wanted.generation == self._tidied or wanted.is_ended or not running <= parts:
            return
        self._tidied = wanted.generation
        keep = {self._folder.state(part) for part in parts}
        for path in (self._folder.path / "state").glob("*"):
            if path not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def _leave(self, now: float) -> None:
        """Leave the cluster after its end, once no process uses Ray any more."""
        if not self._folder.leaving.exists():
            self._leaving_since = 0.0
        elif not self._leaving_since:
            self._leaving_since = now
        elif now - self._leaving_since > _LEAVE_S:
            self._folder.forget()

    def _report(self, report: Report) -> None:
        if report != self._written:
            self._written = report
            save(self._folder.report, report)

    def stop(self) -> None:
        """End everything that runs here, and wait for it."""
        while running := [cell for cell in self._cells.values() if cell.is_running()]:
            for cell in running:
                cell.stop()
            time.sleep(TURN_S)
        self._ray.end()


@contextlib.contextmanager
def locked(folder: HostFolder) -> Iterator[bool]:
    """Lock the folder for the duration of the block; False if another keeper has it."""
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with folder.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def keep(folder: HostFolder, stopping: Sequence[int]) -> None:
    """Keep a host's processes until a signal has come, or until nothing is wanted."""
    folder.lock.write_text(str(os.getpid()))
    keeper = Keeper(folder)
    log.info("keeping %s", folder.path)
    is_needed, trouble = True, ""
    while is_needed and not stopping:
        try:
            is_needed, trouble = keeper.turn(time.monotonic()), ""
        except OSError as error:
            # A full disk, no memory for a process: what runs goes on, and the next turn tries again.
            if str(error) != trouble:
                log.warning("a turn failed, and is repeated: %s", error)
            trouble = str(error)
        time.sleep(TURN_S)
    if stopping:
        keeper.stop()
    log.info("done")


def ensure_if_needed(folder: HostFolder) -> None:
    """Start a keeper in the background if there is anything to keep, unless there is one."""
    if _is_needed(folder):
        ensure(folder)


def _is_needed(folder: HostFolder) -> bool:
    """Whether there is anything to keep on this host, or to end."""
    node, wanted = read(folder.ray, RayNode), folder.read_wanted()
    if (node is not None and node.is_ours) or (wanted is not None and wanted.cells):
        return True
    return any(Kept(path).is_running() for path in (folder.path / "cells").glob("*"))


def ensure(folder: HostFolder) -> None:
    """Start a keeper in the background, unless there is one."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "RAY_"}
    for _ in range(_TRIES):
        with locked(folder) as is_free:
            pass
        if not is_free:
            return
        with (folder.path / "keeper.log").open("ab") as said:
            subprocess.run(
                [sys.executable, "-m", "collector.cluster.keeper", str(folder.path), "--detach"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment,
                cwd="/",
                check=True,
            )


def end(folder: HostFolder) -> None:
    """End the keeper, and with it all that it runs; wait for it."""
    while True:
        with locked(folder) as is_free:
            if is_free:
                return
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int(folder.lock.read_text()))
            # The id may still be that of the keeper before.
            if "keeper" in " ".join(process.cmdline()):
                process.terminate()
        time.sleep(TURN_S)


def main() -> None:
    """Keep the folder that is named by the first argument."""
    folder = HostFolder(Path(sys.argv[1]))
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _: stopping.append(signum))
    with locked(folder) as ours:
        if not ours:
            return
        if "--detach" in sys.argv:
            # The lock goes to the child: the process that started us finds that there is a keeper.
            if os.fork():
                os._exit(0)
            os.setsid()
        setproctitle.setproctitle(f"collector: keeper {folder.path}")
        logs.configure("keeper", level="INFO", form="text")
        keep(folder, stopping)


if __name__ == "__main__":
    main()
