"""How to ask an endpoint for its chain and head: one way for each kind of endpoint."""

from typing import Final, Protocol

from shards.net.access import Access
from shards.net.rpc import Rpc, block_hash, view_of
from shards.protocol.chain import Mark, NodeView, Role

_ASK_S: Final = 2.0


class Witness(Protocol):
    """One endpoint that can be asked about its chain."""

    endpoint: str
    role: Role
    every_s: float
    """How long its last answer may be used again; 0 if it is asked each time."""
    is_costly: bool
    """Whether an answer with a block is so large that one block must suffice."""

    async def view(self) -> NodeView:
        """Ask for the network and the newest block; raise SourceError if there is no answer."""

    async def block(self, height: int) -> Mark | None:
        """Ask for a block's hash, its time or both; None if it does not have the block."""

    async def close(self) -> None:
        """Drop the connection."""


class RpcWitness:
    """A node, asked over its RPC."""

    role: Role = "rpc"
    every_s = 0.0
    is_costly = False

    def __init__(self, endpoint: str, access: Access) -> None:
        self.endpoint = endpoint
        self.rpc = Rpc(endpoint, access, timeout_s=_ASK_S)

    async def view(self) -> NodeView:
        """Ask for its status."""
        return await view_of(self.rpc)

    async def block(self, height: int) -> Mark | None:
        """Ask for a block's hash; the hash of the newest block is not known yet."""
        found = await block_hash(self.rpc, height)
        return Mark(height, found, 0) if found else None

    async def close(self) -> None:
        """Drop the connection."""
        self.rpc.close()
