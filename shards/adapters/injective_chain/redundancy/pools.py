"""The endpoints of all paths, as one pool (net/endpoint_pool.py)."""

from collections.abc import Sequence

from shards.net.endpoint_pool import EndpointPool, EndpointState
from shards.protocol.control import EndpointReport


class EndpointPools:
    """Several pools as one; what concerns a single path is decided by `PathWatch`."""

    def __init__(self, pools: Sequence[EndpointPool]) -> None:
        self._pools = pools

    @property
    def current(self) -> str:
        """The endpoints in use; empty if there are none."""
        return ", ".join(pool.current for pool in self._pools if pool.current)

    @property
    def attempts(self) -> int:
        """Attempts of all paths."""
        return sum(pool.attempts for pool in self._pools)

    @property
    def is_behind(self) -> bool:
        """Whether any endpoint in use was behind when it was last compared."""
        return any(pool.is_behind for pool in self._pools)

    def unfit(self, reason: str) -> None:
        """Mark all endpoints in use unfit: none of them brings blocks."""
        for pool in self._pools:
            pool.unfit(reason)

    def succeeded(self) -> None:
        """Some path brought a block; which one, `PathWatch` knows."""

    def compare(self, height: int, head: int) -> None:
        """Compare nothing: the highest block of all paths says nothing of a single one."""

    def cannot_compare(self) -> None:
        """Restart all comparisons."""
        for pool in self._pools:
            pool.cannot_compare()

    def states(self) -> list[EndpointState]:
        """Describe every endpoint, for the status."""
        return [state for pool in self._pools for state in pool.states()]

    def reports(self) -> list[EndpointReport]:
        """Describe every endpoint, for the shard's reports."""
        return [report for pool in self._pools for report in pool.reports()]
