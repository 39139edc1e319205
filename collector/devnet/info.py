"""The description of a running devnet: the one JSON line of `collector devnet --json`."""

from typing import Literal

import msgspec


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the node listens, on loopback only."""

    chain_ws: str
    chain_stream: str
    chain_grpc: str
    rpc: str


class DevnetMarket(msgspec.Struct, frozen=True, kw_only=True):
    """One market of the genesis; a quiet one never trades, a paused one cannot."""

    market_id: str
    ticker: str
    type: Literal["spot", "derivative"]
    quiet: bool
    paused: bool = False


class Pids(msgspec.Struct, frozen=True, kw_only=True):
    """The processes to signal or to measure; `devnet` is the command's own."""

    devnet: int
    node: int
    trader: int | None


class DevnetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Printed once the node answers; the endpoints outlive a restart of the node, its pid not."""

    chain_id: str
    home: str
    block_time_s: float
    endpoints: Endpoints
    markets: tuple[DevnetMarket, ...]
    pids: Pids
