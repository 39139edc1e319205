"""The chain's record of the past: the nodes' blocks, and books at past heights."""

from shards.adapters.injective_chain.lost_blocks import times_by
from shards.adapters.injective_chain.snapshots import Snapshots
from shards.net.access import Access
from shards.net.rpc import Rpc, latest_height
from shards.protocol.events import Snapshot
from shards.protocol.settings import Endpoints, Market


class ChainPast:
    """The record of the preferred node."""

    def __init__(self, endpoints: Endpoints, access: Access) -> None:
        self._rpc = Rpc(endpoints.rpc[0], access)
        self._snapshots = Snapshots(endpoints.chain_grpc, access) if endpoints.chain_grpc else None

    async def newest(self) -> int:
        """Return the height of the newest block."""
        return await latest_height(self._rpc)

    async def time_of(self, height: int) -> int:
        """Return a block's time, in ns."""
        return await times_by(self._rpc)(height)

    async def book(self, market: Market, height: int) -> Snapshot | None:
        """Return a market's whole book after a block; None without a server of queries."""
        return None if self._snapshots is None else await self._snapshots.fetch(market, height)

    async def aclose(self) -> None:
        """Close the connections."""
        self._rpc.close()
        if self._snapshots is not None:
            await self._snapshots.close()
