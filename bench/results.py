"""Where results go, and how tables look."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
FOLDER: Final = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Return the machine and the time of a result."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


class Conditions:
    """What else determined a result: other work, and what the host took from the machine."""

    def __init__(self) -> None:
        """Watch from here on."""
        self._steal, self._all = _ticks()

    def read(self) -> dict[str, Any]:
        """Return the load, the CPU time that the host gave to others since then, the governor."""
        steal, everything = _ticks()
        share = (steal - self._steal) / max(1, everything - self._all)
        return {
            "load": round(os.getloadavg()[0], 1),
            "steal_percent": round(100 * share, 2),
            "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.exists() else "none",
        }


def _ticks() -> tuple[int, int]:
    """Return stolen and all ticks of all cores, from the first line of /proc/stat."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    # The last two, guests' time, are in the first two already.
    return ticks[7], sum(ticks[:8])


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return described.stdout.strip()


def save(name: str, content: dict[str, Any]) -> Path:
    """Write one result with its machine; it replaces an older one of the same name."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    written = msgspec.json.encode({"machine": machine()} | content)
    path.write_bytes(msgspec.json.format(written, indent=1) + b"\n")
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a table in Markdown."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
