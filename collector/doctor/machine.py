"""Check the machine: open files, memory, processors, and the disks that are written to."""

import contextlib
import errno
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from collector.control import scheduling
from collector.doctor.findings import Finding, bad, fine, note, size, span
from collector.settings.parts import ProcessSettings
from collector.settings.wording import plural
from shards.runtime import descriptors

_PROCESS_BYTES: Final = 90_000_000
"""Memory of one idle process of any kind."""
_MARKET_BYTES: Final = 250_000
"""Books, and frames kept for late joiners."""
_MARKETS: Final = 300
_STATE_BYTES: Final = 100_000_000
_ARCHIVE_BYTES: Final = 5_000_000_000
_SLOW_SYNC_S: Final = 0.02
_SYNCS: Final = 9
_CGROUP_LIMITS: Final = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def files(shards: int) -> Finding:
    """Check the limit of open files."""
    limit, least = descriptors.raise_limit(), descriptors.needed(shards)
    said = f"{limit:,} open files allowed a process, needed for {plural(shards, 'shard')}: {least}"
    if limit < least:
        return bad(
            "files", f"{said}: raise the limit (ulimit -n 4096, or LimitNOFILE= of the unit)"
        )
    if limit < 1_024:
        return note(
            "files", f"{said}; each reader takes one more: raise the limit (ulimit -n 4096)"
        )
    return fine("files", said)


def memory(shards: int) -> Finding:
    """Check the available memory."""
    needed = (shards + 3) * _PROCESS_BYTES + _MARKETS * _MARKET_BYTES
    available = min(psutil.virtual_memory().available, *_cgroup_limits(), 1 << 62)
    said = f"{size(available)} available, {plural(shards, 'shard')} and {_MARKETS} markets need {size(needed)}"
    if available < needed:
        return bad("memory", f"{said}: take fewer shards or markets, or a larger machine")
    return fine("memory", said)


def _cgroup_limits() -> Iterator[int]:
    """Yield the memory limits of the container, if there are any."""
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            yield int(Path(path).read_text())


def processors(shards: int) -> Finding:
    """Check whether there are enough processors."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        # Not on macOS.
        count = os.cpu_count() or 1
    busy = psutil.cpu_percent(interval=0.5)
    said = f"{count} for {plural(shards, 'shard')} and the aggregator, {busy:.0f} % busy now"
    if busy > 80.0:
        return note("processors", f"{said}: latencies will show it")
    if shards > count:
        return note("processors", f"{said}: more shards than processors collect no more")
    return fine("processors", said)


def priority(asked: ProcessSettings, shards: int) -> Finding:
    """Look at whether shards and aggregator may run in real time, or spin."""
    if asked.spin:
        if asked.priority == "realtime":
            return bad("priority", scheduling.CONTRADICTION)
        if missing := scheduling.lacking(
            asked.cpus, scheduling.available(), shards, scheduling.quota()
        ):
            return bad("priority", missing)
        return fine("priority", "shards and aggregator spin, at normal priority")
    if asked.priority == "normal":
        return fine("priority", "normal for all processes, as the configuration says")
    if refused := scheduling.refusal():
        said = f"real time is refused ({refused}): frames wait for a busy core"
        verdict = bad if asked.priority == "realtime" else note
        return verdict("priority", f"{said}; {scheduling.HOW_TO}")
    if _keeps_nothing():
        return note(
            "priority",
            "real time is allowed, and the kernel keeps nothing back for other processes: "
            "sysctl -w kernel.sched_rt_runtime_us=950000",
        )
    return fine("priority", "shards and aggregator run in real time, before all other processes")


def _keeps_nothing() -> bool:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/kernel/sched_rt_runtime_us").read_text()) < 0
    return False


def disk(what: str, folder: str) -> Finding:
    """
    Check a folder that is written to, ``state`` or ``archive``: space, permissions, time to sync.

    If the folder does not exist, its nearest existing parent is checked.
    """
    place = _existing(Path(folder).absolute())
    least = _ARCHIVE_BYTES if what == "archive" else _STATE_BYTES
    try:
        took = _sync_time(place)
        free = shutil.disk_usage(place).free
    except OSError as error:
        return bad(what, f"{place}: {_refusal(error)}")
    said = f"{place}: {size(free)} free, a sync takes {span(took)}"
    if free < least:
        return bad(what, f"{said}: less than {size(least)} free: free some, or name another folder")
    if took > _SLOW_SYNC_S:
        return note(what, f"{said}: a slow disk; each recorded block waits that long")
    return fine(what, said)


def _existing(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _sync_time(folder: Path) -> float:
    """Write and sync a few small pieces; return the median, in seconds."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(b"x" * 4_096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _refusal(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space, or name another folder"
    if error.errno == errno.EROFS:
        return "it cannot be written to (read-only): name another folder"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "it cannot be written to by this user: change its owner, or name another folder"
    return f"it cannot be written to: {error.strerror}"
