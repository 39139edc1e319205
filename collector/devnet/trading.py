"""How much is traded, and the settings of the trader process."""

import msgspec

from collector.devnet.config import Traffic


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of traffic."""

    markets_per_block: int
    """Touched in turn, so that every market has its turn however many there are."""
    orders_per_block: int
    """Shared by the touched markets while their books still grow."""
    cross: float
    """How likely a touched market is to trade; every second touch it does in any case."""


PLANS: dict[Traffic, Plan] = {
    "quiet": Plan(markets_per_block=2, orders_per_block=24, cross=0.4),
    "normal": Plan(markets_per_block=8, orders_per_block=120, cross=0.6),
    "heavy": Plan(markets_per_block=60, orders_per_block=600, cross=0.9),
}


class TraderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where to trade, and how."""

    chain_id: str
    chain_grpc: str
    chain_stream: str
    block_time_s: float
    traffic: Traffic
    seed: int
