"""The messages of signed transactions, which only the devnet's trader sends."""

from pathlib import Path
from typing import Final

from shards.adapters.messages import INJECTIVE_SET, Messages

DEVNET_SET: Final = Path(__file__).with_name("descriptors.binpb.zz")

PROTOS: Final = Messages(INJECTIVE_SET, DEVNET_SET)
"""What the product speaks, and transactions, orders, oracle prices and proposals."""
