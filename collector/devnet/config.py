"""What the devnet is asked for: parsed once by the command, handed to keeper and trader."""

from typing import Literal

import msgspec

Traffic = Literal["none", "quiet", "normal", "heavy"]


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The loopback ports of the node; 0 asks for a free one."""

    rpc: int = 0
    ws: int = 0
    grpc: int = 0
    stream: int = 0


class DevnetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One devnet. The same values with the same seed give the same markets and the same orders."""

    spot: int = 12
    perp: int = 4
    quiet_markets: int = 0
    """Markets at the end of the list that never trade."""
    paused_markets: int = 0
    """Markets before those, whose status in the genesis is Paused."""
    seed: int = 1
    block_time_s: float = 0.65
    traffic: Traffic = "normal"
    stream_buffer: int = 100
    """Blocks the node queues for a chain-stream subscriber before it drops it."""
    home: str | None = None
    """Where the chain is kept and found again; without it a temporary folder, removed at exit."""
    ports: Ports = Ports()
