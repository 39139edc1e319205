"""This machine's clock, compared with the clocks of the nodes' hosts, and the kernel's estimate."""

import ctypes
import statistics
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from collector.doctor.findings import Finding, bad, fine, note, span

_OFF_S: Final = 2.0
"""HTTP dates have whole seconds."""
_UNSYNCHRONIZED: Final = 0x40
"""STA_UNSYNC of adjtimex(2)."""


class Witness(msgspec.Struct, frozen=True):
    """Another host's clock."""

    host: str
    ahead_s: float
    """Seconds that it is ahead of ours."""


class Discipline(msgspec.Struct, frozen=True):
    """The kernel's estimate of its clock's quality."""

    synchronized: bool
    error_s: float
    """Maximum error."""
    drift_ppm: float
    """Drift if it were not corrected, in microseconds per second."""


def clock(witnesses: Sequence[Witness], kernel: Discipline | None) -> Finding:
    """Judge our clock."""
    kept = _kept(kernel)
    if not witnesses:
        return note("clock", f"no node sent its time, so ours could not be compared; {kept}")
    ahead = statistics.median(one.ahead_s for one in witnesses)
    hosts = ", ".join(one.host for one in witnesses)
    if abs(ahead) > _OFF_S:
        side = "behind" if ahead > 0 else "ahead of"
        return bad(
            "clock",
            f"{span(abs(ahead))} {side} {hosts}: set it (timedatectl set-ntp true, or chrony); "
            f"latencies would be wrong by as much; {kept}",
        )
    said = f"within {_OFF_S:.0f} s of {hosts}; {kept}"
    return fine("clock", said) if kernel is None or kernel.synchronized else note("clock", said)


def _kept(kernel: Discipline | None) -> str:
    if kernel is None:
        return "this system does not say whether it is synchronised"
    drift = f"drifts by {kernel.drift_ppm:+.1f} ppm"
    if kernel.synchronized:
        return f"synchronised to {span(kernel.error_s)}, {drift}"
    return f"not synchronised ({drift}): switch NTP on (timedatectl set-ntp true, or chrony)"


class _Timex(ctypes.Structure):
    """The beginning of Linux's ``struct timex``; room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def discipline() -> Discipline | None:
    """Ask the kernel, without changing anything; None on other systems than Linux."""
    if sys.platform != "linux":
        return None
    told = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return Discipline(
        synchronized=not told.status & _UNSYNCHRONIZED,
        error_s=told.maxerror / 1e6,
        drift_ppm=told.freq / 65_536,
    )
