"""The parts of a summary about speed and resources: latencies, the clock, processes, shards. Pure."""

from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram in figures, in microseconds."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


NO_LATENCY: Final = Latency()
"""The latency of a hop that no frame has passed."""

Hops: TypeAlias = dict[str, Latency]
"""By the name of the hop, in the order in which a frame passes them."""


class ChannelLatency(msgspec.Struct, frozen=True, kw_only=True):
    """The latency of one channel's frames."""

    latency_us: Hops = {}


class Offset(msgspec.Struct, frozen=True, kw_only=True):
    """Block time to our socket, in milliseconds."""

    min: float = 0.0
    p50: float = 0.0
    max: float = 0.0


class ClockCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether block times and our clock can be compared."""

    trusted: bool = False
    reason: str = ""
    blocks: int = 0
    offset_ms: Offset = Offset()


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process and its resource usage; times and switches since its start."""

    name: str
    pid: int = 0
    restarts: int = 0
    cpu_percent: float = 0.0
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    threads: int = 0
    fds: int = 0
    switches_voluntary: int = 0
    switches_involuntary: int = 0
    lag_us: Latency | UnsetType = UNSET
    """This and the next only for a process that measures them."""
    gc_pause_us: Latency | UnsetType = UNSET
    scheduling: str | UnsetType = UNSET
    """``realtime`` or ``normal``; left out if the system does not report it."""


class BatchSizes(msgspec.Struct, frozen=True, kw_only=True):
    """Frames per batch."""

    mean: float = 0.0
    p50: int = 0
    p99: int = 0
    max: int = 0


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a shard's source and its breaker."""

    endpoint: str = ""
    breaker: str = ""
    reason: str = ""
    in_use: bool = False


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One shard, by its last report."""

    shard: int
    epoch: int = 0
    markets: int = 0
    blocks: int = 0
    """The newest height that it has."""
    frames: int = 0
    lost: int = 0
    dropped: int = 0
    payloads: int = 0
    connects: int = 0
    backlog_bytes: int = 0
    lag_us: float = 0.0
    held_blocks: int = 0
    requests: int = 0
    batch_frames: BatchSizes = BatchSizes()
    latency_us: Hops = {}
    endpoints: list[Endpoint] = []

    @property
    def process(self) -> str:
        """The name of its process."""
        return process_name(self.shard)


def process_name(shard: int) -> str:
    """Name a shard's process."""
    return f"shard {shard}"
